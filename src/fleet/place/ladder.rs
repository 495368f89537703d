//! Which rungs of its ladder a job may be placed on. A rung is an index into [`Demand::steps`], 0 best.

use std::ops::Range;

use jiff::{SignedDuration, Timestamp};

use super::class::Class;
use crate::fleet::demand::{Demand, Wanted};
use crate::fleet::snapshot::Starved;

/// Where a job stands on its ladder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ladder {
    /// How many rungs there are.
    rungs: usize,
    /// The job's own rung: the best one that fits enough cards when they are empty; `None` if none fits any.
    target: Option<usize>,
    /// The best rung from there on that a card has the memory for at the moment.
    fits_now: Option<usize>,
    /// Its patience, after this pass.
    pub(super) starved: Option<Starved>,
}

impl Ladder {
    /// `first_step`: the best step that any due segment may use. `before`: the job's patience before this pass.
    pub(super) fn of(
        demand: &Demand,
        first_step: u32,
        before: Option<Starved>,
        class: &Class,
        now: Timestamp,
    ) -> Self {
        let rungs = demand.steps.len();
        // What all due segments have run out of memory on is no rung to wait for.
        let allowed = rung_of(demand, first_step).unwrap_or(rungs);
        let enough = |rung| class.matching().saturating_sub(class.bound_on(rung)).min(demand.parallelism);
        let mut offered = allowed..rungs;
        let target = offered.clone().find(|rung| class.empty_fits(*rung) >= enough(*rung).max(1));
        let target = target.or_else(|| offered.find(|rung| class.empty_fits(*rung) > 0));
        let fits_now = target.and_then(|target| (target..rungs).find(|rung| class.fits_now(*rung) > 0));
        let starved = match (demand.patience, target) {
            (None, _) | (_, None) => None,
            _ if demand.wanted.is_empty() => before,
            (Some(patience), Some(_)) => {
                let spent = before.is_some_and(|starved| {
                    starved.spent || waited(starved.since, now) >= patience_of(patience)
                });
                if fits_now == target && !before.is_some_and(|starved| starved.spent) {
                    None
                } else {
                    Some(Starved {
                        since: before.map_or(now, |starved| starved.since),
                        spent: spent || patience.is_zero(),
                    })
                }
            }
        };
        Self { rungs, target, fits_now, starved }
    }

    /// The rungs to try for a segment, best first; `None` if there is none.
    pub(super) fn rungs(&self, demand: &Demand, wanted: &Wanted, class: &Class) -> Option<Range<usize>> {
        let allowed = rung_of(demand, wanted.first_step)?;
        let base = self.target?.max(allowed);
        let patient = !self.starved.is_some_and(|starved| starved.spent);
        let end = if patient { base.saturating_add(1) } else { self.rungs };
        let kept = wanted.keep.and_then(|step| rung_of(demand, step)).filter(|kept| *kept >= allowed);
        Some(match kept.filter(|kept| class.empty_fits(*kept) > 0) {
            Some(kept) if kept <= base => kept..kept.saturating_add(1),
            Some(kept) => base..end.min(kept.saturating_add(1)),
            None => base..end,
        })
    }

    /// A segment was placed there: on its own rung the job is back for good.
    pub(super) fn placed_on(&mut self, rung: usize) {
        if self.target == Some(rung) {
            self.starved = None;
        }
    }

    /// The rung that new attempts get.
    pub(super) fn effective(&self) -> Option<usize> {
        if self.starved.is_some_and(|starved| starved.spent) {
            self.fits_now.or(self.target)
        } else {
            self.target
        }
    }

    /// Whether that is lower than the job's own because patience ran out.
    pub(super) fn is_lowered(&self) -> bool {
        self.effective() > self.target
    }

    /// When time alone changes what this job may get.
    pub(super) fn next_change(&self, demand: &Demand, now: Timestamp) -> Option<Timestamp> {
        let patience = self.starved.filter(|starved| !starved.spent).zip(demand.patience);
        let patience =
            patience.and_then(|(starved, patience)| starved.since.checked_add(patience_of(patience)).ok());
        let cooling = demand.cooling_nodes.values().map(|(until, _)| *until);
        let cooling = cooling.chain(demand.cooling_gpus.values().copied()).filter(|until| *until > now);
        patience.into_iter().chain(cooling).min()
    }
}

/// The first rung from that step on.
fn rung_of(demand: &Demand, first_step: u32) -> Option<usize> {
    demand.steps.iter().position(|need| need.step >= first_step)
}

fn patience_of(patience: std::time::Duration) -> SignedDuration {
    SignedDuration::try_from(patience).unwrap_or(SignedDuration::MAX)
}

fn waited(since: Timestamp, now: Timestamp) -> SignedDuration {
    now.duration_since(since)
}
