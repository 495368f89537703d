//! What the fleet keeps of a pod of ours: what it takes of its node, and whether it may still use its GPU.

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::claim::JobKey;
use super::demand::PodRequests;
use super::resource;
use crate::api::keys::{self, Role};

/// A pod of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodFacts {
    /// UID.
    pub uid: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// The job that it belongs to.
    pub job: Option<JobKey>,
    /// Node that it runs on, or is pinned to.
    pub node: Option<String>,
    /// UUID of its GPU, lower case.
    pub gpu: Option<String>,
    /// What it requests of its node.
    pub requests: PodRequests,
    /// How far it has come.
    pub stage: PodStage,
}

/// How far a pod of ours has come, seen from its GPU and its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PodStage {
    /// A container that uses the GPU runs, or may come yet.
    MayUseGpu,
    /// Its engine has ended with 0, or it never has one: it holds its node's room only.
    NeedsNoGpu,
    /// All its containers have ended.
    Ended,
}

impl PodFacts {
    /// Reads a pod that our label selector found; `None` if it lacks UID, name, namespace or a role of ours.
    pub fn of(pod: &Pod) -> Option<Self> {
        let meta = &pod.metadata;
        let role = meta
            .labels
            .as_ref()
            .and_then(|labels| labels.get(keys::ROLE))
            .and_then(|text| Role::parse(text))?;
        let gpu = meta.annotations.as_ref().and_then(|all| all.get(keys::GPU_UUID));
        let spec = pod.spec.as_ref();
        Some(Self {
            uid: meta.uid.clone()?,
            namespace: meta.namespace.clone()?,
            name: meta.name.clone()?,
            job: job_of(meta),
            node: spec.and_then(|spec| spec.node_name.clone().or_else(|| pinned_to(spec))),
            gpu: gpu.map(|uuid| uuid.to_ascii_lowercase()),
            requests: spec.map(requests).unwrap_or_default(),
            stage: stage(pod, role),
        })
    }
}

/// The job that a pod belongs to, as the pod names its controller.
pub fn owner_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    let mut owners = meta.owner_references.iter().flatten();
    owners.find(|owner| owner.controller == Some(true) && owner.kind == "VideoUpscale")
}

/// The same by its key.
pub(super) fn job_of(meta: &ObjectMeta) -> Option<JobKey> {
    let owner = owner_of(meta)?;
    let namespace = meta.namespace.clone()?;
    Some(JobKey { namespace, name: owner.name.clone(), uid: owner.uid.clone() })
}

fn stage(pod: &Pod, role: Role) -> PodStage {
    let status = pod.status.as_ref();
    if matches!(status.and_then(|status| status.phase.as_deref()), Some("Succeeded" | "Failed")) {
        return PodStage::Ended;
    }
    if role != Role::Segment {
        return PodStage::NeedsNoGpu;
    }
    let wanted = pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
    let engines: Vec<&str> = wanted.map(|c| c.name.as_str()).filter(|name| is_engine(name)).collect();
    let seen = status.and_then(|status| status.init_container_statuses.as_ref());
    let over =
        |name: &&str| seen.into_iter().flatten().any(|status| status.name == **name && ended_well(status));
    if !engines.is_empty() && engines.iter().all(over) { PodStage::NeedsNoGpu } else { PodStage::MayUseGpu }
}

fn is_engine(container: &str) -> bool {
    container == "upscale" || container.starts_with("upscale-")
}

fn ended_well(status: &ContainerStatus) -> bool {
    let end = status.state.as_ref().and_then(|state| state.terminated.as_ref());
    end.is_some_and(|end| end.exit_code == 0)
}

/// The node that the pod's affinity names.
fn pinned_to(spec: &PodSpec) -> Option<String> {
    let node = spec.affinity.as_ref()?.node_affinity.as_ref()?;
    let terms = &node.required_during_scheduling_ignored_during_execution.as_ref()?.node_selector_terms;
    let fields = terms.iter().flat_map(|term| term.match_fields.iter().flatten());
    fields
        .filter(|field| field.key == "metadata.name")
        .find_map(|field| field.values.as_ref()?.first().cloned())
}

/// The scheduler's reckoning: the larger of what the main containers request together and what each init container
/// requests, each with the sidecars that run beside it.
pub(super) fn requests(spec: &PodSpec) -> PodRequests {
    let mut sidecars = PodRequests::default();
    let mut peak = PodRequests::default();
    for container in spec.init_containers.iter().flatten() {
        let with = sum(sidecars, of_container(container));
        peak = larger(peak, with);
        if container.restart_policy.as_deref() == Some("Always") {
            sidecars = with;
        }
    }
    let main = spec.containers.iter().map(of_container).fold(sidecars, sum);
    larger(peak, main)
}

fn of_container(container: &Container) -> PodRequests {
    let all = container.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    let text = |key: &str| all.and_then(|all| all.get(key)).map(|quantity| quantity.0.as_str());
    PodRequests {
        cpu_millis: text("cpu").and_then(resource::thousandths).unwrap_or(0),
        memory_bytes: text("memory").and_then(resource::whole).unwrap_or(0),
        ephemeral_bytes: text("ephemeral-storage").and_then(resource::whole).unwrap_or(0),
    }
}

fn sum(a: PodRequests, b: PodRequests) -> PodRequests {
    PodRequests {
        cpu_millis: a.cpu_millis.saturating_add(b.cpu_millis),
        memory_bytes: a.memory_bytes.saturating_add(b.memory_bytes),
        ephemeral_bytes: a.ephemeral_bytes.saturating_add(b.ephemeral_bytes),
    }
}

fn larger(a: PodRequests, b: PodRequests) -> PodRequests {
    PodRequests {
        cpu_millis: a.cpu_millis.max(b.cpu_millis),
        memory_bytes: a.memory_bytes.max(b.memory_bytes),
        ephemeral_bytes: a.ephemeral_bytes.max(b.ephemeral_bytes),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(status: serde_json::Value) -> PodFacts {
        let pod = serde_json::from_value(json!({
            "metadata": {
                "name": "holiday-9b1deb-00000-0000", "namespace": "media", "uid": "p1",
                "labels": {keys::ROLE: "segment"}, "annotations": {keys::GPU_UUID: "GPU-5A"},
                "ownerReferences": [
                    {"apiVersion": "v1", "kind": "ConfigMap", "name": "other", "uid": "c"},
                    {"apiVersion": keys::API_VERSION, "kind": "VideoUpscale", "name": "holiday", "uid": "j", "controller": true}],
            },
            "spec": {
                "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                    {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["node-a"]}]}]}}},
                "initContainers": [
                    {"name": "prepare", "resources": {"requests": {"cpu": "2", "memory": "1Gi"}}},
                    {"name": "upscale", "resources": {"requests": {"cpu": "1", "memory": "4Gi"}}},
                ],
                "containers": [{"name": "finish", "resources": {"requests": {"cpu": "500m", "ephemeral-storage": "1Gi"}}}],
            },
            "status": status,
        }));
        PodFacts::of(&pod.unwrap()).unwrap()
    }

    #[test]
    fn requests_are_reckoned_as_the_scheduler_does() {
        let facts = pod(json!({}));
        assert_eq!(
            facts.requests,
            PodRequests { cpu_millis: 2000, memory_bytes: 4 << 30, ephemeral_bytes: 1 << 30 }
        );
        assert_eq!((facts.node.as_deref(), facts.gpu.as_deref()), (Some("node-a"), Some("gpu-5a")));
        let job = JobKey { namespace: "media".into(), name: "holiday".into(), uid: "j".into() };
        assert_eq!(facts.job, Some(job));
    }

    #[test]
    fn the_gpu_is_free_once_the_engine_has_ended_well() {
        let ended = |name: &str, code: i32| {
            json!({"name": name, "image": "", "imageID": "", "ready": false,
            "restartCount": 0, "state": {"terminated": {"exitCode": code}}})
        };
        let status =
            |statuses: serde_json::Value| json!({"phase": "Pending", "initContainerStatuses": statuses});
        for (status, stage) in [
            (json!({}), PodStage::MayUseGpu),
            (status(json!([ended("prepare", 0)])), PodStage::MayUseGpu),
            (status(json!([ended("prepare", 0), ended("upscale", 1)])), PodStage::MayUseGpu),
            (status(json!([ended("prepare", 0), ended("upscale", 0)])), PodStage::NeedsNoGpu),
            (json!({"phase": "Failed"}), PodStage::Ended),
        ] {
            assert_eq!(pod(status.clone()).stage, stage, "{status}");
        }
    }
}
