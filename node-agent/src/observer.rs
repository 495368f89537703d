//! Rounds of questions to the driver, and what is made of the answers: the state machine of the NVML thread.
//!
//! Holds everything that is remembered between rounds. Reads no clock: each round is given its `now`.

mod asking;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use video_upscale::api::report::{Attribution, ComputeMode, Health, State};

use crate::card::Card;
use crate::clock::Now;
use crate::gpu::{Identity, Instance, Memory};
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
    /// The module was of another version at the last look.
    module_differs: bool,
    /// Rounds in a row in which nothing could be reached that should be.
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
            module_differs: false,
            strikes: 0,
        }
    }

    /// One round: opens the driver if need be, asks what is due, and says what is known now.
    pub fn round(&mut self, xids: &[XidEvent], now: Now) -> Snapshot {
        self.hear(xids, now);
        let reached = self.reach(now);
        for card in self.cards.values_mut().filter(|card| card.memory != Err(Fault::DuplicateUuid)) {
            match &reached {
                Ok(()) => asking::ask(card, &mut self.probe, &self.proc, self.version, now),
                // What was measured in an earlier round is not known now.
                Err(fault) => card.memory = Err(fault.clone()),
            }
        }
        let fault = reached.and_then(|()| self.judge_node()).err();
        if let Some(Fault::NoDriver { .. }) = &fault
            && self.driver.take().is_some()
        {
            self.closed.clone_from(&fault);
        }
        let denied = fault.as_ref().is_some_and(Fault::suggests_lost_access);
        self.strikes = if denied { self.strikes.saturating_add(1) } else { 0 };
        self.snapshot(fault, now)
    }

    /// Gets as far as the GPUs themselves.
    fn reach(&mut self, now: Now) -> Result<(), Fault> {
        self.open(now)?;
        self.compare_module(now)?;
        self.enumerate(now)
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
                let life = self.proc.driver_life(&driver.version).unwrap_or_default();
                if life != self.life {
                    // Every GPU was initialised anew: what was found of it before says nothing of it now.
                    self.cards.clear();
                }
                self.life = life;
                self.proc.listed_by(self.version);
                self.driver = Some(driver);
                self.closed = None;
                self.enumerated = None;
                self.module_checked = now.up;
                self.module_differs = false;
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

    /// A driver that was replaced on the host tells so in `/proc` before the first call fails. Once it differs it is
    /// looked at in every round: the library stays of no use until the old driver is back.
    fn compare_module(&mut self, now: Now) -> Result<(), Fault> {
        if self.module_differs || now.up.saturating_sub(self.module_checked) >= SLOW {
            self.module_checked = now.up;
            let loaded = self.driver.as_ref().map(|driver| driver.version.as_str()).unwrap_or_default();
            if let Some(module) = self.proc.driver_version().filter(|_| !loaded.is_empty()) {
                self.module_differs = module != loaded;
            }
        }
        if self.module_differs { Err(Fault::Mismatch) } else { Ok(()) }
    }

    fn enumerate(&mut self, now: Now) -> Result<(), Fault> {
        let rests = |done: &Enumeration| done.complete || now.up.saturating_sub(done.at) < SLOW;
        if self.enumerated.as_ref().is_some_and(rests) {
            return if self.cards.is_empty() { Err(Fault::NoGpu) } else { Ok(()) };
        }
        let found = self.probe.gpus()?;
        let count = found.len();
        let (identities, unnamed) = split(found);
        if let Some(fault) = of_the_node(&unnamed.iter().collect::<Vec<_>>(), identities.is_empty()) {
            return Err(fault);
        }
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
    fn judge_node(&self) -> Result<(), Fault> {
        let faults: Vec<&Fault> = self.cards.values().filter_map(|card| card.memory.as_ref().err()).collect();
        let all = faults.len() == self.cards.len();
        of_the_node(&faults, all).map_or(Ok(()), Err)
    }

    /// A GPU that was lost before it could tell its UUID is in no report, but it is not passed over in silence.
    fn unnamed(&self) -> Option<String> {
        let Enumeration { count, unnamed, .. } = self.enumerated.as_ref()?;
        let why = unnamed.first()?;
        Some(format!("{} of {count} GPUs cannot be named: {why}", unnamed.len()))
    }

    /// Denied access counts at the third round in a row. Until then a node whose GPUs are known is doubtful, not lost.
    fn state_of(&self, fault: Option<&Fault>) -> State {
        match fault {
            None => State::Ok,
            Some(Fault::NoGpu) => State::NoGpu,
            Some(Fault::Mismatch) => State::DriverMismatch,
            Some(fault) if fault.suggests_lost_access() => match self.strikes {
                STRIKES.. => State::DeviceAccessLost,
                _ if self.driver.is_some() && !self.cards.is_empty() => State::Ok,
                _ => State::NoDriver,
            },
            Some(_) => State::NoDriver,
        }
    }

    fn snapshot(&self, fault: Option<Fault>, now: Now) -> Snapshot {
        let mut gpus: Vec<View> =
            self.cards.values().map(|card| view(card, self.proc.is_initial(), now)).collect();
        gpus.sort_by_key(|gpu| gpu.identity.index);
        let readable = gpus.is_empty() || gpus.iter().any(|gpu| gpu.processes.is_ok());
        let readable = readable && self.proc.knows_listed();
        Snapshot {
            taken: now,
            state: self.state_of(fault.as_ref()),
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

/// The fault of the whole node in those of single GPUs: one that is the driver's, or denied access where it is denied to
/// `all` of them.
fn of_the_node(faults: &[&Fault], all: bool) -> Option<Fault> {
    let driver = faults.iter().find(|fault| fault.is_of_the_driver());
    let denied = all && faults.iter().all(|fault| fault.suggests_lost_access());
    driver.or_else(|| faults.first().filter(|_| denied)).map(|fault| (*fault).clone())
}

fn view(card: &Card, sees_all: bool, now: Now) -> View {
    View {
        identity: card.identity.clone(),
        memory: card.memory.clone(),
        peak: card.peak.get(),
        unattributed: card.memory.is_ok().then_some(card.unattributed).flatten(),
        // On a NUMA node the kernel keeps files in memory that nobody holds, and gives it back when it is wanted.
        leak: sees_all && !card.identity.numa && card.leak.is_suspected(now),
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
