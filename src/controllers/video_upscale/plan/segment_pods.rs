//! The pod of an attempt, from claim, film and history.

use k8s_openapi::api::core::v1::Pod;

use super::draft::Draft;
use super::film::{Film, job_facts, job_ref};
use crate::api::worker::{FinishTask, PrepareTask, PromisedGpu, VERSION};
use crate::controllers::video_upscale::job::Job;
use crate::controllers::video_upscale::ladder::History;
use crate::controllers::video_upscale::pods::{SegmentPod, segment_pod};
use crate::fleet::claim::{AttemptId, Grant};
use crate::profile::{engine_input, engine_output};

/// Builds the pod; `None` if the step that was granted is not offered.
pub fn build(
    draft: &Draft<'_>,
    job: &Job,
    film: &Film<'_>,
    attempt: &AttemptId,
    grant: &Grant,
    history: &History,
) -> Option<Pod> {
    let observed = draft.observed;
    let engine = engine_input(film.spec, history.flags.least_context);
    let output = engine_output(film.spec);
    let round = u32::try_from(draft.status.round.unwrap_or(0)).unwrap_or(0);
    let prepare = PrepareTask {
        v: VERSION,
        job: job_ref(observed),
        source: job.source.clone(),
        round,
        segment: attempt.segment,
        pieces: history.pieces,
        scale: film.picture.scale,
        engine: engine.clone(),
        output: output.clone(),
        gpu: PromisedGpu { uuid: grant.gpu.clone(), need_bytes: grant.need_bytes },
    };
    let finish = FinishTask {
        v: VERSION,
        job: job_ref(observed),
        round,
        segment: attempt.segment,
        attempt: attempt.attempt,
        step: grant.step,
        pieces: history.pieces,
        scale: film.picture.scale,
        engine,
        output,
        encode: job.encode,
    };
    segment_pod(&SegmentPod {
        release: &observed.release,
        job: &job_facts(observed, job),
        attempt,
        grant,
        spec: film.spec,
        picture: &film.picture,
        lengths: film.lengths,
        flags: history.flags,
        measured: observed.paces.of(&grant.gpu_model, grant.step, film.start_seconds()),
        prepare: &prepare,
        finish: &finish,
    })
}
