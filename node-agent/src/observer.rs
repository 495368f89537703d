//! Rounds of questions to the driver, and what is made of the answers: the state machine of the NVML thread.
//!
//! Holds everything that is remembered between rounds. Reads no clock: each round is given its `now`.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use video_upscale::api::report::{Attribution, ComputeMode, Health, State};

use crate::card::Card;
use crate::clock::Now;
use crate::gpu::{Identity, Instance, Listed, Memory};
use crate::health::XidEvent;
use crate::probe::{Driver, DriverVersion, Fault, Probe};
use crate::procfs::Proc;
use crate::roster::Process;

/// First pause after the driver could not be opened; doubles.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// Longest pause.
const LAST_RETRY: Duration = Duration::from_secs(60);
/// Time between two looks at what rarely changes: the list of GPUs where one is missing, the module's version.
const SLOW: Duration = Duration::from_secs(60);
/// Rounds in a row in which every GPU must deny access before it counts as lost.
const STRIKES: u32 = 3;

/// All that is known after a round. Immutable; handed to the other threads whole.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// When the round ended.
    pub taken: Now,
    /// State of the view as a whole.
    pub state: State,
    /// What is wrong with it, for people; also said of single GPUs that cannot even be named.
    pub trouble: Option<String>,
    /// How far the processes can be believed.
    pub attribution: Attribution,
    /// Versions.
    pub driver: Driver,
    /// Which life of the driver this is, see [`Proc::driver_life`]; empty as long as it has none.
    pub life: String,
    /// The GPUs by index.
    pub gpus: Vec<View>,
}

impl Snapshot {
    /// What is known before the driver has given its first answer: nothing.
    pub const fn unanswered(since: Now) -> Self {
        Self {
            taken: since,
            state: State::NoDriver,
            trouble: None,
            attribution: Attribution::None,
            driver: Driver { version: String::new(), library: String::new(), cuda: String::new() },
            life: String::new(),
            gpus: Vec::new(),
        }
    }
}

/// One GPU in a snapshot.
#[derive(Clone, Debug)]
pub struct View {
    /// Who it is.
    pub identity: Identity,
    /// Memory now.
    pub memory: Result<Memory, Fault>,
    /// Peak of `used` that is published in its place, bytes.
    pub peak: Option<u64>,
    /// Used memory that no process explains, bytes.
    pub unattributed: Option<u64>,
    /// Whether that memory has leaked, as far as can be told.
    pub leak: bool,
    /// Verdict.
    pub health: Health,
    /// Last Xid that says something of the card.
    pub xid: Option<(u64, Timestamp)>,
    /// MIG mode is on.
    pub mig: bool,
    /// The MIG instances.
    pub instances: Vec<Instance>,
    /// Compute mode, if not the default.
    pub compute_mode: Option<ComputeMode>,
    /// Live processes, then those that ended.
    pub processes: Result<Vec<Process>, Fault>,
}

/// The observer of one node.
pub struct Observer<P> {
    probe: P,
    proc: Proc,
    driver: Option<Driver>,
    version: Option<DriverVersion>,
    life: String,
    closed: Option<Fault>,
    retry: (Duration, Duration),
    cards: BTreeMap<String, Card>,
    enumerated: Option<Enumeration>,
    module_checked: Duration,
    strikes: u32,
}

#[derive(Clone, Debug)]
struct Enumeration {
    at: Duration,
    complete: bool,
    /// How many GPUs there are, and why some have no name.
    count: usize,
    unnamed: Vec<Fault>,
}

impl<P: Probe> Observer<P> {
    /// An observer that has asked nothing yet.
    pub fn new(probe: P, proc: Proc) -> Self {
        Self {
            probe,
            proc,
            driver: None,
            version: None,
            life: String::new(),
            closed: None,
            retry: (Duration::ZERO, FIRST_RETRY),
            cards: BTreeMap::new(),
            enumerated: None,
            module_checked: Duration::ZERO,
            strikes: 0,
        }
    }

    /// One round: opens the driver if need be, asks what is due, and says what is known now.
    pub fn round(&mut self, xids: &[XidEvent], now: Now) -> Snapshot {
        let outcome = self.ask(xids, now);
        self.snapshot(outcome.err(), now)
    }

    fn ask(&mut self, xids: &[XidEvent], now: Now) -> Result<(), Fault> {
        self.open(now)?;
        self.compare_module(now)?;
        self.enumerate(now)?;
        self.hear(xids, now);
        for card in self.cards.values_mut().filter(|card| card.memory != Err(Fault::DuplicateUuid)) {
            ask_card(card, &mut self.probe, &self.proc, self.version, now);
        }
        self.judge_node()
    }

    fn open(&mut self, now: Now) -> Result<(), Fault> {
        if self.driver.is_some() {
            return Ok(());
        }
        let (due, pause) = self.retry;
        if let Some(fault) = &self.closed
            && now.up < due
        {
            return Err(fault.clone());
        }
        match self.probe.open() {
            Ok(driver) => {
                self.version = DriverVersion::parse(&driver.version);
                self.life = self.proc.driver_life(&driver.version).unwrap_or_default();
                self.driver = Some(driver);
                self.closed = None;
                self.enumerated = None;
                self.module_checked = now.up;
                self.retry = (Duration::ZERO, FIRST_RETRY);
                Ok(())
            }
            Err(fault) => {
                self.retry = (now.up.saturating_add(pause), pause.saturating_mul(2).min(LAST_RETRY));
                self.closed = Some(fault.clone());
                Err(fault)
            }
        }
    }

    /// A driver that was replaced on the host tells so in `/proc` before the first call fails.
    fn compare_module(&mut self, now: Now) -> Result<(), Fault> {
        if now.up.saturating_sub(self.module_checked) < SLOW {
            return Ok(());
        }
        self.module_checked = now.up;
        let loaded = self.driver.as_ref().map(|driver| driver.version.as_str()).unwrap_or_default();
        match self.proc.driver_version() {
            Some(module) if !loaded.is_empty() && module != loaded => Err(Fault::Mismatch),
            _ => Ok(()),
        }
    }

    fn enumerate(&mut self, now: Now) -> Result<(), Fault> {
        let rests = |done: &Enumeration| done.complete || now.up.saturating_sub(done.at) < SLOW;
        if self.enumerated.as_ref().is_some_and(rests) {
            return if self.cards.is_empty() { Err(Fault::NoGpu) } else { Ok(()) };
        }
        let found = self.probe.gpus()?;
        let count = found.len();
        let (identities, unnamed) = split(found);
        let complete = count > 0 && unnamed.is_empty();
        self.enumerated = Some(Enumeration { at: now.up, complete, count, unnamed });
        if complete {
            self.cards.retain(|uuid, _| identities.iter().any(|identity| identity.uuid == *uuid));
        }
        for identity in &identities {
            let twins = identities.iter().filter(|other| other.uuid == identity.uuid).count();
            let card = self.cards.entry(identity.uuid.clone()).or_insert_with(|| Card::new(identity.clone()));
            if twins > 1 {
                card.memory = Err(Fault::DuplicateUuid);
            } else {
                card.identity = identity.clone();
            }
        }
        if self.cards.is_empty() { Err(Fault::NoGpu) } else { Ok(()) }
    }

    fn hear(&mut self, xids: &[XidEvent], now: Now) {
        for event in xids {
            match event {
                XidEvent::Xid { uuid, xid } => {
                    if let Some(card) = self.cards.get_mut(uuid) {
                        card.health.xid(*xid, now);
                        card.hurry();
                    }
                }
                XidEvent::Deaf { uuids } => {
                    let unheard = self.cards.iter_mut().filter(|(uuid, _)| uuids.contains(*uuid));
                    unheard.for_each(|(_, card)| card.health.deaf(now));
                }
            }
        }
    }

    /// What all cards together say of the node.
    fn judge_node(&mut self) -> Result<(), Fault> {
        let faults = || self.cards.values().filter_map(|card| card.memory.as_ref().err());
        if let Some(fault) = faults().find(|fault| matches!(fault, Fault::Mismatch | Fault::NoDriver { .. }))
        {
            let fault = fault.clone();
            if fault != Fault::Mismatch {
                self.driver = None;
                self.closed = Some(fault.clone());
            }
            return Err(fault);
        }
        let denied = faults().filter(|fault| fault.suggests_lost_access()).count();
        self.strikes = if denied == self.cards.len() { self.strikes.saturating_add(1) } else { 0 };
        if self.strikes >= STRIKES { Err(Fault::OperatingSystem) } else { Ok(()) }
    }

    /// A GPU that was lost before it could tell its UUID is in no report, but it is not passed over in silence.
    fn unnamed(&self) -> Option<String> {
        let Enumeration { count, unnamed, .. } = self.enumerated.as_ref()?;
        let why = unnamed.first()?;
        Some(format!("{} of {count} GPUs cannot be named: {why}", unnamed.len()))
    }

    fn snapshot(&self, fault: Option<Fault>, now: Now) -> Snapshot {
        let mut gpus: Vec<View> =
            self.cards.values().map(|card| view(card, self.proc.is_initial(), now)).collect();
        gpus.sort_by_key(|gpu| gpu.identity.index);
        let readable = gpus.is_empty() || gpus.iter().any(|gpu| gpu.processes.is_ok());
        Snapshot {
            taken: now,
            state: state_of(fault.as_ref()),
            trouble: fault.map(|fault| fault.to_string()).or_else(|| self.unnamed()),
            attribution: if readable { self.proc.attribution } else { Attribution::None },
            driver: self.driver.clone().unwrap_or_default(),
            life: if self.driver.is_some() { self.life.clone() } else { String::new() },
            gpus: if self.driver.is_some() { gpus } else { Vec::new() },
        }
    }
}

fn split(found: Vec<Result<Identity, Fault>>) -> (Vec<Identity>, Vec<Fault>) {
    let mut named = Vec::new();
    let mut unnamed = Vec::new();
    for answer in found {
        match answer {
            Ok(identity) => named.push(identity),
            Err(fault) => unnamed.push(fault),
        }
    }
    (named, unnamed)
}

const fn state_of(fault: Option<&Fault>) -> State {
    match fault {
        None => State::Ok,
        Some(Fault::NoGpu) => State::NoGpu,
        Some(Fault::Mismatch) => State::DriverMismatch,
        Some(Fault::OperatingSystem | Fault::Unknown) => State::DeviceAccessLost,
        Some(_) => State::NoDriver,
    }
}

fn ask_card<P: Probe>(card: &mut Card, probe: &mut P, proc: &Proc, version: Option<DriverVersion>, now: Now) {
    let index = card.identity.index;
    card.memory = probe.memory(index);
    card.health.answered(card.memory.as_ref().err());
    let mut changed = card.roster.check(proc, now);
    if changed {
        card.hurry();
    }
    if card.sweep_is_due(now) {
        let was_readable = card.roster_fault.is_none();
        match sweep(card, probe, proc, version, now) {
            Ok(moved) => {
                card.roster_fault = None;
                changed |= moved;
            }
            Err(fault) => card.roster_fault = Some(fault),
        }
        if was_readable && card.roster_fault.is_some() {
            card.hurry_signs();
        }
        card.swept(changed, now);
    }
    if let Ok(memory) = &card.memory {
        if changed {
            card.peak.restart(memory.used, now);
        } else {
            card.peak.observe(memory.used, now);
        }
        if card.take_signs_turn(now) {
            card.signs = probe.signs(index).or(&card.signs);
            card.health.signs(&card.signs, now);
        }
        let instances = card.signs.mig.unwrap_or(false).then(|| probe.instances(index).ok());
        card.instances = instances.flatten().unwrap_or_default();
    }
}

/// Reads the process lists. Clients of an MPS server are asked for only where one is seen.
fn sweep<P: Probe>(
    card: &mut Card,
    probe: &mut P,
    proc: &Proc,
    version: Option<DriverVersion>,
    now: Now,
) -> Result<bool, Fault> {
    let mut changed = false;
    loop {
        let mps = card.roster.has_mps();
        let listed = probe.processes(card.identity.index, mps)?;
        changed |= card.roster.sweep(believed(listed, card.memory.as_ref().ok(), proc, version), proc, now);
        if mps || !card.roster.has_mps() {
            return Ok(changed);
        }
    }
}

/// Some drivers translate the ids of processes for a nested namespace but not the query for their memory, and then
/// say 0 for each.
fn believed(
    listed: Vec<Listed>,
    memory: Option<&Memory>,
    proc: &Proc,
    version: Option<DriverVersion>,
) -> Vec<Listed> {
    let plausible = |process: Listed| memory.map_or(process.clone(), |memory| process.plausible_on(memory));
    let mut listed: Vec<Listed> = listed.into_iter().map(plausible).collect();
    let translated = version.is_none_or(DriverVersion::translates_memory_queries);
    if !proc.is_initial() && !translated && listed.iter().all(|process| process.bytes == Some(0)) {
        listed.iter_mut().for_each(|process| process.bytes = None);
    }
    listed
}

fn view(card: &Card, sees_all: bool, now: Now) -> View {
    View {
        identity: card.identity.clone(),
        memory: card.memory.clone(),
        peak: card.peak.get(),
        unattributed: card.memory.is_ok().then_some(card.unattributed).flatten(),
        leak: sees_all && card.leak.is_suspected(now),
        health: card.health.verdict(now),
        xid: card.health.last_xid(),
        mig: card.signs.mig.unwrap_or(false),
        instances: card.instances.clone(),
        compute_mode: card.signs.compute_mode,
        processes: match &card.roster_fault {
            Some(fault) => Err(fault.clone()),
            None => Ok(card.roster.live().chain(card.roster.ended()).cloned().collect()),
        },
    }
}

#[cfg(test)]
mod tests;
