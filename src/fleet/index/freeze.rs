//! From the index to a frozen snapshot: what each GPU and node is worth at one instant.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::{Entry, Fleet, Freshness, freshness, live_pods};
use crate::api::report::{ComputeMode, Gpu, Health, Kind, Process, Report, State};
use crate::fleet::claim::{Claim, lease_name};
use crate::fleet::demand::{Cause, PodRequests};
use crate::fleet::pod::PodStage;
use crate::fleet::snapshot::{Card, Room, Snapshot, Spot};

impl Fleet {
    /// The fleet as it is now, for one pass of placement.
    pub fn snapshot(&self, now: Timestamp) -> Snapshot {
        let taken = self.taken();
        let in_use = self.pods.values().filter(|pod| pod.stage == PodStage::MayUseGpu);
        let in_use: BTreeSet<&str> = in_use.filter_map(|pod| pod.gpu.as_deref()).collect();
        let mut models: BTreeMap<&str, usize> = BTreeMap::new();
        let mut snapshot =
            Snapshot { asked: self.demands.values().cloned().collect(), ..Snapshot::default() };
        for entry in self.nodes.values() {
            let spot = snapshot.spots.len();
            let taken = taken.get(entry.facts.name.as_str()).copied().unwrap_or_default();
            snapshot.spots.push(Spot {
                facts: entry.facts.clone(),
                room: left(entry, taken),
                silent_for: silence(entry, now),
            });
            let Some(report) = entry.facts.report() else { continue };
            let mut gpus: Vec<&Gpu> = report.gpus.iter().collect();
            gpus.sort_by_key(|gpu| (gpu.i, &gpu.id));
            for gpu in gpus {
                let fresh = models.len();
                let model = *models.entry(gpu.n.as_str()).or_insert_with(|| {
                    snapshot.models.push(Arc::from(gpu.n.as_str()));
                    fresh
                });
                let mut card = self.card(gpu, report, spot, model);
                card.closed = card.closed.into_iter().chain(self.closed(entry, report, gpu, now)).min();
                if in_use.contains(lease_name(&gpu.id).as_str()) {
                    card.closed = card.closed.into_iter().chain([Cause::Ours]).min();
                }
                snapshot.cards.push(card);
            }
        }
        for claim in self.claims.values().filter(|claim| claim.quarantined.is_none()) {
            if let Some(holder) = &claim.holder {
                snapshot.holdings.entry(holder.job.clone()).or_default().insert(holder.segment);
            }
        }
        snapshot
    }

    /// The first cause why nobody gets the GPU, as far as it does not depend on who asks.
    fn closed(&self, entry: &Entry, report: &Report, gpu: &Gpu, now: Timestamp) -> Option<Cause> {
        let claim = self.claim(&gpu.id);
        let twice = self.sites.get(&lease_name(&gpu.id)).is_some_and(|nodes| nodes.len() > 1);
        let state = match &entry.facts.inventory {
            crate::fleet::node::Inventory::Known { state, .. } => *state,
            _ => report.state,
        };
        let blind = !matches!(state, State::Ok | State::Stopped);
        let no_mode = matches!(gpu.cm, Some(ComputeMode::Prohibited | ComputeMode::Unknown));
        let tests = [
            (report.ns != self.release, Cause::OtherRelease),
            (freshness(entry, now) != Some(Freshness::Fresh), Cause::Stale),
            (gpu.h != Health::Ok || blind || twice || gpu.free.is_none(), Cause::Unhealthy),
            (claim.is_some_and(|claim| claim.out.is_some()), Cause::Unhealthy),
            (gpu.mig || no_mode || entry.facts.excluded.covers(gpu.i, &gpu.id), Cause::Excluded),
            (!entry.facts.ready || entry.facts.unschedulable, Cause::NodeUnschedulable),
            (claim.is_some_and(|claim| claim.quarantined.is_some()), Cause::Quarantined),
            (claim.is_some_and(|claim| claim.holder.is_some() && claim.quarantined.is_none()), Cause::Ours),
        ];
        tests.into_iter().filter(|(applies, _)| *applies).map(|(_, cause)| cause).min()
    }

    /// The memory of a GPU, seen with what is known of our own pods.
    fn card(&self, gpu: &Gpu, report: &Report, spot: usize, model: usize) -> Card {
        let claim = self.claim(&gpu.id).map(AsRef::as_ref);
        let usable = gpu.tot.unwrap_or(0).saturating_sub(gpu.rsv.unwrap_or(0));
        let free = gpu.free.unwrap_or(0);
        let live = || gpu.procs.iter().flat_map(|procs| &procs.top).filter(|process| !process.ended());
        let ours: Vec<&Process> = live().filter(|process| self.is_ours(process, claim)).collect();
        let over = ours.iter().filter(|process| self.is_over(process));
        let held: u64 = over.filter_map(|process| process.b).fold(0, u64::saturating_add);
        let available = free.saturating_add(held).min(usable.max(free));
        let believable = report.attr != crate::api::report::Attribution::None;
        let foreign = gpu
            .procs
            .as_ref()
            .filter(|_| believable)
            .map(|procs| procs.n.saturating_sub(u32::try_from(ours.len()).unwrap_or(u32::MAX)));
        let own_bytes: u64 = ours.iter().filter_map(|process| process.b).fold(0, u64::saturating_add);
        let foreign_bytes = match gpu.procs.as_ref().and_then(|procs| procs.b) {
            Some(all) => all.saturating_sub(own_bytes).saturating_add(gpu.una.unwrap_or(0)),
            None => usable.saturating_sub(available),
        };
        let over = ours.iter().filter(|process| self.is_over(process)).count();
        let living =
            gpu.procs.as_ref().map(|procs| procs.n.saturating_sub(u32::try_from(over).unwrap_or(u32::MAX)));
        let exclusive = gpu.cm == Some(ComputeMode::ExclusiveProcess);
        let resident =
            live_pods(gpu).any(|uid| self.pods.get(uid).is_some_and(|pod| pod.stage == PodStage::MayUseGpu));
        let closed = if resident {
            Some(Cause::Ours)
        } else {
            (exclusive && living != Some(0)).then_some(Cause::ForeignProcesses)
        };
        Card {
            uuid: Arc::from(gpu.id.as_str()),
            spot,
            index: gpu.i,
            model,
            total: gpu.tot.unwrap_or(0),
            usable,
            free,
            available,
            foreign,
            foreign_bytes,
            closed,
        }
    }

    /// Whether a process belongs to a pod of ours, one that is there or the last one that had the GPU.
    fn is_ours(&self, process: &Process, claim: Option<&Claim>) -> bool {
        let Some(uid) = process.u.as_deref().filter(|_| process.k == Kind::Pod) else { return false };
        self.pods.contains_key(uid) || claim.is_some_and(|claim| claim.last_pod_uid.as_deref() == Some(uid))
    }

    /// Whether the engine of such a process has ended since the report was made.
    fn is_over(&self, process: &Process) -> bool {
        let pod = process.u.as_ref().and_then(|uid| self.pods.get(uid));
        pod.is_none_or(|pod| pod.stage != PodStage::MayUseGpu)
    }

    /// What our own pods take of each node, with how many there are: those that have not ended, and those that a
    /// claim announces.
    fn taken(&self) -> BTreeMap<&str, (PodRequests, u64)> {
        let mut taken: BTreeMap<&str, (PodRequests, u64)> = BTreeMap::new();
        let mut add = |node, requests: PodRequests| {
            let (sum, pods) = taken.entry(node).or_default();
            sum.cpu_millis = sum.cpu_millis.saturating_add(requests.cpu_millis);
            sum.memory_bytes = sum.memory_bytes.saturating_add(requests.memory_bytes);
            sum.ephemeral_bytes = sum.ephemeral_bytes.saturating_add(requests.ephemeral_bytes);
            *pods = pods.saturating_add(1);
        };
        let alive = self.pods.values().filter(|pod| pod.stage != PodStage::Ended);
        let alive: Vec<_> = alive.filter_map(|pod| Some((pod.node.as_deref()?, pod))).collect();
        for (node, pod) in &alive {
            add(*node, pod.requests);
        }
        let there: BTreeSet<(&str, &str)> =
            self.pods.values().map(|pod| (pod.namespace.as_str(), pod.name.as_str())).collect();
        for claim in self.claims.values() {
            let (Some(holder), Some(grant)) = (&claim.holder, &claim.grant) else { continue };
            if there.contains(&(holder.job.namespace.as_str(), holder.pod_name().as_str())) {
                continue;
            }
            let asked = self.demands.get(&holder.job);
            add(grant.node.as_str(), asked.map(|asked| asked.demand.requests).unwrap_or_default());
        }
        taken
    }
}

/// What is left of a node.
fn left(entry: &Entry, (taken, pods): (PodRequests, u64)) -> Room {
    let all = entry.facts.allocatable;
    Room {
        cpu_millis: all.cpu_millis.saturating_sub(taken.cpu_millis),
        memory_bytes: all.memory_bytes.saturating_sub(taken.memory_bytes),
        ephemeral_bytes: all.ephemeral_bytes.saturating_sub(taken.ephemeral_bytes),
        pods: all.pods.saturating_sub(pods),
    }
}

/// Seconds since the last sign of life, once a heartbeat (with its tenth of jitter) was missed; else 0.
fn silence(entry: &Entry, now: Timestamp) -> u64 {
    let age = u64::try_from(now.as_second().saturating_sub(entry.seen_at.as_second())).unwrap_or(0);
    let beat = entry.facts.report().map_or(u64::MAX, |report| u64::from(report.hb));
    if age.saturating_mul(10) > beat.saturating_mul(11) { age } else { 0 }
}
