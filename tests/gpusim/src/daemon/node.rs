//! The state of one node's driver, and its answer to every question. Nothing here waits or speaks; the journal is
//! written where things happen.

use std::collections::BTreeMap;

use crate::card::{self, Gpu, MIB};
use crate::config::{CardConfig, NodeConfig};
use crate::control::{GpuState, Health, PinMode, Spoil, ViewMode};
use crate::driver::{Device, Fault, OutOfMemory, Reply, Run, Xid};
use crate::journal::{Event, Who};
use crate::visible;

use super::memory::{Book, Held, Owner};
use super::record::Record;

/// Xid events that are remembered.
const XIDS: usize = 1024;

/// One card.
#[derive(Debug)]
pub struct Card {
    /// `GPU-...`.
    pub uuid: String,
    /// Product name.
    pub model: String,
    /// Who holds what.
    pub book: Book,
    /// Whether it works.
    pub health: Health,
    /// What an engine truly needs, percent of the published formula.
    pub need_percent: u32,
    /// How long an engine takes to load, to grow and at least to hold its memory, percent of the usual.
    pub pace_percent: u32,
    /// What goes wrong with an engine's work.
    pub spoil: Spoil,
    /// For how many more runs; none: until told otherwise.
    pub spoiled_runs: Option<u32>,
}

impl Card {
    fn new(config: &CardConfig, uuid: String) -> Self {
        let bytes = |mib: u64| mib.saturating_mul(MIB);
        Self {
            uuid,
            model: config.model.clone(),
            book: Book::new(bytes(config.total_mib), bytes(config.reserved_mib)),
            health: Health::Ok,
            need_percent: config.need_percent,
            pace_percent: config.pace_percent,
            spoil: Spoil::None,
            spoiled_runs: None,
        }
    }
}

/// What one connection may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    /// In the words of `NVIDIA_VISIBLE_DEVICES`.
    pub visible: String,
}

/// The driver of one node.
#[derive(Debug)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Version of the driver.
    pub version: String,
    /// Whether the driver is loaded.
    pub loaded: bool,
    /// What `NVIDIA_VISIBLE_DEVICES` does.
    pub pin: PinMode,
    /// Whose process ids the lists show.
    pub view: ViewMode,
    /// The cards in index order.
    pub cards: Vec<Card>,
    xids: Vec<Xid>,
    /// The journal.
    pub record: Record,
}

impl Node {
    /// A node with empty cards and no journal.
    #[must_use]
    pub fn new(config: &NodeConfig) -> Self {
        let cards = (0_u32..).zip(&config.cards);
        Self {
            name: config.node.clone(),
            version: config.driver_version.clone(),
            loaded: true,
            pin: PinMode::Honour,
            view: ViewMode::Translated,
            cards: cards
                .map(|(at, card)| Card::new(card, card::uuid(config.seed, &config.node, at)))
                .collect(),
            xids: Vec::new(),
            record: Record::default(),
        }
    }

    /// The same with a journal.
    #[must_use]
    pub fn recorded_by(self, record: Record) -> Self {
        Self { record, ..self }
    }

    /// UUIDs in index order.
    #[must_use]
    pub fn uuids(&self) -> Vec<String> {
        self.cards.iter().map(|card| card.uuid.clone()).collect()
    }

    /// The card that `gpu` names.
    pub fn card_mut(&mut self, gpu: &Gpu) -> Option<&mut Card> {
        match gpu {
            Gpu::Index(index) => self.cards.get_mut(usize::try_from(*index).ok()?),
            Gpu::Uuid(uuid) => self.cards.iter_mut().find(|card| card.uuid == *uuid),
        }
    }

    /// Every card, as tests see it.
    #[must_use]
    pub fn list(&self, now: u64) -> Vec<GpuState> {
        let state = |(index, card): (u32, &Card)| {
            let memory = card.book.memory(now);
            GpuState {
                node: self.name.clone(),
                index,
                uuid: card.uuid.clone(),
                model: card.model.clone(),
                total: memory.total,
                reserved: memory.reserved,
                free: memory.free,
                unowned: card.book.unowned(now),
                holders: card.book.holders(),
                health: card.health,
                need_percent: card.need_percent,
            }
        };
        (0..).zip(&self.cards).map(state).collect()
    }

    /// Positions of the cards that a connection sees.
    fn seen(&self, sight: &Sight) -> Vec<usize> {
        let uuids: Vec<&str> = self.cards.iter().map(|card| card.uuid.as_str()).collect();
        let named = visible::select(&sight.visible, &uuids);
        match self.pin {
            PinMode::Honour => named,
            PinMode::Ignore => (0..uuids.len()).collect(),
            PinMode::None => Vec::new(),
            PinMode::Swap => {
                let next = |at: usize| at.saturating_add(1).checked_rem(uuids.len()).unwrap_or(0);
                let mut swapped: Vec<usize> = named.into_iter().map(next).collect();
                swapped.sort_unstable();
                swapped
            }
        }
    }

    /// GPUs that a connection sees, in the order of its own numbering.
    #[must_use]
    pub fn devices(&self, sight: &Sight) -> Vec<Device> {
        let device = |at: usize| {
            self.cards.get(at).map(|card| Device {
                uuid: card.uuid.clone(),
                model: card.model.clone(),
                minor: u32::try_from(at).unwrap_or(u32::MAX),
                lost: card.health == Health::Lost,
            })
        };
        self.seen(sight).into_iter().filter_map(device).collect()
    }

    /// The working card of that name that a connection sees.
    fn reach(&mut self, sight: &Sight, uuid: &str) -> Result<&mut Card, Fault> {
        let seen = self.seen(sight);
        let found =
            self.cards.iter_mut().enumerate().find(|(at, card)| card.uuid == uuid && seen.contains(at));
        match found {
            Some((_, card)) if card.health == Health::Lost => Err(Fault::Lost),
            Some((_, card)) => Ok(card),
            None => Err(Fault::NotFound),
        }
    }

    /// Memory of a card.
    pub fn memory(&mut self, sight: &Sight, uuid: &str, now: u64) -> Reply {
        self.reach(sight, uuid).map_or_else(Reply::Fault, |card| Reply::Memory(card.book.memory(now)))
    }

    /// Holders of a card, by process ids of the host.
    pub fn processes(&mut self, sight: &Sight, uuid: &str) -> Reply {
        self.reach(sight, uuid).map_or_else(Reply::Fault, |card| Reply::Processes(card.book.holders()))
    }

    /// Gives `owner` memory of a card, or says why not.
    pub fn alloc(
        &mut self,
        sight: &Sight,
        uuid: &str,
        owner: Owner,
        bytes: u64,
        now: u64,
        who: &Who,
    ) -> Reply {
        let card = match self.reach(sight, uuid) {
            Ok(card) => card,
            Err(fault) => return Reply::Fault(fault),
        };
        let before = card.book.memory(now);
        let Some(held) = card.book.alloc(owner, bytes, now) else {
            let holders = card.book.holders();
            let free = before.free;
            self.record.write(Event::Refused { uuid: uuid.to_owned(), who: who.clone(), bytes, free });
            return Reply::OutOfMemory(OutOfMemory { memory: before, holders });
        };
        self.record.write(if held.bytes == bytes && held.peak == bytes {
            Event::HoldStart { uuid: uuid.to_owned(), who: who.clone(), bytes }
        } else {
            Event::Hold { uuid: uuid.to_owned(), pid: owner.pid, bytes: held.bytes }
        });
        Reply::Done
    }

    /// Takes memory of a card back from `owner`.
    pub fn free(&mut self, sight: &Sight, uuid: &str, owner: Owner, bytes: u64) -> Reply {
        let held = match self.reach(sight, uuid) {
            Ok(card) => card.book.free(owner, bytes),
            Err(fault) => return Reply::Fault(fault),
        };
        match held {
            None => return Reply::Fault(Fault::Invalid),
            Some(Held { bytes: 0, peak }) => self.ended(uuid, owner, peak),
            Some(held) => {
                self.record.write(Event::Hold { uuid: uuid.to_owned(), pid: owner.pid, bytes: held.bytes });
            }
        }
        Reply::Done
    }

    /// An owner is gone: everything it held of any card comes back as that card lets it.
    pub fn end(&mut self, owner: Owner, now: u64) {
        let ended: Vec<(String, Held)> = self
            .cards
            .iter_mut()
            .filter_map(|card| card.book.end(owner, now).map(|held| (card.uuid.clone(), held)))
            .collect();
        for (uuid, held) in ended {
            self.ended(&uuid, owner, held.peak);
        }
    }

    /// The driver was unloaded: all memory is free.
    pub fn clear(&mut self) {
        let cleared: Vec<(String, BTreeMap<Owner, Held>)> =
            self.cards.iter_mut().map(|card| (card.uuid.clone(), card.book.clear())).collect();
        for (uuid, held) in cleared {
            for (owner, held) in held {
                self.ended(&uuid, owner, held.peak);
            }
        }
    }

    fn ended(&mut self, uuid: &str, owner: Owner, peak: u64) {
        self.record.write(Event::HoldEnd { uuid: uuid.to_owned(), pid: owner.pid, peak });
    }

    /// An engine begins a run on a card.
    pub fn begin(&mut self, sight: &Sight, uuid: &str) -> Reply {
        let card = match self.reach(sight, uuid) {
            Ok(card) => card,
            Err(fault) => return Reply::Fault(fault),
        };
        let run = Run { need_percent: card.need_percent, pace_percent: card.pace_percent, spoil: card.spoil };
        card.spoiled_runs = card.spoiled_runs.map(|runs| runs.saturating_sub(1));
        if card.spoiled_runs == Some(0) {
            (card.spoil, card.spoiled_runs) = (Spoil::None, None);
        }
        Reply::Run(run)
    }

    /// Raises an Xid event.
    pub fn raise(&mut self, uuid: String, code: u64) {
        let number = self.latest_xid().saturating_add(1);
        self.xids.push(Xid { number, uuid, code });
        let excess = self.xids.len().saturating_sub(XIDS);
        self.xids.drain(..excess);
    }

    /// Number of the latest Xid event, 0 before the first.
    #[must_use]
    pub fn latest_xid(&self) -> u64 {
        self.xids.last().map_or(0, |xid| xid.number)
    }

    /// Xid events after number `after` of GPUs that a connection sees.
    #[must_use]
    pub fn xids_after(&self, sight: &Sight, after: u64) -> Vec<Xid> {
        let seen = self.seen(sight);
        let visible =
            |uuid: &str| self.cards.iter().enumerate().any(|(at, c)| c.uuid == uuid && seen.contains(&at));
        self.xids.iter().filter(|xid| xid.number > after && visible(&xid.uuid)).cloned().collect()
    }
}
