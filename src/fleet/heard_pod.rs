//! What is kept of a pod of ours that was heard of. Ten thousand are kept: as they come, one takes 21 KiB, most of it for what
//! its containers were told to do, which whoever made it knows (`cargo bench --bench placement` prints what they take now).

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::demand::PodRequests;
use super::pod;
use crate::api::keys;

/// A pod, as far as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct HeardPod {
    /// Who it is, with labels and annotations of ours only.
    pub meta: ObjectMeta,
    /// Node that it runs on.
    pub node: Option<String>,
    /// What it requests of its node.
    pub requests: PodRequests,
    /// How far it has come; of containers only names and states.
    pub status: PodStatus,
}

impl HeardPod {
    /// Keeps what will be asked for.
    pub fn of(pod: Pod) -> Self {
        let mut meta = pod.metadata;
        meta.managed_fields = None;
        for map in [&mut meta.labels, &mut meta.annotations].into_iter().flatten() {
            map.retain(|key, _| key.starts_with(keys::GROUP));
        }
        let (node, requests) = match pod.spec {
            Some(spec) => (spec.node_name.clone(), pod::requests(&spec)),
            None => (None, PodRequests::default()),
        };
        let mut status = pod.status.unwrap_or_default();
        let lists = [&mut status.init_container_statuses, &mut status.container_statuses];
        for list in lists.into_iter().flatten() {
            *list = std::mem::take(list).into_iter().map(slim).collect::<Box<[_]>>().into_vec();
        }
        if let Some(conditions) = &mut status.conditions {
            conditions.shrink_to_fit();
        }
        Self { meta, node, requests, status }
    }
}

fn slim(container: ContainerStatus) -> ContainerStatus {
    ContainerStatus {
        last_state: container.last_state,
        name: container.name,
        state: container.state,
        ..ContainerStatus::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::fleet::pod::PodFacts;

    #[test]
    fn what_is_kept_is_what_is_ours_and_how_far_it_has_come() {
        let text = include_str!("../controllers/video_upscale/pods/testdata/segment.json");
        let mut whole: Value = serde_json::from_str(text).unwrap();
        whole["metadata"]["uid"] = "a".into();
        whole["metadata"]["annotations"]["somebody.else/notes"] = "long".into();
        whole["spec"]["nodeName"] = "node-a".into();
        let ended = json!({"terminated": {"exitCode": 0, "message": "so it is"}});
        whole["status"] = json!({"phase": "Running", "initContainerStatuses": [
            {"name": "prepare", "image": "an image", "imageID": "", "ready": true, "restartCount": 0, "state": ended}]});
        let whole: Pod = serde_json::from_value(whole).unwrap();
        let kept = HeardPod::of(whole.clone());
        let facts = PodFacts::of(&whole).unwrap();
        assert!(facts.requests.memory_bytes > 0 && kept.requests == facts.requests);
        assert_eq!(kept.node, facts.node);
        let gpu = kept.meta.annotations.as_ref().unwrap()[keys::GPU_UUID].to_ascii_lowercase();
        assert_eq!(Some(gpu), facts.gpu);
        assert!(!kept.meta.annotations.unwrap().contains_key("somebody.else/notes"));
        assert_eq!(kept.meta.owner_references, whole.metadata.owner_references);
        let container = &kept.status.init_container_statuses.as_ref().unwrap()[0];
        let before = &whole.status.as_ref().unwrap().init_container_statuses.as_ref().unwrap()[0];
        assert_eq!((&container.name, &container.state), (&before.name, &before.state));
        assert_eq!(container.image, "");
        assert_eq!(kept.status.phase.as_deref(), Some("Running"));
    }
}
