//! The cluster: an API server, nodes, a fleet, and two controllers of which one is at work.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::super::fixtures::{
    at, claim, container, end, engine_failed, out_of_memory, probed, segment, single, terminated,
};
use super::super::segments::Segments;
use super::super::{Change, HEARTBEAT, Memory, Observed, Plan, Sight, needed, plan, status};
use super::{Fate, Wish};
use crate::api::conditions::ConditionType;
use crate::api::keys::Role;
use crate::api::video_upscale::VideoUpscaleStatus;
use crate::api::worker::{Code, End, MergeFigures};
use crate::controllers::video_upscale::seen::SeenPod;
use crate::fleet::claim::Claim;
use crate::fleet::demand::{Demand, Outlook};

/// Another process's claim without a pod is undone after that long, s.
const ABANDONED: i64 = 30;
/// Longest time that the create of a pod is on its way, s; a claim that was written so long ago is written again before.
const CREATE: i64 = 10;

/// A create on its way.
struct Create {
    name: String,
    claim: Claim,
    since: i64,
}

/// What a pass sees no newer than it was heard of.
#[derive(Clone, Copy, Debug, Default)]
pub struct Late {
    /// Claims, as the pass before saw them.
    pub claims: bool,
    /// Pods and status.
    pub rest: bool,
}

/// Pods and status as a controller has heard of them, its own writes among it.
#[derive(Clone, Default)]
struct Heard {
    pods: BTreeMap<String, SeenPod>,
    status: VideoUpscaleStatus,
}

/// The controller that is not at work: its name, what it remembers and has heard of, its own sight of claims.
struct Other {
    actor: String,
    memory: Memory,
    heard: Heard,
    stood: BTreeMap<String, (Claim, i64)>,
    demand: Option<Demand>,
}

pub struct Cluster {
    pub observed: Observed,
    /// Claims as the pass before saw them.
    before: Vec<Claim>,
    pub pods: BTreeMap<String, (SeenPod, Stage)>,
    heard: Heard,
    /// The status that the plan was made from.
    base: VideoUpscaleStatus,
    pub claims: BTreeMap<String, Claim>,
    /// Claims as the sweeper first saw them, and when.
    stood: BTreeMap<String, (Claim, i64)>,
    demand: Option<Demand>,
    other: Other,
    create: Option<Create>,
    /// Names of all pods that were ever made.
    made: BTreeSet<String>,
    pub clock: i64,
}

/// How far a pod is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stage {
    Fresh,
    EngineDone,
    Ended,
}

const GPUS: [&str; 3] = ["GPU-1", "GPU-2", "GPU-3"];

impl Cluster {
    /// One with nothing but a probed job.
    pub fn new(consistency: &str) -> Self {
        let spec =
            json!({"parallelism": 3, "attemptsPerSegment": 20, "degradation": {"consistency": consistency}});
        let mut observed = probed(spec);
        observed.memory = Memory::default();
        observed.outlook = Some(Outlook { effective_step: Some(2), ..Outlook::default() });
        Self {
            observed,
            before: Vec::new(),
            pods: BTreeMap::new(),
            heard: Heard::default(),
            base: VideoUpscaleStatus::default(),
            claims: BTreeMap::new(),
            stood: BTreeMap::new(),
            demand: None,
            other: Other {
                actor: "b".into(),
                memory: Memory::default(),
                heard: Heard::default(),
                stood: BTreeMap::new(),
                demand: None,
            },
            create: None,
            made: BTreeSet::new(),
            clock: 10,
        }
    }

    /// A pass of which that many changes go through before the controller dies, 9 or more: all.
    pub fn pass(&mut self, prefix: usize, late: Late) {
        let plan = self.plan(late);
        let all = prefix >= 9;
        let mut through = true;
        for change in plan.changes.into_iter().take(if all { usize::MAX } else { prefix }) {
            through = self.apply(change);
            if !through {
                break;
            }
        }
        // Of a pass that stopped nothing is remembered, and nothing forgotten; a dead controller forgets everything.
        if all && through {
            self.observed.memory = plan.memory;
        }
        if !all {
            self.observed.memory = Memory::default();
            self.observed.actor = format!("a{}", self.clock);
            self.stood.clear();
            // Its successor lists everything before it does anything.
            self.heard = self.now();
        }
        self.sweep();
        self.check();
    }

    /// A pass whose first create of a segment's pod gets no answer, which ends it.
    pub fn stall(&mut self) {
        self.land();
        for change in self.plan(Late::default()).changes {
            if let Change::CreatePod { pod, claim: Some(claim) } = change {
                if let Some(claim) = self.own(&claim) {
                    let holder = claim.holder.clone().unwrap();
                    let until = at(self.clock + 90);
                    self.observed.memory.doubt(holder.segment, holder.attempt, until);
                    let name = pod.metadata.name.clone().unwrap();
                    self.create = Some(Create { name, claim, since: self.clock });
                }
                break;
            }
            if !self.apply(change) {
                break;
            }
        }
        self.sweep();
        self.check();
    }

    /// The create on its way comes through, if its pod was not made meanwhile by another one.
    pub fn land(&mut self) {
        let Some(Create { name, claim, .. }) = self.create.take() else { return };
        if self.made.contains(&name) {
            return;
        }
        let now = self.claims.get(&claim.gpu);
        assert!(now.is_some_and(|now| now.holder == claim.holder), "undone while its pod was being made");
        self.make(name, &claim);
        self.check();
    }

    /// The other controller goes on.
    pub fn switch(&mut self) {
        let Other { actor, memory, heard, stood, demand } = &mut self.other;
        std::mem::swap(actor, &mut self.observed.actor);
        std::mem::swap(memory, &mut self.observed.memory);
        std::mem::swap(heard, &mut self.heard);
        std::mem::swap(stood, &mut self.stood);
        std::mem::swap(demand, &mut self.demand);
    }

    /// Lets time pass.
    pub fn wait(&mut self, seconds: i64) {
        self.clock += seconds;
        if self.create.as_ref().is_some_and(|create| self.clock - create.since > CREATE) {
            self.land();
        }
    }

    /// The controller at work hears of one pod how it is now, or that it is gone.
    pub fn hear(&mut self, which: usize) {
        let names: BTreeSet<&String> = self.pods.keys().chain(self.heard.pods.keys()).collect();
        let Some(name) = names.iter().cycle().nth(which).map(|name| String::clone(name)) else { return };
        match self.pods.get(&name) {
            Some((pod, _)) => self.heard.pods.insert(name, pod.clone()),
            None => self.heard.pods.remove(&name),
        };
    }

    fn now(&self) -> Heard {
        let pods = self.pods.iter().map(|(name, (pod, _))| (name.clone(), pod.clone())).collect();
        Heard { pods, status: self.observed.status.clone() }
    }

    fn plan(&mut self, late: Late) -> Plan {
        self.wait(1);
        let now: Vec<Claim> = self.claims.values().cloned().collect();
        let before = std::mem::replace(&mut self.before, now.clone());
        self.observed.claims = if late.claims { before } else { now };
        let truth = self.now();
        let mut sight = if late.rest { Sight::Heard } else { Sight::Everything };
        let plan = loop {
            if sight >= Sight::Object {
                self.heard.status = truth.status.clone();
            }
            if sight == Sight::Everything {
                self.heard.pods = truth.pods.clone();
            }
            self.observed.status = self.heard.status.clone();
            self.observed.pods = self.heard.pods.values().cloned().collect();
            let plan = plan(&self.observed, at(self.clock));
            let needed = needed(&self.observed, &plan);
            if needed <= sight {
                break plan;
            }
            sight = needed;
        };
        self.base = std::mem::replace(&mut self.observed.status, truth.status);
        // A deletion that falls into the gap between two watches makes no event.
        let timer = plan.requeue.is_some_and(|pause| pause <= HEARTBEAT);
        let finished = |status| status::is_true(status, ConditionType::Finished);
        let ends = plan
            .changes
            .iter()
            .any(|change| matches!(change, Change::RecordStatus(status) if finished(status)));
        assert!(timer || ends || self.is_over(), "an unfinished job without a timer: {:?}", plan.requeue);
        self.demand = plan.demand.clone();
        plan
    }

    /// Undoes claims of others that have stood for long without a pod.
    fn sweep(&mut self) {
        let (claims, clock) = (&self.claims, self.clock);
        self.stood.retain(|gpu, (seen, _)| claims.get(gpu) == Some(seen));
        for (gpu, claim) in claims {
            self.stood.entry(gpu.clone()).or_insert_with(|| (claim.clone(), clock));
        }
        let (pods, stood) = (&self.pods, &self.stood);
        let abandoned = |claim: &Claim| {
            claim.actor != self.observed.actor
                && clock - stood[&claim.gpu].1 > ABANDONED
                && !pods.values().any(|(pod, _)| pod.holds(claim))
        };
        self.claims.retain(|_, claim| !abandoned(claim));
    }

    /// The claim as this controller's own, written now unless it has just been; `None`: it is not as it was seen.
    fn own(&mut self, seen: &Claim) -> Option<Claim> {
        let claim = self.claims.get_mut(&seen.gpu).filter(|claim| *claim == seen)?;
        let written: i64 = claim.resource_version.parse().unwrap();
        if claim.actor != self.observed.actor || self.clock - written > CREATE {
            claim.actor.clone_from(&self.observed.actor);
            claim.resource_version = self.clock.to_string();
        }
        Some(claim.clone())
    }

    fn make(&mut self, name: String, claim: &Claim) {
        let holder = claim.holder.as_ref().unwrap();
        let running = json!({"phase": "Pending",
            "initContainerStatuses": [container("prepare", &json!({"running": {}}))]});
        let mut pod = segment(&self.observed, holder.segment, holder.attempt, &running);
        pod.gpu = Some(claim.gpu.clone());
        pod.step = claim.grant.as_ref().unwrap().step;
        self.made.insert(name.clone());
        assert!(self.pods.insert(name, (pod, Stage::Fresh)).is_none(), "made twice");
    }

    /// False if it did not go through: a claim has been written since it was seen.
    fn apply(&mut self, change: Change) -> bool {
        match change {
            Change::CreatePod { pod, claim: Some(claim) } => {
                let Some(own) = self.own(&claim) else { return false };
                let name = pod.metadata.name.clone().unwrap();
                let done = Segments::parse(&self.observed.status.done);
                assert!(!done.contains(own.holder.as_ref().unwrap().segment), "made again, and it is done");
                if !self.pods.contains_key(&name) {
                    self.make(name.clone(), &own);
                }
                // Also if it was there already: whose it is was read.
                self.heard.pods.insert(name.clone(), self.pods[&name].0.clone());
            }
            Change::CreatePod { pod, claim: None } => {
                let merge = single(&self.observed, Role::Merge, 0, &json!({"phase": "Running"}));
                let name = pod.metadata.name.clone().unwrap();
                self.heard.pods.insert(name.clone(), merge.clone());
                assert!(self.pods.insert(name, (merge, Stage::Fresh)).is_none(), "made twice");
            }
            Change::RecordStatus(status) => {
                if self.base != self.observed.status {
                    return false;
                }
                let before = &self.observed.status;
                assert!(!status::is_true(before, ConditionType::Complete), "an end is final");
                if before.round == status.round {
                    let (old, new) = (Segments::parse(&before.done), Segments::parse(&status.done));
                    assert!(old.iter().all(|segment| new.contains(segment)), "what is done stays done");
                }
                self.heard.status.clone_from(&status);
                self.base.clone_from(&status);
                self.observed.status = *status;
            }
            Change::Release { claim, .. } => {
                // In this world memory comes back at once and cards heal, so every way of giving back frees.
                if self.claims.get(&claim.gpu) == Some(&*claim) {
                    let mut alive = self.pods.values().filter(|(_, stage)| *stage == Stage::Fresh);
                    assert!(!alive.any(|(pod, _)| pod.holds(&claim)), "given back under an engine");
                    self.claims.remove(&claim.gpu);
                }
            }
            Change::DeletePod { name, .. } => {
                self.pods.remove(&name);
            }
            Change::FreezeProfile(_) | Change::DeleteJob => {}
        }
        true
    }

    /// What must hold at every instant.
    fn check(&self) {
        let alive: Vec<&SeenPod> =
            self.pods.values().filter(|(_, stage)| *stage == Stage::Fresh).map(|(pod, _)| pod).collect();
        let segments: Vec<&SeenPod> = alive.iter().copied().filter(|pod| pod.role == Role::Segment).collect();
        for (i, one) in segments.iter().enumerate() {
            for other in &segments[i + 1..] {
                assert_ne!(one.gpu, other.gpu, "two engines on one GPU");
                assert_ne!(one.segment, other.segment, "two attempts of one segment");
            }
        }
        assert!(segments.len() <= GPUS.len());
    }

    /// The fleet serves the demand of the controller at work.
    pub fn place(&mut self) {
        // A demand may be served twice, and long after it was made.
        let Some(demand) = self.demand.clone() else { return };
        let free: Vec<&str> = GPUS.into_iter().filter(|gpu| !self.claims.contains_key(*gpu)).collect();
        for (wanted, gpu) in demand.wanted.iter().zip(free) {
            // Whoever may have no step that is offered waits for ever.
            let offered = demand.steps.iter().map(|need| need.step);
            let Some(step) = offered.filter(|step| *step >= wanted.first_step).min() else { continue };
            let mut given = claim(&self.observed.identity.key, wanted.segment, wanted.attempt, gpu);
            given.grant.as_mut().unwrap().step = step;
            given.actor.clone_from(&self.observed.actor);
            given.resource_version = self.clock.to_string();
            self.claims.insert(gpu.to_owned(), given);
        }
    }

    /// A running attempt goes on.
    pub fn run(&mut self, which: usize, fate: Fate) {
        let names: Vec<String> =
            self.pods.iter().filter(|(_, (_, s))| *s != Stage::Ended).map(|(name, _)| name.clone()).collect();
        if names.is_empty() {
            return;
        }
        let name = &names[which % names.len()];
        let (pod, stage) = self.pods.get(name).cloned().unwrap();
        let done = json!({"terminated": {"exitCode": 0, "finishedAt": at(self.clock).to_string()}});
        let prepared = |code: Code| {
            json!({"phase": "Failed", "initContainerStatuses": [
                container("prepare", &terminated(i32::from(code.exit_code()), &end(code, "so it is")))]})
        };
        if pod.role == Role::Merge {
            let figures = MergeFigures { frames: 480, ..MergeFigures::default() };
            let end = End { merge: Some(figures), ..end(Code::Done, "") };
            let status = json!({"phase": "Succeeded", "containerStatuses": [container("merge", &terminated(0, &end))]});
            self.pods.insert(name.clone(), (single(&self.observed, Role::Merge, 0, &status), Stage::Ended));
            return;
        }
        let inits = json!([container("prepare", &done), container("upscale", &done)]);
        let (status, after) = match (fate, stage) {
            (Fate::Vanishes, _) => {
                self.pods.remove(name);
                return;
            }
            (Fate::IsEvicted, _) => (
                json!({"phase": "Failed", "reason": "Evicted", "message": "node was low",
                "conditions": [{"type": "DisruptionTarget", "status": "True"}]}),
                Stage::Ended,
            ),
            (Fate::Succeeds, Stage::Fresh) => {
                (json!({"phase": "Running", "initContainerStatuses": inits}), Stage::EngineDone)
            }
            (_, Stage::EngineDone | Stage::Ended) => (
                json!({"phase": "Succeeded", "initContainerStatuses": inits,
                "containerStatuses": [container("finish", &terminated(0, &end(Code::Done, "")))]}),
                Stage::Ended,
            ),
            (Fate::FindsTheGpuBusy, Stage::Fresh) => (prepared(Code::GpuBusy), Stage::Ended),
            (Fate::IsRefused, Stage::Fresh) => {
                (json!({"phase": "Failed", "reason": "TopologyAffinityError"}), Stage::Ended)
            }
            (Fate::NeedsMoreThanTheCard, Stage::Fresh) => {
                (engine_failed(&out_of_memory(9.0, 10.0, 0.0)), Stage::Ended)
            }
            (Fate::WritesNonsense, Stage::Fresh) => (
                json!({"phase": "Failed", "initContainerStatuses": inits, "containerStatuses": [
                    container("finish", &terminated(i32::from(Code::BadOutput.exit_code()), &end(Code::BadOutput, "black")))]}),
                Stage::Ended,
            ),
            (Fate::RunsOutOfMemory, Stage::Fresh) => {
                let text = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.";
                let oom = json!({"terminated": {"exitCode": 1, "message": text, "finishedAt": at(self.clock).to_string()}});
                (
                    json!({"phase": "Failed", "initContainerStatuses": [container("prepare", &done),
                    container("upscale", &oom)]}),
                    Stage::Ended,
                )
            }
        };
        let mut next = segment(&self.observed, pod.segment, pod.attempt, &status);
        (next.gpu, next.step) = (pod.gpu, pod.step);
        self.pods.insert(name.clone(), (next, after));
    }

    /// The tenant wants something else.
    pub fn wish(&mut self, wish: Wish) {
        let job = self.observed.job.as_mut().unwrap();
        match wish {
            Wish::Suspend(suspend) => job.suspend = suspend,
            Wish::Parallelism(parallelism) => job.parallelism = parallelism,
            Wish::LastStep(last) => job.last_step = last,
            Wish::Policy(policy) => job.policy = policy,
            Wish::RetryFailed => self.observed.identity.retry_failed = Some(self.clock.to_string()),
            Wish::Delete => self.observed.identity.deleting = true,
        }
    }

    /// Whether the job has ended.
    pub fn is_over(&self) -> bool {
        status::is_true(&self.observed.status, ConditionType::Finished)
    }
}
