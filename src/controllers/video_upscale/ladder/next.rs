//! The answer to a verdict: what the next attempt looks like, whether this one counts, and what the GPU, node or model
//! has to bear.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::{Flags, History};
use crate::api::conditions::FailureReason;
use crate::api::profile::{BadOutputAnswer, UpscaleProfileSpec};
use crate::api::video_upscale::DegradationPolicy;
use crate::controllers::video_upscale::verdict::{Decided, Stage, Verdict};
use crate::profile::{Lengths, Picture, Piece, Rendered, longest_piece, need_bytes, render};

/// What the answer depends on besides verdict and history.
#[derive(Clone, Debug)]
pub struct Situation<'a> {
    /// The profile as the job began with it.
    pub spec: &'a UpscaleProfileSpec,
    /// The film's picture.
    pub picture: Picture,
    /// How long the segments are.
    pub lengths: Lengths,
    /// Steps that the job may use.
    pub steps: RangeInclusive<u32>,
    /// Step at which the attempt ran: the history's, or a lower one if patience had run out.
    pub ran_at: u32,
    /// Whether steps may be lowered.
    pub policy: DegradationPolicy,
    /// Whether all segments must have one step, which only own demand lowers.
    pub uniform: bool,
    /// Attempts that may count before the segment is given up.
    pub attempts: u32,
    /// Most memory that a matching GPU has for us when empty, bytes; `None` if no GPU is known at the moment.
    pub largest_gpu: Option<u64>,
    /// Memory of the GPU that the attempt had, bytes; `None` if it is not known.
    pub gpu_had: Option<u64>,
    /// Whether a matching node could give one and a half times the host memory.
    pub more_memory_fits: bool,
}

/// The answer to one end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// What comes next.
    pub next: Next,
    /// Whether the attempt counts.
    pub counts: bool,
    /// What to do about card, node or model.
    pub penalty: Penalty,
    /// The segment's history after this end; what is stored.
    pub history: History,
}

/// What comes next for the segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The part is there.
    Done,
    /// Another attempt, with the parameters of the new history.
    Retry(Retry),
    /// The segment is given up.
    Fail(FailureReason),
    /// The whole job fails.
    FailJob(FailureReason),
}

/// Where and when the next attempt may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// What it should not get again if there is another.
    pub avoid: Avoid,
    /// Not before that much time has passed.
    pub after: Duration,
}

/// What the next attempt should not get again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Avoid {
    /// Nothing.
    Nothing,
    /// The same GPU.
    Gpu,
    /// The same node.
    Node,
    /// The same GPU model.
    Model,
}

/// What card, node or model has to bear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Penalty {
    /// Nothing.
    None,
    /// The GPU cools down for this job.
    CoolGpu,
    /// The node cools down for this job.
    CoolNode,
    /// The GPU is held until a report proves its memory back.
    Quarantine,
    /// The GPU is out until its health or driver changes.
    GpuOut,
    /// The node is out for this job, with a warning; three nodes stall the job.
    NodeOut,
    /// The model is out for the profile.
    ModelOut,
}

/// A full volume is tried again at most this often.
pub const FULL_VOLUME_PAUSE: Duration = Duration::from_secs(600);

/// The answer to one end of a segment's attempt. Pure and total.
pub fn next(decided: &Decided, history: &History, situation: &Situation<'_>) -> Turn {
    let answer = answer(decided, history, situation);
    let counted = history.counted.saturating_add(u32::from(answer.counts)).min(History::MOST_COUNTED);
    let mut after = History {
        made: history.made.saturating_add(1).min(History::MOST_MADE),
        counted,
        verdict: Some(decided.verdict),
        ..answer.history
    };
    after.flags.last_unknown = decided.verdict == Verdict::Unknown;
    let spent = answer.counts && counted >= situation.attempts;
    let next = match answer.next {
        Next::Retry(_) if spent => Next::Fail(exhausted(decided.verdict)),
        other => other,
    };
    let penalty = if decided.lost { Penalty::Quarantine } else { answer.penalty };
    Turn { next, counts: answer.counts, penalty, history: after }
}

/// Why a segment whose attempts are used up is given up.
const fn exhausted(verdict: Verdict) -> FailureReason {
    match verdict {
        Verdict::OwnDemand | Verdict::Fragmentation => FailureReason::OutOfGpuMemory,
        Verdict::HostMemory => FailureReason::OutOfHostMemory,
        _ => FailureReason::AttemptsExhausted,
    }
}

/// An answer before attempts are counted.
struct Answer {
    next: Next,
    counts: bool,
    penalty: Penalty,
    history: History,
}

fn answer(decided: &Decided, history: &History, situation: &Situation<'_>) -> Answer {
    let same =
        |avoid, penalty, counts| Answer { next: retry(avoid), counts, penalty, history: history.clone() };
    match decided.verdict {
        Verdict::Succeeded | Verdict::AlreadyDone => {
            Answer { next: Next::Done, counts: false, penalty: Penalty::None, history: history.clone() }
        }
        Verdict::OwnDemand => smaller(decided, history, situation),
        Verdict::Fragmentation => fragmentation(decided, history, situation),
        Verdict::HostMemory => host_memory(decided.stage, history, situation),
        Verdict::ForeignProcess | Verdict::GpuBusy => same(Avoid::Gpu, Penalty::CoolGpu, false),
        Verdict::LeakedMemory => same(Avoid::Gpu, Penalty::Quarantine, false),
        Verdict::GpuFault => same(Avoid::Gpu, Penalty::GpuOut, false),
        Verdict::GpuMismatch | Verdict::PinIgnored => same(Avoid::Node, Penalty::NodeOut, false),
        Verdict::Incompatible => same(Avoid::Model, Penalty::ModelOut, false),
        // A node that refused it would refuse it again at once, and who took the last two away may take the next.
        Verdict::Disrupted if decided.refused || history.verdict == Some(Verdict::Disrupted) => {
            same(Avoid::Node, Penalty::CoolNode, false)
        }
        Verdict::Disrupted => same(Avoid::Nothing, Penalty::None, false),
        Verdict::NotStarted => same(Avoid::Node, Penalty::CoolNode, false),
        Verdict::EngineError => same(Avoid::Gpu, Penalty::CoolGpu, true),
        Verdict::WorkerError => same(Avoid::Node, Penalty::CoolNode, true),
        Verdict::BadOutput => match situation.spec.failure.bad_output {
            BadOutputAnswer::OtherGpu => same(Avoid::Gpu, Penalty::CoolGpu, true),
            BadOutputAnswer::NextStep => next_or_same(history, situation, Penalty::CoolGpu),
        },
        Verdict::Unknown if history.flags.last_unknown => {
            next_or_same(history, situation, Penalty::Quarantine)
        }
        Verdict::Unknown => same(Avoid::Gpu, Penalty::Quarantine, false),
        Verdict::OutOfSpace => Answer {
            next: Next::Retry(Retry { avoid: Avoid::Nothing, after: FULL_VOLUME_PAUSE }),
            ..same(Avoid::Nothing, Penalty::None, true)
        },
        Verdict::Permanent => Answer {
            next: Next::FailJob(decided.failure.unwrap_or(FailureReason::EngineError)),
            ..same(Avoid::Nothing, Penalty::None, true)
        },
    }
}

const fn retry(avoid: Avoid) -> Next {
    Next::Retry(Retry { avoid, after: Duration::ZERO })
}

/// Its own fault: the next smaller step; where there is none, as under `Never`, once more on the largest card.
fn smaller(decided: &Decided, history: &History, situation: &Situation<'_>) -> Answer {
    let counted = |next, history| Answer { next, counts: true, penalty: Penalty::None, history };
    let never = situation.policy == DegradationPolicy::Never;
    let step = if never { None } else { next_step(situation, situation.ran_at) };
    if let Some(step) = step {
        return counted(retry(Avoid::Nothing), History { step, ..history.clone() });
    }
    if !history.flags.largest_card && (never || larger_card_may_do(decided, situation)) {
        let flags = Flags { largest_card: true, ..history.flags };
        return counted(retry(Avoid::Nothing), History { flags, ..history.clone() });
    }
    let reason = FailureReason::OutOfGpuMemory;
    counted(if never { Next::FailJob(reason) } else { Next::Fail(reason) }, history.clone())
}

/// Whether a matching card has more than the attempt's had, and enough for what it has proved to need.
fn larger_card_may_do(decided: &Decided, situation: &Situation<'_>) -> bool {
    situation.largest_gpu.zip(situation.gpu_had).is_some_and(|(largest, had)| {
        largest > had && decided.observed_need.is_none_or(|need| need <= largest)
    })
}

/// Nobody knows that it was its own demand: the next step where steps may fall for less than that, else the same one.
fn next_or_same(history: &History, situation: &Situation<'_>, penalty: Penalty) -> Answer {
    let step = falls(situation).then(|| next_step(situation, situation.ran_at)).flatten();
    let history = History { step: step.unwrap_or(history.step), ..history.clone() };
    Answer { next: retry(Avoid::Gpu), counts: true, penalty, history }
}

/// Whether a step may fall for another reason than own demand.
fn falls(situation: &Situation<'_>) -> bool {
    situation.policy == DegradationPolicy::Automatic && !situation.uniform
}

/// Once more with the profile's environment, if it has one and it was not tried; then as its own fault.
fn fragmentation(decided: &Decided, history: &History, situation: &Situation<'_>) -> Answer {
    if history.flags.fragmentation_env || situation.spec.failure.fragmentation_env.is_empty() {
        return smaller(decided, history, situation);
    }
    let flags = Flags { fragmentation_env: true, ..history.flags };
    Answer {
        next: retry(Avoid::Nothing),
        counts: true,
        penalty: Penalty::None,
        history: History { flags, ..history.clone() },
    }
}

/// Less at a time instead of smaller tiles, which hardly touch host memory; and a larger limit where a node has it.
fn host_memory(stage: Option<Stage>, history: &History, situation: &Situation<'_>) -> Answer {
    let counted = |next, history| Answer { next, counts: true, penalty: Penalty::None, history };
    let more = situation.more_memory_fits && !history.flags.more_memory;
    let flags = Flags { more_memory: history.flags.more_memory || more, ..history.flags };
    let raised = History { flags, ..history.clone() };
    if !matches!(stage, None | Some(Stage::Engine)) {
        let next = if more { retry(Avoid::Nothing) } else { Next::Fail(FailureReason::OutOfHostMemory) };
        return counted(next, raised);
    }
    if let Some(pieces) = more_pieces(history, situation) {
        return counted(retry(Avoid::Nothing), History { pieces, ..raised });
    }
    let input = &situation.spec.input;
    let has_least = input.context.least_before.is_some_and(|least| least < input.context.before);
    if has_least && !flags.least_context {
        let flags = Flags { least_context: true, ..flags };
        return counted(retry(Avoid::Nothing), History { flags, ..raised });
    }
    if falls(situation)
        && let Some(step) = next_step(situation, situation.ran_at)
    {
        return counted(retry(Avoid::Nothing), History { step, ..raised });
    }
    let next = if more { retry(Avoid::Nothing) } else { Next::Fail(FailureReason::OutOfHostMemory) };
    counted(next, raised)
}

/// Twice the pieces, if each then reads less.
fn more_pieces(history: &History, situation: &Situation<'_>) -> Option<u32> {
    let pieces = history.pieces.max(1).checked_mul(2).filter(|pieces| *pieces <= 4)?;
    let reads =
        |pieces| longest_piece(situation.spec, situation.lengths, pieces, history.flags.least_context);
    (reads(pieces)? < reads(history.pieces.max(1))?).then_some(pieces)
}

/// The first later step whose command line differs, whose need is smaller than that of the step that failed, and that
/// fits the largest matching GPU.
fn next_step(situation: &Situation<'_>, failed: u32) -> Option<u32> {
    let need = |step| need_bytes(situation.spec, step, &situation.picture, situation.lengths.read);
    let (failed_line, failed_need) = (command_line(situation, failed), need(failed));
    let later = situation.steps.clone().skip_while(|step| *step <= failed);
    let mut fitting = later.filter(|step| {
        let Some(bytes) = need(*step) else { return false };
        failed_need.is_none_or(|failed| bytes < failed)
            && situation.largest_gpu.is_none_or(|largest| bytes <= largest)
    });
    fitting.find(|step| {
        let line = command_line(situation, *step);
        line.is_some() && line != failed_line
    })
}

fn command_line(situation: &Situation<'_>, step: u32) -> Option<Rendered> {
    let piece = Piece { number: 0, frames: situation.lengths.read, fragmentation_env: false };
    render(situation.spec, step, &situation.picture, piece)
}
