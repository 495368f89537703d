//! What one node and its GPUs are worth at one instant, and from that the whole fleet, frozen. All of it rests on what
//! is known of that node: its report, the claims of its GPUs, the claims and pods that are for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::look::{beat, freshness};
use super::{Entry, Fleet, Freshness, live_pods};
use crate::api::quantity::GIB;
use crate::api::report::{Attribution, ComputeMode, Gpu, Health, Kind, Process, Report, State};
use crate::fleet::claim::{Claim, JobKey, lease_name};
use crate::fleet::demand::{Cause, PodRequests};
use crate::fleet::node::Inventory;
use crate::fleet::pod::{PodFacts, PodStage};
use crate::fleet::snapshot::{Card, Company, Room, Snapshot, Spot};

/// Memory without a process that is still the driver's own, bytes.
const UNEXPLAINED: u64 = GIB;

/// Our own pods on a node, by UID.
type Pods<'a> = BTreeMap<&'a str, &'a PodFacts>;

impl Fleet {
    /// The fleet as it is now, for one pass of placement.
    pub fn snapshot(&self, now: Timestamp) -> Snapshot {
        let mut models: BTreeMap<&str, usize> = BTreeMap::new();
        let mut snapshot =
            Snapshot { asked: self.board.all_asked().cloned().collect(), ..Snapshot::default() };
        for entry in self.nodes.values() {
            let place = snapshot.spots.len();
            let (spot, cards) = self.derive(entry, now);
            snapshot.spots.push(spot);
            for (card, model) in cards {
                let fresh = models.len();
                let model = *models.entry(model).or_insert_with(|| {
                    snapshot.models.push(Arc::from(model));
                    fresh
                });
                snapshot.cards.push(Card { spot: place, model, ..card });
            }
        }
        snapshot.holdings = self.holdings();
        snapshot
    }

    /// Segments that hold a GPU, with how many each, by job.
    fn holdings(&self) -> BTreeMap<JobKey, BTreeMap<u32, u32>> {
        let mut holdings: BTreeMap<JobKey, BTreeMap<u32, u32>> = BTreeMap::new();
        let leases: BTreeSet<&String> = self.booked_by.values().flatten().collect();
        for booking in leases.into_iter().filter_map(|lease| self.booking(lease)).filter(|b| b.counts) {
            let segments = holdings.entry(booking.attempt.job).or_default();
            let count = segments.entry(booking.attempt.segment).or_default();
            *count = count.saturating_add(1);
        }
        holdings
    }

    /// A node and its cards in their order, each with its product name. Where they stand on the board is left open.
    pub(super) fn derive<'a>(&'a self, entry: &'a Entry, now: Timestamp) -> (Spot, Vec<(Card, &'a str)>) {
        let uids = self.pods_on.get(&entry.facts.name).into_iter().flatten();
        let pods: Pods<'_> =
            uids.filter_map(|uid| Some((uid.as_str(), self.pods.get(uid)?.as_ref()))).collect();
        let (silent_for, until) = silence(entry, now);
        let spot = Spot { facts: entry.facts.clone(), room: self.room(entry, &pods), silent_for, until };
        let Some(report) = entry.facts.report() else { return (spot, Vec::new()) };
        let mut gpus: Vec<&Gpu> = report.gpus.iter().collect();
        gpus.sort_by_key(|gpu| (gpu.i, &gpu.id));
        let fresh = freshness(entry, now) == Some(Freshness::Fresh);
        let cards = gpus.into_iter().map(|gpu| {
            let lease = lease_name(&gpu.id);
            let claim = self.claims.get(&lease).map(AsRef::as_ref);
            let mut card = card(gpu, report, &pods, claim);
            let used = pods
                .values()
                .any(|pod| pod.stage == PodStage::MayUseGpu && pod.gpu.as_deref() == Some(lease.as_str()));
            let held = claim.is_some_and(|claim| claim.holder.is_some() && claim.quarantined.is_none());
            let held = held && !self.vacating.contains(&lease);
            let ours = used || held || self.pending.contains_key(&lease);
            let twice = self.sites.get(&lease).is_some_and(|nodes| nodes.len() > 1);
            let causes = [
                card.closed,
                self.closed(entry, report, gpu, claim, (fresh, twice)),
                ours.then_some(Cause::Ours),
            ];
            card.closed = causes.into_iter().flatten().min();
            (card, gpu.n.as_str())
        });
        (spot, cards.collect())
    }

    /// The first cause why nobody gets the GPU, as far as it does not depend on who asks.
    fn closed(
        &self,
        entry: &Entry,
        report: &Report,
        gpu: &Gpu,
        claim: Option<&Claim>,
        (fresh, twice): (bool, bool),
    ) -> Option<Cause> {
        let state = match &entry.facts.inventory {
            Inventory::Known { state, .. } => *state,
            Inventory::Missing | Inventory::Invalid(_) => report.state,
        };
        let blind = !matches!(state, State::Ok | State::Stopped);
        let no_mode = matches!(gpu.cm, Some(ComputeMode::Prohibited | ComputeMode::Unknown));
        let tests = [
            (report.ns != self.release, Cause::OtherRelease),
            (!fresh, Cause::Stale),
            (gpu.h != Health::Ok || blind || twice || !report.is_distinct(gpu), Cause::Unhealthy),
            (gpu.free.is_none(), Cause::Unhealthy),
            (claim.is_some_and(|claim| claim.out.is_some()), Cause::Unhealthy),
            (gpu.mig || no_mode || entry.facts.excluded.covers(gpu.i, &gpu.id), Cause::Excluded),
            (!entry.facts.ready || entry.facts.unschedulable, Cause::NodeUnschedulable),
            (claim.is_some_and(|claim| claim.quarantined.is_some()), Cause::Quarantined),
        ];
        tests.into_iter().filter(|(applies, _)| *applies).map(|(_, cause)| cause).min()
    }

    /// What our own pods leave of a node: those that have not ended, and those that a claim announces.
    fn room(&self, entry: &Entry, pods: &Pods<'_>) -> Room {
        let all = entry.facts.allocatable;
        let mut taken = PodRequests::default();
        let mut count = 0_u64;
        let mut add = |requests: PodRequests| {
            taken.cpu_millis = taken.cpu_millis.saturating_add(requests.cpu_millis);
            taken.memory_bytes = taken.memory_bytes.saturating_add(requests.memory_bytes);
            taken.ephemeral_bytes = taken.ephemeral_bytes.saturating_add(requests.ephemeral_bytes);
            count = count.saturating_add(1);
        };
        pods.values().filter(|pod| pod.stage != PodStage::Ended).for_each(|pod| add(pod.requests));
        let leases = self.booked_on.get(&entry.facts.name).into_iter().flatten();
        for booking in leases.filter_map(|lease| self.booking(lease)) {
            let (job, name) = (&booking.attempt.job, booking.attempt.pod_name());
            let is_there = pods.values().any(|pod| pod.namespace == job.namespace && pod.name == name);
            if !is_there {
                add(self.board.asked(job).map(|asked| asked.demand.requests).unwrap_or_default());
            }
        }
        let room = Room {
            cpu_millis: all.cpu_millis,
            memory_bytes: all.memory_bytes,
            ephemeral_bytes: all.ephemeral_bytes,
            pods: all.pods,
        };
        room.less(taken, count)
    }
}

/// The memory of a GPU, seen with what is known of our own pods.
fn card(gpu: &Gpu, report: &Report, pods: &Pods<'_>, claim: Option<&Claim>) -> Card {
    let usable = gpu.tot.unwrap_or(0).saturating_sub(gpu.rsv.unwrap_or(0));
    let free = gpu.free.unwrap_or(0);
    let live = gpu.procs.iter().flat_map(|procs| &procs.top).filter(|process| !process.ended());
    let ours: Vec<&Process> = live.filter(|process| is_ours(process, pods, claim)).collect();
    let over: Vec<&&Process> = ours.iter().filter(|process| is_over(process, pods)).collect();
    let held: u64 = over.iter().filter_map(|process| process.b).fold(0, u64::saturating_add);
    let available = free.saturating_add(held).min(usable.max(free));
    let count = |all: u32, some: usize| all.saturating_sub(u32::try_from(some).unwrap_or(u32::MAX));
    // A list of a nested PID namespace is short without an error.
    let procs = gpu.procs.as_ref().filter(|_| report.attr == Attribution::Full);
    let own_bytes: u64 = ours.iter().filter_map(|process| process.b).fold(0, u64::saturating_add);
    let foreign_bytes = match procs.and_then(|procs| procs.b) {
        Some(all) => all.saturating_sub(own_bytes).saturating_add(gpu.una.unwrap_or(0)),
        None => usable.saturating_sub(available),
    };
    let foreign = procs.map(|procs| count(procs.n, ours.len()));
    let living = procs.map(|procs| count(procs.n, over.len()));
    let exclusive = gpu.cm == Some(ComputeMode::ExclusiveProcess);
    let resident =
        live_pods(gpu).any(|uid| pods.get(uid).is_some_and(|pod| pod.stage == PodStage::MayUseGpu));
    let closed = if resident {
        Some(Cause::Ours)
    } else {
        (exclusive && living != Some(0)).then_some(Cause::ForeignProcesses)
    };
    Card {
        uuid: Arc::from(gpu.id.as_str()),
        spot: 0,
        index: gpu.i,
        model: 0,
        total: gpu.tot.unwrap_or(0),
        usable,
        free,
        available,
        foreign,
        foreign_bytes,
        company: company(gpu, foreign),
        closed,
    }
}

/// Who else is on a GPU with so many foreign processes; `None`: nobody knows how many.
fn company(gpu: &Gpu, foreign: Option<u32>) -> Company {
    let mut living = gpu.procs.iter().flat_map(|procs| &procs.top).filter(|process| !process.ended());
    // Clients (M) of a server that is too small to be listed betray it.
    if living.any(|process| process.k == Kind::Mps || process.t.contains('M')) {
        Company::Server
    } else if foreign != Some(0) || gpu.leak || gpu.una.is_none_or(|una| una > UNEXPLAINED) {
        Company::Others
    } else {
        Company::None
    }
}

/// Whether a process belongs to a pod of ours, one that is on the node or the last one that had the GPU.
fn is_ours(process: &Process, pods: &Pods<'_>, claim: Option<&Claim>) -> bool {
    let Some(uid) = process.u.as_deref().filter(|_| process.k == Kind::Pod) else { return false };
    pods.contains_key(uid) || claim.is_some_and(|claim| claim.last_pod_uid.as_deref() == Some(uid))
}

/// Whether the engine of such a process has ended since the report was made.
fn is_over(process: &Process, pods: &Pods<'_>) -> bool {
    let pod = process.u.as_deref().and_then(|uid| pods.get(uid));
    pod.is_none_or(|pod| pod.stage != PodStage::MayUseGpu)
}

/// Seconds since the last sign of life, once a heartbeat (with its tenth of jitter) was missed, in tenths of a
/// heartbeat; else 0. And when that, or the freshness of the report, changes next.
fn silence(entry: &Entry, now: Timestamp) -> (u64, Option<Timestamp>) {
    if freshness(entry, now) != Some(Freshness::Fresh) {
        return (0, None);
    }
    let Some(beat) = beat(entry) else { return (0, None) };
    let age = u64::try_from(now.as_second().saturating_sub(entry.seen_at.as_second())).unwrap_or(0);
    let at = |age: u64| {
        let age = i64::try_from(age).unwrap_or(i64::MAX);
        Timestamp::from_second(entry.seen_at.as_second().saturating_add(age)).ok()
    };
    // The first whole second that is more than so many tenths of a heartbeat.
    let beyond = |tenths: u64| (beat.saturating_mul(tenths) / 10).saturating_add(1);
    if age < beyond(11) {
        return (0, at(beyond(11)));
    }
    let tenth = (beat / 10).max(1);
    let silent = age.saturating_sub(age.checked_rem(tenth).unwrap_or(0));
    (silent, at(silent.saturating_add(tenth).min(beyond(22))))
}
