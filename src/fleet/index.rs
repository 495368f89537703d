//! The incremental index of the fleet: fed with what watches and own writes tell, frozen to a [`Snapshot`](super::snapshot::Snapshot) on demand.
//! Synchronous and without I/O. Every change answers which jobs have to look again.

mod freeze;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::claim::{Claim, JobKey, lease_name};
use super::demand::{Demand, GpuRequirements, Outlook};
use super::node::{Inventory, NodeFacts};
use super::place::{Pass, Placement};
use super::pod::{PodFacts, PodStage};
use super::snapshot::{Asked, Starved};
use crate::api::report::{Gpu, Kind, Report, State};

/// A report whose `at` is older than this by the wall clock is old from the moment it is first seen, seconds.
const OLD_AT_SIGHT: i64 = 900;

/// The fleet as it is known.
#[derive(Clone, Debug, Default)]
pub struct Fleet {
    release: String,
    nodes: BTreeMap<String, Entry>,
    sites: BTreeMap<String, BTreeSet<String>>,
    claims: BTreeMap<String, Arc<Claim>>,
    pods: BTreeMap<String, Arc<PodFacts>>,
    demands: BTreeMap<JobKey, Asked>,
    outlooks: BTreeMap<JobKey, Outlook>,
}

#[derive(Clone, Debug)]
struct Entry {
    facts: Arc<NodeFacts>,
    seen_at: Timestamp,
}

/// How much a report is worth, by the time since its last sign of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Good for placement.
    Fresh,
    /// No new placement.
    Stale,
    /// Not counted in totals.
    Dead,
}

/// Which kind of GPU the fleet could offer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Matching {
    /// GPUs that match, whoever uses them now.
    pub gpus: u32,
    /// Memory of the largest of them, bytes.
    pub largest_bytes: Option<u64>,
    /// Smallest matching node's allocatable memory divided by its GPUs, bytes.
    pub host_bytes: Option<u64>,
}

/// Two of our pods use one GPU, and the claim does not name this one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Intruder {
    /// UUID of the GPU.
    pub gpu: String,
    /// The pod.
    pub namespace: String,
    /// Its name.
    pub pod: String,
    /// Its UID.
    pub uid: String,
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
            (_, Inventory::Known { at, .. })
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
                self.sites.entry(lease_name(&gpu.id)).or_default().insert(name.clone());
            }
        }
        self.nodes.insert(name.clone(), Entry { facts: Arc::new(facts), seen_at });
        if same { BTreeSet::new() } else { self.holders_on(&name) }
    }

    /// Forgets a node. Answers the jobs with a claim on its GPUs.
    pub fn remove_node(&mut self, name: &str) -> BTreeSet<JobKey> {
        let jobs = self.holders_on(name);
        self.forget_sites(name);
        self.nodes.remove(name);
        jobs
    }

    fn forget_sites(&mut self, name: &str) {
        let Some(entry) = self.nodes.get(name) else { return };
        for gpu in entry.facts.report().iter().flat_map(|report| &report.gpus) {
            let key = lease_name(&gpu.id);
            if let Some(nodes) = self.sites.get_mut(&key) {
                nodes.remove(name);
                if nodes.is_empty() {
                    self.sites.remove(&key);
                }
            }
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
        self.claims.insert(key, Arc::new(claim));
        jobs
    }

    /// Forgets a claim whose Lease is gone, unless a newer version is known. Answers the job that held it.
    pub fn remove_claim(&mut self, gone: &Claim) -> BTreeSet<JobKey> {
        let key = lease_name(&gone.gpu);
        if self.claims.get(&key).is_some_and(|known| older(gone, known)) {
            return BTreeSet::new();
        }
        let removed = self.claims.remove(&key);
        removed.into_iter().filter_map(|claim| Some(claim.holder.as_ref()?.job.clone())).collect()
    }

    /// Takes in a pod of ours.
    pub fn apply_pod(&mut self, pod: PodFacts) {
        self.pods.insert(pod.uid.clone(), Arc::new(pod));
    }

    /// Forgets a pod that is gone.
    pub fn remove_pod(&mut self, uid: &str) {
        self.pods.remove(uid);
    }

    /// Takes in what a job asks for; patience goes on. Answers whether anything changed.
    pub fn set_demand(&mut self, demand: Demand) -> bool {
        let before = self.demands.get(&demand.job);
        let changed = before.is_none_or(|before| !before.served.is_empty() || *before.demand != demand);
        let starved = before.and_then(|before| before.starved);
        if changed {
            let job = demand.job.clone();
            self.demands.insert(job, Asked { demand: Arc::new(demand), starved, served: BTreeSet::new() });
        }
        changed
    }

    /// Forgets what a job asked for.
    pub fn drop_demand(&mut self, job: &JobKey) {
        self.demands.remove(job);
        self.outlooks.remove(job);
    }

    /// Notes that an attempt has got a GPU, so that an unchanged demand does not give it a second one.
    pub fn serve(&mut self, placement: &Placement) {
        if let Some(asked) = self.demands.get_mut(&placement.attempt.job) {
            asked.served.insert((placement.attempt.segment, placement.attempt.attempt));
        }
    }

    /// Takes that back, as the GPU went to somebody else.
    pub fn unserve(&mut self, placement: &Placement) {
        if let Some(asked) = self.demands.get_mut(&placement.attempt.job) {
            asked.served.remove(&(placement.attempt.segment, placement.attempt.attempt));
        }
    }

    /// Keeps what a pass found out. Answers the jobs whose outlook changed beyond figures that merely moved.
    pub fn record(
        &mut self,
        starved: &BTreeMap<JobKey, Starved>,
        outlooks: &BTreeMap<JobKey, Outlook>,
    ) -> BTreeSet<JobKey> {
        for (job, asked) in &mut self.demands {
            asked.starved = starved.get(job).copied();
        }
        let mut changed = BTreeSet::new();
        for (job, outlook) in outlooks.iter().filter(|(job, _)| self.demands.contains_key(job)) {
            if self.outlooks.get(job).is_none_or(|before| !alike(before, outlook)) {
                changed.insert(job.clone());
            }
            self.outlooks.insert(job.clone(), outlook.clone());
        }
        changed
    }

    /// Keeps what a pass found out; see [`Fleet::record`].
    pub fn record_pass(&mut self, pass: &Pass) -> BTreeSet<JobKey> {
        self.record(&pass.starved, &pass.outlooks)
    }

    /// What was last said to a job.
    pub fn outlook(&self, job: &JobKey) -> Option<&Outlook> {
        self.outlooks.get(job)
    }

    /// All claims, by GPU.
    pub fn claims(&self) -> impl Iterator<Item = &Arc<Claim>> {
        self.claims.values()
    }

    /// The claim of a GPU.
    pub fn claim(&self, gpu: &str) -> Option<&Arc<Claim>> {
        self.claims.get(&lease_name(gpu))
    }

    /// The node of a GPU with its report and what that says of it; `None` if no report or more than one names it.
    pub fn site(&self, gpu: &str) -> Option<(&NodeFacts, &Arc<Report>, &Gpu)> {
        let key = lease_name(gpu);
        let nodes = self.sites.get(&key).filter(|nodes| nodes.len() == 1)?;
        let facts = &self.nodes.get(nodes.first()?)?.facts;
        let report = facts.report()?;
        let gpu = report.gpus.iter().find(|gpu| lease_name(&gpu.id) == key)?;
        Some((facts, report, gpu))
    }

    /// A node.
    pub fn node(&self, name: &str) -> Option<&Arc<NodeFacts>> {
        self.nodes.get(name).map(|entry| &entry.facts)
    }

    /// All nodes, by name.
    pub fn nodes(&self) -> impl Iterator<Item = &Arc<NodeFacts>> {
        self.nodes.values().map(|entry| &entry.facts)
    }

    /// Our pods that are known, by UID.
    pub fn pods(&self) -> impl Iterator<Item = &Arc<PodFacts>> {
        self.pods.values()
    }

    /// A pod of ours.
    pub fn pod(&self, uid: &str) -> Option<&Arc<PodFacts>> {
        self.pods.get(uid)
    }

    /// How much the report of a node is worth; `None` without a usable one.
    pub fn freshness(&self, node: &str, now: Timestamp) -> Option<Freshness> {
        let entry = self.nodes.get(node)?;
        freshness(entry, now)
    }

    /// What the fleet could offer to a job with these requirements: GPUs of our release whose reports are not dead,
    /// that are not excluded and match, whoever uses them now.
    pub fn matching(&self, wanted: &GpuRequirements, now: Timestamp) -> Matching {
        let mut all = Matching::default();
        for entry in self.nodes.values() {
            let facts = &entry.facts;
            let Some(report) = facts.report() else { continue };
            if report.ns != self.release || freshness(entry, now).is_none_or(|f| f == Freshness::Dead) {
                continue;
            }
            if !wanted.admits_node(&facts.labels) {
                continue;
            }
            let cards = report.gpus.iter().filter(|gpu| !gpu.mig && !facts.excluded.covers(gpu.i, &gpu.id));
            let cards: Vec<&Gpu> = cards.filter(|gpu| wanted.admits_model(&gpu.n)).collect();
            let count = u32::try_from(cards.len()).unwrap_or(u32::MAX);
            all.gpus = all.gpus.saturating_add(count);
            let usable = |gpu: &&Gpu| gpu.tot.map(|total| total.saturating_sub(gpu.rsv.unwrap_or(0)));
            all.largest_bytes = all.largest_bytes.max(cards.iter().filter_map(usable).max());
            let share = facts.allocatable.memory_bytes.checked_div(report.gpus.len() as u64);
            if let Some(share) = share.filter(|_| count > 0 && facts.allocatable.memory_bytes < u64::MAX) {
                all.host_bytes = Some(all.host_bytes.map_or(share, |least| least.min(share)));
            }
        }
        all
    }

    /// Pods of ours whose processes share a GPU with another pod of ours, without the claim naming them.
    pub fn intruders(&self) -> BTreeSet<Intruder> {
        let mut found = BTreeSet::new();
        for entry in self.nodes.values() {
            for gpu in entry.facts.report().iter().flat_map(|report| &report.gpus) {
                let live: BTreeMap<&str, &Arc<PodFacts>> = live_pods(gpu)
                    .filter_map(|uid| Some((uid, self.pods.get(uid)?)))
                    .filter(|(_, pod)| pod.stage == PodStage::MayUseGpu)
                    .collect();
                let claim = self.claim(&gpu.id);
                let named = claim.and_then(|claim| {
                    Some((claim.holder.as_ref()?.job.namespace.clone(), claim.holder.as_ref()?.pod_name()))
                });
                if live.len() < 2 {
                    continue;
                }
                let strangers =
                    live.values().filter(|pod| Some((pod.namespace.clone(), pod.name.clone())) != named);
                found.extend(strangers.map(|pod| Intruder {
                    gpu: gpu.id.clone(),
                    namespace: pod.namespace.clone(),
                    pod: pod.name.clone(),
                    uid: pod.uid.clone(),
                }));
            }
        }
        found
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

/// Reports live by the heartbeat period that they state themselves: fresh for 2.2 of them, dead after 4.
fn freshness(entry: &Entry, now: Timestamp) -> Option<Freshness> {
    let Inventory::Known { report, state, .. } = &entry.facts.inventory else { return None };
    let age = u64::try_from(now.as_second().saturating_sub(entry.seen_at.as_second())).unwrap_or(0);
    let beat = u64::from(report.hb.clamp(10, 86_400));
    Some(if age.saturating_mul(10) > beat.saturating_mul(40) {
        Freshness::Dead
    } else if *state == State::Stopped || age.saturating_mul(10) > beat.saturating_mul(22) {
        Freshness::Stale
    } else {
        Freshness::Fresh
    })
}

/// Whether `a` is a version of the claim before `b`. Versions of one kind are ordered numbers.
fn older(a: &Claim, b: &Claim) -> bool {
    let number = |claim: &Claim| claim.resource_version.parse::<u64>().ok();
    number(a).zip(number(b)).is_some_and(|(a, b)| a < b)
}

/// Whether two outlooks differ in nothing but figures that move by themselves.
fn alike(a: &Outlook, b: &Outlook) -> bool {
    (a.effective_step, a.lowered_by_patience, a.unplaced)
        == (b.effective_step, b.lowered_by_patience, b.unplaced)
        && a.wait.causes == b.wait.causes
        && a.wait.need_bytes == b.wait.need_bytes
}

impl GpuRequirements {
    /// Whether a node with these labels may be used.
    pub fn admits_node(&self, labels: &BTreeMap<String, String>) -> bool {
        self.node_selector.iter().all(|(key, value)| labels.get(key) == Some(value))
    }

    /// Whether a GPU of that product name may be used; part of the name in any case of letters will do.
    pub fn admits_model(&self, model: &str) -> bool {
        let model = model.to_lowercase();
        self.products.is_empty() || self.products.iter().any(|part| model.contains(&part.to_lowercase()))
    }
}
