//! The fleet and what is asked of it, ready to decide: one change at a time, at the cost of that change.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::Placement;
use super::class::Class;
use super::floor::{Change, Floor};
use super::job::{Ask, Job};
use super::ladder::Ladder;
use super::queue::Spaces;
use crate::fleet::claim::{AttemptId, Grant, JobKey, SeenBefore};
use crate::fleet::clock::stepped;
use crate::fleet::demand::{Demand, Outlook, Wait};
use crate::fleet::snapshot::{Asked, Card, Snapshot, Spot, Starved};

/// The fleet and what is asked of it, ready to decide.
#[derive(Clone, Debug, Default)]
pub struct Board {
    floor: Floor,
    /// Kinds of demand, with how many jobs have each.
    classes: Vec<Option<(Class, u32)>>,
    jobs: Vec<Option<Job>>,
    numbers: BTreeMap<JobKey, usize>,
    spaces: Spaces,
    /// When time alone changes what a node's report is worth.
    clock: BTreeSet<(Timestamp, usize)>,
    now: Timestamp,
}

impl Board {
    /// The board for a frozen fleet.
    pub fn of(snapshot: &Snapshot, now: Timestamp) -> Self {
        let mut board = Self { floor: Floor::of(snapshot), now, ..Self::default() };
        let due = board.floor.spots.iter().enumerate();
        board.clock = due.filter_map(|(index, spot)| Some((spot.until?, index))).collect();
        for (key, segments) in &snapshot.holdings {
            for (segment, gpus) in segments {
                (0..*gpus).for_each(|_| board.hold(key, *segment));
            }
        }
        for asked in &snapshot.asked {
            board.ask(asked.clone());
        }
        board
    }

    /// The instant of the last change or decision.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// The wall clock has been set: the patience of jobs keeps its age.
    pub fn clock_stepped(&mut self, step: SignedDuration) {
        self.now = stepped(self.now, step);
        for ask in self.jobs.iter_mut().flatten().filter_map(|job| job.ask.as_mut()) {
            if let Some(starved) = &mut ask.asked.starved {
                starved.since = stepped(starved.since, step);
            }
        }
    }

    /// Whether the node is on the board.
    pub fn has_node(&self, name: &str) -> bool {
        self.floor.spot(name).is_some()
    }

    /// What it takes to bring a node up to date; its cards come in order, with their product names. `None` if that
    /// cannot be done, as the node is new or has other cards than before: then a new board is needed.
    pub fn change(&self, spot: Spot, cards: Vec<(Card, &str)>) -> Option<Change> {
        self.floor.change(spot, cards)
    }

    /// Brings a node up to date.
    pub fn apply(&mut self, change: Change) {
        for (class, _) in self.classes.iter_mut().flatten() {
            class.shift(&self.floor, &change, self.now);
        }
        let (index, until) = (change.index, change.spot.until);
        let before = self.floor.spots.get(index).and_then(|spot| spot.until);
        if before != until {
            self.clock.extend(until.map(|until| (until, index)));
            before.map(|before| self.clock.remove(&(before, index)));
        }
        self.floor.apply(change);
    }

    /// The nodes whose reports are worth something else by now.
    pub fn due(&self, now: Timestamp) -> Vec<String> {
        let due = self.clock.iter().take_while(|(until, _)| *until <= now);
        due.filter_map(|(_, index)| Some(self.floor.spots.get(*index)?.facts.name.clone())).collect()
    }

    /// Takes over what a job asks for.
    pub fn ask(&mut self, asked: Asked) {
        let key = asked.demand.job.clone();
        let class = self.join(&asked.demand);
        self.unask(&key);
        let number = self.number(&key);
        self.spaces.add(asked.demand.created, &key, number);
        if let Some(job) = self.job_mut(number) {
            job.ask = Some(Ask::new(asked, class));
        }
    }

    /// Forgets what a job asks for.
    pub fn unask(&mut self, key: &JobKey) {
        let Some(number) = self.numbers.get(key).copied() else { return };
        let Some(ask) = self.job_mut(number).and_then(|job| job.ask.take()) else { return };
        self.spaces.remove(ask.demand().created, key);
        self.leave(ask.class);
        self.tidy(number);
    }

    /// What a job asks for.
    pub fn asked(&self, key: &JobKey) -> Option<&Asked> {
        Some(&self.job(*self.numbers.get(key)?)?.ask.as_ref()?.asked)
    }

    /// What all jobs ask for, by job.
    pub fn all_asked(&self) -> impl Iterator<Item = &Asked> {
        self.numbers.values().filter_map(|number| Some(&self.job(*number)?.ask.as_ref()?.asked))
    }

    /// A segment of a job holds one GPU more.
    pub fn hold(&mut self, key: &JobKey, segment: u32) {
        let number = self.number(key);
        if self.job_mut(number).is_some_and(|job| job.hold(segment)) {
            self.spaces.more(&key.namespace);
        }
    }

    /// A segment of a job holds one GPU less.
    pub fn let_go(&mut self, key: &JobKey, segment: u32) {
        let Some(number) = self.numbers.get(key).copied() else { return };
        if self.job_mut(number).is_some_and(|job| job.let_go(segment)) {
            self.spaces.less(&key.namespace);
        }
        self.tidy(number);
    }

    /// An attempt did not get its GPU after all, and is due again.
    pub fn unserve(&mut self, attempt: &AttemptId) {
        let Some(number) = self.numbers.get(&attempt.job).copied() else { return };
        if let Some(job) = self.job_mut(number) {
            job.unserve((attempt.segment, attempt.attempt));
        }
    }

    /// Decides, and takes over what it has decided.
    pub fn place(&mut self, now: Timestamp) -> Vec<Placement> {
        self.now = now;
        for (class, _) in self.classes.iter_mut().flatten() {
            if let Some(renewed) = class.renewed(&self.floor, now) {
                *class = renewed;
            }
        }
        self.stand(now);
        let mut queue = self.spaces.queue(|number| self.may_get(number));
        let mut placements = Vec::new();
        while let Some(number) = queue.next() {
            match self.serve(number) {
                Some(placement) => {
                    placements.push(placement);
                    queue.served();
                }
                None => queue.done(),
            }
        }
        placements
    }

    /// Each job looks where it stands on its ladder.
    fn stand(&mut self, now: Timestamp) {
        for job in self.jobs.iter_mut().flatten() {
            job.refill();
            let Some(ask) = &mut job.ask else { continue };
            let Some(Some((class, _))) = self.classes.get(ask.class) else { continue };
            ask.ladder = Ladder::of(&ask.asked.demand, ask.first_step, ask.asked.starved, class, now);
            ask.asked.starved = ask.ladder.starved;
        }
    }

    /// Whether there is any sense in asking a job.
    fn may_get(&self, number: usize) -> bool {
        let Some(job) = self.job(number) else { return false };
        let Some(ask) = &job.ask else { return false };
        let class = self.class(ask.class);
        let any =
            || (0..ask.demand().steps.len()).any(|rung| class.is_some_and(|class| class.fits_now(rung) > 0));
        job.holds() < ask.demand().parallelism && !ask.demand().wanted.is_empty() && any()
    }

    /// Gives the next segment that can be given one its GPU; `None` when there is no more to give to this job.
    fn serve(&mut self, number: usize) -> Option<Placement> {
        loop {
            let job = self.jobs.get_mut(number)?.as_mut()?;
            let holds = job.holds();
            let (line, place) = job.next()?;
            let ask = job.ask.as_ref()?;
            let demand = Arc::clone(ask.demand());
            if holds >= demand.parallelism {
                return None;
            }
            let wanted = demand.wanted.get(place as usize)?;
            let (class, _) = self.classes.get(ask.class)?.as_ref()?;
            let rungs = ask.ladder.rungs(&demand, wanted, class);
            let found = rungs.into_iter().flatten().filter(|rung| class.fits_now(*rung) > 0);
            let found = { found }.find_map(|rung| Some((rung, self.floor.pick(class, rung, wanted)?)));
            let Some((rung, index)) = found else {
                job.run_dry(line);
                continue;
            };
            let attempt =
                AttemptId { job: job.key.clone(), segment: wanted.segment, attempt: wanted.attempt };
            let grant = self.grant(&demand, rung, index)?;
            self.take(number, index, rung, &attempt, &demand);
            return Some(Placement { attempt, grant });
        }
    }

    /// Takes over that an attempt has been given a card.
    fn take(&mut self, number: usize, card: usize, rung: usize, attempt: &AttemptId, demand: &Demand) {
        if let Some(change) = self.floor.taking(card, demand.requests) {
            self.apply(change);
        }
        self.hold(&attempt.job, attempt.segment);
        if let Some(job) = self.job_mut(number) {
            job.serve((attempt.segment, attempt.attempt));
            if let Some(ask) = &mut job.ask {
                ask.ladder.placed_on(rung);
                ask.asked.starved = ask.ladder.starved;
            }
        }
    }

    fn grant(&self, demand: &Demand, rung: usize, index: usize) -> Option<Grant> {
        let (card, spot) = self.floor.site(index)?;
        let step = demand.steps.get(rung)?;
        let model = self.floor.models.get(card.model)?;
        let report = spot.facts.report()?;
        Some(Grant {
            gpu: card.uuid.to_string(),
            gpu_index: card.index,
            gpu_model: model.to_string(),
            node: spot.facts.name.clone(),
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
        })
    }

    /// What a job is told.
    pub fn outlook(&self, key: &JobKey) -> Option<Outlook> {
        let job = self.job(*self.numbers.get(key)?)?;
        let ask = job.ask.as_ref()?;
        let class = self.class(ask.class)?;
        let rung = ask.ladder.effective();
        let step = |rung: usize| ask.demand().steps.get(rung);
        let need = rung.map_or_else(|| ask.demand().steps.last(), step);
        Some(Outlook {
            effective_step: rung.and_then(step).map(|step| step.step),
            lowered_by_patience: ask.ladder.is_lowered(),
            unplaced: job.unplaced(),
            wait: Wait {
                looked_at: u32::try_from(self.floor.cards.len()).unwrap_or(u32::MAX),
                causes: class.causes(rung),
                need_bytes: need.map_or(0, |step| step.need_bytes),
                headroom_bytes: ask.demand().gpu.headroom_bytes,
                best: self.floor.nearest(class),
                products: self.floor.products.clone(),
                stale_nodes: self.floor.stale_nodes(),
                other_releases: self.floor.other_releases(),
                unread: self.floor.unread(),
            },
        })
    }

    /// What each job is told.
    pub fn outlooks(&self) -> BTreeMap<JobKey, Outlook> {
        self.numbers.keys().filter_map(|key| Some((key.clone(), self.outlook(key)?))).collect()
    }

    /// Jobs whose patience is being tried, or has run out.
    pub fn starved(&self) -> BTreeMap<JobKey, Starved> {
        self.all_asked().filter_map(|asked| Some((asked.demand.job.clone(), asked.starved?))).collect()
    }

    /// When the passing of time alone changes the decision.
    pub fn next(&self, now: Timestamp) -> Option<Timestamp> {
        let asks = self.jobs.iter().flatten().filter_map(|job| job.ask.as_ref());
        let jobs = asks.filter_map(|ask| ask.ladder.next_change(ask.demand(), now)).min();
        jobs.into_iter().chain(self.clock.first().map(|(at, _)| *at)).min()
    }

    fn class(&self, number: usize) -> Option<&Class> {
        self.classes.get(number)?.as_ref().map(|(class, _)| class)
    }

    /// The class of a demand, which has one job more.
    fn join(&mut self, demand: &Arc<Demand>) -> usize {
        let known = self.classes.iter_mut().enumerate();
        let known = known.filter_map(|(number, class)| Some((number, class.as_mut()?)));
        for (number, (class, users)) in known {
            if class.suits(demand) {
                *users = users.saturating_add(1);
                return number;
            }
        }
        let fresh = Some((Class::of(demand, &self.floor, self.now), 1));
        put(&mut self.classes, fresh)
    }

    /// A class has one job less.
    fn leave(&mut self, number: usize) {
        if let Some(slot) = self.classes.get_mut(number) {
            *slot = slot
                .take()
                .map(|(class, users)| (class, users.saturating_sub(1)))
                .filter(|(_, users)| *users > 0);
        }
    }

    fn job(&self, number: usize) -> Option<&Job> {
        self.jobs.get(number)?.as_ref()
    }

    fn job_mut(&mut self, number: usize) -> Option<&mut Job> {
        self.jobs.get_mut(number)?.as_mut()
    }

    /// The number of a job, a new one if it has none.
    fn number(&mut self, key: &JobKey) -> usize {
        if let Some(number) = self.numbers.get(key) {
            return *number;
        }
        let number = put(&mut self.jobs, Some(Job::new(key.clone())));
        self.numbers.insert(key.clone(), number);
        number
    }

    /// Forgets a job of which nothing is known any more.
    fn tidy(&mut self, number: usize) {
        if let Some(slot) = self.jobs.get_mut(number)
            && slot.as_ref().is_some_and(Job::is_idle)
            && let Some(job) = slot.take()
        {
            self.numbers.remove(&job.key);
        }
    }
}

/// Puts something into the first free slot.
fn put<T>(slots: &mut Vec<Option<T>>, value: Option<T>) -> usize {
    let free = slots.iter().position(Option::is_none);
    match free.and_then(|number| Some((number, slots.get_mut(number)?))) {
        Some((number, slot)) => {
            *slot = value;
            number
        }
        None => {
            slots.push(value);
            slots.len().saturating_sub(1)
        }
    }
}
