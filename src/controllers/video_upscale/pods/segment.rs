//! The pod of one attempt: `prepare`, the engine, `finish`.

use k8s_openapi::api::core::v1::Pod;

use super::{JobFacts, Release};
use crate::api::profile::UpscaleProfileSpec;
use crate::api::worker::{FinishTask, PrepareTask};
use crate::controllers::video_upscale::ladder::Flags;
use crate::fleet::claim::{AttemptId, Grant};
use crate::fleet::demand::PodRequests;
use crate::profile::{Measured, Picture};

/// Everything that the pod of an attempt is built from.
#[derive(Clone, Copy, Debug)]
pub struct SegmentPod<'a> {
    /// The release.
    pub release: &'a Release,
    /// The job.
    pub job: &'a JobFacts,
    /// Which attempt.
    pub attempt: &'a AttemptId,
    /// What was claimed for it.
    pub grant: &'a Grant,
    /// The profile as the job began with it.
    pub spec: &'a UpscaleProfileSpec,
    /// The film's picture.
    pub picture: &'a Picture,
    /// Most frames that a segment reads, whole.
    pub longest_read: u32,
    /// Flags of the attempt.
    pub flags: Flags,
    /// Times as measured so far.
    pub measured: Measured,
    /// Task of `prepare`; its `pieces` is the number of engine containers.
    pub prepare: &'a PrepareTask,
    /// Task of `finish`.
    pub finish: &'a FinishTask,
}

/// Builds the pod. `None` if the step is not offered for the picture, or a figure overflows.
pub fn segment_pod(of: &SegmentPod<'_>) -> Option<Pod> {
    let _ = of;
    None
}

/// What such a pod requests of its node by the scheduler's reckoning. `None` if a figure overflows.
pub fn segment_requests(
    spec: &UpscaleProfileSpec,
    step: u32,
    picture: &Picture,
    longest_read: u32,
    pieces: u32,
    flags: Flags,
) -> Option<PodRequests> {
    let _ = (spec, step, picture, longest_read, pieces, flags);
    None
}
