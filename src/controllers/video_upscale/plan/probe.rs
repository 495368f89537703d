//! The first phase: the profile is frozen, the probe indexes the film and cuts it.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::draft::Draft;
use super::film::{self, job_facts, job_ref};
use super::single::{self, Step};
use super::status::{self, Said, whole_seconds};
use super::{Change, HEARTBEAT, Profile};
use crate::api::conditions::{ConditionType, FailureReason, OtherReason, State, Status};
use crate::api::keys::{self, Role};
use crate::api::profile::UpscaleProfileSpec;
use crate::api::video_upscale::{ProfileRef, SegmentCounts, VideoFacts};
use crate::api::worker::{End, ProbeFigures, ProbeTask, VERSION};
use crate::controllers::video_upscale::job::Job;
use crate::controllers::video_upscale::pods::{SinglePod, probe_pod};
use crate::fleet::claim::JobKey;
use crate::profile::engine_input;

/// Largest host memory that a pod may have, whatever the nodes offer.
const MOST_HOST_BYTES: u64 = 64 << 30;

/// Plans the phase.
pub fn plan(draft: &mut Draft<'_>, job: &Job, spec: &UpscaleProfileSpec) {
    draft.unset(ConditionType::Stalled);
    if let Profile::Found { name, spec, .. } = &draft.observed.profile {
        freeze(draft, name, spec);
    }
    match single::step(draft, Role::Probe) {
        Step::Running => probing(draft, "The film is being indexed"),
        Step::Create(number) => create(draft, job, spec, number),
        Step::Wait(until) => {
            probing(draft, "The probe is tried again");
            draft.look_again_at(until);
        }
        Step::Failed(reason, message) => draft.fail(reason, message),
        Step::Done(end) => accept(draft, job, &end),
    }
    draft.look_again(HEARTBEAT);
}

/// Keeps the profile as it is now: what the administrator changes later is for later jobs.
fn freeze(draft: &mut Draft<'_>, name: &str, spec: &UpscaleProfileSpec) {
    let key = &draft.observed.identity.key;
    let revision = revision_name(key);
    let Ok(data) = serde_json::to_value(spec) else { return };
    let object = ControllerRevision {
        metadata: ObjectMeta {
            name: Some(revision.clone()),
            namespace: Some(key.namespace.clone()),
            labels: Some(BTreeMap::from([
                ("app.kubernetes.io/managed-by".to_owned(), keys::MANAGED_BY.to_owned()),
                (keys::JOB_UID.to_owned(), key.uid.clone()),
            ])),
            owner_references: Some(vec![owner(key)]),
            ..ObjectMeta::default()
        },
        data: k8s_openapi::apimachinery::pkg::runtime::RawExtension(data),
        revision: Some(1),
    };
    draft.change(Change::FreezeProfile(Box::new(object)));
    draft.status.profile = Some(ProfileRef { name: name.to_owned(), revision });
}

/// Name of the revision that keeps the profile of a job.
pub fn revision_name(key: &JobKey) -> String {
    format!("{}-profile", key.pod_prefix())
}

/// The owner reference of what belongs to a job.
fn owner(key: &JobKey) -> OwnerReference {
    OwnerReference {
        api_version: keys::API_VERSION.to_owned(),
        kind: "VideoUpscale".to_owned(),
        name: key.name.clone(),
        uid: key.uid.clone(),
        controller: Some(true),
        block_owner_deletion: None,
    }
}

fn probing(draft: &mut Draft<'_>, message: &str) {
    draft.status.start_time.get_or_insert(whole_seconds(draft.now));
    draft.set(Said {
        kind: ConditionType::Reconciling,
        status: Status::True,
        reason: OtherReason::Probing.as_str(),
        message: message.to_owned(),
    });
    draft.state(State::Probing, message.to_owned());
}

fn create(draft: &mut Draft<'_>, job: &Job, spec: &UpscaleProfileSpec, number: u32) {
    let observed = draft.observed;
    if draft.say_refused() {
        probing(draft, "The film is to be indexed");
        return;
    }
    let scales = spec.scales.iter().filter_map(|scale| u32::try_from(*scale).ok()).collect();
    // Nobody knows yet where the film will run; it begins at the best step.
    let start_seconds = u32::try_from(spec.time.start_seconds).unwrap_or(0);
    let guessed_millis = u32::try_from(spec.time.megapixel_frame_millis).unwrap_or(0);
    let first = film::steps(job, spec).map(|steps| *steps.start()).ok();
    let measured = first.map(|step| observed.paces.slowest(step, start_seconds)).unwrap_or_default();
    let task = ProbeTask {
        v: VERSION,
        job: job_ref(observed),
        source: job.source.clone(),
        destination: job.destination.clone(),
        overwrite: job.overwrite,
        scale: job.scale,
        scales,
        start_us: job.start_us,
        length_us: job.length_us,
        engine: engine_input(spec, false),
        host_memory: spec.host_memory,
        encode: job.encode,
        segment_frames: job.segment_frames,
        gpus: observed.fleet.gpus.min(job.parallelism).max(1),
        start_seconds: measured.start_seconds.unwrap_or(start_seconds),
        megapixel_frame_millis: measured.megapixel_frame_millis.unwrap_or(guessed_millis),
        host_budget_bytes: observed.fleet.host_budget_bytes.unwrap_or(MOST_HOST_BYTES).min(MOST_HOST_BYTES),
        live_jobs: observed.live_jobs.clone(),
    };
    let facts = job_facts(observed, job);
    let pod = probe_pod(&SinglePod { release: &observed.release, job: &facts, spec, attempt: number }, &task);
    draft.create_single(pod);
    probing(draft, "The film is being indexed");
    draft.look_again(Duration::from_secs(5));
}

/// The probe's answer becomes status; whoever reads it later finds the same plan in the work folder.
fn accept(draft: &mut Draft<'_>, job: &Job, end: &End) {
    let Some(figures) = &end.probe else {
        draft.fail(FailureReason::EngineError, "The probe ended well and left no figures".to_owned());
        return;
    };
    record(draft, figures);
    draft.unset(ConditionType::Reconciling);
    let video = draft.status.video.clone().unwrap_or_default();
    let per_segment = figures.frames.div_ceil(u64::from(figures.segments.max(1)));
    let message = format!(
        "{}x{}, {} frames{}, {} segments of about {per_segment} frames",
        video.width,
        video.height,
        figures.frames,
        range(job),
        figures.segments
    );
    draft.tell(false, "Accepted", message.clone());
    draft.state(State::Accepted, message);
    if draft.status.retried_for.is_none() {
        draft.status.retried_for.clone_from(&draft.observed.identity.retry_failed);
    }
    let observed = draft.observed;
    for pod in observed.pods.iter().filter(|pod| pod.role == Role::Probe) {
        draft.delete(pod);
    }
    draft.look_again(Duration::from_millis(100));
}

/// ` from 12.5s on`, if the job is for part of the film.
fn range(job: &Job) -> String {
    let seconds = |micros: u64| micros as f64 / 1e6;
    match (job.start_us.unwrap_or(0), job.length_us) {
        (0, None) => String::new(),
        (start, None) => format!(" from {}s on", seconds(start)),
        (start, Some(length)) => {
            format!(" from {}s to {}s", seconds(start), seconds(start.saturating_add(length)))
        }
    }
}

fn record(draft: &mut Draft<'_>, figures: &ProbeFigures) {
    let small = |value: u32| i32::try_from(value).unwrap_or(i32::MAX);
    let total = small(figures.segments);
    draft.status.video = Some(VideoFacts {
        frames: i64::try_from(figures.frames).unwrap_or(i64::MAX),
        width: small(figures.width),
        height: small(figures.height),
        scale: small(figures.scale),
        longest_read: small(figures.longest_read),
        longest_owned: small(figures.longest_owned),
        frame_rate: figures.frame_rate.chars().take(32).collect(),
        codec: figures.codec.chars().take(32).collect(),
        duration: status::duration(Duration::from_millis(figures.duration_ms)),
        warnings: figures.warnings.iter().take(10).map(|w| w.chars().take(200).collect()).collect(),
    });
    draft.status.segments = Some(SegmentCounts { total, waiting: total, ..SegmentCounts::default() });
    draft.status.progress = Some(format!("0/{total}"));
}
