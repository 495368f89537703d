//! The pods with one container and no GPU: probe and merge.

use k8s_openapi::api::core::v1::Pod;

use super::{JobFacts, Release};
use crate::api::profile::UpscaleProfileSpec;
use crate::api::worker::{MergeTask, ProbeTask};
use crate::profile::Picture;

/// What both are built from besides their task.
#[derive(Clone, Copy, Debug)]
pub struct SinglePod<'a> {
    /// The release.
    pub release: &'a Release,
    /// The job.
    pub job: &'a JobFacts,
    /// The profile as the job began with it; for pull secrets and priority.
    pub spec: &'a UpscaleProfileSpec,
    /// Which try, from 0; part of the name.
    pub attempt: u32,
}

/// The pod that indexes the film and plans its segments: `<prefix>-probe-<n>`.
pub fn probe_pod(of: &SinglePod<'_>, task: &ProbeTask) -> Pod {
    let _ = (of, task);
    Pod::default()
}

/// The pod that joins the parts and publishes the result: `<prefix>-merge-<n>`.
pub fn merge_pod(of: &SinglePod<'_>, task: &MergeTask, picture: &Picture) -> Pod {
    let _ = (of, task, picture);
    Pod::default()
}
