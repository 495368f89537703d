{{/* Name of objects that no namespace keeps apart. */}}
{{- define "upscale.clusterName" -}}
{{ .root.Release.Name }}-{{ .part }}.{{ .root.Release.Namespace }}.upscale.video
{{- end }}

{{- define "upscale.labels" -}}
app.kubernetes.io/name: video-upscale
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: video-upscale
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "upscale.selector" -}}
app.kubernetes.io/name: video-upscale
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end }}

{{/* Name of the service account of a part. */}}
{{- define "upscale.account" -}}
{{- $account := index .root.Values.serviceAccount .part -}}
{{- default (printf "%s-%s" .root.Release.Name .part) $account.name -}}
{{- end }}

{{/* Condition of admission policies: the request comes from that part. */}}
{{- define "upscale.isPart" -}}
request.userInfo.username == 'system:serviceaccount:{{ .root.Release.Namespace }}:{{ include "upscale.account" . }}'
{{- end }}

{{- define "upscale.isController" -}}
{{ include "upscale.isPart" (dict "root" . "part" "controller") }}
{{- end }}

{{/* Puts the admission policy of a part into force. */}}
{{- define "upscale.policyBinding" -}}
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata:
  name: {{ include "upscale.clusterName" . }}
  labels:
    {{- include "upscale.labels" . | nindent 4 }}
spec:
  policyName: {{ include "upscale.clusterName" . }}
  validationActions: [Deny]
{{- end }}

{{/* Reference of an image: a digest wins over a tag, and the tag defaults to the chart's appVersion. */}}
{{- define "upscale.image" -}}
{{- $image := .image -}}
{{- with .root.Values.global.imageRegistry }}{{ trimSuffix "/" . }}/{{ end -}}
{{- $image.repository -}}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ default .root.Chart.AppVersion $image.tag }}{{ end -}}
{{- end }}

{{- define "upscale.pullSecrets" -}}
{{- with .Values.global.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{/* Our own containers can do nothing that they need not. */}}
{{- define "upscale.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* User and group as the values say; unset where the namespace gives them. */}}
{{- define "upscale.podSecurity" -}}
runAsNonRoot: true
{{- range $field, $id := dict "runAsUser" .Values.pods.user "runAsGroup" .Values.pods.group }}
{{- if not (kindIs "invalid" $id) }}
{{ $field }}: {{ int64 $id }}
{{- end }}
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/* Where a pod may run, from its values. */}}
{{- define "upscale.scheduling" -}}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .topologySpreadConstraints }}
topologySpreadConstraints:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The objects of the profiles, as the controller applies them; also what its pods are replaced for. */}}
{{- define "upscale.profiles" -}}
{{- $defaults := list }}
{{- range $name, $profile := .Values.profiles }}
{{- if $profile }}
{{- if $profile.default }}{{ $defaults = append $defaults $name }}{{ end }}
{{ $name }}.yaml: |
  apiVersion: upscale.video/v1alpha1
  kind: UpscaleProfile
  metadata:
    name: {{ $name }}
    labels:
      {{- include "upscale.labels" (dict "root" $ "part" "profile") | nindent 6 }}
      upscale.video/default-profile: {{ $profile.default | default false | quote }}
      {{- with $profile.labels }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
  spec:
    {{- toYaml $profile.spec | nindent 4 }}
{{- end }}
{{- end }}
{{- if gt (len $defaults) 1 }}
{{- fail (printf "profiles %s are all default: true; a VideoUpscale that names none can get one only" (join ", " $defaults)) }}
{{- end }}
{{- end }}
