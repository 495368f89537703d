//! What the tenant is told while segments run: counts, state word, why something waits, when it will end.

use std::time::Duration;

use super::draft::Draft;
use super::film::Film;
use super::settle::Held;
use super::status;
use super::{estimate, silence, starts, wait, wanted};
use crate::api::conditions::{ConditionType, OtherReason, ScheduledReason, State, Status, find};
use crate::api::keys::Role;
use crate::api::video_upscale::SegmentCounts;
use crate::controllers::video_upscale::job::Job;
use crate::controllers::video_upscale::memory::{ToldWait, since};
use crate::controllers::video_upscale::seen::SeenPod;
use crate::fleet::demand::Wait;

/// A wait is told anew at most this often.
const WAIT_TOLD: Duration = Duration::from_secs(60);
/// A job whose pods do not start, or of which the fleet has said nothing yet, looks again after that long.
const SOON: Duration = Duration::from_secs(3);
/// One that waits for memory: the fleet wakes it for all that concerns GPUs, but nothing tells of its volumes.
const WAITING: Duration = Duration::from_secs(15);
/// A running job of which nothing runs for that long is waiting.
const IDLE: Duration = Duration::from_secs(5);

/// Tells.
pub fn tell(draft: &mut Draft<'_>, job: &Job, film: &Film<'_>, held: &Held) {
    let observed = draft.observed;
    let alive = |pod: &&SeenPod| pod.role == Role::Segment && !pod.ended() && held.contains(&pod.segment);
    let pods: Vec<&SeenPod> = observed.pods.iter().filter(alive).collect();
    let running = u32::try_from(held.len()).unwrap_or(u32::MAX);
    let waiting = film
        .total
        .saturating_sub(draft.done.len())
        .saturating_sub(draft.failed.len())
        .saturating_sub(running);
    counts(draft, film, running, waiting);
    first_start(draft, &pods, running);
    effective(draft, job, film);
    let silent = silence::explain(draft, &pods);
    let blocked = explain_starts(draft, &pods).or(silent);
    scheduled(draft, job, running, waiting, blocked);
    word(draft, film, running, waiting);
    estimate::tell(draft, film);
}

fn counts(draft: &mut Draft<'_>, film: &Film<'_>, running: u32, waiting: u32) {
    let small = |value: u32| i32::try_from(value).unwrap_or(i32::MAX);
    draft.status.segments = Some(SegmentCounts {
        total: small(film.total),
        waiting: small(waiting),
        running: small(running),
        succeeded: small(draft.done.len()),
        failed: small(draft.failed.len()),
    });
    draft.status.progress = Some(format!("{}/{}", draft.done.len(), film.total));
}

/// The state word, with how far the job is; while all of it waits, with what for.
fn word(draft: &mut Draft<'_>, film: &Film<'_>, running: u32, waiting: u32) {
    let far =
        format!("{} of {} segments done, {running} running, {waiting} waiting", draft.done.len(), film.total);
    if is_running(draft, running) {
        draft.state(State::Running, far);
        return;
    }
    let why = find(&draft.status.conditions, ConditionType::Scheduled).filter(|told| told.status == "False");
    let message = why.map_or(far, |told| told.message.clone());
    draft.state(State::WaitingForGpu, message);
}

/// Whether the job runs. Between two attempts nothing does for a moment; only a job for which this lasts is waiting.
fn is_running(draft: &mut Draft<'_>, running: u32) -> bool {
    if running > 0 {
        draft.memory.idle = None;
        return true;
    }
    let idle = *draft.memory.idle.get_or_insert(draft.now);
    let left = IDLE.saturating_sub(since(idle, draft.now));
    let between = status::word(&draft.observed.status) == Some(State::Running.as_str()) && !left.is_zero();
    if between {
        draft.look_again(left);
    }
    between
}

/// Told once: whatever has a GPU makes the state word Running, seen as a pod or still as a claim.
fn first_start(draft: &mut Draft<'_>, pods: &[&SeenPod], running: u32) {
    let started = running == 0
        || status::word(&draft.observed.status) == Some(State::Running.as_str())
        || !draft.done.is_empty()
        || !draft.tried.is_empty();
    if started {
        return;
    }
    let by_pod = pods.iter().map(|pod| (pod.node.clone(), pod.gpu_index));
    let grants = draft.observed.claims.iter().filter_map(|claim| claim.grant.as_ref());
    let by_claim = grants.map(|grant| (Some(grant.node.clone()), Some(grant.gpu_index)));
    if let Some((Some(node), Some(index))) = by_pod.chain(by_claim).next() {
        draft.tell(false, "Started", format!("First segment on {node} #{index}"));
    }
}

/// The step that new attempts get, and whether patience has lowered it.
fn effective(draft: &mut Draft<'_>, job: &Job, film: &Film<'_>) {
    if job.uniform {
        return;
    }
    let Some(outlook) = &draft.observed.outlook else { return };
    let Some(step) = outlook.effective_step.filter(|step| wanted::offers(draft, job, film, *step)) else {
        return;
    };
    let lowered = outlook.lowered_by_patience;
    wanted::set_effective(draft, film, step);
    if lowered && draft.observed.status.effective != draft.status.effective {
        let message = format!(
            "{} for new segments: for {} s no GPU had room for a better step",
            film.step_label(step),
            job.patience.as_secs()
        );
        draft.tell(false, "Degraded", message.clone());
        draft.degraded(OtherReason::GpuMemory, message);
    }
}

/// The first start that the cluster says something about.
fn explain_starts(draft: &mut Draft<'_>, pods: &[&SeenPod]) -> Option<(ScheduledReason, String)> {
    let now = draft.now;
    for pause in pods.iter().filter_map(|pod| starts::look_again(pod, now)) {
        draft.look_again(pause);
    }
    pods.iter().find_map(|pod| starts::explanation(pod, now))
}

fn scheduled(
    draft: &mut Draft<'_>,
    job: &Job,
    running: u32,
    waiting: u32,
    blocked: Option<(ScheduledReason, String)>,
) {
    if draft.say_refused() {
        return;
    }
    if let Some((until, message)) = draft.memory.full.clone().filter(|(until, _)| *until > draft.now) {
        draft.scheduled(Status::False, ScheduledReason::OutOfSpace, message);
        draft.look_again_at(until);
        return;
    }
    if let Some((reason, message)) = blocked {
        draft.scheduled(Status::False, reason, message);
        draft.look_again(SOON);
        return;
    }
    if waiting == 0 {
        draft.scheduled(Status::True, ScheduledReason::AllPlaced, "All that is due runs".to_owned());
        return;
    }
    if running >= job.parallelism {
        let message =
            format!("{waiting} segments wait: the job runs {running} of parallelism {}", job.parallelism);
        draft.scheduled(Status::False, ScheduledReason::ParallelismReached, message);
        return;
    }
    let outlook = draft.observed.outlook.clone();
    draft.look_again(if outlook.is_some() { WAITING } else { SOON });
    let Some(outlook) = outlook else { return };
    let due = draft.demand.as_ref().is_some_and(|demand| !demand.wanted.is_empty());
    if outlook.unplaced == 0 || !due {
        draft.scheduled(Status::True, ScheduledReason::GpusFound, format!("{running} segments have GPUs"));
        return;
    }
    let reason = wait::reason(&outlook.wait);
    if is_told(draft, reason, &outlook.wait) {
        return;
    }
    draft.memory.told_wait = Some(ToldWait {
        causes: outlook.wait.causes.clone(),
        unread: outlook.wait.unread.clone(),
        at: draft.now,
    });
    let why = &draft.observed.volumes.why;
    let message = match reason {
        ScheduledReason::VolumeNotHere if !why.is_empty() => {
            format!("{}: {why}", wait::message(&outlook.wait, &job.gpu))
        }
        _ => wait::message(&outlook.wait, &job.gpu),
    };
    let changed = find(&draft.status.conditions, ConditionType::Scheduled)
        .is_none_or(|told| told.reason != reason.as_str());
    if running == 0 && changed {
        draft.tell_of(false, State::WaitingForGpu.as_str(), reason.to_string(), message.clone());
    }
    draft.scheduled(Status::False, reason, message);
}

/// Whether that wait stands in the status already: same word, and same counts or told a moment ago.
fn is_told(draft: &Draft<'_>, reason: ScheduledReason, wait: &Wait) -> bool {
    let same_word = find(&draft.status.conditions, ConditionType::Scheduled)
        .is_some_and(|told| told.reason == reason.as_str() && told.status == "False");
    let told = draft.memory.told_wait.as_ref();
    let fresh = told.is_some_and(|told| {
        let same = told.causes == wait.causes && told.unread == wait.unread;
        same || since(told.at, draft.now) < WAIT_TOLD
    });
    same_word && fresh
}
