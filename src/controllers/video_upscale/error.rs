//! Why a pass could not be carried out. One variant per operation, with the object it was about.

use std::time::Duration;

use thiserror::Error;

/// Why a pass failed.
#[derive(Debug, Error)]
pub enum Error {
    /// The object has no namespace, name or UID.
    #[error("VideoUpscale {name} has no namespace, UID or version")]
    Nameless {
        /// What it is called, as far as it says.
        name: String,
    },
    /// The object cannot be decoded.
    #[error("read VideoUpscale {name}: {message}")]
    Undecodable {
        /// Namespace and name.
        name: String,
        /// What the decoder says.
        message: String,
    },
    /// The job could not be read.
    #[error("get VideoUpscale {name}: {source}")]
    GetJob {
        /// Namespace and name.
        name: String,
        /// Why.
        source: kube::Error,
    },
    /// Its pods could not be listed.
    #[error("list pods of {name}: {source}")]
    ListPods {
        /// Namespace and name of the job.
        name: String,
        /// Why.
        source: kube::Error,
    },
    /// Something that the job needs could not be read.
    #[error("get {kind} {name}: {source}")]
    Get {
        /// Kind of the object.
        kind: &'static str,
        /// Its name.
        name: String,
        /// Why.
        source: kube::Error,
    },
    /// The profile could not be kept.
    #[error("create ControllerRevision {name}: {source}")]
    FreezeProfile {
        /// Name of the revision.
        name: String,
        /// Why.
        source: kube::Error,
    },
    /// A pod could not be made.
    #[error("create pod {pod}: {source}")]
    CreatePod {
        /// Name of the pod.
        pod: String,
        /// Why.
        source: kube::Error,
    },
    /// The API server did not say in time whether a pod was made.
    #[error("create pod {pod}: the API server did not answer within 10 s")]
    Silence {
        /// Name of the pod.
        pod: String,
    },
    /// Another's object has the name that ours should have.
    #[error("{kind} {name} exists and is not ours")]
    Foreign {
        /// Kind of the object.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// A pod could not be deleted.
    #[error("delete pod {pod}: {source}")]
    DeletePod {
        /// Name of the pod.
        pod: String,
        /// Why.
        source: kube::Error,
    },
    /// The job could not be deleted after its time.
    #[error("delete VideoUpscale {name}: {source}")]
    DeleteJob {
        /// Namespace and name.
        name: String,
        /// Why.
        source: kube::Error,
    },
    /// The status could not be written.
    #[error("write status of {name}: {source}")]
    WriteStatus {
        /// Namespace and name.
        name: String,
        /// Why.
        source: kube::Error,
    },
    /// A claim could not be taken over.
    #[error("own the claim on {gpu}: {source}")]
    Own {
        /// UUID of the GPU.
        gpu: String,
        /// Why.
        source: crate::fleet::ClaimError,
    },
    /// Somebody else wrote the claim first.
    #[error("the claim on {gpu} has changed meanwhile")]
    Overtaken {
        /// UUID of the GPU.
        gpu: String,
    },
    /// A GPU could not be given back.
    #[error("release claim on {gpu}: {source}")]
    Release {
        /// UUID of the GPU.
        gpu: String,
        /// Why.
        source: crate::fleet::ClaimError,
    },
    /// What ends have taught could not be kept.
    #[error("learn about profile {profile}: {source}")]
    Learn {
        /// Its name.
        profile: String,
        /// Why.
        source: crate::controllers::profiles::Error,
    },
    /// The pass took too long.
    #[error("the pass over {name} was given up after {} s", limit.as_secs())]
    Deadline {
        /// Namespace and name.
        name: String,
        /// The limit.
        limit: Duration,
    },
    /// The pass panicked.
    #[error("the pass over {name} panicked")]
    Panic {
        /// Namespace and name.
        name: String,
    },
}

impl Error {
    /// Class of the error, for metrics.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Nameless { .. } => "nameless",
            Self::Undecodable { .. } => "undecodable",
            Self::GetJob { .. } => "get_job",
            Self::ListPods { .. } => "list_pods",
            Self::Get { .. } => "get",
            Self::FreezeProfile { .. } => "freeze_profile",
            Self::CreatePod { .. } | Self::Silence { .. } => "create_pod",
            Self::Foreign { .. } => "foreign",
            Self::DeletePod { .. } => "delete_pod",
            Self::DeleteJob { .. } => "delete_job",
            Self::WriteStatus { .. } => "write_status",
            Self::Own { .. } => "own",
            Self::Overtaken { .. } => "overtaken",
            Self::Release { .. } => "release",
            Self::Learn { .. } => "learn",
            Self::Deadline { .. } => "deadline",
            Self::Panic { .. } => "panic",
        }
    }

    /// Whether somebody else wrote first: no fault, look again at once.
    pub fn is_conflict(&self) -> bool {
        match self {
            Self::WriteStatus { source, .. } | Self::DeletePod { source, .. } => is_conflict(source),
            Self::Overtaken { .. } => true,
            _ => false,
        }
    }
}

/// Whether the API server refused a write as it rests on an older version.
pub fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.is_conflict())
}
