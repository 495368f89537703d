//! What a job asks of the fleet, and what the fleet answers. The job loop writes demands, the fleet loop outlooks.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Toleration;

use super::claim::JobKey;
use crate::api::conditions::ScheduledReason;
use crate::api::video_upscale::ForeignProcesses;

/// What a job could use now; replaces what it asked for before. Claims that it holds count against `parallelism`.
#[derive(Clone, Debug, PartialEq)]
pub struct Demand {
    /// Who asks.
    pub job: JobKey,
    /// When the job was created; the oldest is served first within a namespace.
    pub created: Timestamp,
    /// How many GPUs it may hold at once.
    pub parallelism: u32,
    /// Segments that are due, in the order they are to be served. Shared, as it may be long.
    pub wanted: std::sync::Arc<[Wanted]>,
    /// Needs by step, best first; only steps that are offered and allowed.
    pub steps: std::sync::Arc<[StepNeed]>,
    /// Which GPUs may be used.
    pub gpu: GpuRequirements,
    /// What a pod requests of its node.
    pub requests: PodRequests,
    /// Taints that a pod tolerates: the profile's.
    pub tolerations: Vec<Toleration>,
    /// Nodes that can mount every claim of the job; `None`: all.
    pub nodes: Option<BTreeSet<String>>,
    /// Nodes that cool down for this job, until when and with which reason for the wait.
    pub cooling_nodes: BTreeMap<String, (Timestamp, ScheduledReason)>,
    /// GPUs that cool down for this job, until when.
    pub cooling_gpus: BTreeMap<String, Timestamp>,
    /// GPU models that are out for the profile.
    pub incompatible_models: BTreeSet<String>,
    /// Whether and when a lower step may be taken for want of room; `None`: never (policy Never, or Uniform).
    pub patience: Option<std::time::Duration>,
}

/// One segment that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Segment.
    pub segment: u32,
    /// Number of its next attempt.
    pub attempt: u32,
    /// Best step that this segment may use; it has run out of memory above it.
    pub first_step: u32,
    /// Step of its last attempt, if that did not end through its own fault: it is not lowered beyond as long as a
    /// matching GPU could hold that step when empty.
    pub keep: Option<u32>,
    /// GPUs that it should not get again if there is another (its last failures).
    pub avoid_gpus: BTreeSet<String>,
    /// Nodes that it should not get again if there is another.
    pub avoid_nodes: BTreeSet<String>,
    /// Whether it must have the card with the most memory: it ran out of memory at a step that cannot fall.
    pub largest_only: bool,
}

/// Need of one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepNeed {
    /// Its number.
    pub step: u32,
    /// Bytes that the formula asks for, with margin, without headroom.
    pub need_bytes: u64,
    /// What ends have shown that cards of a model need, bytes. They show what is too little, never what is enough, so
    /// this only raises the formula.
    pub learned: BTreeMap<String, u64>,
    /// The same where only one card has shown it, by its UUID: it binds that card and none of its brothers.
    pub cards: BTreeMap<String, u64>,
}

impl StepNeed {
    /// Bytes needed on a GPU of that model of which nothing else is known.
    pub fn on(&self, model: &str) -> u64 {
        self.learned.get(model).copied().unwrap_or(0).max(self.need_bytes)
    }

    /// Bytes needed on that very GPU.
    pub fn on_card(&self, model: &str, uuid: &str) -> u64 {
        let seen = self.cards.iter().find(|(card, _)| card.eq_ignore_ascii_case(uuid));
        seen.map_or(0, |(_, bytes)| *bytes).max(self.on(model))
    }
}

/// Which GPUs may be used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GpuRequirements {
    /// Labels of the node.
    pub node_selector: BTreeMap<String, String>,
    /// Parts of product names; empty: all.
    pub products: Vec<String>,
    /// Floor of free memory beside the need, bytes.
    pub min_free_bytes: u64,
    /// Memory left free on top, bytes.
    pub headroom_bytes: u64,
    /// What to do about others.
    pub foreign: ForeignProcesses,
}

/// What a pod requests of its node (the scheduler's reckoning of init and main containers).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PodRequests {
    /// Thousandths of a processor.
    pub cpu_millis: u64,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Bytes of ephemeral storage.
    pub ephemeral_bytes: u64,
}

/// What the fleet answers a job: the state of its wait. Kept current after every pass.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outlook {
    /// Step that new attempts get at the moment; `None` before the first pass or if none is possible.
    pub effective_step: Option<u32>,
    /// Whether that step is lower than the best because patience ran out.
    pub lowered_by_patience: bool,
    /// Segments that are due and have no GPU.
    pub unplaced: u32,
    /// Why, per GPU looked at.
    pub wait: Wait,
}

/// Why due segments have no GPU: each GPU of the fleet falls into one cause.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wait {
    /// GPUs looked at.
    pub looked_at: u32,
    /// How many per cause.
    pub causes: BTreeMap<Cause, u32>,
    /// Bytes that the effective step needs, without headroom.
    pub need_bytes: u64,
    /// The headroom, bytes.
    pub headroom_bytes: u64,
    /// The matching GPU that comes nearest: node, index, available bytes.
    pub best: Option<(String, u32, u64)>,
    /// Product names in the fleet with their counts, for "no GPU matches"; at most 8.
    pub products: BTreeMap<String, u32>,
    /// Nodes whose reports are stale; at most 8.
    pub stale_nodes: BTreeSet<String>,
    /// Namespaces of other releases whose GPUs are among them; at most 8.
    pub other_releases: BTreeSet<String>,
    /// Nodes whose reports cannot be used; their GPUs are not among those looked at.
    pub unread: Unread,
}

/// Nodes whose reports cannot be used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unread {
    /// How many.
    pub nodes: u32,
    /// The first of them by name, and what is wrong with its report.
    pub first: Option<(String, String)>,
}

impl Wait {
    /// The cause of more than half of the GPUs, if one is.
    pub fn chief_cause(&self) -> Option<Cause> {
        let chief = self.causes.iter().max_by_key(|(_, count)| **count);
        chief.filter(|(_, count)| count.saturating_mul(2) > self.looked_at).map(|(cause, _)| *cause)
    }
}

/// Why a GPU is not given to a job, in the order in which it is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// Its report belongs to another release.
    OtherRelease,
    /// Its report is too old, or says stopped.
    Stale,
    /// Lost, bad, to be reset, suspect, unreadable, or its agent is blind.
    Unhealthy,
    /// Excluded by the administrator, or in MIG mode.
    Excluded,
    /// `spec.gpu` does not match.
    NotMatching,
    /// The engine cannot run on this model.
    Incompatible,
    /// Node cordoned, tainted or not ready.
    NodeUnschedulable,
    /// A volume cannot be mounted there.
    VolumeNotHere,
    /// It runs a VideoUpscale.
    Ours,
    /// Held until its memory is proved back.
    Quarantined,
    /// It cools down for this job.
    CoolingDown,
    /// The image cannot be had there (cooling down for that reason).
    ImagePull,
    /// The node has no room for the pod.
    NodeFull,
    /// Foreign processes, or memory that nobody explains, are on it and the job forbids them; or an MPS server and the
    /// job does not tolerate it; or exclusive mode.
    ForeignProcesses,
    /// Too little memory even when empty.
    TooSmall,
    /// Too little memory at the moment.
    NotEnoughFree,
    /// It would fit, and is left to somebody who comes first.
    Fits,
}
