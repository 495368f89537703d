//! The fleet as one kind of demand sees it: why each GPU is out, and for each rung the candidates, best first.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::rc::Rc;
use std::sync::Arc;

use jiff::Timestamp;

use super::Floor;
use super::nodes::node_cause;
use crate::api::video_upscale::ForeignProcesses;
use crate::fleet::demand::{Cause, Demand, PodRequests, StepNeed, Wait, Wanted};
use crate::fleet::snapshot::{Card, Snapshot};

/// Most product names and stale nodes that a wait tells of.
const MOST_TOLD: usize = 8;
/// Seconds of silence that double the headroom.
const DOUBLING: u64 = 600;

/// The surveys of a pass, one for all demands that may use the same GPUs alike.
#[derive(Debug)]
pub(super) struct Surveys {
    all: Vec<Survey>,
    class_of: Vec<usize>,
}

impl Surveys {
    pub(super) fn of(snapshot: &Snapshot, now: Timestamp) -> Self {
        let census = Rc::new(Census::of(snapshot));
        let mut all: Vec<Survey> = Vec::new();
        let mut firsts: Vec<&Demand> = Vec::new();
        let mut rough: BTreeMap<_, Vec<usize>> = BTreeMap::new();
        let mut class_of = Vec::new();
        for asked in &snapshot.asked {
            let demand = asked.demand.as_ref();
            let alike = rough.entry(rough_key(demand)).or_default();
            let known =
                alike.iter().find(|class| firsts.get(**class).is_some_and(|first| sees_alike(first, demand)));
            let class = match known {
                Some(class) => *class,
                None => {
                    alike.push(all.len());
                    firsts.push(demand);
                    all.push(Survey::of(demand, snapshot, &census, now));
                    all.len().saturating_sub(1)
                }
            };
            class_of.push(class);
        }
        Self { all, class_of }
    }

    /// The survey of a demand, by its index in [`Snapshot::asked`].
    pub(super) fn class(&self, asked: usize) -> usize {
        self.class_of.get(asked).copied().unwrap_or(usize::MAX)
    }

    pub(super) fn get(&self, class: usize) -> Option<&Survey> {
        self.all.get(class)
    }

    pub(super) fn get_mut(&mut self, class: usize) -> Option<&mut Survey> {
        self.all.get_mut(class)
    }
}

/// Numbers that tell most kinds of demand apart, so that few have to be compared in full.
fn rough_key(demand: &Demand) -> (u64, u64, u64, usize, Option<u64>) {
    let need = demand.steps.first().map(|step| step.need_bytes);
    (
        demand.gpu.headroom_bytes,
        demand.gpu.min_free_bytes,
        demand.requests.memory_bytes,
        demand.steps.len(),
        need,
    )
}

/// Whether two demands see every GPU alike.
fn sees_alike(a: &Demand, b: &Demand) -> bool {
    a.gpu == b.gpu
        && a.requests == b.requests
        && a.tolerations == b.tolerations
        && a.nodes == b.nodes
        && a.cooling_nodes == b.cooling_nodes
        && a.cooling_gpus == b.cooling_gpus
        && a.incompatible_models == b.incompatible_models
        && a.steps == b.steps
}

/// The cards counted by what they are, whoever asks.
#[derive(Debug)]
struct Census {
    /// Kinds of card: model, and what it can give when empty.
    kinds: Vec<(usize, u64)>,
    /// Kind of each card, as an index.
    kind_of: Vec<usize>,
    /// Cards by product name.
    products: BTreeMap<String, u32>,
}

impl Census {
    fn of(snapshot: &Snapshot) -> Self {
        let mut known = BTreeMap::new();
        let mut kinds = Vec::new();
        let mut models = vec![0_u32; snapshot.models.len()];
        let kind_of = snapshot.cards.iter().map(|card| {
            if let Some(count) = models.get_mut(card.model) {
                *count = count.saturating_add(1);
            }
            *known.entry((card.model, card.usable)).or_insert_with(|| {
                kinds.push((card.model, card.usable));
                kinds.len().saturating_sub(1)
            })
        });
        let kind_of = kind_of.collect();
        let told = snapshot.models.iter().zip(models).take(MOST_TOLD);
        Self { kinds, kind_of, products: told.map(|(model, count)| (model.to_string(), count)).collect() }
    }
}

/// The fleet as one kind of demand sees it.
#[derive(Debug)]
pub(super) struct Survey {
    census: Rc<Census>,
    /// Cards that only memory can keep away, by node and index.
    open: Vec<usize>,
    /// How many are out, by cause.
    causes: BTreeMap<Cause, u32>,
    /// Cards that would do, whoever uses them now: how many of each kind.
    kinds: Vec<u32>,
    /// Need by rung and model, bytes.
    needs: Vec<Vec<u64>>,
    /// The needs as asked, for what binds single cards.
    steps: Arc<[StepNeed]>,
    /// Cards by rung that their model would fit and that must not be used on it for themselves.
    bound: Vec<u32>,
    headroom: u64,
    min_free: u64,
    indifferent: bool,
    stale_nodes: BTreeSet<String>,
    candidates: BTreeMap<usize, BinaryHeap<Reverse<Candidate>>>,
    waits: BTreeMap<Option<usize>, Wait>,
}

/// A card that fits: fewest foreign processes first, then the tightest, then node and index.
type Candidate = (u32, u64, usize);

impl Survey {
    fn of(demand: &Demand, snapshot: &Snapshot, census: &Rc<Census>, now: Timestamp) -> Self {
        let models: Vec<Option<Cause>> = snapshot
            .models
            .iter()
            .map(|model| {
                if !demand.gpu.admits_model(model) {
                    Some(Cause::NotMatching)
                } else {
                    demand.incompatible_models.contains(model.as_ref()).then_some(Cause::Incompatible)
                }
            })
            .collect();
        let nodes: Vec<Option<Cause>> =
            snapshot.spots.iter().map(|spot| node_cause(demand, spot, now)).collect();
        let mut survey = Self {
            open: Vec::new(),
            causes: BTreeMap::new(),
            kinds: vec![0; census.kinds.len()],
            census: Rc::clone(census),
            needs: demand
                .steps
                .iter()
                .map(|step| snapshot.models.iter().map(|model| step.on(model)).collect())
                .collect(),
            bound: vec![0; demand.steps.len()],
            steps: Arc::clone(&demand.steps),
            headroom: demand.gpu.headroom_bytes,
            min_free: demand.gpu.min_free_bytes,
            indifferent: demand.gpu.foreign == ForeignProcesses::Tolerate,
            stale_nodes: BTreeSet::new(),
            candidates: BTreeMap::new(),
            waits: BTreeMap::new(),
        };
        let forbids = demand.gpu.foreign == ForeignProcesses::Forbid;
        for (index, card) in snapshot.cards.iter().enumerate() {
            let cooling = !demand.cooling_gpus.is_empty() && cools(demand, card, now);
            let causes = [
                card.closed,
                models.get(card.model).copied().flatten(),
                nodes.get(card.spot).copied().flatten(),
                cooling.then_some(Cause::CoolingDown),
                (forbids && card.foreign != Some(0)).then_some(Cause::ForeignProcesses),
            ];
            let cause = causes.into_iter().flatten().min();
            if cause.is_none_or(|cause| cause >= Cause::Ours) {
                let kind = census.kind_of.get(index).and_then(|kind| survey.kinds.get_mut(*kind));
                if let Some(count) = kind {
                    *count = count.saturating_add(1);
                }
                survey.count_bound(card);
            }
            let Some(cause) = cause else {
                survey.open.push(index);
                continue;
            };
            let count = survey.causes.entry(cause).or_default();
            *count = count.saturating_add(1);
            if cause == Cause::Stale && survey.stale_nodes.len() < MOST_TOLD {
                survey.stale_nodes.extend(snapshot.spots.get(card.spot).map(|spot| spot.facts.name.clone()));
            }
        }
        survey
    }

    /// The kinds of card that would do, each with how many there are.
    fn counted(&self) -> impl Iterator<Item = (usize, u64, u32)> {
        let kinds = self.census.kinds.iter().zip(&self.kinds);
        kinds.filter(|(_, count)| **count > 0).map(|((model, usable), count)| (*model, *usable, *count))
    }

    /// GPUs that would do, whoever uses them now.
    pub(super) fn matching(&self) -> u32 {
        self.counted().fold(0, |sum, (_, _, count)| sum.saturating_add(count))
    }

    /// How many of them have the memory for a rung when they are empty.
    pub(super) fn empty_fits(&self, rung: usize) -> u32 {
        let fitting =
            self.counted().filter(|(model, usable, _)| self.could_hold(self.need(rung, *model), *usable));
        let fitting: u32 = fitting.fold(0, |sum, (_, _, count)| sum.saturating_add(count));
        fitting.saturating_sub(self.bound_on(rung))
    }

    /// How many of them only their own record keeps from a rung. They are not waited for, and lower nobody's step.
    pub(super) fn bound_on(&self, rung: usize) -> u32 {
        self.bound.get(rung).copied().unwrap_or(0)
    }

    fn count_bound(&mut self, card: &Card) {
        if self.steps.iter().all(|step| step.cards.is_empty()) {
            return;
        }
        for rung in 0..self.steps.len() {
            let fits = |need| self.could_hold(need, card.usable);
            let alone = fits(self.need(rung, card.model)) && !fits(self.need_on(rung, card));
            if let Some(count) = self.bound.get_mut(rung).filter(|_| alone) {
                *count = count.saturating_add(1);
            }
        }
    }

    /// Whether an open card has the memory for a rung at this moment.
    pub(super) fn fits_now(&self, rung: usize, snapshot: &Snapshot) -> bool {
        self.open.iter().any(|index| {
            snapshot.cards.get(*index).is_some_and(|card| self.spare(rung, card, snapshot).is_some())
        })
    }

    fn need(&self, rung: usize, model: usize) -> u64 {
        self.needs.get(rung).and_then(|models| models.get(model)).copied().unwrap_or(u64::MAX)
    }

    /// What a rung needs on that very card.
    fn need_on(&self, rung: usize, card: &Card) -> u64 {
        let need = self.need(rung, card.model);
        match self.steps.get(rung) {
            Some(step) if !step.cards.is_empty() => need.max(step.on_card("", &card.uuid)),
            _ => need,
        }
    }

    fn could_hold(&self, need: u64, usable: u64) -> bool {
        usable >= need.saturating_add(self.headroom).max(self.min_free)
    }

    /// What would be left beside the need of a rung; `None` if it does not fit. The headroom grows with the silence
    /// of the agent: an older report must be more generous.
    fn spare(&self, rung: usize, card: &Card, snapshot: &Snapshot) -> Option<u64> {
        let silence = snapshot.spots.get(card.spot)?.silent_for;
        let grown = match silence {
            0 => self.headroom,
            seconds => self.headroom.saturating_add(self.headroom.saturating_mul(seconds) / DOUBLING),
        };
        let need = self.need_on(rung, card);
        let fits = card.available >= need.saturating_add(grown).max(self.min_free);
        fits.then(|| card.available.saturating_sub(need))
    }

    /// The best card for a segment on a rung, not yet taken.
    pub(super) fn pick(
        &mut self,
        rung: usize,
        wanted: &Wanted,
        requests: PodRequests,
        snapshot: &Snapshot,
        floor: &Floor,
    ) -> Option<usize> {
        let largest =
            if wanted.largest_only { self.counted().map(|(_, usable, _)| usable).max() } else { None };
        let mut candidates = match self.candidates.remove(&rung) {
            Some(candidates) => candidates,
            None => self.sorted(rung, snapshot),
        };
        let mut aside = Vec::new();
        let mut found = None;
        while let Some(Reverse(candidate)) = candidates.pop() {
            let (_, _, index) = candidate;
            let Some(card) = snapshot.cards.get(index) else { continue };
            // Both only get worse while a pass goes on, so what drops out here drops out for good.
            if floor.is_taken(index) || !floor.has_room(card.spot, requests) {
                continue;
            }
            if largest.is_some_and(|largest| card.usable < largest) {
                aside.push((candidate, false));
            } else if avoided(wanted, card, snapshot) {
                aside.push((candidate, true));
            } else {
                found = Some(index);
                break;
            }
        }
        let second_best = aside.iter().find(|(_, usable)| *usable).map(|((_, _, index), _)| *index);
        candidates.extend(aside.into_iter().map(|(candidate, _)| Reverse(candidate)));
        self.candidates.insert(rung, candidates);
        found.or(second_best)
    }

    fn sorted(&self, rung: usize, snapshot: &Snapshot) -> BinaryHeap<Reverse<Candidate>> {
        let fitting = self.open.iter().filter_map(|index| {
            let card = snapshot.cards.get(*index)?;
            let foreign = if self.indifferent { 0 } else { neighbours(card) };
            Some(Reverse((foreign, self.spare(rung, card, snapshot)?, *index)))
        });
        fitting.collect::<Vec<_>>().into()
    }

    /// Why each GPU is not given, on a rung, at the end of a pass.
    pub(super) fn wait(&mut self, rung: Option<usize>, snapshot: &Snapshot, floor: &Floor) -> Wait {
        if let Some(wait) = self.waits.get(&rung) {
            return wait.clone();
        }
        let mut wait = Wait {
            looked_at: u32::try_from(snapshot.cards.len()).unwrap_or(u32::MAX),
            causes: self.causes.clone(),
            need_bytes: rung
                .or(self.steps.len().checked_sub(1))
                .and_then(|rung| self.steps.get(rung))
                .map_or(0, |step| step.need_bytes),
            headroom_bytes: self.headroom,
            best: None,
            products: self.census.products.clone(),
            stale_nodes: self.stale_nodes.clone(),
        };
        let mut best: Option<(u64, Reverse<usize>)> = None;
        for index in &self.open {
            let Some(card) = snapshot.cards.get(*index) else { continue };
            let count =
                wait.causes.entry(self.memory_cause(rung, *index, card, snapshot, floor)).or_default();
            *count = count.saturating_add(1);
            if !floor.is_taken(*index) {
                best = best.max(Some((card.available, Reverse(*index))));
            }
        }
        let nearest = best.and_then(|(_, Reverse(index))| snapshot.cards.get(index));
        wait.best = nearest.and_then(|card| {
            let spot = snapshot.spots.get(card.spot)?;
            Some((spot.facts.name.clone(), card.index, card.available))
        });
        self.waits.insert(rung, wait.clone());
        wait
    }

    fn memory_cause(
        &self,
        rung: Option<usize>,
        index: usize,
        card: &Card,
        snapshot: &Snapshot,
        floor: &Floor,
    ) -> Cause {
        if floor.is_taken(index) {
            return Cause::Ours;
        }
        // Without a rung that fits any card, the last one says how much is missing at least.
        let Some(rung) = rung.or(self.needs.len().checked_sub(1)) else { return Cause::TooSmall };
        if !self.could_hold(self.need_on(rung, card), card.usable) {
            Cause::TooSmall
        } else if self.spare(rung, card, snapshot).is_none() {
            Cause::NotEnoughFree
        } else {
            Cause::Fits
        }
    }
}

/// Foreign processes on a card, as far as they can be told: where the lists cannot be read, memory speaks.
fn neighbours(card: &Card) -> u32 {
    card.foreign.unwrap_or_else(|| u32::from(card.foreign_bytes > 0))
}

fn avoided(wanted: &Wanted, card: &Card, snapshot: &Snapshot) -> bool {
    let node =
        || snapshot.spots.get(card.spot).is_some_and(|spot| wanted.avoid_nodes.contains(&spot.facts.name));
    (!wanted.avoid_gpus.is_empty()
        && wanted.avoid_gpus.iter().any(|gpu| gpu.eq_ignore_ascii_case(&card.uuid)))
        || (!wanted.avoid_nodes.is_empty() && node())
}

fn cools(demand: &Demand, card: &Card, now: Timestamp) -> bool {
    demand.cooling_gpus.iter().any(|(gpu, until)| *until > now && gpu.eq_ignore_ascii_case(&card.uuid))
}
