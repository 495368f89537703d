//! The pods with one container and no GPU: probe and merge.

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;

use super::shared::{ephemeral_bytes, metadata, pod_spec, resources, volumes, worker, worker_mounts};
use super::{JobFacts, Release};
use crate::api::keys::{ATTEMPT, Role};
use crate::api::profile::UpscaleProfileSpec;
use crate::api::quantity::{GIB, MIB};
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

/// Memory of the probe: a decoder of the largest films, and an encoder without look-ahead; their size is not known before.
const PROBE_BYTES: u64 = 1536 * MIB;
/// Memory of the merge beside its decoder.
const MERGE_BYTES: u64 = 512 * MIB;
/// Bytes per output pixel of the decoder that verifies: some thirty pictures in 4:2:0 at ten bits.
const MERGE_PIXEL_BYTES: u128 = 96;
/// Scratch space of both: lists and logs.
const SCRATCH_BYTES: u64 = 2 * GIB;
/// A noisy 4K film of two hours takes hours to index on few processors.
const DEADLINE_SECONDS: i64 = 86_400;

/// The pod that indexes the film and plans its segments: `<prefix>-probe-<n>`. `None` if the task cannot be written.
pub fn probe_pod(of: &SinglePod<'_>, task: &ProbeTask) -> Option<Pod> {
    build(of, Role::Probe, task, PROBE_BYTES)
}

/// The pod that joins the parts and publishes the result: `<prefix>-merge-<n>`. `None` if the task cannot be written or
/// a figure overflows.
pub fn merge_pod(of: &SinglePod<'_>, task: &MergeTask, picture: &Picture) -> Option<Pod> {
    let decoder = u64::try_from(picture.output_pixels().checked_mul(MERGE_PIXEL_BYTES)?).ok()?;
    build(of, Role::Merge, task, MERGE_BYTES.checked_add(decoder)?)
}

fn build(of: &SinglePod<'_>, role: Role, task: &impl Serialize, memory_bytes: u64) -> Option<Pod> {
    let name = format!("{}-{}-{}", of.job.key.pod_prefix(), role.as_str(), of.attempt);
    let mut metadata: ObjectMeta = metadata(of.release, of.job, role, name);
    metadata.labels.get_or_insert_default().insert(ATTEMPT.to_owned(), of.attempt.to_string());
    let resources = resources(memory_bytes, ephemeral_bytes(SCRATCH_BYTES));
    let container = worker(of.release, role.as_str(), task, worker_mounts(of.job), resources)?;
    let spec = PodSpec {
        containers: vec![container],
        volumes: Some(volumes(of.job, SCRATCH_BYTES)),
        active_deadline_seconds: Some(DEADLINE_SECONDS),
        ..pod_spec(of.release, of.spec)
    };
    Some(Pod { metadata, spec: Some(spec), status: None })
}
