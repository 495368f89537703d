//! The incremental index of the fleet: fed with what watches and own writes tell, it keeps the [`Board`] of placement
//! ready, at the cost of what has changed. Synchronous and without I/O. Every change answers which jobs have to look
//! again.

mod derive;
mod look;
mod pass;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::claim::{AttemptId, Claim, JobKey, lease_name};
use super::clock::stepped;
use super::demand::Demand;
use super::node::{Inventory, NodeFacts};
use super::place::{Board, Placement};
use super::pod::PodFacts;
use super::snapshot::Asked;
use crate::api::report::{Gpu, Kind};

pub use look::{Freshness, Intruder, Matching};
use pass::Told;

/// A node's report that is the first we see of it is old from that moment if its `at` is older than this by the wall
/// clock, seconds. Later ones count from when we see them: the node's clock may be wrong.
const OLD_AT_SIGHT: i64 = 900;
/// Pods that are remembered of each GPU. Reports list ended processes for two minutes; no more attempts than these fit
/// into that time.
const MOST_PAST: usize = 8;

/// The fleet as it is known.
#[derive(Clone, Debug, Default)]
pub struct Fleet {
    release: String,
    nodes: BTreeMap<String, Entry>,
    /// Nodes whose reports name a GPU, by its Lease.
    sites: BTreeMap<String, BTreeSet<String>>,
    claims: BTreeMap<String, Arc<Claim>>,
    /// UIDs of the last pods that had a GPU, by Lease, the latest last.
    past: BTreeMap<String, VecDeque<String>>,
    pods: BTreeMap<String, Arc<PodFacts>>,
    /// UIDs of pods by node.
    pods_on: BTreeMap<String, BTreeSet<String>>,
    /// Placements whose claims are being written, by Lease.
    pending: BTreeMap<String, Placement>,
    /// Placements that were decided beside the one that was asked for, and that nobody writes yet.
    undelivered: Vec<Placement>,
    /// Leases of claims that are being given back: they count as free.
    vacating: BTreeSet<String>,
    /// Leases that are booked, by the node that they are for, and by job.
    booked_on: BTreeMap<String, BTreeSet<String>>,
    booked_by: BTreeMap<JobKey, BTreeSet<String>>,
    told: BTreeMap<JobKey, Told>,
    /// Jobs that have asked since they were last told.
    asked: BTreeSet<JobKey>,
    board: Board,
    stale: Stale,
}

#[derive(Clone, Debug)]
struct Entry {
    facts: Arc<NodeFacts>,
    seen_at: Timestamp,
}

/// What of the board is not as the index is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Stale {
    /// All of it.
    #[default]
    All,
    /// These nodes.
    Nodes(BTreeSet<String>),
}

/// For whom a GPU is booked: the attempt that its claim names, or else the one for which a claim is being written.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Booking {
    attempt: AttemptId,
    /// Node that the attempt's pod is for.
    node: Option<String>,
    /// Whether it counts as held: quarantined ones do not.
    counts: bool,
}

impl Fleet {
    /// An empty fleet of the release in that namespace.
    pub fn new(release_namespace: &str) -> Self {
        Self { release: release_namespace.to_owned(), ..Self::default() }
    }

    /// Takes in a node as it is now. Answers the jobs with a claim on its GPUs if its agent gave a sign of life.
    pub fn apply_node(&mut self, facts: NodeFacts, now: Timestamp) -> BTreeSet<JobKey> {
        let before = self.nodes.get(&facts.name);
        let same = before.is_some_and(|before| sign(&before.facts) == sign(&facts));
        let seen_at = match (before, &facts.inventory) {
            (Some(before), _) if same => before.seen_at,
            (None, Inventory::Known { at, .. })
                if now.as_second().saturating_sub(at.as_second()) > OLD_AT_SIGHT =>
            {
                *at
            }
            _ => now,
        };
        let name = facts.name.clone();
        if !same {
            self.forget_sites(&name);
            for gpu in facts.report().iter().flat_map(|report| &report.gpus) {
                let lease = lease_name(&gpu.id);
                self.mark_site(&lease);
                self.sites.entry(lease).or_default().insert(name.clone());
            }
        }
        self.nodes.insert(name.clone(), Entry { facts: Arc::new(facts), seen_at });
        self.mark(&name);
        if same { BTreeSet::new() } else { self.holders_on(&name) }
    }

    /// The wall clock has been set: what is remembered keeps its age.
    pub fn clock_stepped(&mut self, step: SignedDuration) {
        for entry in self.nodes.values_mut() {
            entry.seen_at = stepped(entry.seen_at, step);
        }
        for told in self.told.values_mut() {
            told.woken = stepped(told.woken, step);
        }
        self.board.clock_stepped(step);
        self.stale = Stale::All;
    }

    /// Forgets a node. Answers the jobs with a claim on its GPUs.
    pub fn remove_node(&mut self, name: &str) -> BTreeSet<JobKey> {
        let jobs = self.holders_on(name);
        self.forget_sites(name);
        self.nodes.remove(name);
        self.mark(name);
        jobs
    }

    fn forget_sites(&mut self, name: &str) {
        let Some(entry) = self.nodes.get(name) else { return };
        let gpus = entry.facts.report().into_iter().flat_map(|report| &report.gpus);
        for lease in gpus.map(|gpu| lease_name(&gpu.id)).collect::<Vec<_>>() {
            if let Some(nodes) = self.sites.get_mut(&lease) {
                nodes.remove(name);
                if nodes.is_empty() {
                    self.sites.remove(&lease);
                }
            }
            self.mark_site(&lease);
        }
    }

    fn holders_on(&self, node: &str) -> BTreeSet<JobKey> {
        let gpus =
            self.nodes.get(node).and_then(|entry| entry.facts.report()).into_iter().flat_map(|r| &r.gpus);
        let claims = gpus.filter_map(|gpu| self.claims.get(&lease_name(&gpu.id)));
        claims.filter_map(|claim| Some(claim.holder.as_ref()?.job.clone())).collect()
    }

    /// Takes in a claim. An older version than the one known changes nothing. Answers the jobs whose claims changed.
    pub fn apply_claim(&mut self, claim: Claim) -> BTreeSet<JobKey> {
        let key = lease_name(&claim.gpu);
        let before = self.claims.get(&key);
        if before.is_some_and(|before| older(&claim, before) || **before == claim) {
            return BTreeSet::new();
        }
        let jobs = before.into_iter().filter_map(|claim| Some(claim.holder.as_ref()?.job.clone()));
        let jobs = jobs.chain(claim.holder.iter().map(|holder| holder.job.clone())).collect();
        self.remember(&key, claim.last_pod_uid.as_deref());
        self.rebook(&key, |fleet| {
            fleet.claims.insert(key.clone(), Arc::new(claim));
        });
        jobs
    }

    /// Forgets a claim whose Lease is gone, unless a newer version is known. Answers the job that held it.
    pub fn remove_claim(&mut self, gone: &Claim) -> BTreeSet<JobKey> {
        let key = lease_name(&gone.gpu);
        if self.claims.get(&key).is_some_and(|known| older(gone, known)) {
            return BTreeSet::new();
        }
        let removed = self.rebook(&key, |fleet| fleet.claims.remove(&key));
        self.past.remove(&key);
        removed.into_iter().filter_map(|claim| Some(claim.holder.as_ref()?.job.clone())).collect()
    }

    fn remember(&mut self, lease: &str, last_pod_uid: Option<&str>) {
        let Some(uid) = last_pod_uid else { return };
        let past = self.past.entry(lease.to_owned()).or_default();
        if past.back().is_none_or(|last| last != uid) {
            past.push_back(uid.to_owned());
            if past.len() > MOST_PAST {
                past.pop_front();
            }
        }
    }

    /// Takes in a pod of ours.
    pub fn apply_pod(&mut self, pod: PodFacts) {
        self.remove_pod(&pod.uid);
        if let Some(node) = &pod.node {
            self.pods_on.entry(node.clone()).or_default().insert(pod.uid.clone());
            self.mark(node);
        }
        self.pods.insert(pod.uid.clone(), Arc::new(pod));
    }

    /// Forgets a pod that is gone; what was known of it.
    pub fn remove_pod(&mut self, uid: &str) -> Option<Arc<PodFacts>> {
        let pod = self.pods.remove(uid)?;
        if let Some(node) = &pod.node {
            strike(&mut self.pods_on, node, uid);
            self.mark(node);
        }
        Some(pod)
    }

    /// Takes in what a job asks for; patience goes on. Answers whether anything changed.
    pub fn set_demand(&mut self, demand: Demand) -> bool {
        let before = self.board.asked(&demand.job);
        let changed = before.is_none_or(|before| !before.served.is_empty() || *before.demand != demand);
        if changed {
            let starved = before.and_then(|before| before.starved);
            if before.is_none_or(|before| before.demand.requests != demand.requests) {
                self.mark_bookings(&demand.job);
            }
            self.asked.insert(demand.job.clone());
            self.board.ask(Asked { demand: Arc::new(demand), starved, served: BTreeSet::new() });
        }
        changed
    }

    /// Forgets what a job asked for.
    pub fn drop_demand(&mut self, job: &JobKey) {
        self.board.unask(job);
        self.told.remove(job);
        self.mark_bookings(job);
    }

    /// Changes a claim or a placement and takes over what that changes in who holds what.
    fn rebook<T>(&mut self, lease: &str, change: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.booking(lease);
        let done = change(self);
        let after = self.booking(lease);
        if before != after {
            if let Some(before) = before {
                self.strike_booking(lease, &before);
                if before.counts {
                    self.board.let_go(&before.attempt.job, before.attempt.segment);
                }
            }
            if let Some(after) = after {
                self.enter_booking(lease, &after);
                if after.counts {
                    self.board.hold(&after.attempt.job, after.attempt.segment);
                }
            }
        }
        self.mark_site(lease);
        done
    }

    fn booking(&self, lease: &str) -> Option<Booking> {
        let claim = self.claims.get(lease).filter(|claim| claim.holder.is_some());
        let claim = claim.filter(|_| !self.vacating.contains(lease));
        let pending = self.pending.get(lease);
        match (claim, pending) {
            (Some(claim), _) => Some(Booking {
                attempt: claim.holder.clone()?,
                node: claim.grant.as_ref().map(|grant| grant.node.clone()),
                counts: claim.quarantined.is_none(),
            }),
            (None, Some(placement)) => Some(Booking {
                attempt: placement.attempt.clone(),
                node: Some(placement.grant.node.clone()),
                counts: true,
            }),
            (None, None) => None,
        }
    }

    fn enter_booking(&mut self, lease: &str, booking: &Booking) {
        self.booked_by.entry(booking.attempt.job.clone()).or_default().insert(lease.to_owned());
        if let Some(node) = &booking.node {
            self.booked_on.entry(node.clone()).or_default().insert(lease.to_owned());
            self.mark(node);
        }
    }

    fn strike_booking(&mut self, lease: &str, booking: &Booking) {
        strike(&mut self.booked_by, &booking.attempt.job, lease);
        if let Some(node) = &booking.node {
            strike(&mut self.booked_on, node, lease);
            self.mark(node);
        }
    }

    /// Notes that a node is not on the board as it is.
    fn mark(&mut self, node: &str) {
        if let Stale::Nodes(nodes) = &mut self.stale
            && !nodes.contains(node)
        {
            nodes.insert(node.to_owned());
        }
    }

    /// The same for the nodes of a GPU.
    fn mark_site(&mut self, lease: &str) {
        if let (Stale::Nodes(stale), Some(nodes)) = (&mut self.stale, self.sites.get(lease)) {
            stale.extend(nodes.iter().cloned());
        }
    }

    /// The same for the nodes that a job's claims announce pods on.
    fn mark_bookings(&mut self, job: &JobKey) {
        let leases = self.booked_by.get(job).into_iter().flatten();
        let nodes: Vec<String> = leases.filter_map(|lease| self.booking(lease)?.node).collect();
        nodes.iter().for_each(|node| self.mark(node));
    }
}

/// Takes a member out of a set, and the set if it was the last.
fn strike<K: Ord>(sets: &mut BTreeMap<K, BTreeSet<String>>, key: &K, member: &str) {
    if let Some(set) = sets.get_mut(key) {
        set.remove(member);
        if set.is_empty() {
            sets.remove(key);
        }
    }
}

/// UIDs of the pods that have a living process on the GPU.
pub(super) fn live_pods(gpu: &Gpu) -> impl Iterator<Item = &str> {
    let listed = gpu.procs.iter().flat_map(|procs| &procs.top);
    listed
        .filter(|process| process.k == Kind::Pod && !process.ended())
        .filter_map(|process| process.u.as_deref())
}

fn sign(facts: &NodeFacts) -> Option<&[u8; 32]> {
    match &facts.inventory {
        Inventory::Known { sign, .. } => Some(sign),
        Inventory::Missing | Inventory::Invalid(_) => None,
    }
}

/// Whether `a` is a version of the claim before `b`. Versions of one kind are ordered numbers.
fn older(a: &Claim, b: &Claim) -> bool {
    let number = |claim: &Claim| claim.resource_version.parse::<u64>().ok();
    number(a).zip(number(b)).is_some_and(|(a, b)| a < b)
}
