//! The life of a pod without a GPU, probe or merge: one at a time, made again after an end that was not its fault.

use std::time::Duration;

use jiff::Timestamp;

use super::draft::Draft;
use super::starts;
use crate::api::conditions::{FailureReason, ScheduledReason, Status};
use crate::api::keys::Role;
use crate::api::worker::End;
use crate::controllers::video_upscale::ladder::History;
use crate::controllers::video_upscale::memory::{after, since};
use crate::controllers::video_upscale::seen::{Progress, SeenPod};
use crate::controllers::video_upscale::verdict::{Decided, Deletion, Evidence, Judgement, Verdict, judge};

/// Faults of our own containers that are answered with another try.
const TRIES: usize = 3;
/// Pause after an end that is tried again.
const PAUSE: Duration = Duration::from_secs(5);
/// Pause after a full volume.
const FULL_PAUSE: Duration = Duration::from_secs(600);
/// A pod that is not on a node after that long is made anew, as the world may have changed.
const UNSCHEDULED: Duration = Duration::from_secs(120);

/// What to do about a probe or merge.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// It runs, or is about to.
    Running,
    /// Make the pod of that number.
    Create(u32),
    /// It waits until then.
    Wait(Timestamp),
    /// It ended well.
    Done(Box<End>),
    /// It failed for good.
    Failed(FailureReason, String),
}

/// Decides about the pods of one role. Conditions that explain a pod which does not start are set here.
pub fn step(draft: &mut Draft<'_>, role: Role) -> Step {
    let observed = draft.observed;
    let pods: Vec<&SeenPod> = observed.pods.iter().filter(|pod| pod.role == role).collect();
    let next = pods.iter().map(|pod| pod.attempt.saturating_add(1)).max().unwrap_or(0);
    for pod in pods.iter().filter(|pod| observed.is_lost(pod)) {
        draft.delete(pod);
    }
    let pods: Vec<&SeenPod> = pods.into_iter().filter(|pod| !observed.is_lost(pod)).collect();
    if let Some(alive) = pods.iter().find(|pod| !pod.ended()) {
        explain(draft, alive);
        return Step::Running;
    }
    let mut faults = 0usize;
    let mut last: Option<(Timestamp, Decided)> = None;
    for pod in &pods {
        let seen = draft.memory.end_of(&pod.uid, draft.now);
        let failure = Default::default();
        let evidence = Evidence::of_pod(&pod.pod, role, Deletion::No, seen, failure);
        let Judgement::Decided(decided) = judge(&evidence, draft.now) else { continue };
        if decided.verdict.success() {
            let end = evidence.containers.iter().find_map(|container| container.end.clone());
            if let Some(end) = end {
                return Step::Done(Box::new(end));
            }
        }
        if let Some(reason) = decided.failure {
            return Step::Failed(reason, decided.message);
        }
        let redo = evidence.containers.iter().find_map(|container| container.end.as_ref());
        if let Some(end) = redo.filter(|end| role == Role::Merge && !end.redo.is_empty()) {
            return redo_segments(draft, pod, end);
        }
        if !matches!(decided.verdict, Verdict::Disrupted | Verdict::NotStarted | Verdict::OutOfSpace) {
            faults = faults.saturating_add(1);
        }
        let at = evidence.finished_at().unwrap_or(seen);
        if last.as_ref().is_none_or(|(before, _)| *before <= at) {
            last = Some((at, decided));
        }
    }
    let Some((at, decided)) = last else {
        return Step::Create(next);
    };
    if faults >= TRIES {
        let reason = match decided.verdict {
            Verdict::HostMemory => FailureReason::OutOfHostMemory,
            _ if role == Role::Merge => FailureReason::MergeFailed,
            _ => FailureReason::AttemptsExhausted,
        };
        return Step::Failed(reason, format!("{} failed {faults} times: {}", role.as_str(), decided.message));
    }
    let full = decided.verdict == Verdict::OutOfSpace;
    if full {
        draft.scheduled(Status::False, ScheduledReason::OutOfSpace, decided.message);
    }
    let again = after(at, if full { FULL_PAUSE } else { PAUSE });
    draft.tidy(&pods);
    if again > draft.now { Step::Wait(again) } else { Step::Create(next) }
}

/// Opens the segments again of which a merge found no good part; it has removed what lay there, and bounds how often it
/// does so. Once they are done another merge is made, so this one goes: its end stands in the segments that are open.
fn redo_segments(draft: &mut Draft<'_>, merge: &SeenPod, end: &End) -> Step {
    let again = |segment: &u32| end.redo.iter().any(|run| (run.first..=run.last).contains(segment));
    let (open, done): (Vec<u32>, Vec<u32>) = draft.done.iter().partition(again);
    draft.done = done.into_iter().collect();
    let observed = draft.observed;
    for pod in observed.pods.iter().filter(|pod| pod.role == Role::Segment && open.contains(&pod.segment)) {
        // What these have to tell was told before the segment was done.
        let history = draft.history(pod.segment, pod.step);
        let made = history.made.max(pod.attempt.saturating_add(1));
        draft.tried.insert(pod.segment, History { made, ..history });
    }
    draft.tell(true, "PartsLost", end.message.clone());
    draft.delete(merge);
    Step::Wait(draft.now)
}

/// Says why a pod does not start, and ends one that no node takes.
fn explain(draft: &mut Draft<'_>, pod: &SeenPod) {
    let Some((_, begun)) = starts::hold(pod) else { return };
    let pause = starts::look_again(pod, draft.now).unwrap_or(Duration::from_secs(10));
    draft.look_again(pause.min(Duration::from_secs(10)));
    if let Some((reason, message)) = starts::explanation(pod, draft.now) {
        draft.scheduled(Status::False, reason, message);
    }
    if matches!(pod.progress, Progress::Unscheduled(_)) && since(begun, draft.now) >= UNSCHEDULED {
        draft.delete(pod);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fixtures::*;
    use super::super::plan;
    use crate::api::conditions::ConditionType;
    use crate::api::keys::Role;
    use crate::api::worker::{Code, End, SegmentRun};

    #[test]
    fn segments_without_a_good_part_are_made_again_and_merged_again() {
        let mut observed = probed(json!({}));
        observed.status.done = "0-7".into();
        let merging = plan(&observed, at(50));
        step(&mut observed, merging);
        let redo = vec![SegmentRun { first: 2, last: 3 }, SegmentRun { first: 6, last: 6 }];
        let bad = End { redo, ..end(Code::BadOutput, "3 of 8 parts are missing or damaged: 2-3, 6") };
        let status =
            json!({"phase": "Failed", "containerStatuses": [container("merge", &terminated(79, &bad))]});
        observed.pods =
            vec![single(&observed, Role::Merge, 0, &status), segment(&observed, 6, 4, &succeeded())];
        let lost = plan(&observed, at(70));
        assert_eq!(recorded(&lost).unwrap().done, "0-1,4-5,7");
        assert!(!kinds(&lost).contains(&"create"), "{:?}", kinds(&lost));
        assert!(kinds(&lost).contains(&"delete"), "the merge is judged once: {:?}", kinds(&lost));
        assert!(lost.events.iter().any(|event| event.reason == "PartsLost"));
        step(&mut observed, lost);
        observed.pods.retain(|pod| pod.role == Role::Segment);
        let again = plan(&observed, at(72));
        let wanted = again.demand.as_ref().unwrap().wanted.iter();
        let mut wanted: Vec<(u32, u32)> = wanted.map(|wanted| (wanted.segment, wanted.attempt)).collect();
        wanted.sort_unstable();
        assert_eq!(wanted, [(2, 0), (3, 0), (6, 5)], "a number is used once");
        step(&mut observed, again);
        assert_ne!(said(&observed.status, ConditionType::Complete), "False/Merging");
        (observed.status.done, observed.pods) = ("0-7".into(), Vec::new());
        assert!(kinds(&plan(&observed, at(200))).contains(&"create"), "another merge");
    }
}
