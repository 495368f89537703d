//! Whose fault the end of a pod was. [`judge()`] is pure and total: every end falls into one row of [`Verdict`].
//!
//! Evidence, strongest first: the exit code of our own containers, the container's reason, the agent's view of the GPU
//! after the end, the out-of-memory text. A neighbour's fault is never charged to the tile: where the evidence does not
//! tell, the verdict is [`Verdict::Unknown`], which moves first.

mod evidence;
mod judge;
mod memory;
mod view;

#[cfg(test)]
mod matrix;
#[cfg(test)]
mod tests;

pub use evidence::{ContainerEnd, Deletion, Evidence, PodEnd, Stage};
pub use judge::{REPORT_PATIENCE, judge};
pub use view::GpuView;

use jiff::Timestamp;

use crate::api::conditions::{FailureReason, words};

words! {
    /// How an attempt ended, and whose fault it was.
    Verdict {
        /// All containers did their work.
        Succeeded,
        /// A verified part lies there already: success.
        AlreadyDone,
        /// Out of GPU memory, and it would have been on an empty GPU too.
        OwnDemand,
        /// Out of GPU memory, and it would have fitted without the others.
        ForeignProcess,
        /// Out of GPU memory that no process holds.
        LeakedMemory,
        /// Out of GPU memory although enough was reserved and not allocated.
        Fragmentation,
        /// Out of host memory, in any container.
        HostMemory,
        /// Too little free GPU memory before the start.
        GpuBusy,
        /// One GPU was visible, but another one.
        GpuMismatch,
        /// None or several GPUs were visible.
        PinIgnored,
        /// The engine cannot run on this GPU model.
        Incompatible,
        /// Evicted, drained, preempted, deleted, lost, or refused by the kubelet.
        Disrupted,
        /// A volume or the scratch space is full.
        OutOfSpace,
        /// The GPU or its driver is at fault.
        GpuFault,
        /// The engine exited 0, but its output is not what was asked.
        BadOutput,
        /// Any other end of the engine, its deadline included.
        EngineError,
        /// Image, volume or configuration kept a container from starting.
        NotStarted,
        /// No evidence.
        Unknown,
        /// A fault of our own containers.
        WorkerError,
        /// Wrong input or arguments: no further attempt can help.
        Permanent,
    }
}

impl Verdict {
    /// Whether the part is there.
    pub const fn success(self) -> bool {
        matches!(self, Self::Succeeded | Self::AlreadyDone)
    }

    /// Whether it belongs into `status.outOfMemory`.
    pub const fn out_of_memory(self) -> bool {
        matches!(
            self,
            Self::OwnDemand
                | Self::ForeignProcess
                | Self::LeakedMemory
                | Self::Fragmentation
                | Self::HostMemory
        )
    }
}

/// What [`judge()`] answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Judgement {
    /// The evidence suffices.
    Decided(Decided),
    /// A report sampled after the end may still come; ask again when one does, or then.
    WaitForReport {
        /// When to decide without.
        until: Timestamp,
    },
}

/// A verdict and the figures it rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// Whose fault.
    pub verdict: Verdict,
    /// Why the job fails; present exactly for [`Verdict::Permanent`].
    pub failure: Option<FailureReason>,
    /// Which container it was; `None` if none can be named.
    pub stage: Option<Stage>,
    /// Whether the pod or its node vanished while the GPU may still be in use: the GPU is to be quarantined.
    pub lost: bool,
    /// Whether the node refused the pod before any of its containers ran.
    pub refused: bool,
    /// GPU memory that the attempt needed, bytes: as observed, else as planned.
    pub needed: Option<u64>,
    /// GPU memory that was free for it, bytes.
    pub free: Option<u64>,
    /// GPU memory of others, bytes.
    pub foreign: Option<u64>,
    /// Who the others were, for people; empty if there were none or none can be named.
    pub who: String,
    /// GPU memory that a run with these arguments has proved to need, bytes; to be learnt.
    pub observed_need: Option<u64>,
    /// One line for people: what happened, with which numbers.
    pub message: String,
}
