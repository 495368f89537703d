//! Pods that a stolen controller token would like to make: changes of a pod that it may make, and what must refuse them.

/// Name, changes as [`super::cases::put`] reads them, and words of the refusal.
pub type Attack = (&'static str, &'static [(&'static str, &'static str)], &'static str);

const OWNER: &str = "must belong to exactly one VideoUpscale";
const LABELS: &str = "must have this release's labels";
const IMAGE: &str = "is none of this release";
const CONTAINERS: &str = "the containers must be";
const WORKER: &str = "must run upscale-worker";
const VOLUMES: &str = "volumes must be claims";
const TOKEN: &str = "no service account token";
const DEVICES: &str = "the one GPU that the pod names";
const HOST: &str = "must keep away from the host";
const EXTRAS: &str = "no ports, probes, hooks or extended resources";
const POD_SECURITY: &str = "the pod's security context must be";
const CONTAINER_SECURITY: &str = "a container's security context must be";

/// Changes of the pod of a segment.
pub const ON_SEGMENT: &[Attack] = &[
    // Whose it is.
    ("no owner", &[("/metadata/ownerReferences", "[]")], OWNER),
    ("an owner of another kind", &[("/metadata/ownerReferences/0/kind", r#""Job""#)], OWNER),
    ("an owner of another group", &[("/metadata/ownerReferences/0/apiVersion", r#""batch/v1""#)], OWNER),
    ("an owner that is no controller", &[("/metadata/ownerReferences/0/controller", "false")], OWNER),
    (
        "a second owner",
        &[(
            "/metadata/ownerReferences/+",
            r#"{"apiVersion": "v1", "kind": "Node", "name": "a", "uid": "u"}"#,
        )],
        OWNER,
    ),
    ("the label of another job", &[("/metadata/labels/upscale.video~1job", r#""other""#)], OWNER),
    ("the UID of another job", &[("/metadata/labels/upscale.video~1job-uid", r#""other""#)], OWNER),
    ("no role", &[("/metadata/labels/upscale.video~1role", "-")], LABELS),
    ("an unknown role", &[("/metadata/labels/upscale.video~1role", r#""miner""#)], LABELS),
    ("another release's name", &[("/metadata/labels/app.kubernetes.io~1instance", r#""other""#)], LABELS),
    ("a finalizer", &[("/metadata/finalizers", r#"["a.example/stay"]"#)], LABELS),
    // What it runs.
    ("another engine", &[("/spec/initContainers/1/image", r#""evil.example/miner:1""#)], IMAGE),
    (
        "an engine of a like name",
        &[("/spec/initContainers/1/image", r#""registry.example/flashvsr:e771549x""#)],
        IMAGE,
    ),
    ("another worker", &[("/spec/containers/0/image", r#""evil.example/worker:1""#)], IMAGE),
    (
        "the engine as worker",
        &[("/spec/containers/0/image", r#""registry.example/flashvsr:e771549""#)],
        WORKER,
    ),
    ("a shell in the worker", &[("/spec/containers/0/command", r#"["sh", "-c", "id"]"#)], WORKER),
    ("another subcommand", &[("/spec/containers/0/args/0", r#""merge""#)], WORKER),
    (
        "a sidecar of our image",
        &[("/spec/containers/+", r#"{"name": "spy", "image": "registry.example/worker:1"}"#)],
        CONTAINERS,
    ),
    ("another name", &[("/spec/containers/0/name", r#""spy""#)], CONTAINERS),
    ("no prepare", &[("/spec/initContainers/0/name", r#""upscale-0""#)], CONTAINERS),
    ("the role probe with an engine", &[("/metadata/labels/upscale.video~1role", r#""probe""#)], CONTAINERS),
    ("foreign models", &[("/spec/volumes/3/image/reference", r#""evil.example/models:1""#)], IMAGE),
    // What it reads.
    (
        "a folder of the host",
        &[("/spec/volumes/+", r#"{"name": "host", "hostPath": {"path": "/"}}"#)],
        VOLUMES,
    ),
    ("a secret", &[("/spec/volumes/+", r#"{"name": "s", "secret": {"secretName": "s"}}"#)], VOLUMES),
    ("a ConfigMap", &[("/spec/volumes/+", r#"{"name": "c", "configMap": {"name": "c"}}"#)], VOLUMES),
    (
        "a projected token",
        &[(
            "/spec/volumes/+",
            r#"{"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}"#,
        )],
        VOLUMES,
    ),
    (
        "an NFS server",
        &[("/spec/volumes/+", r#"{"name": "n", "nfs": {"server": "a", "path": "/"}}"#)],
        VOLUMES,
    ),
    (
        "the pod's own description",
        &[("/spec/volumes/+", r#"{"name": "d", "downwardAPI": {"items": []}}"#)],
        VOLUMES,
    ),
    ("scratch space without end", &[("/spec/volumes/2/emptyDir", "{}")], VOLUMES),
    (
        "the tenant's films for the engine",
        &[("/spec/initContainers/1/volumeMounts/+", r#"{"name": "source", "mountPath": "/films"}"#)],
        VOLUMES,
    ),
    // The server mounts the token, and the volume is what is refused first.
    ("a token", &[("/spec/automountServiceAccountToken", "true")], VOLUMES),
    ("another account", &[("/spec/serviceAccountName", r#""robot""#)], TOKEN),
    (
        "a secret as environment",
        &[(
            "/spec/containers/0/env/+",
            r#"{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}"#,
        )],
        TOKEN,
    ),
    (
        "a whole secret as environment",
        &[("/spec/containers/0/envFrom", r#"[{"secretRef": {"name": "s"}}]"#)],
        TOKEN,
    ),
    // Which devices it sees.
    ("all GPUs", &[("/spec/initContainers/1/env/4/value", r#""all""#)], DEVICES),
    ("another GPU", &[("/spec/initContainers/1/env/4/value", r#""GPU-other""#)], DEVICES),
    (
        "all GPUs by the annotation",
        &[
            ("/metadata/annotations/upscale.video~1gpu-uuid", r#""all""#),
            ("/spec/initContainers/1/env/4/value", r#""all""#),
        ],
        DEVICES,
    ),
    ("the GPUs of the image", &[("/spec/containers/0/env", "[]")], DEVICES),
    (
        "another MIG device",
        &[("/spec/initContainers/1/env/+", r#"{"name": "NVIDIA_MIG_CONFIG_DEVICES", "value": "all"}"#)],
        DEVICES,
    ),
    ("all driver capabilities", &[("/spec/initContainers/1/env/5/value", r#""all""#)], DEVICES),
    (
        "a preloaded library",
        &[("/spec/containers/0/env/+", r#"{"name": "LD_PRELOAD", "value": "/destination/x.so"}"#)],
        DEVICES,
    ),
    (
        "a device plugin's GPU",
        &[("/spec/initContainers/1/resources", r#"{"limits": {"memory": "1Gi", "nvidia.com/gpu": 1}}"#)],
        EXTRAS,
    ),
    ("a resource claim", &[("/spec/resourceClaims", r#"[{"name": "g", "resourceClaimName": "g"}]"#)], HOST),
    // Where it runs.
    ("the host's network", &[("/spec/hostNetwork", "true")], HOST),
    ("the host's processes", &[("/spec/shareProcessNamespace", "false"), ("/spec/hostPID", "true")], HOST),
    ("the host's IPC", &[("/spec/hostIPC", "true")], HOST),
    ("a node without the scheduler", &[("/spec/nodeName", r#""node-a""#)], HOST),
    ("names of its own", &[("/spec/hostAliases", r#"[{"ip": "10.0.0.1", "hostnames": ["a"]}]"#)], HOST),
    ("for ever", &[("/spec/activeDeadlineSeconds", "-")], HOST),
    ("again and again", &[("/spec/restartPolicy", r#""Always""#)], HOST),
    ("a port", &[("/spec/containers/0/ports", r#"[{"containerPort": 80}]"#)], EXTRAS),
    (
        "a hook",
        &[("/spec/containers/0/lifecycle", r#"{"preStop": {"httpGet": {"port": 80, "host": "10.0.0.1"}}}"#)],
        EXTRAS,
    ),
    (
        "a probe of another host",
        &[("/spec/containers/0/livenessProbe", r#"{"httpGet": {"port": 80, "host": "10.0.0.1"}}"#)],
        EXTRAS,
    ),
    ("a sidecar that stays", &[("/spec/initContainers/1/restartPolicy", r#""Always""#)], EXTRAS),
    ("no memory limit", &[("/spec/containers/0/resources", "{}")], EXTRAS),
    // As whom.
    ("perhaps root", &[("/spec/securityContext/runAsNonRoot", "-")], POD_SECURITY),
    (
        "root",
        &[("/spec/securityContext/runAsNonRoot", "false"), ("/spec/securityContext/runAsUser", "0")],
        POD_SECURITY,
    ),
    ("root's group on volumes", &[("/spec/securityContext/fsGroup", "0")], POD_SECURITY),
    ("more groups", &[("/spec/securityContext/supplementalGroups", "[4]")], POD_SECURITY),
    (
        "a kernel parameter",
        &[("/spec/securityContext/sysctls", r#"[{"name": "kernel.shm_rmid_forced", "value": "0"}]"#)],
        POD_SECURITY,
    ),
    ("all system calls", &[("/spec/securityContext/seccompProfile/type", r#""Unconfined""#)], POD_SECURITY),
    ("an SELinux type", &[("/spec/securityContext/seLinuxOptions", r#"{"type": "spc_t"}"#)], POD_SECURITY),
    ("privileged", &[("/spec/containers/0/securityContext", r#"{"privileged": true}"#)], CONTAINER_SECURITY),
    (
        "a capability",
        &[("/spec/containers/0/securityContext/capabilities/add", r#"["SYS_ADMIN"]"#)],
        CONTAINER_SECURITY,
    ),
    ("default capabilities", &[("/spec/containers/0/securityContext/capabilities", "-")], CONTAINER_SECURITY),
    (
        "more privileges",
        &[("/spec/containers/0/securityContext/allowPrivilegeEscalation", "true")],
        CONTAINER_SECURITY,
    ),
    (
        "a writable root",
        &[("/spec/containers/0/securityContext/readOnlyRootFilesystem", "false")],
        CONTAINER_SECURITY,
    ),
    (
        "root in one container",
        &[("/spec/initContainers/1/securityContext/runAsUser", "0")],
        CONTAINER_SECURITY,
    ),
    // How urgently, in what.
    (
        "a system priority",
        &[("/spec/priorityClassName", r#""system-node-critical""#)],
        "priority class system-node-critical is of no profile",
    ),
    (
        "no GPU, by a word of its own",
        &[("/spec/initContainers/1/env/4", r#"{"name": "NVIDIA_VISIBLE_DEVICES", "value": "none"}"#)],
        DEVICES,
    ),
];
