//! The agent's view of one GPU at one instant, and what it is worth as evidence.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use super::Evidence;
use crate::api::quantity;
use crate::api::report::{Attribution, Gpu, Health, Kind, Process, Report, State};

/// What a report says of one GPU.
#[derive(Clone, Debug, PartialEq)]
pub struct GpuView {
    /// When it was sampled, by the node's clock.
    pub at: Timestamp,
    /// Whether the agent reads all it should.
    pub sound: bool,
    /// How far the process lists can be believed.
    pub attribution: Attribution,
    /// The GPU.
    pub gpu: Gpu,
}

/// Processes that have ended stay listed for 120 s; a view sampled later than this after the end may have lost some.
const LISTED_FOR: SignedDuration = SignedDuration::from_secs(110);
/// Longest text that names others, bytes.
const MOST_WHO: usize = 200;

impl GpuView {
    /// The view of the GPU with that UUID; `None` if the report does not have it.
    pub fn of(report: &Report, uuid: &str) -> Option<Self> {
        let gpu = report.gpus.iter().find(|gpu| gpu.id.eq_ignore_ascii_case(uuid))?;
        Some(Self {
            at: report.at,
            sound: report.state == State::Ok,
            attribution: report.attr,
            gpu: gpu.clone(),
        })
    }

    /// Whether it was sampled after that instant of the same clock. Both are whole seconds: an equal one may be older.
    pub(super) fn is_after(&self, end: Timestamp) -> bool {
        self.at > end
    }

    /// Why the GPU itself is to blame, if it is: lost, broken, or a hardware-class Xid since the engine started.
    pub(super) fn fault(&self, engine_started: Option<Timestamp>) -> Option<String> {
        let health = match self.gpu.h {
            Health::Lost => Some("it fell off the bus"),
            Health::Bad => Some("it is broken until a reset"),
            Health::ResetRequired => Some("it must be reset"),
            Health::Ok | Health::Suspect | Health::Unsupported => None,
        };
        if let Some(health) = health {
            return Some(health.to_owned());
        }
        let (number, at) = self.gpu.xid.zip(self.gpu.xat)?;
        (at >= engine_started?).then(|| format!("it reported Xid {number}"))
    }

    fn processes(&self) -> impl Iterator<Item = &Process> {
        self.gpu.procs.iter().flat_map(|processes| processes.top.iter())
    }

    /// Host process ids of the pod.
    pub(super) fn pids_of(&self, pod_uid: &str) -> BTreeSet<u32> {
        self.processes()
            .filter(|process| is_of(process, pod_uid) && process.p > 0)
            .map(|process| process.p)
            .collect()
    }

    /// What the view says about the end of the evidence's pod at that instant.
    pub(super) fn witness(&self, evidence: &Evidence, end: Timestamp) -> Witness {
        let fresh = self.is_after(end);
        let peak = |process: &Process| process.pk.max(process.b);
        let mut witness = Witness { fresh, capacity: self.capacity(), ..Witness::default() };
        let began = evidence.engine_started_at();
        let mut who = Vec::new();
        let mut unknown_amount = false;
        for process in self.processes() {
            if is_of(process, &evidence.pod.uid) {
                witness.own_peak = witness.own_peak.max(peak(process));
                continue;
            }
            // It was no neighbour of an engine that began after it.
            if began.is_some_and(|began| process.had_ended(began)) {
                continue;
            }
            if process.ended() && evidence.our_pods.iter().any(|uid| is_of(process, uid)) {
                continue;
            }
            let Some(bytes) = peak(process) else {
                unknown_amount = true;
                continue;
            };
            if process.k == Kind::Ghost {
                witness.leaked = witness.leaked.saturating_add(bytes);
            } else {
                witness.foreign = witness.foreign.saturating_add(bytes);
                who.push((bytes, name(process)));
            }
        }
        witness.leaked = witness.leaked.saturating_add(self.gpu.una.unwrap_or(0));
        witness.who = list(who);
        witness.complete = fresh
            && self.sound
            && self.attribution == Attribution::Full
            && self.gpu.una.is_some()
            && self.gpu.procs.as_ref().is_some_and(|processes| processes.more == 0)
            && !unknown_amount
            && self.at.duration_since(end) <= LISTED_FOR;
        witness
    }

    /// What an empty card has for us, bytes.
    fn capacity(&self) -> Option<u64> {
        Some(self.gpu.tot?.saturating_sub(self.gpu.rsv.unwrap_or(0)))
    }
}

/// What the agent testifies about an end, bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Witness {
    /// Sampled after the end.
    pub fresh: bool,
    /// All that was on the card around the end is listed: what is not there was not there.
    pub complete: bool,
    /// What an empty card has for us.
    pub capacity: Option<u64>,
    /// Most that a process of the failed pod held.
    pub own_peak: Option<u64>,
    /// Most that others held, those that have ended since included.
    pub foreign: u64,
    /// Held by no process.
    pub leaked: u64,
    /// Who the others are, largest first.
    pub who: String,
}

/// UIDs of static pods have no dashes, so both forms are compared by their digits.
fn is_of(process: &Process, pod_uid: &str) -> bool {
    let digits = |uid: &str| -> String { uid.chars().filter(|c| *c != '-').collect() };
    process.k == Kind::Pod
        && !pod_uid.is_empty()
        && process.u.as_deref().is_some_and(|uid| digits(uid).eq_ignore_ascii_case(&digits(pod_uid)))
}

fn name(process: &Process) -> String {
    match (process.k, &process.u) {
        (Kind::Pod, Some(uid)) => format!("pod {}", uid.chars().take(36).collect::<String>()),
        (Kind::Pod | Kind::Container, _) => format!("container process {}", process.p),
        (Kind::Mps, _) => "the MPS server".to_owned(),
        (Kind::Host, _) => format!("host process {}", process.p),
        (Kind::Ghost | Kind::Unknown, _) => format!("process {}", process.p),
    }
}

fn list(mut who: Vec<(u64, String)>) -> String {
    who.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    let mut text = String::new();
    for (bytes, name) in who {
        let entry = format!("{name} {}", quantity::display(bytes));
        if text.len().saturating_add(entry.len()) > MOST_WHO {
            break;
        }
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.push_str(&entry);
    }
    text
}
