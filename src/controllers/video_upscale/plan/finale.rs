//! The last phases: joining the parts, giving up, and the rest after the end.

use std::time::Duration;

use super::draft::Draft;
use super::film::{Film, job_facts, job_ref};
use super::single::{self, Step};
use super::status::{self, Said, whole_seconds};
use super::{Change, needs, settle};
use crate::api::conditions::{ConditionType, FailureReason, OtherReason, ScheduledReason, State, Status};
use crate::api::keys::Role;
use crate::api::quantity;
use crate::api::video_upscale::{OutputFacts, SegmentCounts};
use crate::api::worker::{End, MergeTask, VERSION};
use crate::controllers::video_upscale::job::Job;
use crate::controllers::video_upscale::memory::since;
use crate::controllers::video_upscale::pods::{SinglePod, merge_pod};
use crate::fleet::demand::StepNeed;

/// All parts are there: join them.
pub fn merge(draft: &mut Draft<'_>, job: &Job, film: &Film<'_>) {
    draft.free_unused();
    let total = i32::try_from(film.total).unwrap_or(i32::MAX);
    draft.status.segments = Some(SegmentCounts { total, succeeded: total, ..SegmentCounts::default() });
    draft.status.progress = Some(format!("{total}/{total}"));
    draft.scheduled(Status::True, ScheduledReason::AllPlaced, "All segments are done".to_owned());
    match single::step(draft, Role::Merge) {
        Step::Running => merging(draft),
        Step::Create(number) => {
            merging(draft);
            if draft.say_refused() {
                return;
            }
            if number == 0 {
                draft.tell(false, "Merging", format!("{total} parts are joined"));
            }
            create(draft, job, film, number);
        }
        Step::Wait(until) => {
            merging(draft);
            draft.look_again_at(until);
        }
        Step::Failed(reason, message) => draft.fail(reason, message),
        Step::Done(end) => publish(draft, job, &end),
    }
}

fn merging(draft: &mut Draft<'_>) {
    draft.state(State::Merging, "The parts are being joined".to_owned());
}

fn create(draft: &mut Draft<'_>, job: &Job, film: &Film<'_>, number: u32) {
    let observed = draft.observed;
    let task = MergeTask {
        v: VERSION,
        job: job_ref(observed),
        source: job.source.clone(),
        destination: job.destination.clone(),
        overwrite: job.overwrite,
        round: u32::try_from(draft.status.round.unwrap_or(0)).unwrap_or(0),
        scale: film.picture.scale,
        verify: job.verify,
    };
    let facts = job_facts(observed, job);
    let single = SinglePod { release: &observed.release, job: &facts, spec: film.spec, attempt: number };
    draft.create_single(merge_pod(&single, &task, &film.picture));
    draft.look_again(Duration::from_secs(5));
}

fn publish(draft: &mut Draft<'_>, job: &Job, end: &End) {
    let figures = end.merge.clone().unwrap_or_default();
    draft.status.output = Some(OutputFacts {
        path: job.destination.clone(),
        bytes: i64::try_from(figures.bytes).unwrap_or(i64::MAX),
        frames: i64::try_from(figures.frames).unwrap_or(i64::MAX),
        width: i32::try_from(figures.width).unwrap_or(i32::MAX),
        height: i32::try_from(figures.height).unwrap_or(i32::MAX),
        sha256: figures.sha256.chars().take(64).collect(),
    });
    draft.succeed(format!(
        "{} is complete: {} frames, {}x{}",
        job.destination, figures.frames, figures.width, figures.height
    ));
}

/// Some segments were given up and the others are done.
pub fn give_up(draft: &mut Draft<'_>, job: &Job, film: &Film<'_>) {
    // The one of which most can be told: its last end stands in the list of memory ends.
    let mut ends = draft.status.out_of_memory.iter().flat_map(|ends| &ends.recent);
    let given_up = |number: i32| u32::try_from(number).is_ok_and(|number| draft.failed.contains(number));
    let end = ends.find(|end| given_up(end.segment)).cloned();
    let told = end.as_ref().and_then(|end| u32::try_from(end.segment).ok());
    let history =
        told.or_else(|| draft.failed.iter().next()).and_then(|segment| draft.tried.get(&segment)).cloned();
    let reason = settle::failure_after(history.as_ref().and_then(|history| history.verdict));
    let mut message = format!("{} of {} segments were given up", draft.failed.len(), film.total);
    if let Some(history) = &history {
        let verdict = history.verdict.map_or("Unknown", |verdict| verdict.as_str());
        message += &format!(
            "; segment {} after {} attempts, last at {}, last end {verdict}",
            history.segment,
            history.made,
            film.step_label(history.step)
        );
    }
    if let Some(end) = &end {
        message += &format!(" on {}: needed {}, {} were free", end.node, end.needed, end.free);
    }
    if reason == FailureReason::OutOfGpuMemory
        && let Some(least) = least_free(draft, job, film)
    {
        message += &format!("; a GPU must have {} free", quantity::display(least));
    }
    let small = |value: u32| i32::try_from(value).unwrap_or(i32::MAX);
    draft.status.segments = Some(SegmentCounts {
        total: small(film.total),
        succeeded: small(draft.done.len()),
        failed: small(draft.failed.len()),
        ..SegmentCounts::default()
    });
    draft.free_unused();
    draft.fail(reason, message);
}

/// What a GPU must have free for the smallest step allowed, as far as known, bytes.
fn least_free(draft: &Draft<'_>, job: &Job, film: &Film<'_>) -> Option<u64> {
    let needs = needs::of(film, &draft.memory, &draft.observed.identity.key.uid, None);
    let seen = |need: &StepNeed| need.learned.values().chain(need.cards.values()).copied().max().unwrap_or(0);
    let least = needs.iter().map(|need| need.need_bytes.max(seen(need))).min()?;
    Some(least.saturating_add(job.gpu.headroom_bytes))
}

/// A new value of `retry-failed` opens a failed job again. True if it did. Probes and merges that have ended go first,
/// else their ends would be judged again.
pub fn reopen(draft: &mut Draft<'_>) -> bool {
    let asked = draft.observed.identity.retry_failed.clone();
    let failed = status::is_true(&draft.status, ConditionType::Failed);
    if !failed || asked.is_none() || asked == draft.status.retried_for {
        return false;
    }
    let observed = draft.observed;
    let old: Vec<_> = observed.pods.iter().filter(|pod| pod.role != Role::Segment && pod.ended()).collect();
    if !old.is_empty() {
        for pod in old {
            draft.delete_now(pod);
        }
        draft.look_again(Duration::from_secs(1));
        return false;
    }
    draft.status.retried_for = asked;
    settle::forgive(draft);
    for (kind, reason) in [
        (ConditionType::Failed, OtherReason::NoFinalFailure.as_str()),
        (ConditionType::Finished, State::Accepted.as_str()),
    ] {
        let message = "Tried again as annotation upscale.video/retry-failed asks".to_owned();
        draft.set(Said { kind, status: Status::False, reason, message });
    }
    draft.unset(ConditionType::Stalled);
    draft.status.completion_time = None;
    draft.status.duration = None;
    draft.status.start_time = Some(whole_seconds(draft.now));
    draft.state(State::Accepted, "Tried again".to_owned());
    true
}

/// After the end: nothing runs, nothing is held, the last failed pods are kept, the time after the end passes.
pub fn rest(draft: &mut Draft<'_>, job: &Job) {
    let observed = draft.observed;
    draft.stop_everything();
    let ended: Vec<_> = observed.pods.iter().filter(|pod| pod.ended()).collect();
    draft.tidy(&ended);
    let (Some(ttl), Some(end)) = (job.ttl, &observed.status.completion_time) else { return };
    let age = since(end.0, draft.now);
    if age >= ttl {
        draft.change(Change::DeleteJob);
    } else {
        draft.look_again(ttl.saturating_sub(age).max(Duration::from_secs(1)));
    }
}
