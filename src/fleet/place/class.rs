//! The fleet as one kind of demand sees it. Jobs whose demands see every GPU alike share one [`Class`]; it counts the
//! GPUs by cause and by rung, and each change of a GPU moves the counts by that GPU alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::floor::{Change, Floor};
use super::nodes::node_cause;
use crate::api::video_upscale::ForeignProcesses;
use crate::fleet::demand::{Cause, Demand};
use crate::fleet::snapshot::{Card, Spot};

/// Seconds of silence that double the headroom.
const DOUBLING: u64 = 600;
/// Rungs of a ladder that are looked at; a profile has at most 16 steps.
const MOST_RUNGS: usize = 16;

/// The fleet as one kind of demand sees it.
#[derive(Clone, Debug)]
pub(super) struct Class {
    demand: Arc<Demand>,
    /// Why no GPU of a model will do, by model.
    models: Vec<Option<Cause>>,
    /// Why no GPU of a node will do, its room aside, by node.
    nodes: Vec<Option<Cause>>,
    needs: Needs,
    /// Need by rung of the cards that have shown something themselves, bytes; by position.
    cards: BTreeMap<usize, Vec<u64>>,
    /// Positions of the cards that cool down.
    cooling: BTreeSet<usize>,
    /// When the first cool-down ends.
    until: Option<Timestamp>,
    counts: Counts,
}

/// Need by model and rung, bytes. What concerns one card lies together.
#[derive(Clone, Debug)]
struct Needs {
    rungs: usize,
    bytes: Vec<u64>,
}

impl Needs {
    /// Bytes of a model, rung by rung; none for a model that is not there.
    fn on(&self, model: usize) -> &[u64] {
        let start = model.saturating_mul(self.rungs);
        self.bytes.get(start..start.saturating_add(self.rungs)).unwrap_or_default()
    }
}

/// How many GPUs there are of each sort.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Counts {
    /// Out, by cause.
    causes: BTreeMap<Cause, u32>,
    /// Kept away by nothing but memory.
    open: u32,
    /// Of these, such that have the memory for a rung at the moment, by rung.
    fits: Vec<u32>,
    /// Of these, such that have it not even when empty, by rung.
    small: Vec<u32>,
    /// GPUs that would do, whoever uses them now, by model and by what they can give when empty.
    kinds: BTreeMap<(usize, u64), u32>,
    /// Of these, such that only their own record keeps from a rung, by rung.
    bound: Vec<u32>,
}

/// What one GPU is to a class. Bit `n` of a mask stands for rung `n`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Standing {
    cause: Option<Cause>,
    would_do: Option<(usize, u64)>,
    fits: u32,
    small: u32,
    bound: u32,
}

impl Class {
    pub(super) fn of(demand: &Arc<Demand>, floor: &Floor, now: Timestamp) -> Self {
        let models = floor.models.iter().map(|model| {
            if !demand.gpu.admits_model(model) {
                Some(Cause::NotMatching)
            } else {
                demand.incompatible_models.contains(model.as_ref()).then_some(Cause::Incompatible)
            }
        });
        let steps = || demand.steps.iter().take(MOST_RUNGS);
        let of_models = floor.models.iter().flat_map(|model| steps().map(|step| step.on(model)));
        let needs = Needs { rungs: steps().count(), bytes: of_models.collect() };
        let cooling = demand.cooling_gpus.iter().filter(|(_, until)| **until > now).map(|(gpu, _)| gpu);
        let ends = demand.cooling_nodes.values().map(|(until, _)| until).chain(demand.cooling_gpus.values());
        let mut class = Self {
            demand: Arc::clone(demand),
            models: models.collect(),
            nodes: floor.spots.iter().map(|spot| node_cause(demand, spot, now)).collect(),
            needs,
            cards: BTreeMap::new(),
            cooling: floor.positions(cooling),
            until: ends.filter(|until| **until > now).min().copied(),
            counts: Counts::default(),
        };
        class.cards = class.shown(floor);
        class.counts = class.counted(floor);
        class
    }

    /// The counts from scratch. Most GPUs are one of few sorts, and neighbours on a node mostly of one.
    fn counted(&self, floor: &Floor) -> Counts {
        let mut sorts: Vec<(Standing, u32)> = Vec::new();
        for (place, spot) in floor.spots.iter().enumerate() {
            let (full, node) = (self.full(spot), self.nodes.get(place).copied().flatten());
            let mut before: Option<(&Card, usize)> = None;
            for (index, card) in floor.cards_at(place) {
                let common = self.is_common(index);
                let known = before.filter(|(other, _)| common && card.is_like(other)).map(|(_, sort)| sort);
                let sort = known
                    .unwrap_or_else(|| sort_of(&mut sorts, self.standing(index, card, spot, full, node)));
                if let Some((_, count)) = sorts.get_mut(sort) {
                    *count = count.saturating_add(1);
                }
                before = common.then_some((card, sort));
            }
        }
        let mut counts = Counts::of(self.needs.rungs);
        for (standing, count) in sorts {
            counts.add(&standing, count);
        }
        counts
    }

    /// Whether nothing is known of that card alone.
    fn is_common(&self, index: usize) -> bool {
        !self.cards.contains_key(&index) && !self.cooling.contains(&index)
    }

    /// What single cards have shown that they need, by position and rung, bytes.
    fn shown(&self, floor: &Floor) -> BTreeMap<usize, Vec<u64>> {
        let named: BTreeSet<&String> = self.demand.steps.iter().flat_map(|step| step.cards.keys()).collect();
        let positions = floor.positions(named.into_iter());
        let on = |index: usize| {
            let card = floor.cards.get(index)?;
            let model = floor.models.get(card.model)?;
            let steps = self.demand.steps.iter().take(self.needs.rungs);
            Some((index, steps.map(|step| step.on_card(model, &card.uuid)).collect()))
        };
        positions.into_iter().filter_map(on).collect()
    }

    /// Whether another demand sees every GPU as this class does.
    pub(super) fn suits(&self, demand: &Demand) -> bool {
        let mine = self.demand.as_ref();
        std::ptr::eq(mine, demand)
            || (mine.requests == demand.requests
                && mine.steps == demand.steps
                && mine.gpu == demand.gpu
                && mine.tolerations == demand.tolerations
                && mine.nodes == demand.nodes
                && mine.cooling_nodes == demand.cooling_nodes
                && mine.cooling_gpus == demand.cooling_gpus
                && mine.incompatible_models == demand.incompatible_models)
    }

    /// The same class when a cool-down has ended; `None` while none has.
    pub(super) fn renewed(&self, floor: &Floor, now: Timestamp) -> Option<Self> {
        self.until.is_some_and(|until| until <= now).then(|| Self::of(&self.demand, floor, now))
    }

    /// Takes over that a node and its cards are about to change.
    pub(super) fn shift(&mut self, floor: &Floor, change: &Change, now: Timestamp) {
        let Some(before) = floor.spots.get(change.index) else { return };
        let after = &change.spot;
        let (was_full, is_full) = (self.full(before), self.full(after));
        let alike = was_full == is_full && before.silent_for == after.silent_for;
        if alike && !change.moved && change.changed.is_empty() {
            return;
        }
        let was_out = self.nodes.get(change.index).copied().flatten();
        let is_out = if change.moved { node_cause(&self.demand, after, now) } else { was_out };
        let mut recount = |(index, old, new): (usize, &Card, &Card)| {
            let old = self.standing(index, old, before, was_full, was_out);
            let new = self.standing(index, new, after, is_full, is_out);
            self.counts.replace(&old, &new);
        };
        if alike && was_out == is_out {
            change.changed_cards(floor).for_each(&mut recount);
        } else {
            change.cards(floor).for_each(&mut recount);
        }
        if let Some(cause) = self.nodes.get_mut(change.index) {
            *cause = is_out;
        }
    }

    fn full(&self, spot: &Spot) -> bool {
        !spot.room.holds(self.demand.requests)
    }

    /// What the card at a position is to this class. `node`: why none of its node will do, its room aside.
    fn standing(&self, index: usize, card: &Card, spot: &Spot, full: bool, node: Option<Cause>) -> Standing {
        let causes = [
            card.closed,
            self.models.get(card.model).copied().flatten(),
            node,
            full.then_some(Cause::NodeFull),
            self.cooling.contains(&index).then_some(Cause::CoolingDown),
            (!card.company.suits(self.demand.gpu.foreign)).then_some(Cause::ForeignProcesses),
        ];
        let cause = causes.into_iter().flatten().min();
        let mut standing = Standing {
            cause,
            would_do: cause.is_none_or(|cause| cause >= Cause::Ours).then_some((card.model, card.usable)),
            fits: 0,
            small: 0,
            bound: 0,
        };
        if standing.would_do.is_none() {
            return standing;
        }
        let of_model = self.needs.on(card.model);
        let shown = self.cards.get(&index);
        let needs = shown.map_or(of_model, Vec::as_slice);
        let growth = self.growth(spot);
        for (rung, (need, model)) in needs.iter().zip(of_model).enumerate() {
            let holds = |need: &u64| self.could_hold(*need, card.usable);
            if cause.is_none() {
                let fits = card.available >= self.floor_for(need.saturating_add(growth));
                standing.fits |= u32::from(fits) << rung;
                standing.small |= u32::from(!fits && !holds(need)) << rung;
            }
            if shown.is_some() {
                standing.bound |= u32::from(holds(model) && !holds(need)) << rung;
            }
        }
        standing
    }

    /// Whether nothing but memory keeps the card at a position away.
    pub(super) fn is_open(&self, index: usize, card: &Card, spot: &Spot) -> bool {
        let node = self.nodes.get(card.spot).copied().flatten();
        self.standing(index, card, spot, self.full(spot), node).cause.is_none()
    }

    /// The bytes that a model needs on a rung; `None` for a model that will not do.
    pub(super) fn need(&self, rung: usize, model: usize) -> Option<u64> {
        if self.models.get(model).copied().flatten().is_some() {
            return None;
        }
        self.needs.on(model).get(rung).copied()
    }

    fn need_of(&self, rung: usize, model: usize) -> u64 {
        self.needs.on(model).get(rung).copied().unwrap_or(u64::MAX)
    }

    /// The bytes that the card at a position needs on a rung, itself.
    pub(super) fn need_on(&self, rung: usize, index: usize, model: usize) -> u64 {
        let shown = self.cards.get(&index).and_then(|rungs| rungs.get(rung)).copied();
        shown.unwrap_or_else(|| self.need_of(rung, model))
    }

    /// Positions of the cards that have shown something themselves.
    pub(super) fn single(&self) -> impl Iterator<Item = usize> {
        self.cards.keys().copied()
    }

    /// Whether that card is one of these.
    pub(super) fn is_single(&self, index: usize) -> bool {
        self.cards.contains_key(&index)
    }

    /// Bytes that must be available for a need while the agent speaks.
    pub(super) fn floor_for(&self, need: u64) -> u64 {
        need.saturating_add(self.demand.gpu.headroom_bytes).max(self.demand.gpu.min_free_bytes)
    }

    /// Whether the card at a position has the memory for a rung at the moment.
    pub(super) fn fits(&self, rung: usize, index: usize, card: &Card, spot: &Spot) -> bool {
        let need = self.need_on(rung, index, card.model);
        card.available >= self.floor_for(need.saturating_add(self.growth(spot)))
    }

    /// By how much the headroom has grown with the silence of the agent, bytes: an older report must be more generous.
    fn growth(&self, spot: &Spot) -> u64 {
        self.demand.gpu.headroom_bytes.saturating_mul(spot.silent_for) / DOUBLING
    }

    fn could_hold(&self, need: u64, usable: u64) -> bool {
        usable >= self.floor_for(need)
    }

    /// Whether foreign processes make no difference.
    pub(super) fn is_indifferent(&self) -> bool {
        self.demand.gpu.foreign == ForeignProcesses::Tolerate
    }

    /// GPUs that would do, whoever uses them now.
    pub(super) fn matching(&self) -> u32 {
        self.counts.kinds.values().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// How many of them have the memory for a rung when they are empty.
    pub(super) fn empty_fits(&self, rung: usize) -> u32 {
        let kinds = self.counts.kinds.iter();
        let fitting =
            kinds.filter(|((model, usable), _)| self.could_hold(self.need_of(rung, *model), *usable));
        let fitting: u32 = fitting.fold(0, |sum, (_, count)| sum.saturating_add(*count));
        fitting.saturating_sub(self.bound_on(rung))
    }

    /// How many of them only their own record keeps from a rung. They are not waited for, and lower nobody's step.
    pub(super) fn bound_on(&self, rung: usize) -> u32 {
        self.counts.bound.get(rung).copied().unwrap_or(0)
    }

    /// What the largest of them can give when it is empty, bytes.
    pub(super) fn largest(&self) -> Option<u64> {
        self.counts.kinds.keys().map(|(_, usable)| *usable).max()
    }

    /// How many open cards have the memory for a rung at this moment.
    pub(super) fn fits_now(&self, rung: usize) -> u32 {
        self.counts.fits.get(rung).copied().unwrap_or(0)
    }

    /// Why each GPU is not given, on a rung. Without one, the last says how much is missing at least.
    pub(super) fn causes(&self, rung: Option<usize>) -> BTreeMap<Cause, u32> {
        let mut causes = self.counts.causes.clone();
        let rung = rung.or(self.needs.rungs.checked_sub(1));
        let fits = rung.map_or(0, |rung| self.fits_now(rung));
        let small = rung.map_or(self.counts.open, |rung| self.counts.small.get(rung).copied().unwrap_or(0));
        let lacking = self.counts.open.saturating_sub(fits).saturating_sub(small);
        let open = [(Cause::Fits, fits), (Cause::TooSmall, small), (Cause::NotEnoughFree, lacking)];
        causes.extend(open.into_iter().filter(|(_, count)| *count > 0));
        causes
    }
}

/// The position of a sort among those that there are, the last one if it is new.
fn sort_of(sorts: &mut Vec<(Standing, u32)>, standing: Standing) -> usize {
    let known = sorts.iter().position(|(sort, _)| *sort == standing);
    known.unwrap_or_else(|| {
        sorts.push((standing, 0));
        sorts.len().saturating_sub(1)
    })
}

impl Counts {
    fn of(rungs: usize) -> Self {
        Self { fits: vec![0; rungs], small: vec![0; rungs], bound: vec![0; rungs], ..Self::default() }
    }

    /// So many GPUs more of a sort.
    fn add(&mut self, standing: &Standing, more: u32) {
        self.count(standing, |count| *count = count.saturating_add(more));
        standing.would_do.into_iter().for_each(|kind| add(&mut self.kinds, kind, more));
        standing.cause.into_iter().for_each(|cause| add(&mut self.causes, cause, more));
    }

    /// One GPU is of another sort than before.
    fn replace(&mut self, old: &Standing, new: &Standing) {
        if old == new {
            return;
        }
        self.count(old, |count| *count = count.saturating_sub(1));
        self.count(new, |count| *count = count.saturating_add(1));
        if old.would_do != new.would_do {
            old.would_do.into_iter().for_each(|kind| less(&mut self.kinds, kind));
            new.would_do.into_iter().for_each(|kind| add(&mut self.kinds, kind, 1));
        }
        if old.cause != new.cause {
            old.cause.into_iter().for_each(|cause| less(&mut self.causes, cause));
            new.cause.into_iter().for_each(|cause| add(&mut self.causes, cause, 1));
        }
    }

    /// Changes the counts of a card.
    fn count(&mut self, standing: &Standing, change: impl Fn(&mut u32)) {
        for (_, bound) in (0..).zip(&mut self.bound).filter(|(rung, _)| standing.bound & (1 << *rung) != 0) {
            change(bound);
        }
        if standing.cause.is_some() {
            return;
        }
        change(&mut self.open);
        for (rung, (fits, small)) in self.fits.iter_mut().zip(&mut self.small).enumerate() {
            if standing.fits & (1 << rung) != 0 {
                change(fits);
            }
            if standing.small & (1 << rung) != 0 {
                change(small);
            }
        }
    }
}

fn add<K: Ord>(counts: &mut BTreeMap<K, u32>, key: K, more: u32) {
    let count = counts.entry(key).or_default();
    *count = count.saturating_add(more);
}

fn less<K: Ord>(counts: &mut BTreeMap<K, u32>, key: K) {
    if let std::collections::btree_map::Entry::Occupied(mut entry) = counts.entry(key) {
        *entry.get_mut() = entry.get().saturating_sub(1);
        if *entry.get() == 0 {
            entry.remove();
        }
    }
}
