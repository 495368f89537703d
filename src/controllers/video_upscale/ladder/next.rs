//! The answer to a verdict: what the next attempt looks like, whether this one counts, and what the GPU, node or model
//! has to bear.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::History;
use crate::api::conditions::FailureReason;
use crate::api::profile::UpscaleProfileSpec;
use crate::api::video_upscale::DegradationPolicy;
use crate::controllers::video_upscale::verdict::Decided;
use crate::profile::Picture;

/// What the answer depends on besides verdict and history.
#[derive(Clone, Debug)]
pub struct Situation<'a> {
    /// The profile as the job began with it.
    pub spec: &'a UpscaleProfileSpec,
    /// The film's picture.
    pub picture: Picture,
    /// Most frames that a segment reads.
    pub longest_read: u32,
    /// Steps that the job may use.
    pub steps: RangeInclusive<u32>,
    /// Step at which the attempt ran: the history's, or a lower one if patience had run out.
    pub ran_at: u32,
    /// Whether steps may be lowered.
    pub policy: DegradationPolicy,
    /// Attempts that may count before the segment is given up.
    pub attempts: u32,
    /// Most memory that a matching GPU has for us when empty, bytes; `None` if no GPU is known at the moment.
    pub largest_gpu: Option<u64>,
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
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// It must have the card with the most memory.
    pub largest_only: bool,
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

/// The answer to one end of a segment's attempt. Pure and total.
pub fn next(decided: &Decided, history: &History, situation: &Situation<'_>) -> Turn {
    let _ = situation;
    Turn {
        next: if decided.verdict.success() {
            Next::Done
        } else {
            Next::Retry(Retry { avoid: Avoid::Gpu, largest_only: false, after: Duration::ZERO })
        },
        counts: false,
        penalty: Penalty::None,
        history: History { verdict: Some(decided.verdict), ..history.clone() },
    }
}
