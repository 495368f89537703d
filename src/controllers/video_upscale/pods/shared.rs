//! What all our pods have in common.

use crate::fleet::claim::JobKey;

/// How the claimed GPU is named to the container runtime.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VisibleDevices {
    /// Its plain UUID.
    #[default]
    Uuid,
    /// Its qualified CDI name, `nvidia.com/gpu=<UUID>`.
    Cdi,
}

/// Pull policy of the worker's image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PullPolicy {
    /// Only if it is not there.
    #[default]
    IfNotPresent,
    /// Each time.
    Always,
    /// Not at all.
    Never,
}

impl PullPolicy {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::IfNotPresent => "IfNotPresent",
            Self::Always => "Always",
            Self::Never => "Never",
        }
    }
}

/// What the release says of its pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// Name of the release.
    pub name: String,
    /// Image of the worker.
    pub worker_image: String,
    /// When it is pulled.
    pub pull_policy: PullPolicy,
    /// Runtime class of pods with a GPU; `None`: the cluster's default.
    pub runtime_class: Option<String>,
    /// How the GPU is named.
    pub visible_devices: VisibleDevices,
    /// User id of our containers; `None`: the platform chooses.
    pub user: Option<i64>,
    /// Group id of our containers; `None`: the platform chooses.
    pub group: Option<i64>,
    /// Group that the volumes belong to; `None`: the platform chooses.
    pub fs_group: Option<i64>,
}

/// What pods need to know of their job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobFacts {
    /// Identity; becomes owner and labels.
    pub key: JobKey,
    /// Claim of the source, in the job's namespace.
    pub source_claim: String,
    /// Claim of the destination; may be the same.
    pub destination_claim: String,
}
