//! A claim: the durable right of one attempt to one GPU, kept as a Lease named after the GPU's UUID.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

mod lease;

pub use lease::lease_name;

/// Identity of a job, parsed once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct JobKey {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
}

/// One attempt of a job.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AttemptId {
    /// The job.
    pub job: JobKey,
    /// Segment.
    pub segment: u32,
    /// Attempt, from 0, grows with each pod of the segment.
    pub attempt: u32,
}

impl AttemptId {
    /// Name of the attempt's pod: `<job name, at most 40>-<6 hex of the UID>-<segment>-<attempt>`.
    pub fn pod_name(&self) -> String {
        format!("{}-{:05}-{:04}", self.job.pod_prefix(), self.segment, self.attempt)
    }
}

impl JobKey {
    /// What the names of all pods of the job begin with.
    pub fn pod_prefix(&self) -> String {
        let name: String = self.name.chars().take(40).collect();
        let uid: String = self.uid.chars().filter(char::is_ascii_hexdigit).take(6).collect();
        format!("{}-{}", name.trim_end_matches('-'), uid.to_ascii_lowercase())
    }
}

/// What the agent said of the GPU when it was chosen; evidence for the verdict, so it travels with the pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenBefore {
    /// Free bytes as reported.
    pub free: u64,
    /// Free bytes as reckoned: reported, plus what ended engines of ours still seemed to hold.
    pub available: u64,
    /// Bytes of foreign processes and memory without a process beyond the driver's own.
    pub foreign: u64,
    /// Total bytes of the card.
    pub total: u64,
    /// Sequence number of the report.
    pub seq: u64,
    /// Agent start that the number belongs to.
    pub inst: String,
}

/// Everything an attempt's pod is built from besides job and profile; frozen when the GPU is claimed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// UUID of the GPU.
    pub gpu: String,
    /// Its index on the node.
    pub gpu_index: u32,
    /// Its product name.
    pub gpu_model: String,
    /// Its node.
    pub node: String,
    /// Ladder step.
    pub step: u32,
    /// GPU memory needed, bytes, without headroom.
    pub need_bytes: u64,
    /// The view before.
    pub seen: SeenBefore,
}

/// A claim as it stands on its Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// UUID of the GPU.
    pub gpu: String,
    /// Who holds it; `None` is free.
    pub holder: Option<AttemptId>,
    /// The grant; present while held.
    pub grant: Option<Grant>,
    /// Process that wrote it last.
    pub actor: String,
    /// UID of the last pod known to have held the GPU.
    pub last_pod_uid: Option<String>,
    /// Quarantine: held until a report proves the memory back.
    pub quarantined: Option<Mark>,
    /// Out until the report's health or driver changes.
    pub out: Option<Mark>,
    /// Version of the Lease, for compare-and-swap.
    pub resource_version: String,
}

/// Cause and time of a quarantine or of a card being out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// One word or short sentence.
    pub cause: String,
    /// When.
    pub at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pod_names_stay_below_63_characters() {
        let job = JobKey {
            namespace: "n".into(),
            name: "x".repeat(50),
            uid: "9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d".into(),
        };
        let id = AttemptId { job, segment: 9999, attempt: 9999 };
        assert_eq!(id.pod_name(), format!("{}-9b1deb-09999-9999", "x".repeat(40)));
        assert!(id.pod_name().len() <= 63);
    }
}
