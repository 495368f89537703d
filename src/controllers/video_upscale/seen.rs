//! A pod of ours as it was seen: who it is, and how far it has come.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStateWaiting, ContainerStatus};

use super::verdict::Stage as Container;
use crate::api::conditions::ScheduledReason;
use crate::api::keys::{self, Role};
use crate::fleet::HeardPod;
use crate::fleet::claim::{Claim, JobKey, SeenBefore};
use crate::fleet::pod::owner_of;

/// A pod of the job: right labels, right owner.
#[derive(Clone, Debug, PartialEq)]
pub struct SeenPod {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// What it is for.
    pub role: Role,
    /// Segment; 0 for probe and merge.
    pub segment: u32,
    /// Attempt, or number of the probe or merge.
    pub attempt: u32,
    /// Node that it runs on, or is meant for.
    pub node: Option<String>,
    /// UUID of its GPU.
    pub gpu: Option<String>,
    /// Index of its GPU, for people.
    pub gpu_index: Option<u32>,
    /// Ladder step.
    pub step: u32,
    /// GPU memory planned for it, bytes.
    pub need_bytes: Option<u64>,
    /// The agent's view when its GPU was chosen.
    pub before: Option<SeenBefore>,
    /// When it was made.
    pub created: Timestamp,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// How far it has come.
    pub progress: Progress,
    /// All that is kept of it, for the verdict.
    pub pod: Arc<HeardPod>,
}

/// How far a pod has come.
#[derive(Clone, Debug, PartialEq)]
pub enum Progress {
    /// Not on a node.
    Unscheduled(Hold),
    /// On a node, nothing runs, and no engine has run.
    Starting {
        /// When it was bound to the node, or when the last container ended that came before.
        since: Timestamp,
        /// What it waits for.
        hold: Hold,
    },
    /// A container that may use the GPU runs, or comes next.
    Working,
    /// The engine has ended with 0; only our own `finish` is left.
    Finishing,
    /// All containers have ended.
    Ended,
}

/// Why a pod does not start, as far as the cluster says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hold {
    /// The word for the condition `Scheduled`; `None` while nothing is wrong.
    pub reason: Option<ScheduledReason>,
    /// What the scheduler or kubelet says.
    pub message: String,
    /// What has not come yet.
    pub lacks: Lack,
}

/// What a pod that does not start lacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lack {
    /// A node.
    #[default]
    Node,
    /// Its volumes, or the sandbox that is made once they are mounted.
    Volumes,
    /// An image, which is being pulled.
    Pull,
    /// An image that cannot be had.
    Image,
    /// A container: the kubelet or the runtime refuses to make it.
    Container,
}

impl SeenPod {
    /// Reads a pod that the job's label selector found. `None` if it is not ours: another owner or no role, number,
    /// name or UID that we gave.
    pub fn of(pod: Arc<HeardPod>, job: &JobKey) -> Option<Self> {
        let meta = &pod.meta;
        let owned = owner_of(meta).is_some_and(|owner| owner.uid == job.uid);
        let label = |key: &str| meta.labels.as_ref().and_then(|all| all.get(key)).map(String::as_str);
        let annotation = |key: &str| meta.annotations.as_ref().and_then(|all| all.get(key));
        let number = |key: &str| label(key).and_then(|text| text.parse::<u32>().ok());
        let role = Role::parse(label(keys::ROLE)?)?;
        let name = meta.name.clone()?;
        let numbered = match role {
            Role::Segment => number(keys::SEGMENT).zip(number(keys::ATTEMPT)),
            Role::Probe | Role::Merge => {
                name.rsplit_once('-').and_then(|(_, n)| n.parse().ok()).map(|n| (0, n))
            }
        };
        let (segment, attempt) = numbered?;
        if !owned {
            return None;
        }
        Some(Self {
            uid: meta.uid.clone()?,
            role,
            segment,
            attempt,
            node: pod.node.clone(),
            gpu: annotation(keys::GPU_UUID).cloned(),
            gpu_index: number(keys::GPU_INDEX),
            step: annotation(keys::STEP).and_then(|text| text.parse().ok()).unwrap_or(0),
            need_bytes: annotation(keys::NEED).and_then(|text| text.parse().ok()),
            before: annotation(keys::SEEN_BEFORE).and_then(|text| serde_json::from_str(text).ok()),
            created: meta.creation_timestamp.as_ref()?.0,
            deleting: meta.deletion_timestamp.is_some(),
            progress: Progress::of(&pod)?,
            name,
            pod,
        })
    }

    /// Whether that claim is the one this pod was made for: same attempt, same GPU.
    pub fn holds(&self, claim: &Claim) -> bool {
        let attempt = claim.holder.as_ref().map(|holder| (holder.segment, holder.attempt));
        self.role == Role::Segment
            && attempt == Some((self.segment, self.attempt))
            && self.gpu.as_ref().is_none_or(|gpu| *gpu == claim.gpu)
    }

    /// When the last of its containers that have ended did so, by its node's clock.
    pub fn last_end(&self) -> Option<Timestamp> {
        let status = &self.pod.status;
        let init = status.init_container_statuses.iter().flatten();
        init.chain(status.container_statuses.iter().flatten()).filter_map(end_of).max()
    }

    /// Whether all its containers have ended.
    pub fn ended(&self) -> bool {
        self.progress == Progress::Ended
    }

    /// Whether `prepare` or the engine may still run.
    pub fn may_use_gpu(&self) -> bool {
        self.role == Role::Segment && !matches!(self.progress, Progress::Finishing | Progress::Ended)
    }
}

impl Progress {
    /// Reads a pod's status. `None` for a pod without creation time, which no API server sends.
    fn of(pod: &HeardPod) -> Option<Self> {
        let status = &pod.status;
        if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
            return Some(Self::Ended);
        }
        let created = pod.meta.creation_timestamp.as_ref()?.0;
        let scheduled = status.conditions.iter().flatten().find(|c| c.type_ == "PodScheduled");
        if pod.node.is_none() {
            let message = scheduled.and_then(|c| c.message.clone()).unwrap_or_default();
            let refused = scheduled.is_some_and(|c| c.status == "False");
            let reason = refused.then(|| unschedulable(&message));
            return Some(Self::Unscheduled(Hold { reason, message, lacks: Lack::Node }));
        }
        let inits = || status.init_container_statuses.iter().flatten();
        let mains = || status.container_statuses.iter().flatten();
        let engines: Vec<_> =
            inits().filter(|c| Container::of_container(&c.name) == Some(Container::Engine)).collect();
        let ours_are_through = inits().filter(|c| Container::of_container(&c.name).is_some()).all(ended_well);
        if !engines.is_empty() && ours_are_through {
            return Some(Self::Finishing);
        }
        let runs = |c: &ContainerStatus| c.state.as_ref().is_some_and(|state| state.running.is_some());
        let all = || inits().chain(mains());
        let begun = engines.iter().copied().chain(mains()).any(has_run);
        let failed = all().any(|c| has_run(c) && !runs(c) && !ended_well(c));
        if begun || failed || all().any(runs) {
            return Some(Self::Working);
        }
        let bound = scheduled.and_then(|c| c.last_transition_time.as_ref()).map_or(created, |time| time.0);
        let since = all().filter_map(end_of).fold(bound, Timestamp::max);
        let ready = status.conditions.iter().flatten().find(|c| c.type_ == "PodReadyToStartContainers");
        let ready = ready.map(|condition| condition.status == "True");
        Some(Self::Starting { since, hold: Hold::of(all().find_map(waits), ready) })
    }
}

impl Hold {
    /// What the first container that waits says; those behind it wait for it. `ready`: whether the kubelet has mounted
    /// the volumes and made the sandbox, if it says.
    fn of(waiting: Option<&ContainerStateWaiting>, ready: Option<bool>) -> Self {
        let word = waiting.and_then(|waiting| waiting.reason.as_deref());
        let message = waiting.and_then(|waiting| waiting.message.clone()).unwrap_or_default();
        let (reason, lacks) = match word {
            Some(
                "ErrImagePull"
                | "ImagePullBackOff"
                | "InvalidImageName"
                | "ErrImageNeverPull"
                | "RegistryUnavailable"
                | "ImageInspectError",
            ) => (Some(ScheduledReason::ImagePull), Lack::Image),
            // A kubelet that has not said anything has not come so far.
            None | Some("" | "ContainerCreating" | "PodInitializing") => {
                (None, if ready == Some(false) || word.is_none() { Lack::Volumes } else { Lack::Pull })
            }
            Some(_) => (Some(ScheduledReason::NodeUnschedulable), Lack::Container),
        };
        let message = if message.is_empty() { word.unwrap_or_default().to_owned() } else { message };
        Self { reason, message, lacks }
    }
}

fn waits(container: &ContainerStatus) -> Option<&ContainerStateWaiting> {
    container.state.as_ref()?.waiting.as_ref()
}

fn end_of(container: &ContainerStatus) -> Option<Timestamp> {
    Some(container.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref()?.0)
}

fn has_run(container: &ContainerStatus) -> bool {
    let state = container.state.as_ref();
    state.is_some_and(|state| state.running.is_some() || state.terminated.is_some())
}

fn ended_well(container: &ContainerStatus) -> bool {
    let end = container.state.as_ref().and_then(|state| state.terminated.as_ref());
    end.is_some_and(|end| end.exit_code == 0)
}

/// The scheduler's words, of which only the gist is stable: a pod pinned to one node is refused by that node's lack
/// of room, its taints, or a volume.
fn unschedulable(message: &str) -> ScheduledReason {
    let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
    if says(&["volume", "persistentvolumeclaim", "PersistentVolumeClaim"]) {
        ScheduledReason::VolumeNotHere
    } else if says(&["Insufficient", "Too many pods"]) {
        ScheduledReason::NodeFull
    } else {
        ScheduledReason::NodeUnschedulable
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn job() -> JobKey {
        JobKey { namespace: "media".into(), name: "holiday".into(), uid: "u1".into() }
    }

    fn pod(status: serde_json::Value, node: Option<&str>) -> HeardPod {
        let pod = serde_json::from_value(json!({
            "metadata": {
                "name": "holiday-u1-00003-0001", "uid": "p1", "creationTimestamp": "2026-11-24T00:00:00Z",
                "labels": {keys::ROLE: "segment", keys::SEGMENT: "3", keys::ATTEMPT: "1"},
                "ownerReferences": [{"apiVersion": keys::API_VERSION, "kind": "VideoUpscale", "name": "holiday",
                                     "uid": "u1", "controller": true}],
            },
            "spec": {"nodeName": node, "containers": []},
            "status": status,
        }));
        HeardPod::of(pod.unwrap())
    }

    fn progress(status: serde_json::Value) -> Progress {
        SeenPod::of(Arc::new(pod(status, Some("node-a"))), &job()).unwrap().progress
    }

    #[test]
    fn pods_of_another_owner_are_not_ours() {
        let mut foreign = pod(json!({}), None);
        foreign.meta.owner_references.as_mut().unwrap()[0].uid = "u2".into();
        assert_eq!(SeenPod::of(Arc::new(foreign), &job()), None);
        let ours = SeenPod::of(Arc::new(pod(json!({}), None)), &job()).unwrap();
        assert_eq!((ours.segment, ours.attempt), (3, 1));
    }

    #[test]
    fn the_schedulers_words_become_reasons() {
        for (message, reason) in [
            ("0/2 nodes are available: 1 Insufficient memory.", ScheduledReason::NodeFull),
            ("0/2 nodes are available: 1 node(s) were unschedulable.", ScheduledReason::NodeUnschedulable),
            (
                "0/2 nodes are available: 1 node(s) had untolerated taint(s).",
                ScheduledReason::NodeUnschedulable,
            ),
            (
                "0/2 nodes are available: 1 node(s) had volume node affinity conflict.",
                ScheduledReason::VolumeNotHere,
            ),
            (r#"persistentvolumeclaim "media" not found"#, ScheduledReason::VolumeNotHere),
        ] {
            let status =
                json!({"conditions": [{"type": "PodScheduled", "status": "False", "message": message}]});
            let seen = SeenPod::of(Arc::new(pod(status, None)), &job()).unwrap();
            let Progress::Unscheduled(hold) = seen.progress else { panic!("{message}") };
            assert_eq!(hold.reason, Some(reason), "{message}");
        }
    }

    #[test]
    fn containers_tell_how_far_a_pod_is() {
        let done = json!({"terminated": {"exitCode": 0}});
        let failed = json!({"terminated": {"exitCode": 1}});
        let running = json!({"running": {}});
        let waiting = |reason: &str| json!({"waiting": {"reason": reason}});
        let inits = |prepare: &serde_json::Value, upscale: &serde_json::Value| {
            let status = |name: &str, state: &serde_json::Value| json!({"name": name, "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state});
            json!({"phase": "Pending", "initContainerStatuses": [status("prepare", prepare), status("upscale", upscale)]})
        };
        let next = waiting("PodInitializing");
        let word = |status| match progress(status) {
            Progress::Starting { .. } => "starting",
            Progress::Working => "working",
            Progress::Finishing => "finishing",
            Progress::Ended => "ended",
            Progress::Unscheduled(_) => "unscheduled",
        };
        for (prepare, upscale, expected) in [
            (&running, &next, "working"),
            (&done, &next, "starting"),
            (&done, &waiting("ImagePullBackOff"), "starting"),
            (&done, &running, "working"),
            (&failed, &next, "working"),
            (&done, &failed, "working"),
            (&done, &done, "finishing"),
        ] {
            assert_eq!(word(inits(prepare, upscale)), expected, "{prepare} {upscale}");
        }
        assert_eq!(word(json!({"phase": "Failed"})), "ended");
    }

    #[test]
    fn what_a_pod_lacks_that_does_not_start_is_told_apart() {
        let ready = |status: &str| json!([{"type": "PodReadyToStartContainers", "status": status}]);
        for (word, conditions, reason, lacks) in [
            (None, json!([]), None, Lack::Volumes),
            (Some("PodInitializing"), ready("False"), None, Lack::Volumes),
            (Some("PodInitializing"), ready("True"), None, Lack::Pull),
            (Some("ContainerCreating"), json!([]), None, Lack::Pull),
            (Some("ImagePullBackOff"), ready("True"), Some(ScheduledReason::ImagePull), Lack::Image),
            (Some("ErrImageNeverPull"), ready("True"), Some(ScheduledReason::ImagePull), Lack::Image),
            (
                Some("CreateContainerConfigError"),
                ready("True"),
                Some(ScheduledReason::NodeUnschedulable),
                Lack::Container,
            ),
        ] {
            let state = word.map(|word| json!({"waiting": {"reason": word}}));
            let statuses = state.map(|state| {
                json!([{"name": "prepare", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                        "state": state}])
            });
            let status =
                json!({"phase": "Pending", "conditions": conditions, "initContainerStatuses": statuses});
            let Progress::Starting { hold, .. } = progress(status) else { panic!("{word:?}") };
            assert_eq!((hold.reason, hold.lacks), (reason, lacks), "{word:?}");
        }
    }
}
