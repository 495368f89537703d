//! What the job asks of the fleet: the segments that are due, the steps they may have, the GPUs they may get.

use std::sync::Arc;
use std::time::Duration;

use super::draft::Draft;
use super::film::Film;
use super::needs;
use super::settle::Held;
use super::size;
use crate::api::conditions::OtherReason;
use crate::api::keys::Role;
use crate::api::video_upscale::{DegradationPolicy, EffectiveStep};
use crate::controllers::video_upscale::job::Job;
use crate::controllers::video_upscale::ladder::{Flags, History};
use crate::controllers::video_upscale::pods::segment_requests;
use crate::fleet::demand::{Demand, PodRequests, StepNeed, Wanted};

/// Asks for GPUs, or for none while the API server refuses pods or a volume is full.
pub fn ask(draft: &mut Draft<'_>, job: &Job, film: &Film<'_>, held: &Held) {
    let observed = draft.observed;
    let full = draft.memory.full.as_ref().is_some_and(|(until, _)| *until > draft.now);
    let undecided = job.uniform && uniform_step(draft, job, film).is_none();
    let silent = draft.is_refused() || full || undecided;
    let wanted = if silent { Vec::new() } else { due(draft, job, film, held) };
    let memory = &draft.memory;
    let now = draft.now;
    draft.demand = Some(Demand {
        job: observed.identity.key.clone(),
        created: observed.identity.created,
        parallelism: job.parallelism,
        requests: requests(draft, film),
        tolerations: film.spec.engine.tolerations.clone(),
        wanted: wanted.into(),
        steps: Arc::from(steps(draft, job, film)),
        gpu: job.gpu.clone(),
        nodes: observed.volumes.nodes.clone(),
        cooling_nodes: memory.nodes_closed(now),
        cooling_gpus: memory
            .gpus
            .iter()
            .filter(|(_, cool_down)| cool_down.until > now)
            .map(|(gpu, cool_down)| (gpu.clone(), cool_down.until))
            .collect(),
        incompatible_models: film.incompatible.clone(),
        patience: patience(job),
    });
}

/// Nobody waits for a better card under `Never`, or where all segments must have one step.
fn patience(job: &Job) -> Option<Duration> {
    (job.policy == DegradationPolicy::Automatic && !job.uniform).then_some(job.patience)
}

/// The steps that attempts may have, best first.
fn steps(draft: &Draft<'_>, job: &Job, film: &Film<'_>) -> Vec<StepNeed> {
    let falls = job.policy == DegradationPolicy::Automatic && !job.uniform;
    let largest = draft.observed.fleet.largest_gpu.filter(|_| !falls);
    let most = largest.map(|bytes| bytes.saturating_sub(job.gpu.headroom_bytes));
    let needs = needs::of(film, &draft.memory, &draft.observed.identity.key.uid, most);
    needs.into_iter().filter(|need| offers(draft, job, film, need.step)).collect()
}

/// Segments that are lower than attempts may go by now, as after a change of the spec, come back to the lowest step that
/// there is; nothing would ever be found for them.
pub fn bring_back(draft: &mut Draft<'_>, job: &Job, film: &Film<'_>) {
    // Under `Uniform` a segment that is lower than all others is on its way to take them with it.
    let may = |step: &u32| job.uniform || offers(draft, job, film, *step);
    let Some(lowest) = film.estimates.iter().map(|(step, _)| *step).filter(may).max() else { return };
    for history in draft.tried.values_mut() {
        history.step = history.step.min(lowest);
    }
}

/// Whether attempts may have that step: under `Uniform` the one that all have, under `Never` none below the one that
/// was begun with.
pub fn offers(draft: &Draft<'_>, job: &Job, film: &Film<'_>, step: u32) -> bool {
    let admitted = match job.policy {
        _ if job.uniform => uniform_step(draft, job, film).is_none_or(|all| step == all),
        DegradationPolicy::Never => said_step(draft, film).is_none_or(|begun| step <= begun),
        DegradationPolicy::Automatic => true,
    };
    film.offers(step) && admitted
}

/// The step that status says new attempts get, if it is still offered and allowed.
fn said_step(draft: &Draft<'_>, film: &Film<'_>) -> Option<u32> {
    let said = draft.status.effective.as_ref().and_then(|step| u32::try_from(step.step).ok());
    said.filter(|said| film.offers(*said))
}

/// Segments that are due: tried ones first, then in order, no more than the job may run.
fn due(draft: &mut Draft<'_>, job: &Job, film: &Film<'_>, held: &Held) -> Vec<Wanted> {
    let first = film.first_step();
    let free = |draft: &Draft<'_>, segment: u32| {
        !draft.done.contains(segment) && !draft.failed.contains(segment) && !held.contains(&segment)
    };
    let room = job.parallelism.saturating_sub(u32::try_from(held.len()).unwrap_or(u32::MAX));
    let tried: Vec<u32> = draft.tried.keys().copied().filter(|segment| *segment < film.total).collect();
    let open = tried.iter().filter(|segment| !draft.failed.contains(**segment)).count();
    // Tried ones come first, so that there are no more of them than status has room for.
    let untried_room = size::room(&draft.done, &draft.failed).saturating_sub(open.saturating_add(held.len()));
    let untried = (0..film.total).filter(|segment| !draft.tried.contains_key(segment));
    let untried: Vec<u32> =
        untried.filter(|segment| free(draft, *segment)).take(untried_room.min(room as usize)).collect();
    let mut wanted = Vec::new();
    for segment in tried.into_iter().chain(untried) {
        if wanted.len() >= room as usize {
            break;
        }
        if !free(draft, segment) {
            continue;
        }
        let aversion = draft.memory.segments.get(&segment).cloned().unwrap_or_default();
        if let Some(at) = aversion.not_before.filter(|at| *at > draft.now) {
            draft.look_again_at(at);
            continue;
        }
        if let Some((_, until)) = aversion.keep.filter(|(_, until)| *until > draft.now) {
            draft.look_again_at(until);
        }
        let history = draft.history(segment, first);
        wanted.push(Wanted {
            segment,
            attempt: history.made,
            first_step: history.step,
            keep: aversion.keep.filter(|(_, until)| *until > draft.now).map(|(step, _)| step),
            avoid_gpus: aversion.gpus,
            avoid_nodes: aversion.nodes,
            largest_only: history.flags.largest_card,
        });
    }
    wanted
}

/// The largest request that an attempt of this job may make, over steps and over what segments have been through.
fn requests(draft: &Draft<'_>, film: &Film<'_>) -> PodRequests {
    let mut shapes: Vec<(u32, Flags)> = vec![(1, Flags::default())];
    shapes.extend(draft.tried.values().map(|history: &History| (history.pieces, history.flags)));
    shapes.sort_unstable();
    shapes.dedup();
    let all = film.estimates.iter().flat_map(|(step, _)| {
        shapes.iter().filter_map(|(pieces, flags)| {
            segment_requests(film.spec, *step, &film.picture, film.lengths, *pieces, *flags)
        })
    });
    all.fold(PodRequests::default(), |most, one| PodRequests {
        cpu_millis: most.cpu_millis.max(one.cpu_millis),
        memory_bytes: most.memory_bytes.max(one.memory_bytes),
        ephemeral_bytes: most.ephemeral_bytes.max(one.ephemeral_bytes),
    })
}

/// The one step of a job whose segments must all have the same: what status says, else what the fleet finds best for
/// as many GPUs as the job may have. `None` for other jobs, and while the fleet has not answered.
pub fn uniform_step(draft: &Draft<'_>, job: &Job, film: &Film<'_>) -> Option<u32> {
    if !job.uniform {
        return None;
    }
    said_step(draft, film).or_else(|| draft.observed.outlook.as_ref()?.effective_step)
}

/// Under `Uniform`, a segment that had to go lower takes all others with it: what was done at a better step is done
/// again, in a new round with its own parts.
pub fn lower_uniformly(draft: &mut Draft<'_>, job: &Job, film: &Film<'_>) {
    let Some(step) = uniform_step(draft, job, film) else { return };
    let open = draft.tried.values().filter(|history| !draft.failed.contains(history.segment));
    let lowest = open.map(|history| history.step).max().unwrap_or(step);
    set_effective(draft, film, lowest.max(step));
    if lowest <= step {
        return;
    }
    let round = draft.status.round.unwrap_or(0).saturating_add(1);
    let message = format!("All segments are done again at {}, round {round}", film.step_label(lowest));
    draft.tell(false, "Degraded", message.clone());
    draft.degraded(OtherReason::GpuMemory, message);
    let observed = draft.observed;
    for pod in observed.pods.iter().filter(|pod| pod.role == Role::Segment && !pod.ended()) {
        draft.end_early(pod);
    }
    draft.done = super::segments::Segments::default();
    draft.status.round = Some(round);
    for history in draft.tried.values_mut() {
        history.step = history.step.max(lowest);
        history.made = history.made.max(u32::try_from(round).unwrap_or(0).saturating_mul(200));
    }
}

/// Says which step new attempts get.
pub fn set_effective(draft: &mut Draft<'_>, film: &Film<'_>, step: u32) {
    draft.status.effective =
        Some(EffectiveStep { step: i32::try_from(step).unwrap_or(i32::MAX), label: film.label(step) });
}
