//! The main phase: each end is judged once and answered, each claim completed or undone, what is due is asked for.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use super::draft::Draft;
use super::film::Film;
use super::{Freed, HEARTBEAT, claims, ends, finale, starts, telling, wanted};
use crate::api::conditions::{ConditionType, FailureReason, ScheduledReason};
use crate::api::keys::Role;
use crate::controllers::video_upscale::job::Job;
use crate::controllers::video_upscale::ladder::{Avoid, History, Next, Penalty, Situation, Turn, next};
use crate::controllers::video_upscale::memory::{after, since};
use crate::controllers::video_upscale::seen::{Progress, SeenPod};
use crate::controllers::video_upscale::verdict::{Decided, Deletion, Evidence, Judgement, Verdict, judge};

/// A verdict that waits for a report is asked for again this often.
const ASK_AGAIN: Duration = Duration::from_secs(3);
/// Nodes with a wrong pin after which somebody must act.
const BAD_NODES: usize = 3;

/// Plans the phase.
pub fn plan(draft: &mut Draft<'_>, job: &Job, film: &Film<'_>) {
    draft.unset(ConditionType::Reconciling);
    retry_failed(draft);
    wanted::bring_back(draft, job, film);
    let observed = draft.observed;
    let mut told: Vec<&SeenPod> = Vec::new();
    for pod in observed.pods.iter().filter(|pod| pod.role == Role::Segment) {
        if settle(draft, job, film, pod) {
            told.push(pod);
        }
        if draft.is_over() {
            draft.stop_everything();
            return;
        }
    }
    draft.tidy(&told);
    vanished(draft, job, film);
    wanted::lower_uniformly(draft, job, film);
    let held = claims::plan(draft, job, film);
    if draft.done.len() >= film.total {
        finale::merge(draft, job, film);
    } else if draft.done.len().saturating_add(draft.failed.len()) >= film.total && held.is_empty() {
        finale::give_up(draft, job, film);
    } else {
        wanted::ask(draft, job, film, &held);
        telling::tell(draft, job, film, &held);
    }
    if !draft.is_over() {
        stall_on_bad_nodes(draft);
    }
    draft.look_again(HEARTBEAT);
}

/// Somebody must act if pods get the wrong GPU on several nodes. Unset only if not, as the condition tells since when.
fn stall_on_bad_nodes(draft: &mut Draft<'_>) {
    let nodes: Vec<&str> = draft.memory.nodes_out(draft.now).collect();
    if nodes.len() < BAD_NODES {
        draft.unset(ConditionType::Stalled);
        return;
    }
    let nodes = nodes.join(", ");
    draft.stall(&format!(
        "The container runtime shows other GPUs than it is told on {nodes}; see the agent's report"
    ));
}

/// A new value of the annotation gives failed segments fresh attempts.
fn retry_failed(draft: &mut Draft<'_>) {
    let asked = &draft.observed.identity.retry_failed;
    if asked.is_none() || *asked == draft.status.retried_for {
        return;
    }
    draft.status.retried_for.clone_from(asked);
    forgive(draft);
}

/// Gives failed segments fresh attempts.
pub fn forgive(draft: &mut Draft<'_>) {
    let failed = std::mem::take(&mut draft.failed);
    for segment in failed.iter() {
        if let Some(history) = draft.tried.get_mut(&segment) {
            history.counted = 0;
        }
    }
    for history in draft.tried.values_mut() {
        history.flags.largest_card = false;
    }
    // Where status had no room for the history, no number is used twice of which something is left.
    let observed = draft.observed;
    let pods = observed.pods.iter().filter(|pod| pod.role == Role::Segment);
    let left = pods.map(|pod| (pod.segment, pod.attempt, pod.step));
    let held = observed.claims.iter().filter_map(|claim| {
        let (holder, grant) = (claim.holder.as_ref()?, claim.grant.as_ref()?);
        Some((holder.segment, holder.attempt, grant.step))
    });
    for (segment, attempt, step) in left.chain(held).filter(|(segment, ..)| failed.contains(*segment)) {
        let history = draft.history(segment, step);
        let made = history.made.max(attempt.saturating_add(1));
        draft.tried.insert(segment, History { made, ..history });
    }
}

/// Deals with one pod of a segment. True if it has ended and all that it can tell is, or will be, recorded.
fn settle(draft: &mut Draft<'_>, job: &Job, film: &Film<'_>, pod: &SeenPod) -> bool {
    let claim = draft.claim_of(pod);
    let history = draft.history(pod.segment, film.first_step());
    let over = draft.done.contains(pod.segment) || draft.failed.contains(pod.segment);
    if over || pod.attempt < history.made {
        if !pod.ended() {
            draft.delete_now(pod);
        } else if let Some(claim) = claim.filter(|claim| claim.quarantined.is_none()) {
            // The pass that recorded the end did not come to the release.
            let at = pod.last_end().unwrap_or(draft.now);
            draft.free(claim, Some(pod), freed_after(history.verdict.filter(|_| !over), at));
        }
        return pod.ended();
    }
    draft.memory.note_made(pod.segment, pod.attempt, Some(&pod.uid));
    if pod.may_use_gpu() && claim.is_none() {
        draft.end_early(pod);
        return false;
    }
    if draft.observed.is_lost(pod) {
        return judged(draft, job, film, pod, &history);
    }
    match &pod.progress {
        Progress::Ended => judged(draft, job, film, pod, &history),
        Progress::Unscheduled(_) | Progress::Starting { .. } => {
            not_started(draft, job, film, pod, &history);
            false
        }
        Progress::Finishing => {
            if let Some(claim) = claim.filter(|claim| claim.quarantined.is_none()) {
                draft.free_now(claim, Some(pod));
            }
            false
        }
        Progress::Working => false,
    }
}

/// Ends a pod that has not started in time. The claim goes once the pod is gone.
fn not_started(draft: &mut Draft<'_>, job: &Job, film: &Film<'_>, pod: &SeenPod, history: &History) {
    let Some((hold, begun)) = starts::hold(pod).filter(|_| !pod.deleting) else { return };
    let (age, limit) = (since(begun, draft.now), starts::limit(hold.lacks));
    if age < limit {
        draft.look_again(limit.saturating_sub(age).min(HEARTBEAT));
        return;
    }
    let evidence = evidence(draft, film, pod, Deletion::OursNotStarted);
    if let Judgement::Decided(mut decided) = judge(&evidence, draft.now) {
        decided.message = format!("not started within {} s: {}", limit.as_secs(), starts::what(hold));
        answer(draft, job, film, pod, history, &decided, starts::reason(hold));
    }
    draft.delete(pod);
}

fn evidence(draft: &mut Draft<'_>, film: &Film<'_>, pod: &SeenPod, deletion: Deletion) -> Evidence {
    let seen_at = draft.memory.end_of(&pod.uid, draft.now);
    let failure = film.spec.failure.clone();
    let mut evidence = Evidence::of_pod(&pod.pod, Role::Segment, deletion, seen_at, failure);
    evidence.before.clone_from(&pod.before);
    evidence.after = pod.gpu.as_ref().and_then(|gpu| draft.observed.views.get(gpu)).cloned();
    evidence.need_bytes = pod.need_bytes;
    // Ended processes stay listed for a while: those of our own pods are nobody else's.
    evidence.our_pods = draft.observed.pods.iter().map(|pod| pod.uid.clone()).collect();
    let last = pod.gpu.as_ref().and_then(|gpu| draft.observed.last_pods.get(gpu));
    evidence.our_pods.extend(last.into_iter().flatten().cloned());
    evidence
}

/// Judges an end, or that the node is gone. False while a report may still come.
fn judged(draft: &mut Draft<'_>, job: &Job, film: &Film<'_>, pod: &SeenPod, history: &History) -> bool {
    let mut evidence = evidence(draft, film, pod, Deletion::No);
    evidence.pod.node_gone |= draft.observed.is_lost(pod);
    match judge(&evidence, draft.now) {
        Judgement::WaitForReport { until } => {
            draft.look_again_at(until.min(after(draft.now, ASK_AGAIN)));
            false
        }
        Judgement::Decided(decided) => {
            ends::measure(draft, film, pod, &evidence);
            let why = ScheduledReason::NodeUnschedulable;
            let turn = answer(draft, job, film, pod, history, &decided, why);
            draft.memory.ends.remove(&pod.uid);
            if let Some(claim) = draft.claim_of(pod) {
                if decided.verdict.success() {
                    // The pod stays until its end is recorded, and needs no GPU.
                    draft.free_now(claim, Some(pod));
                    return true;
                }
                let freed = match turn.penalty {
                    Penalty::Quarantine => Freed::Quarantined {
                        cause: decided.verdict.to_string(),
                        at: pod.last_end().filter(|_| !decided.lost).unwrap_or(draft.now),
                    },
                    Penalty::GpuOut => Freed::Out { cause: decided.verdict.to_string() },
                    _ => Freed::Free,
                };
                draft.free(claim, Some(pod), freed);
            }
            true
        }
    }
}

/// Attempts whose pods vanished without an end that anybody saw. Their GPUs are held until their memory is back.
fn vanished(draft: &mut Draft<'_>, job: &Job, film: &Film<'_>) {
    let observed = draft.observed;
    let there = |segment, attempt| {
        observed
            .pods
            .iter()
            .any(|pod| pod.role == Role::Segment && (pod.segment, pod.attempt) == (segment, attempt))
    };
    let gone: Vec<_> = draft
        .memory
        .made
        .iter()
        .filter(|((segment, attempt), _)| !there(*segment, *attempt))
        .map(|(id, uid)| (*id, uid.clone()))
        .collect();
    for ((segment, attempt), uid) in gone {
        draft.memory.made.remove(&(segment, attempt));
        let history = draft.history(segment, film.first_step());
        if attempt < history.made || draft.done.contains(segment) || draft.failed.contains(segment) {
            continue;
        }
        let claim = observed.claims.iter().find(|claim| {
            claim.holder.as_ref().is_some_and(|id| (id.segment, id.attempt) == (segment, attempt))
        });
        let decided = Decided {
            verdict: Verdict::Disrupted,
            failure: None,
            stage: None,
            lost: claim.is_some(),
            refused: false,
            needed: None,
            free: None,
            foreign: None,
            who: String::new(),
            observed_need: None,
            message: "its pod is gone and nobody saw its end".to_owned(),
        };
        let turn = next(&decided, &history, &situation(draft, job, film, history.step, None));
        draft.verdicts.push(decided.verdict);
        draft.tell_of(
            false,
            "SegmentRetried",
            format!("Segment{segment}Attempt{attempt}"),
            format!("Segment {segment} attempt {attempt}: {} ({})", decided.message, decided.verdict),
        );
        keep(draft, segment, attempt, &turn);
        if let Some(claim) = claim.filter(|claim| claim.quarantined.is_none()) {
            let freed = Freed::Quarantined { cause: decided.verdict.to_string(), at: draft.now };
            draft.free_gone(claim, uid, freed);
        }
    }
}

/// How a GPU is given back when only the recorded verdict is left, and the pod ended then.
fn freed_after(verdict: Option<Verdict>, at: Timestamp) -> Freed {
    match verdict {
        Some(verdict @ Verdict::GpuFault) => Freed::Out { cause: verdict.to_string() },
        Some(verdict @ (Verdict::LeakedMemory | Verdict::Disrupted | Verdict::Unknown)) => {
            Freed::Quarantined { cause: verdict.to_string(), at }
        }
        _ => Freed::Free,
    }
}

/// Where a job stands when an attempt has ended that ran at that step; `pod`: its pod, if it is there.
fn situation<'f>(
    draft: &Draft<'_>,
    job: &Job,
    film: &'f Film<'_>,
    ran_at: u32,
    pod: Option<&SeenPod>,
) -> Situation<'f> {
    // Limits and requests of our pods are the same figures.
    let asked = pod.map(|pod| pod.pod.requests.memory_bytes);
    let larger = asked.map(|bytes| bytes.saturating_add(bytes / 2));
    Situation {
        spec: film.spec,
        picture: film.picture,
        lengths: film.lengths,
        steps: film.steps.clone(),
        ran_at,
        policy: job.policy,
        uniform: job.uniform,
        attempts: job.attempts,
        largest_gpu: draft.observed.fleet.largest_gpu,
        gpu_had: pod.and_then(|pod| pod.before.as_ref()).map(|before| before.total).filter(|had| *had > 0),
        more_memory_fits: draft
            .observed
            .fleet
            .largest_host_bytes
            .zip(larger)
            .is_some_and(|(most, it)| it <= most),
    }
}

/// Takes over what a verdict leads to: history, cooling, conditions, events, lessons; `why` its node cools down, if so.
fn answer(
    draft: &mut Draft<'_>,
    job: &Job,
    film: &Film<'_>,
    pod: &SeenPod,
    history: &History,
    decided: &Decided,
    why: ScheduledReason,
) -> Turn {
    let turn = next(decided, history, &situation(draft, job, film, pod.step, Some(pod)));
    draft.verdicts.push(decided.verdict);
    ends::penalise(draft, pod, &turn, decided, why);
    ends::learn(draft, film, pod, decided, turn.penalty);
    ends::tell(draft, film, pod, history, &turn, decided);
    keep(draft, pod.segment, pod.attempt, &turn);
    match turn.next {
        Next::FailJob(reason) => draft.fail(reason, decided.message.clone()),
        Next::Retry(retry) => {
            let same_step = turn.history.step == history.step;
            let until = after(draft.now, job.patience);
            let aversion = draft.memory.segment(pod.segment);
            aversion.keep = same_step.then_some((pod.step, until));
            if matches!(retry.avoid, Avoid::Gpu | Avoid::Model) {
                aversion.gpus.extend(pod.gpu.clone());
            }
            if retry.avoid == Avoid::Node {
                aversion.nodes.extend(pod.node.clone());
            }
            if !retry.after.is_zero() {
                let until = after(draft.now, retry.after);
                draft.memory.segment(pod.segment).not_before = Some(until);
                if decided.verdict == Verdict::OutOfSpace {
                    draft.memory.full = Some((until, decided.message.clone()));
                }
            }
        }
        Next::Done | Next::Fail(_) => {}
    }
    turn
}

/// Keeps the segment's history; a done one has none.
fn keep(draft: &mut Draft<'_>, segment: u32, attempt: u32, turn: &Turn) {
    let made = turn.history.made.max(attempt.saturating_add(1));
    draft.memory.made.remove(&(segment, attempt));
    match turn.next {
        Next::Done => {
            draft.done.insert(segment);
            draft.tried.remove(&segment);
            draft.memory.forget_segment(segment);
        }
        Next::Fail(_) => {
            draft.failed.insert(segment);
            draft.tried.insert(segment, History { made, ..turn.history.clone() });
        }
        Next::Retry(_) | Next::FailJob(_) => {
            draft.tried.insert(segment, History { made, ..turn.history.clone() });
        }
    }
}

/// The reason with which a job ends whose segment was given up after that verdict.
pub const fn failure_after(verdict: Option<Verdict>) -> FailureReason {
    match verdict {
        Some(Verdict::OwnDemand | Verdict::Fragmentation) => FailureReason::OutOfGpuMemory,
        Some(Verdict::HostMemory) => FailureReason::OutOfHostMemory,
        _ => FailureReason::AttemptsExhausted,
    }
}

/// Segments with a live pod or a claim.
pub type Held = BTreeSet<u32>;
