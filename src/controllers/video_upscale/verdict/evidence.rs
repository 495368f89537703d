//! What is known of a pod's end, collected before it is judged.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated, ContainerStatus};

use super::GpuView;
use crate::api::keys::Role;
use crate::api::profile::Failure;
use crate::api::worker::{Code, End};
use crate::fleet::HeardPod;
use crate::fleet::claim::SeenBefore;

/// What a container is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Cuts the segment and looks at the GPU; ours.
    Prepare,
    /// The engine, `upscale` or `upscale-<piece>`.
    Engine,
    /// Checks and encodes; ours.
    Finish,
    /// Indexes the film; ours.
    Probe,
    /// Joins the parts; ours.
    Merge,
}

impl Stage {
    /// Reads a container's name; `None` if it is none of ours (an injected sidecar, for one).
    pub fn of_container(name: &str) -> Option<Self> {
        match name {
            "prepare" => Some(Self::Prepare),
            "upscale" => Some(Self::Engine),
            "finish" => Some(Self::Finish),
            "probe" => Some(Self::Probe),
            "merge" => Some(Self::Merge),
            other => other
                .strip_prefix("upscale-")
                .is_some_and(|piece| matches!(piece, "0" | "1" | "2" | "3"))
                .then_some(Self::Engine),
        }
    }

    /// For people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Engine => "upscale",
            Self::Finish => "finish",
            Self::Probe => "probe",
            Self::Merge => "merge",
        }
    }
}

/// Who deleted the pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Deletion {
    /// Nobody.
    #[default]
    No,
    /// We did, as it did not start in time.
    OursNotStarted,
    /// We did, for another reason: suspend, the job's end, an unclaimed pod.
    Ours,
    /// Somebody else: drain, preemption, a person.
    Others,
}

/// How one container ended, or that it did not.
#[derive(Clone, Debug, PartialEq)]
pub struct ContainerEnd {
    /// What it was for.
    pub stage: Stage,
    /// Its name.
    pub name: String,
    /// Exit code; `None` while it has not ended.
    pub exit_code: Option<i32>,
    /// Signal that ended it, if the runtime says so.
    pub signal: Option<i32>,
    /// Reason, of the end or of the wait.
    pub reason: String,
    /// Termination message, at most [`ContainerEnd::MAX_MESSAGE`] bytes of its end.
    pub message: String,
    /// The message read as our own containers write it.
    pub end: Option<End>,
    /// Whether it ever ran.
    pub started: bool,
    /// When it started, by the node's clock.
    pub started_at: Option<Timestamp>,
    /// When it ended, by the node's clock.
    pub finished_at: Option<Timestamp>,
}

impl ContainerEnd {
    /// Most bytes of a message that are looked at.
    pub const MAX_MESSAGE: usize = 64 * 1024;

    /// How a container of our own ended, by its exit code; the message only tells apart what shares a code.
    pub fn code(&self) -> Option<Code> {
        let code = Code::from_exit_code(self.exit_code?)?;
        Some(match &self.end {
            Some(end) if end.code.exit_code() == code.exit_code() => end.code,
            _ => code,
        })
    }
}

/// How the pod ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodEnd {
    /// UID, by which the agent names its processes; empty if the pod was never seen.
    pub uid: String,
    /// Phase `Succeeded`.
    pub succeeded: bool,
    /// Phase `Failed`.
    pub failed: bool,
    /// Reason in the status: `Evicted`, `DeadlineExceeded`, `OutOfcpu`, ...
    pub reason: String,
    /// Message in the status.
    pub message: String,
    /// Condition `DisruptionTarget` is true.
    pub disruption_target: bool,
    /// Who deleted it.
    pub deletion: Deletion,
    /// The object is gone, and its last state is all that is left.
    pub gone: bool,
    /// Its node is gone, or has been silent until it was given up.
    pub node_gone: bool,
}

/// All that is known of the end of a pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence {
    /// What the pod was for.
    pub role: Role,
    /// Its end.
    pub pod: PodEnd,
    /// Its containers, in the order in which they run.
    pub containers: Vec<ContainerEnd>,
    /// When the end was first seen, by our clock; the wait for a report starts here.
    pub seen_at: Timestamp,
    /// What the agent said when the GPU was chosen; `None` for pods without a GPU.
    pub before: Option<SeenBefore>,
    /// What the agent says now of that GPU; `None` without a report, or if the GPU is not in it.
    pub after: Option<GpuView>,
    /// UIDs of our other pods that may have been on that GPU lately: their ended processes are listed for a while, and
    /// are not others.
    pub our_pods: BTreeSet<String>,
    /// GPU memory planned for the attempt, bytes.
    pub need_bytes: Option<u64>,
    /// How the engine's failures are read.
    pub failure: Failure,
}

impl Evidence {
    /// Reads a pod. `deletion` is known only to whoever deletes; [`Deletion::No`] becomes [`Deletion::Others`] if the
    /// object says that it is being deleted. Messages are cut to their last [`ContainerEnd::MAX_MESSAGE`] bytes.
    pub fn of_pod(
        pod: &HeardPod,
        role: Role,
        deletion: Deletion,
        seen_at: Timestamp,
        failure: Failure,
    ) -> Self {
        let status = &pod.status;
        let being_deleted = pod.meta.deletion_timestamp.is_some();
        let inits = status.init_container_statuses.iter().flatten();
        let mains = status.container_statuses.iter().flatten();
        Self {
            role,
            pod: PodEnd {
                uid: pod.meta.uid.clone().unwrap_or_default(),
                succeeded: status.phase.as_deref() == Some("Succeeded"),
                failed: status.phase.as_deref() == Some("Failed"),
                reason: tail(status.reason.as_deref(), 256),
                message: tail(status.message.as_deref(), 4096),
                disruption_target: status
                    .conditions
                    .iter()
                    .flatten()
                    .any(|c| c.type_ == "DisruptionTarget" && c.status == "True"),
                deletion: if deletion == Deletion::No && being_deleted { Deletion::Others } else { deletion },
                gone: false,
                node_gone: status.reason.as_deref() == Some("NodeLost"),
            },
            containers: inits.chain(mains).filter_map(container).collect(),
            seen_at,
            before: None,
            after: None,
            our_pods: BTreeSet::new(),
            need_bytes: None,
            failure,
        }
    }

    /// When the last container that ran ended, by the node's clock.
    pub fn finished_at(&self) -> Option<Timestamp> {
        self.containers.iter().filter_map(|container| container.finished_at).max()
    }

    /// When the engine first started, by the node's clock.
    pub fn engine_started_at(&self) -> Option<Timestamp> {
        let engines = self.containers.iter().filter(|container| container.stage == Stage::Engine);
        engines.filter_map(|container| container.started_at).min()
    }
}

fn container(status: &ContainerStatus) -> Option<ContainerEnd> {
    let stage = Stage::of_container(&status.name)?;
    let empty = ContainerState::default();
    let state = status.state.as_ref().unwrap_or(&empty);
    let last = status.last_state.as_ref().and_then(|last| last.terminated.as_ref());
    let ended: Option<&ContainerStateTerminated> = state.terminated.as_ref().or(last);
    let waiting = state.waiting.as_ref().and_then(|waiting| waiting.reason.as_deref());
    let message = tail(ended.and_then(|end| end.message.as_deref()), ContainerEnd::MAX_MESSAGE);
    let running_since = state.running.as_ref().and_then(|running| running.started_at.as_ref());
    Some(ContainerEnd {
        stage,
        name: status.name.clone(),
        exit_code: ended.map(|end| end.exit_code),
        signal: ended.and_then(|end| end.signal),
        reason: tail(ended.and_then(|end| end.reason.as_deref()).or(waiting), 256),
        end: (stage != Stage::Engine).then(|| End::parse(message.trim())).flatten(),
        message,
        started: ended.is_some() || state.running.is_some(),
        started_at: ended.and_then(|end| end.started_at.as_ref()).or(running_since).map(|time| time.0),
        finished_at: ended.and_then(|end| end.finished_at.as_ref()).map(|time| time.0),
    })
}

/// The last `most` bytes of a stranger's text.
fn tail(text: Option<&str>, most: usize) -> String {
    let text = text.unwrap_or_default();
    let mut from = text.len().saturating_sub(most);
    while !text.is_char_boundary(from) {
        from = from.saturating_add(1);
    }
    text.get(from..).unwrap_or_default().to_owned()
}
