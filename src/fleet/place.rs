//! Which attempt gets which GPU: a pure function of the fleet and of `now`.
//!
//! Next to be served is the namespace that holds the fewest GPUs, then its oldest job. A job gets the best GPU of its
//! step: fewest foreign processes, tightest fit, then node and index.
//!
//! [`place`] decides for a frozen fleet. A [`Board`] is the same decision kept ready: it takes over one change at a
//! time, at the cost of that change, and decides as `place` would decide for the fleet as it is then (a property test
//! holds them together).

mod board;
mod class;
mod floor;
#[cfg(test)]
mod increments;
mod job;
mod ladder;
mod nodes;
#[cfg(test)]
mod properties;
mod queue;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::claim::{AttemptId, Grant, JobKey};
use super::demand::Outlook;
use super::snapshot::{Snapshot, Starved};
pub use board::Board;
pub use floor::Change;

/// What one pass decides.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pass {
    /// GPUs to claim, in the order in which they were given.
    pub placements: Vec<Placement>,
    /// What each job is told.
    pub outlooks: BTreeMap<JobKey, Outlook>,
    /// Jobs whose patience is being tried, or has run out.
    pub starved: BTreeMap<JobKey, Starved>,
    /// When the passing of time alone changes the decision: a patience or a cool-down ends, a report grows old.
    pub next: Option<Timestamp>,
}

/// A GPU for an attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct Placement {
    /// The attempt.
    pub attempt: AttemptId,
    /// What it is given.
    pub grant: Grant,
}

/// Decides.
pub fn place(snapshot: &Snapshot, now: Timestamp) -> Pass {
    let mut board = Board::of(snapshot, now);
    let placements = board.place(now);
    Pass { placements, outlooks: board.outlooks(), starved: board.starved(), next: board.next(now) }
}
