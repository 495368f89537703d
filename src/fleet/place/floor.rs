//! The GPUs as they are now: nodes, cards, and the open cards on a shelf where the best one for a demand is found
//! without looking at the others.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use super::class::Class;
use crate::fleet::demand::{Cause, Unread, Wanted};
use crate::fleet::node::Inventory;
use crate::fleet::snapshot::{Card, Snapshot, Spot};

/// Most product names, stale nodes and other releases that a wait tells of.
const MOST_TOLD: usize = 8;
/// More foreign processes than that are all alike.
const MANY: u32 = 63;

/// The GPUs as they are now.
#[derive(Clone, Debug, Default)]
pub(super) struct Floor {
    /// Nodes, by name.
    pub(super) spots: Vec<Spot>,
    /// GPUs, by node and index.
    pub(super) cards: Vec<Card>,
    /// Product names.
    pub(super) models: Vec<Arc<str>>,
    /// Product names with how many GPUs have them; at most 8.
    pub(super) products: BTreeMap<String, u32>,
    /// Position of each node's first card.
    first: Vec<usize>,
    /// Nodes with a card whose report is stale.
    stale: BTreeSet<usize>,
    /// Nodes with a card that another release reports.
    others: BTreeSet<usize>,
    /// Nodes with a report that cannot be used.
    unread: BTreeSet<usize>,
    /// Cards that are not closed, by model and foreign processes, then by available bytes and position.
    shelf: BTreeMap<(usize, u32), BTreeSet<(u64, usize)>>,
}

/// Foreign processes, bytes left over, position: the least is the best.
type Rank = (u32, u64, usize);

/// The best card so far.
#[derive(Debug, Default)]
struct Choice {
    best: Option<Rank>,
    /// The best of those that the segment should get only if there is no other.
    second_best: Option<Rank>,
}

/// What a node is about to become: the same cards in another state.
#[derive(Clone, Debug)]
pub struct Change {
    /// Position of the node.
    pub(super) index: usize,
    /// The node as it will be.
    pub(super) spot: Spot,
    /// Whether more of it changes than its room and its reports.
    pub(super) moved: bool,
    cards: Vec<Card>,
    /// Which of the cards differ from what they are, by place on the node.
    pub(super) changed: Vec<usize>,
}

impl Change {
    /// The position of each card, the card as it is and as it will be.
    pub(super) fn cards<'a>(&'a self, floor: &'a Floor) -> impl Iterator<Item = (usize, &'a Card, &'a Card)> {
        floor.cards_at(self.index).zip(&self.cards).map(|((index, old), new)| (index, old, new))
    }

    /// The same of those cards that differ.
    pub(super) fn changed_cards<'a>(
        &'a self,
        floor: &'a Floor,
    ) -> impl Iterator<Item = (usize, &'a Card, &'a Card)> {
        let start = floor.cards_of(self.index).start;
        let at = move |place: &usize| {
            let index = start.saturating_add(*place);
            Some((index, floor.cards.get(index)?, self.cards.get(*place)?))
        };
        self.changed.iter().filter_map(at)
    }
}

impl Floor {
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        let mut counts = vec![0_u32; snapshot.models.len()];
        for card in &snapshot.cards {
            if let Some(count) = counts.get_mut(card.model) {
                *count = count.saturating_add(1);
            }
        }
        let told = snapshot.models.iter().zip(counts).take(MOST_TOLD);
        let mut floor = Self {
            spots: snapshot.spots.clone(),
            cards: snapshot.cards.clone(),
            models: snapshot.models.clone(),
            products: told.map(|(model, count)| (model.to_string(), count)).collect(),
            first: Vec::with_capacity(snapshot.spots.len()),
            ..Self::default()
        };
        for index in 0..snapshot.spots.len() {
            floor.first.push(snapshot.cards.partition_point(|card| card.spot < index));
        }
        for (index, card) in snapshot.cards.iter().enumerate() {
            floor.shelve(index, card);
            match card.closed {
                Some(Cause::Stale) => floor.stale.insert(card.spot),
                Some(Cause::OtherRelease) => floor.others.insert(card.spot),
                _ => false,
            };
        }
        let unread = floor.spots.iter().enumerate().filter(|(_, spot)| is_unread(spot));
        floor.unread = unread.map(|(index, _)| index).collect();
        floor
    }

    /// Positions of a node's cards.
    pub(super) fn cards_of(&self, spot: usize) -> Range<usize> {
        let position = |spot: usize| self.first.get(spot).copied().unwrap_or(self.cards.len());
        position(spot)..position(spot.saturating_add(1))
    }

    /// A node's cards, with their positions.
    pub(super) fn cards_at(&self, spot: usize) -> impl Iterator<Item = (usize, &Card)> {
        let positions = self.cards_of(spot);
        positions.clone().zip(self.cards.get(positions).unwrap_or_default())
    }

    /// Positions of the cards with these UUIDs.
    pub(super) fn positions<'a>(&self, uuids: impl Iterator<Item = &'a String>) -> BTreeSet<usize> {
        let wanted: BTreeSet<String> = uuids.map(|uuid| uuid.to_ascii_lowercase()).collect();
        if wanted.is_empty() {
            return BTreeSet::new();
        }
        let named = |card: &Card| wanted.contains(&card.uuid.to_ascii_lowercase());
        self.cards.iter().enumerate().filter(|(_, card)| named(card)).map(|(index, _)| index).collect()
    }

    /// Position of a node.
    pub(super) fn spot(&self, name: &str) -> Option<usize> {
        self.spots.binary_search_by(|spot| spot.facts.name.as_str().cmp(name)).ok()
    }

    /// What it takes to make a node what it is now; its cards come with their product names. `None` if it has other
    /// cards than before: then everything has to be begun anew.
    pub(super) fn change(&self, spot: Spot, cards: Vec<(Card, &str)>) -> Option<Change> {
        let index = self.spot(&spot.facts.name)?;
        let before = self.cards.get(self.cards_of(index))?;
        let same = |(old, (new, model)): (&Card, &(Card, &str))| {
            old.uuid == new.uuid
                && old.index == new.index
                && self.models.get(old.model).is_some_and(|known| known.as_ref() == *model)
        };
        if before.len() != cards.len() || !before.iter().zip(&cards).all(same) {
            return None;
        }
        let cards: Vec<Card> = before
            .iter()
            .zip(cards)
            .map(|(old, (new, _))| Card { spot: index, model: old.model, uuid: Arc::clone(&old.uuid), ..new })
            .collect();
        let facts = &self.spots.get(index)?.facts;
        let moved = facts.labels != spot.facts.labels || facts.taints != spot.facts.taints;
        let differ = before.iter().zip(&cards).enumerate().filter(|(_, (old, new))| old != new);
        let changed = differ.map(|(place, _)| place).collect();
        Some(Change { index, spot, moved, cards, changed })
    }

    /// What it takes to note that a pod with these requests has been given a card.
    pub(super) fn taking(&self, card: usize, requests: crate::fleet::demand::PodRequests) -> Option<Change> {
        let index = self.cards.get(card)?.spot;
        let range = self.cards_of(index);
        let mut cards = self.cards.get(range.clone())?.to_vec();
        let place = card.checked_sub(range.start)?;
        cards.get_mut(place)?.closed = Some(Cause::Ours);
        let mut spot = self.spots.get(index)?.clone();
        spot.room = spot.room.less(requests, 1);
        Some(Change { index, spot, moved: false, cards, changed: vec![place] })
    }

    /// Makes it so.
    pub(super) fn apply(&mut self, change: Change) {
        let start = self.cards_of(change.index).start;
        for place in change.changed {
            let Some(card) = change.cards.get(place) else { continue };
            let index = start.saturating_add(place);
            self.unshelve(index);
            self.shelve(index, card);
            if let Some(place) = self.cards.get_mut(index) {
                place.clone_from(card);
            }
        }
        let cards = self.cards.get(self.cards_of(change.index)).unwrap_or_default();
        let is_closed = |cause| cards.iter().any(|card| card.closed == Some(cause));
        let (stale, others) = (is_closed(Cause::Stale), is_closed(Cause::OtherRelease));
        keep(&mut self.stale, change.index, stale);
        keep(&mut self.others, change.index, others);
        keep(&mut self.unread, change.index, is_unread(&change.spot));
        if let Some(place) = self.spots.get_mut(change.index) {
            *place = change.spot;
        }
    }

    fn shelve(&mut self, index: usize, card: &Card) {
        if card.closed.is_none() {
            let place = self.shelf.entry((card.model, neighbours(card))).or_default();
            place.insert((card.available, index));
        }
    }

    fn unshelve(&mut self, index: usize) {
        let Some(card) = self.cards.get(index) else { return };
        let key = (card.model, neighbours(card));
        if let Some(place) = self.shelf.get_mut(&key) {
            place.remove(&(card.available, index));
            if place.is_empty() {
                self.shelf.remove(&key);
            }
        }
    }

    /// The best card for a segment on a rung: one that its last failures do not speak against, then fewest foreign
    /// processes, tightest fit, node and index.
    pub(super) fn pick(&self, class: &Class, rung: usize, wanted: &Wanted) -> Option<usize> {
        let least = if wanted.largest_only { class.largest().unwrap_or(0) } else { 0 };
        let mut choice = Choice::default();
        for ((model, neighbours), place) in &self.shelf {
            let near = if class.is_indifferent() { 0 } else { *neighbours };
            let better = choice.best.is_none_or(|best| near <= best.0);
            let Some(need) = class.need(rung, *model).filter(|_| better) else { continue };
            for (available, index) in place.range((class.floor_for(need), 0)..) {
                // Those with a need of their own do not stand in order.
                if class.is_single(*index) {
                    continue;
                }
                if choice.best.is_some_and(|best| best < (near, available.saturating_sub(need), *index)) {
                    break;
                }
                if self.offer(*index, class, rung, wanted, least, &mut choice) {
                    break;
                }
            }
        }
        for index in class.single() {
            self.offer(index, class, rung, wanted, least, &mut choice);
        }
        choice.best.or(choice.second_best).map(|(_, _, index)| index)
    }

    /// Takes a card into the choice if it will do; whether its last failures do not speak against it either.
    fn offer(
        &self,
        index: usize,
        class: &Class,
        rung: usize,
        wanted: &Wanted,
        least: u64,
        choice: &mut Choice,
    ) -> bool {
        let Some((card, spot)) = self.site(index) else { return false };
        if card.usable < least || !class.is_open(index, card, spot) || !class.fits(rung, index, card, spot) {
            return false;
        }
        let near = if class.is_indifferent() { 0 } else { neighbours(card) };
        let spare = card.available.saturating_sub(class.need_on(rung, index, card.model));
        let rank = (near, spare, index);
        let avoided = avoided(wanted, card, spot);
        let place = if avoided { &mut choice.second_best } else { &mut choice.best };
        *place = Some(place.map_or(rank, |before| before.min(rank)));
        !avoided
    }

    /// The open card with the most memory available.
    pub(super) fn nearest(&self, class: &Class) -> Option<(String, u32, u64)> {
        let is_open =
            |index: &usize| self.site(*index).is_some_and(|(card, spot)| class.is_open(*index, card, spot));
        let mut best: Option<(u64, usize)> = None;
        for ((model, _), place) in &self.shelf {
            if class.need(0, *model).is_none() {
                continue;
            }
            let most =
                place.iter().rev().take_while(|(available, _)| best.is_none_or(|best| best.0 <= *available));
            let most = most.map(|(available, index)| (*available, *index)).find(|(_, index)| is_open(index));
            let Some((available, _)) = most else { continue };
            let first = place.range((available, 0)..).map(|(_, index)| *index).find(is_open);
            let better = |index: &usize| best.is_none_or(|best| best.0 < available || *index < best.1);
            best = first.filter(better).map(|index| (available, index)).or(best);
        }
        let (card, spot) = self.site(best?.1)?;
        Some((spot.facts.name.clone(), card.index, card.available))
    }

    /// Nodes with a card whose report is stale; at most 8.
    pub(super) fn stale_nodes(&self) -> BTreeSet<String> {
        let stale = self.stale.iter().filter_map(|index| self.spots.get(*index));
        stale.take(MOST_TOLD).map(|spot| spot.facts.name.clone()).collect()
    }

    /// Namespaces of the releases whose agents report cards, beside ours; those of the first 8 nodes.
    pub(super) fn other_releases(&self) -> BTreeSet<String> {
        let others = self.others.iter().take(MOST_TOLD).filter_map(|index| self.spots.get(*index));
        let namespace = |spot: &Spot| match &spot.facts.inventory {
            // A node's word; a name of a namespace is no longer.
            Inventory::Known { report, .. } => {
                Some(report.ns.chars().filter(char::is_ascii_graphic).take(63).collect())
            }
            Inventory::Missing | Inventory::Invalid(_) => None,
        };
        others.filter_map(namespace).collect()
    }

    /// Nodes with a report that cannot be used.
    pub(super) fn unread(&self) -> Unread {
        let first = self.unread.first().and_then(|index| self.spots.get(*index));
        let first = first.and_then(|spot| match &spot.facts.inventory {
            Inventory::Invalid(error) => Some((spot.facts.name.clone(), error.to_string())),
            Inventory::Missing | Inventory::Known { .. } => None,
        });
        Unread { nodes: u32::try_from(self.unread.len()).unwrap_or(u32::MAX), first }
    }

    /// A card and its node.
    pub(super) fn site(&self, index: usize) -> Option<(&Card, &Spot)> {
        let card = self.cards.get(index)?;
        Some((card, self.spots.get(card.spot)?))
    }
}

fn keep(set: &mut BTreeSet<usize>, index: usize, belongs: bool) {
    if belongs {
        set.insert(index);
    } else {
        set.remove(&index);
    }
}

fn is_unread(spot: &Spot) -> bool {
    matches!(spot.facts.inventory, Inventory::Invalid(_))
}

/// Foreign processes on a card, as far as they can be told: where the lists cannot be read, memory speaks.
fn neighbours(card: &Card) -> u32 {
    card.foreign.unwrap_or_else(|| u32::from(card.foreign_bytes > 0)).min(MANY)
}

fn avoided(wanted: &Wanted, card: &Card, spot: &Spot) -> bool {
    wanted.avoid_gpus.iter().any(|gpu| gpu.eq_ignore_ascii_case(&card.uuid))
        || (!wanted.avoid_nodes.is_empty() && wanted.avoid_nodes.contains(&spot.facts.name))
}
