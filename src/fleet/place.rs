//! Which attempt gets which GPU: a pure function of a frozen fleet and of `now`.
//!
//! Next to be served is the namespace that holds the fewest GPUs, then its oldest job. A job gets the best GPU of its
//! step: fewest foreign processes, tightest fit, then node and index. Jobs that may use the same GPUs share one
//! [`Survey`] of the fleet, in which candidates are sorted once and drop out for good when taken.

mod ladder;
mod nodes;
#[cfg(test)]
mod properties;
mod queue;
mod survey;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::claim::{AttemptId, Grant, JobKey, SeenBefore};
use super::demand::{Demand, Outlook, PodRequests, Wanted};
use super::snapshot::{Asked, Card, Room, Snapshot, Starved};
use ladder::Ladder;
use queue::Queue;
use survey::{Survey, Surveys};

/// What one pass decides.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pass {
    /// GPUs to claim, in the order in which they were given.
    pub placements: Vec<Placement>,
    /// What each job is told.
    pub outlooks: BTreeMap<JobKey, Outlook>,
    /// Jobs whose patience is being tried, or has run out.
    pub starved: BTreeMap<JobKey, Starved>,
    /// When the passing of time alone changes the decision: a patience or a cool-down ends.
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
    let mut surveys = Surveys::of(snapshot, now);
    let mut floor = Floor::of(snapshot);
    let mut pass = Pass::default();
    let mut turns: Vec<Turn> = Vec::new();
    for (index, asked) in snapshot.asked.iter().enumerate() {
        let held = snapshot.holdings.get(&asked.demand.job);
        let turn = Turn::begin(asked, surveys.class(index), &mut surveys, held, snapshot, now);
        if let Some(at) = turn.ladder.next_change(&asked.demand, now) {
            pass.next = Some(pass.next.map_or(at, |next| next.min(at)));
        }
        turns.push(turn);
    }
    let mut queue = Queue::of(snapshot);
    while let Some(index) = queue.next() {
        let Some(turn) = turns.get_mut(index) else { break };
        match turn.serve(snapshot, &mut surveys, &mut floor) {
            Some(placement) => {
                pass.placements.push(placement);
                queue.served();
            }
            None => queue.done(),
        }
    }
    for turn in turns {
        let job = turn.demand().job.clone();
        pass.outlooks.insert(job.clone(), turn.outlook(snapshot, &mut surveys, &floor));
        pass.starved.extend(turn.ladder.starved.map(|starved| (job, starved)));
    }
    pass
}

/// What is left of cards and nodes while a pass goes on.
#[derive(Debug)]
struct Floor {
    taken: Vec<bool>,
    rooms: Vec<Room>,
}

impl Floor {
    fn of(snapshot: &Snapshot) -> Self {
        let rooms = snapshot.spots.iter().map(|spot| spot.room).collect();
        Self { taken: vec![false; snapshot.cards.len()], rooms }
    }

    fn is_taken(&self, card: usize) -> bool {
        self.taken.get(card).copied().unwrap_or(true)
    }

    fn has_room(&self, spot: usize, requests: PodRequests) -> bool {
        self.rooms.get(spot).is_some_and(|room| room.holds(requests))
    }

    fn take(&mut self, index: usize, card: &Card, requests: PodRequests) {
        if let Some(taken) = self.taken.get_mut(index) {
            *taken = true;
        }
        if let Some(room) = self.rooms.get_mut(card.spot) {
            room.cpu_millis = room.cpu_millis.saturating_sub(requests.cpu_millis);
            room.memory_bytes = room.memory_bytes.saturating_sub(requests.memory_bytes);
            room.ephemeral_bytes = room.ephemeral_bytes.saturating_sub(requests.ephemeral_bytes);
            room.pods = room.pods.saturating_sub(1);
        }
    }
}

impl Room {
    /// Whether a pod with these requests fits.
    pub fn holds(&self, requests: PodRequests) -> bool {
        self.pods > 0
            && self.cpu_millis >= requests.cpu_millis
            && self.memory_bytes >= requests.memory_bytes
            && self.ephemeral_bytes >= requests.ephemeral_bytes
    }
}

/// One job in a pass: how far its list has been served.
#[derive(Debug)]
struct Turn<'a> {
    asked: &'a Asked,
    class: usize,
    ladder: Ladder,
    held: Option<&'a BTreeSet<u32>>,
    holds: u32,
    placed: u32,
    cursor: usize,
    /// Rungs, from and to, on which nothing is left, by whether only the largest cards count.
    dry: BTreeSet<(usize, usize, bool)>,
    /// Segments that already hold a GPU or were served from this very list.
    skipped: u32,
}

impl<'a> Turn<'a> {
    fn begin(
        asked: &'a Asked,
        class: usize,
        surveys: &mut Surveys,
        held: Option<&'a BTreeSet<u32>>,
        snapshot: &Snapshot,
        now: Timestamp,
    ) -> Self {
        let ladder = match surveys.get(class) {
            Some(survey) => Ladder::of(asked, survey, snapshot, now),
            None => Ladder::default(),
        };
        let holds = held.map_or(0, |held| u32::try_from(held.len()).unwrap_or(u32::MAX));
        let mut turn = Self {
            asked,
            class,
            ladder,
            held,
            holds,
            placed: 0,
            cursor: 0,
            dry: BTreeSet::new(),
            skipped: 0,
        };
        if held.is_some() || !asked.served.is_empty() {
            let skipped = asked.demand.wanted.iter().filter(|wanted| turn.is_served(wanted)).count();
            turn.skipped = u32::try_from(skipped).unwrap_or(u32::MAX);
        }
        turn
    }

    fn demand(&self) -> &'a Demand {
        &self.asked.demand
    }

    fn is_served(&self, wanted: &Wanted) -> bool {
        self.held.is_some_and(|held| held.contains(&wanted.segment))
            || self.asked.served.contains(&(wanted.segment, wanted.attempt))
    }

    /// Gives the next segment that can be given one its GPU; `None` when there is no more to give to this job.
    fn serve(&mut self, snapshot: &Snapshot, surveys: &mut Surveys, floor: &mut Floor) -> Option<Placement> {
        if self.holds.saturating_add(self.placed) >= self.demand().parallelism {
            return None;
        }
        let survey = surveys.get_mut(self.class)?;
        while let Some(wanted) = self.demand().wanted.get(self.cursor) {
            self.cursor = self.cursor.saturating_add(1);
            if self.is_served(wanted) {
                continue;
            }
            let Some(rungs) = self.ladder.rungs(wanted, survey) else { continue };
            let kind = (rungs.start, rungs.end, wanted.largest_only);
            if self.dry.contains(&kind) {
                continue;
            }
            let requests = self.demand().requests;
            let found = rungs
                .into_iter()
                .find_map(|rung| Some((rung, survey.pick(rung, wanted, requests, snapshot, floor)?)));
            let Some((rung, index)) = found else {
                self.dry.insert(kind);
                continue;
            };
            let card = snapshot.cards.get(index)?;
            floor.take(index, card, requests);
            self.placed = self.placed.saturating_add(1);
            self.ladder.placed_on(rung);
            return self.placement(wanted, rung, card, snapshot);
        }
        None
    }

    fn placement(&self, wanted: &Wanted, rung: usize, card: &Card, snapshot: &Snapshot) -> Option<Placement> {
        let step = self.demand().steps.get(rung)?;
        let node = &snapshot.spots.get(card.spot)?.facts;
        let model = snapshot.models.get(card.model)?;
        let report = node.report()?;
        let job = self.demand().job.clone();
        Some(Placement {
            attempt: AttemptId { job, segment: wanted.segment, attempt: wanted.attempt },
            grant: Grant {
                gpu: card.uuid.to_string(),
                gpu_index: card.index,
                gpu_model: model.to_string(),
                node: node.name.clone(),
                step: step.step,
                need_bytes: step.on_card(model, &card.uuid),
                seen: SeenBefore {
                    free: card.free,
                    available: card.available,
                    foreign: card.foreign_bytes,
                    total: card.total,
                    seq: report.seq,
                    inst: report.inst.clone(),
                },
            },
        })
    }

    fn outlook(&self, snapshot: &Snapshot, surveys: &mut Surveys, floor: &Floor) -> Outlook {
        let due = u32::try_from(self.demand().wanted.len()).unwrap_or(u32::MAX);
        let rung = self.ladder.effective();
        let wait = surveys.get_mut(self.class).map(|survey: &mut Survey| survey.wait(rung, snapshot, floor));
        Outlook {
            effective_step: rung.and_then(|rung| self.demand().steps.get(rung)).map(|step| step.step),
            lowered_by_patience: self.ladder.is_lowered(),
            unplaced: due.saturating_sub(self.skipped).saturating_sub(self.placed),
            wait: wait.unwrap_or_default(),
        }
    }
}
