//! Group, labels, annotations and field managers: each string of our own that appears on an object stands here once.

/// API group of our custom resources.
pub const GROUP: &str = "upscale.video";
/// The only version served.
pub const VERSION: &str = "v1alpha1";
/// `apiVersion` of our custom resources.
pub const API_VERSION: &str = "upscale.video/v1alpha1";

/// Pod label: name of the job.
pub const JOB: &str = "upscale.video/job";
/// Pod label and lease annotation: UID of the job.
pub const JOB_UID: &str = "upscale.video/job-uid";
/// Pod label: `probe`, `segment` or `merge` ([`Role`]).
pub const ROLE: &str = "upscale.video/role";
/// Pod label and lease annotation: number of the segment.
pub const SEGMENT: &str = "upscale.video/segment";
/// Pod label and lease annotation: number of the attempt.
pub const ATTEMPT: &str = "upscale.video/attempt";
/// Pod label: index of the GPU on its node, for people.
pub const GPU_INDEX: &str = "upscale.video/gpu-index";
/// Pod annotation: UUID of the claimed GPU.
pub const GPU_UUID: &str = "upscale.video/gpu-uuid";
/// Pod annotation: ladder step of the attempt.
pub const STEP: &str = "upscale.video/step";
/// Pod annotation: GPU memory that the attempt needs, bytes.
pub const NEED: &str = "upscale.video/need";
/// Pod annotation: what the agent said of the GPU when it was chosen; JSON of [`crate::fleet::claim::SeenBefore`].
pub const SEEN_BEFORE: &str = "upscale.video/seen-before";
/// Pod annotation: number of pieces, and flags of the attempt (`f`, `c`, `m`), as in `status.tried`.
pub const ATTEMPT_FLAGS: &str = "upscale.video/attempt-flags";

/// Node annotation written by the agent: the report.
pub const REPORT: &str = "agent.upscale.video/report";
/// Node annotation written by the agent: the heartbeat.
pub const HEARTBEAT: &str = "agent.upscale.video/heartbeat";
/// Node annotation of the administrator: GPUs not to be used.
pub const EXCLUDE_GPUS: &str = "upscale.video/exclude-gpus";

/// Job annotation: a new value gives failed segments fresh attempts.
pub const RETRY_FAILED: &str = "upscale.video/retry-failed";
/// Job annotation: the job is not reconciled.
pub const PAUSED: &str = "upscale.video/paused";
/// Profile label: `"true"` on the profile that a job gets which names none.
pub const DEFAULT_PROFILE: &str = "upscale.video/default-profile";
/// Namespace label: release that works there.
pub const RELEASE: &str = "upscale.video/release";

/// Namespace and name of the Lease that names the release which works in namespaces without the label [`RELEASE`].
pub const CLUSTER_LEASE_NAMESPACE: &str = "kube-system";
/// See [`CLUSTER_LEASE_NAMESPACE`].
pub const CLUSTER_LEASE: &str = "upscale-cluster";

/// Lease annotation: random identity of the controller process that wrote the claim.
pub const ACTOR: &str = "upscale.video/actor";
/// Lease annotation: namespace of the job.
pub const JOB_NAMESPACE: &str = "upscale.video/job-namespace";
/// Lease annotation: name of the job.
pub const JOB_NAME: &str = "upscale.video/job-name";
/// Lease annotation: node of the GPU.
pub const NODE: &str = "upscale.video/node";
/// Lease annotation: bytes planned for the attempt.
pub const PLANNED_BYTES: &str = "upscale.video/planned-bytes";
/// Lease annotation: UID of the last pod that held the GPU.
pub const LAST_POD_UID: &str = "upscale.video/last-pod-uid";
/// Lease annotation: cause and time of a quarantine, `<cause>@<RFC 3339>`.
pub const QUARANTINED: &str = "upscale.video/quarantined";
/// Lease annotation: why the GPU is out, `<cause>@<RFC 3339>`.
pub const OUT: &str = "upscale.video/out";
/// Lease annotation: the grant in full, JSON of [`crate::fleet::claim::Grant`]: what the pod is built from.
pub const GRANT: &str = "upscale.video/grant";

/// `app.kubernetes.io/managed-by` of everything the controller makes.
pub const MANAGED_BY: &str = "upscale-controller";
/// Field manager of the controller's writes to job status.
pub const FIELD_MANAGER_JOB: &str = "upscale-controller-job";
/// Field manager of the controller's writes to profiles.
pub const FIELD_MANAGER_PROFILE: &str = "upscale-controller-profile";
/// Field manager of the controller's writes to claims.
pub const FIELD_MANAGER_CLAIM: &str = "upscale-controller-claim";
/// Field manager of the controller's writes to the Lease of the leader.
pub const FIELD_MANAGER_ELECTION: &str = "upscale-controller-election";
/// Field manager of the agent.
pub const FIELD_MANAGER_AGENT: &str = "upscale-agent";

/// What a pod of ours is for; value of the label [`ROLE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Indexes the film and plans its segments.
    Probe,
    /// Upscales one segment: one attempt.
    Segment,
    /// Joins the parts and publishes the result.
    Merge,
}

impl Role {
    /// The label value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Probe => "probe",
            Self::Segment => "segment",
            Self::Merge => "merge",
        }
    }

    /// Reads a label value; `None` for anything that is not ours.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Probe, Self::Segment, Self::Merge].into_iter().find(|role| role.as_str() == text)
    }
}
