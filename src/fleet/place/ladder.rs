//! Which rungs of its ladder a job may be placed on. A rung is an index into [`Demand::steps`], 0 best.

use std::ops::Range;

use jiff::{SignedDuration, Timestamp};

use super::Survey;
use crate::fleet::demand::{Demand, Wanted};
use crate::fleet::snapshot::{Asked, Snapshot, Starved};

/// Where a job stands on its ladder.
#[derive(Debug, Default)]
pub(super) struct Ladder {
    steps: Vec<u32>,
    /// The job's own rung: the best one that fits enough cards when they are empty; `None` if none fits any.
    target: Option<usize>,
    /// The best rung from there on that a card has the memory for at the moment.
    fits_now: Option<usize>,
    /// Its patience, after this pass.
    pub(super) starved: Option<Starved>,
}

impl Ladder {
    pub(super) fn of(asked: &Asked, survey: &Survey, snapshot: &Snapshot, now: Timestamp) -> Self {
        let demand = &asked.demand;
        let steps: Vec<u32> = demand.steps.iter().map(|step| step.step).collect();
        // What all due segments have run out of memory on is no rung to wait for.
        let first = demand.wanted.iter().map(|wanted| wanted.first_step).min().unwrap_or(0);
        let allowed = steps.iter().position(|step| *step >= first).unwrap_or(steps.len());
        let enough = |rung| survey.matching().saturating_sub(survey.bound_on(rung)).min(demand.parallelism);
        let mut rungs = allowed..steps.len();
        let target = rungs.clone().find(|rung| survey.empty_fits(*rung) >= enough(*rung).max(1));
        let target = target.or_else(|| rungs.find(|rung| survey.empty_fits(*rung) > 0));
        let fits_now =
            target.and_then(|target| (target..steps.len()).find(|rung| survey.fits_now(*rung, snapshot)));
        let starved = match (demand.patience, target) {
            (None, _) | (_, None) => None,
            _ if demand.wanted.is_empty() => asked.starved,
            (Some(patience), Some(_)) => {
                let before = asked.starved;
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
        Self { steps, target, fits_now, starved }
    }

    /// The rungs to try for a segment, best first; `None` if there is none.
    pub(super) fn rungs(&self, wanted: &Wanted, survey: &Survey) -> Option<Range<usize>> {
        let rung_of = |step: u32| self.steps.iter().position(|known| *known >= step);
        let allowed = rung_of(wanted.first_step)?;
        let base = self.target?.max(allowed);
        let patient = !self.starved.is_some_and(|starved| starved.spent);
        let end = if patient { base.saturating_add(1) } else { self.steps.len() };
        let kept = wanted.keep.and_then(rung_of).filter(|kept| *kept >= allowed);
        Some(match kept.filter(|kept| survey.empty_fits(*kept) > 0) {
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

fn patience_of(patience: std::time::Duration) -> SignedDuration {
    SignedDuration::try_from(patience).unwrap_or(SignedDuration::MAX)
}

fn waited(since: Timestamp, now: Timestamp) -> SignedDuration {
    now.duration_since(since)
}
