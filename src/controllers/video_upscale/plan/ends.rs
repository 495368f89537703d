//! What an attempt's end leads to beside the next attempt: cooling, lessons, events, the list of memory ends, the
//! condition `Degraded`.

use super::Lesson;
use super::draft::Draft;
use super::film::Film;
use super::needs;
use super::status::whole_seconds;
use crate::api::conditions::{OtherReason, ScheduledReason};
use crate::api::quantity;
use crate::api::video_upscale::{OutOfMemoryEnd, VideoUpscaleStatus};
use crate::controllers::video_upscale::ladder::{History, Next, Penalty, Turn};
use crate::controllers::video_upscale::pace::Timing;
use crate::controllers::video_upscale::seen::SeenPod;
use crate::controllers::video_upscale::verdict::{Decided, Evidence, Verdict};

/// Most ends of memory that status tells of.
const RECENT: usize = 10;

/// Lets the card or node bear what the verdict says; `why` a node cools down.
pub fn penalise(draft: &mut Draft<'_>, pod: &SeenPod, turn: &Turn, decided: &Decided, why: ScheduledReason) {
    // A pod that no node took was meant for the node of its claim.
    let meant_for = || Some(draft.claim_of(pod)?.grant.as_ref()?.node.clone());
    let node = pod.node.clone().or_else(meant_for);
    match (turn.penalty, &pod.gpu, &node) {
        (Penalty::CoolGpu | Penalty::Quarantine | Penalty::GpuOut, Some(gpu), _) => {
            draft.memory.cool_gpu(gpu, draft.now);
        }
        (Penalty::CoolNode, _, Some(node)) => draft.memory.cool_node(node, why, draft.now),
        (Penalty::NodeOut, _, Some(node)) if draft.memory.take_out(node, draft.now) => {
            draft.tell(true, decided.verdict.as_str(), format!("{node}: {}", decided.message));
        }
        _ => {}
    }
}

/// Product name of a pod's GPU, by its claim or else by the agent.
fn model_of(draft: &Draft<'_>, pod: &SeenPod) -> Option<String> {
    let granted = draft.claim_of(pod).and_then(|claim| claim.grant.as_ref());
    let seen = || draft.observed.views.get(pod.gpu.as_ref()?).map(|view| view.gpu.n.clone());
    let model = granted.map(|grant| grant.gpu_model.clone()).or_else(seen);
    model.filter(|model| !model.is_empty())
}

/// Takes down how long the engine ran, if it came to its good end.
pub fn measure(draft: &mut Draft<'_>, film: &Film<'_>, pod: &SeenPod, evidence: &Evidence) {
    let model = model_of(draft, pod);
    let timing = model.and_then(|model| Timing::of(evidence, &model, pod.step, &film.picture));
    draft.timings.extend(timing);
}

/// Takes down what the end taught about the profile.
pub fn learn(draft: &mut Draft<'_>, film: &Film<'_>, pod: &SeenPod, decided: &Decided, penalty: Penalty) {
    let Some(model) = model_of(draft, pod) else { return };
    if let Some(bytes) = decided.observed_need {
        needs::observe(draft, film, pod, &model, bytes);
    }
    if decided.verdict == Verdict::Succeeded {
        needs::survived(draft, film, pod, &model);
    }
    if penalty == Penalty::ModelOut {
        draft.memory.models.insert(model.clone());
        draft.lessons.push(Lesson::Incompatible { model, reason: decided.message.clone() });
    }
}

/// Tells of an end that was no success: event, list of memory ends, condition `Degraded`.
pub fn tell(
    draft: &mut Draft<'_>,
    film: &Film<'_>,
    pod: &SeenPod,
    history: &History,
    turn: &Turn,
    decided: &Decided,
) {
    if decided.verdict.success() {
        return;
    }
    let place = format!(
        "Segment {} attempt {} on {} #{}",
        pod.segment,
        pod.attempt,
        pod.node.as_deref().unwrap_or("no node"),
        pod.gpu_index.map_or_else(|| "?".to_owned(), |index| index.to_string())
    );
    let (warning, reason) = match decided.verdict {
        Verdict::OwnDemand | Verdict::Fragmentation => (true, "OutOfGpuMemory"),
        Verdict::HostMemory => (true, "OutOfHostMemory"),
        Verdict::ForeignProcess | Verdict::LeakedMemory => (true, "ForeignProcess"),
        Verdict::GpuBusy => (false, "GpuBusy"),
        _ => (false, "SegmentRetried"),
    };
    let action = format!("Segment{}Attempt{}", pod.segment, pod.attempt);
    draft.tell_of(
        warning,
        reason,
        action.clone(),
        format!("{place}: {} ({})", decided.message, decided.verdict),
    );
    if decided.verdict.out_of_memory() {
        remember_end(&mut draft.status, film, pod, turn, decided, draft.now);
    }
    let (old, new) = (history.step.max(pod.step), turn.history.step);
    if new > old {
        let message = format!(
            "{} instead of {} since segment {} attempt {}",
            film.step_label(new),
            film.step_label(old),
            pod.segment,
            pod.attempt
        );
        let reason = if decided.verdict == Verdict::HostMemory {
            OtherReason::HostMemory
        } else {
            OtherReason::GpuMemory
        };
        draft.tell_of(false, "Degraded", action, message.clone());
        draft.degraded(reason, message);
    } else if turn.history.pieces > history.pieces
        || (turn.history.flags.least_context && !history.flags.least_context)
    {
        let message = format!(
            "Segment {} runs in {} pieces since attempt {}",
            pod.segment, turn.history.pieces, pod.attempt
        );
        draft.tell_of(false, "Degraded", action, message.clone());
        draft.degraded(OtherReason::HostMemory, message);
    }
}

fn remember_end(
    status: &mut VideoUpscaleStatus,
    film: &Film<'_>,
    pod: &SeenPod,
    turn: &Turn,
    decided: &Decided,
    now: jiff::Timestamp,
) {
    let bytes = |value: Option<u64>| value.map_or_else(|| "?".to_owned(), quantity::display);
    let small = |value: u32| i32::try_from(value).unwrap_or(i32::MAX);
    let to = match turn.next {
        Next::Retry(_) => film.step_label(turn.history.step.max(if decided.verdict == Verdict::OwnDemand {
            0
        } else {
            pod.step
        })),
        Next::Done | Next::Fail(_) | Next::FailJob(_) => "given up".to_owned(),
    };
    let ends = status.out_of_memory.get_or_insert_default();
    ends.count = ends.count.saturating_add(1);
    ends.recent.insert(
        0,
        OutOfMemoryEnd {
            time: whole_seconds(now),
            segment: small(pod.segment),
            attempt: small(pod.attempt),
            node: pod.node.clone().unwrap_or_default(),
            gpu: pod.gpu.clone().unwrap_or_default(),
            verdict: decided.verdict.to_string(),
            needed: bytes(decided.needed),
            free: bytes(decided.free),
            foreign: bytes(decided.foreign),
            who: decided.who.chars().take(200).collect(),
            from: film.step_label(pod.step),
            to,
        },
    );
    ends.recent.truncate(RECENT);
}
