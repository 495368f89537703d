//! What can be asked of the index.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::{Entry, Fleet, live_pods};
use crate::api::report::{Gpu, Report, State};
use crate::fleet::claim::{AttemptId, Claim, JobKey, lease_name};
use crate::fleet::demand::GpuRequirements;
use crate::fleet::node::{Inventory, NodeFacts};
use crate::fleet::pod::{PodFacts, PodStage};

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
    /// Largest matching node's allocatable memory, bytes.
    pub largest_host_bytes: Option<u64>,
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
    /// All claims, by GPU.
    pub fn claims(&self) -> impl Iterator<Item = &Arc<Claim>> {
        self.claims.values()
    }

    /// The claim of a GPU.
    pub fn claim(&self, gpu: &str) -> Option<&Arc<Claim>> {
        self.claims.get(&lease_name(gpu))
    }

    /// UIDs of the last pods that had the GPU, whatever job they were of, as far as its claim has told.
    pub fn last_pods(&self, gpu: &str) -> impl Iterator<Item = &str> {
        self.past.get(&lease_name(gpu)).into_iter().flatten().map(String::as_str)
    }

    /// The node of a GPU with its report and what that says of it; `None` if it is not named exactly once.
    pub fn site(&self, gpu: &str) -> Option<(&NodeFacts, &Arc<Report>, &Gpu)> {
        let key = lease_name(gpu);
        let nodes = self.sites.get(&key).filter(|nodes| nodes.len() == 1)?;
        let facts = &self.nodes.get(nodes.first()?)?.facts;
        let report = facts.report()?;
        let gpu = report.gpus.iter().find(|gpu| lease_name(&gpu.id) == key)?;
        let gpu = Some(gpu).filter(|gpu| report.is_distinct(gpu))?;
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

    /// What the fleet could offer to a job with these requirements: GPUs of our release on ready nodes whose reports are
    /// not dead, that are not excluded and match, whoever uses them now.
    pub fn matching(&self, wanted: &GpuRequirements, now: Timestamp) -> Matching {
        let mut all = Matching::default();
        let mut models: BTreeMap<&str, bool> = BTreeMap::new();
        for entry in self.nodes.values() {
            let facts = &entry.facts;
            let Some(report) = facts.report() else { continue };
            if report.ns != self.release || freshness(entry, now).is_none_or(|f| f == Freshness::Dead) {
                continue;
            }
            if !facts.ready || !wanted.admits_node(&facts.labels) {
                continue;
            }
            let mut count = 0_u32;
            let out = |gpu: &Gpu| gpu.mig || facts.excluded.covers(gpu.i, &gpu.id);
            for gpu in report.gpus.iter().filter(|gpu| !out(gpu) && report.is_distinct(gpu)) {
                if *models.entry(gpu.n.as_str()).or_insert_with(|| wanted.admits_model(&gpu.n)) {
                    count = count.saturating_add(1);
                    let usable = gpu.tot.map(|total| total.saturating_sub(gpu.rsv.unwrap_or(0)));
                    all.largest_bytes = all.largest_bytes.max(usable);
                }
            }
            all.gpus = all.gpus.saturating_add(count);
            let whole = facts.allocatable.memory_bytes;
            all.largest_host_bytes = all.largest_host_bytes.max(Some(whole).filter(|_| count > 0));
            let share = whole.checked_div(report.gpus.len() as u64);
            if let Some(share) = share.filter(|_| count > 0 && whole < u64::MAX) {
                all.host_bytes = Some(all.host_bytes.map_or(share, |least| least.min(share)));
            }
        }
        all
    }

    /// The claims that a job holds, quarantined ones too, by GPU.
    pub fn claims_of(&self, job: &JobKey) -> impl Iterator<Item = &Arc<Claim>> {
        let leases = self.booked_by.get(job).into_iter().flatten();
        let claims = leases.filter_map(|lease| self.claims.get(lease));
        claims.filter(|claim| claim.holder.as_ref().is_some_and(|holder| holder.job == *job))
    }

    /// Whether a pod of ours that is known may still use a GPU.
    pub fn is_in_use(&self, gpu: &str) -> bool {
        let lease = lease_name(gpu);
        let nodes = self.sites.get(&lease).into_iter().flatten();
        let uids = nodes.filter_map(|node| self.pods_on.get(node)).flatten();
        let mut pods = uids.filter_map(|uid| self.pods.get(uid));
        pods.any(|pod| pod.stage == PodStage::MayUseGpu && pod.gpu.as_deref() == Some(lease.as_str()))
    }

    /// The pod of an attempt, if it is known on the node that it was made for.
    pub fn pod_of(&self, attempt: &AttemptId, node: &str) -> Option<&Arc<PodFacts>> {
        let name = attempt.pod_name();
        let mut pods = self.pods_on.get(node).into_iter().flatten().filter_map(|uid| self.pods.get(uid));
        pods.find(|pod| pod.namespace == attempt.job.namespace && pod.name == name)
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

/// The heartbeat period that a report states, seconds; `None` without a report.
pub(super) fn beat(entry: &Entry) -> Option<u64> {
    entry.facts.report().map(|report| u64::from(report.hb.clamp(10, 86_400)))
}

/// Reports live by the heartbeat period that they state themselves: fresh for 2.2 of them, dead after 4.
pub(super) fn freshness(entry: &Entry, now: Timestamp) -> Option<Freshness> {
    let Inventory::Known { state, .. } = &entry.facts.inventory else { return None };
    let age = u64::try_from(now.as_second().saturating_sub(entry.seen_at.as_second())).unwrap_or(0);
    let beat = beat(entry)?;
    Some(if age.saturating_mul(10) > beat.saturating_mul(40) {
        Freshness::Dead
    } else if *state == State::Stopped || age.saturating_mul(10) > beat.saturating_mul(22) {
        Freshness::Stale
    } else {
        Freshness::Fresh
    })
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
