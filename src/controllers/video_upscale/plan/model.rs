//! A cluster in a few lines, and plans against it: pods end as chance has it, GPUs are given as the fleet would, the
//! controller dies after any prefix of its changes and forgets everything, notes of an attempt vanish with its pod. The
//! tenant suspends, changes the spec, asks for another try, deletes; claims are seen late.

#![expect(clippy::arithmetic_side_effects, reason = "a test counts small numbers")]

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::fixtures::{
    at, claim, container, end, engine_failed, out_of_memory, probed, segment, single, terminated,
};
use super::segments::Segments;
use super::*;
use crate::api::conditions::ConditionType;
use crate::api::keys::Role;
use crate::api::video_upscale::DegradationPolicy;
use crate::api::worker::{Code, MergeFigures};

/// How an attempt goes.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Succeeds,
    FindsTheGpuBusy,
    RunsOutOfMemory,
    NeedsMoreThanTheCard,
    WritesNonsense,
    Vanishes,
    IsEvicted,
    IsRefused,
}

/// One choice of chance.
#[derive(Clone, Copy, Debug)]
enum Chance {
    /// A pass, of which that many changes go through before the controller dies; 9 or more: all.
    Pass(usize),
    /// The same, with claims as they were a pass ago.
    Late(usize),
    /// The fleet serves the demand.
    Place,
    /// The tenant wants something else.
    Tenant(Wish),
    /// A running attempt goes on.
    Run(usize, Fate),
}

/// What a tenant may want of a job that runs.
#[derive(Clone, Copy, Debug)]
enum Wish {
    Suspend(bool),
    Parallelism(u32),
    LastStep(Option<u32>),
    Policy(DegradationPolicy),
    RetryFailed,
    Delete,
}

struct Cluster {
    observed: Observed,
    /// Claims as the pass before saw them.
    before: Vec<Claim>,
    pods: BTreeMap<String, (SeenPod, Stage)>,
    claims: BTreeMap<String, Claim>,
    demand: Option<Demand>,
    clock: i64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    Fresh,
    EngineDone,
    Ended,
}

const GPUS: [&str; 3] = ["GPU-1", "GPU-2", "GPU-3"];

impl Cluster {
    fn new(consistency: &str) -> Self {
        let spec =
            json!({"parallelism": 3, "attemptsPerSegment": 20, "degradation": {"consistency": consistency}});
        let mut observed = probed(spec);
        observed.memory = Memory::default();
        observed.outlook = Some(Outlook { effective_step: Some(2), ..Outlook::default() });
        let (pods, claims) = (BTreeMap::new(), BTreeMap::new());
        Self { observed, before: Vec::new(), pods, claims, demand: None, clock: 10 }
    }

    fn pass(&mut self, prefix: usize, late: bool) {
        self.clock += 1;
        self.observed.pods = self.pods.values().map(|(pod, _)| pod.clone()).collect();
        let now: Vec<Claim> = self.claims.values().cloned().collect();
        let before = std::mem::replace(&mut self.before, now.clone());
        self.observed.claims = if late { before } else { now };
        let plan = plan(&self.observed, at(self.clock));
        // A deletion that falls into the gap between two watches makes no event.
        let timer = plan.requeue.is_some_and(|pause| pause <= HEARTBEAT);
        let finished = |status| super::status::is_true(status, ConditionType::Finished);
        let ends = plan
            .changes
            .iter()
            .any(|change| matches!(change, Change::RecordStatus(status) if finished(status)));
        assert!(timer || ends || self.is_over(), "an unfinished job without a timer: {:?}", plan.requeue);
        self.demand = plan.demand.clone();
        let all = prefix >= 9;
        let mut through = true;
        for change in plan.changes.into_iter().take(if all { usize::MAX } else { prefix }) {
            through = self.apply(change);
            if !through {
                break;
            }
        }
        self.observed.memory = if all && through { plan.memory } else { Memory::default() };
        self.check();
    }

    /// False if it did not go through: a claim has been written since it was seen.
    fn apply(&mut self, change: Change) -> bool {
        match change {
            Change::CreatePod { claim: Some(claim), .. } if self.claims.get(&claim.gpu) != Some(&*claim) => {
                return false;
            }
            Change::CreatePod { pod, claim } => {
                let name = pod.metadata.name.clone().unwrap();
                let made = match &claim {
                    Some(claim) => {
                        let holder = claim.holder.as_ref().unwrap();
                        let running = json!({"phase": "Pending",
                            "initContainerStatuses": [container("prepare", &json!({"running": {}}))]});
                        let mut pod = segment(&self.observed, holder.segment, holder.attempt, &running);
                        pod.gpu = Some(claim.gpu.clone());
                        pod.step = claim.grant.as_ref().unwrap().step;
                        pod
                    }
                    None => single(&self.observed, Role::Merge, 0, &json!({"phase": "Running"})),
                };
                assert!(self.pods.insert(name, (made, Stage::Fresh)).is_none(), "made twice");
            }
            Change::RecordStatus(status) => {
                let before = &self.observed.status;
                assert!(!super::status::is_true(before, ConditionType::Complete), "an end is final");
                if before.round == status.round {
                    let (old, new) = (Segments::parse(&before.done), Segments::parse(&status.done));
                    assert!(old.iter().all(|segment| new.contains(segment)), "what is done stays done");
                }
                self.observed.status = *status;
            }
            Change::Release { claim, .. } => {
                // In this world memory comes back at once and cards heal, so every way of giving back frees.
                if self.claims.get(&claim.gpu) == Some(&*claim) {
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

    fn place(&mut self) {
        // A demand may be served twice, and long after it was made.
        let Some(demand) = self.demand.clone() else { return };
        let free: Vec<&str> = GPUS.into_iter().filter(|gpu| !self.claims.contains_key(*gpu)).collect();
        for (wanted, gpu) in demand.wanted.iter().zip(free) {
            // Whoever may have no step that is offered waits for ever.
            let offered = demand.steps.iter().map(|need| need.step);
            let Some(step) = offered.filter(|step| *step >= wanted.first_step).min() else { continue };
            let mut given = claim(&self.observed.identity.key, wanted.segment, wanted.attempt, gpu);
            given.grant.as_mut().unwrap().step = step;
            given.resource_version = self.clock.to_string();
            self.claims.insert(gpu.to_owned(), given);
        }
    }

    fn run(&mut self, which: usize, fate: Fate) {
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
            let end = crate::api::worker::End { merge: Some(figures), ..end(Code::Done, "") };
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

    fn wish(&mut self, wish: Wish) {
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

    fn is_over(&self) -> bool {
        super::status::is_true(&self.observed.status, ConditionType::Finished)
    }
}

fn any_fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        4 => Just(Fate::Succeeds),
        1 => Just(Fate::FindsTheGpuBusy),
        1 => Just(Fate::RunsOutOfMemory),
        1 => Just(Fate::NeedsMoreThanTheCard),
        1 => Just(Fate::WritesNonsense),
        1 => Just(Fate::IsRefused),
        1 => Just(Fate::Vanishes),
        1 => Just(Fate::IsEvicted),
    ]
}

fn any_chance() -> impl Strategy<Value = Chance> {
    prop_oneof![
        4 => (0usize..12).prop_map(Chance::Pass),
        1 => (0usize..12).prop_map(Chance::Late),
        2 => Just(Chance::Place),
        4 => (0usize..8, any_fate()).prop_map(|(which, fate)| Chance::Run(which, fate)),
        1 => any_wish().prop_map(Chance::Tenant),
    ]
}

fn any_wish() -> impl Strategy<Value = Wish> {
    prop_oneof![
        4 => any::<bool>().prop_map(Wish::Suspend),
        4 => (1u32..=3).prop_map(Wish::Parallelism),
        4 => prop::option::of(2u32..=9).prop_map(Wish::LastStep),
        4 => prop::sample::select(vec![DegradationPolicy::Automatic, DegradationPolicy::Never]).prop_map(Wish::Policy),
        4 => Just(Wish::RetryFailed),
        1 => Just(Wish::Delete),
    ]
}

/// Lets that happen, then the world behaves: the job must end, and leave nothing.
fn lives_through(consistency: &'static str, chances: &[Chance]) {
    let mut cluster = Cluster::new(consistency);
    for chance in chances {
        match chance {
            Chance::Pass(prefix) => cluster.pass(*prefix, false),
            Chance::Late(prefix) => cluster.pass(*prefix, true),
            Chance::Tenant(wish) => cluster.wish(*wish),
            Chance::Place => cluster.place(),
            Chance::Run(which, fate) => cluster.run(*which, *fate),
        }
    }
    // The world behaves from now on.
    cluster.wish(Wish::Suspend(false));
    let deleting = cluster.observed.identity.deleting;
    for _ in 0..400 {
        cluster.clock += 15;
        cluster.pass(usize::MAX, false);
        cluster.place();
        cluster.pass(usize::MAX, false);
        for which in 0..4 {
            cluster.run(which, Fate::Succeeds);
        }
        if cluster.is_over() || (deleting && cluster.claims.is_empty()) {
            break;
        }
    }
    assert!(cluster.is_over() || deleting, "{:?} {:?}", cluster.observed.status, cluster.claims);
    for _ in 0..4 {
        cluster.pass(usize::MAX, false);
    }
    assert!(cluster.claims.is_empty(), "nothing is held after the end");
    let before = cluster.observed.status.clone();
    cluster.pass(usize::MAX, false);
    assert_eq!(before, cluster.observed.status, "a pass over an unchanged world changes nothing");
}

proptest! {
    #[test]
    fn whatever_happens_no_segment_runs_twice_at_once_and_the_job_ends(
        consistency in prop::sample::select(vec!["PerSegment", "Uniform"]),
        chances in proptest::collection::vec(any_chance(), 0..80),
    ) {
        lives_through(consistency, &chances);
    }
}

#[test]
fn a_segment_whose_pods_vanish_again_and_again_between_deaths_of_the_controller_is_done() {
    let vanishes = Chance::Run(0, Fate::Vanishes);
    let mut chances = vec![Chance::Pass(0); 8];
    chances.extend([Chance::Place, Chance::Pass(9), vanishes, vanishes, vanishes, Chance::Pass(5)]);
    chances.extend([Chance::Pass(1), Chance::Pass(1), vanishes, Chance::Pass(0), Chance::Pass(0)]);
    chances.push(Chance::Pass(2));
    lives_through("PerSegment", &chances);
}

#[test]
fn a_demand_is_served_again_while_a_segments_engine_has_ended_and_anothers_pod_has_vanished() {
    lives_through(
        "PerSegment",
        &[
            Chance::Pass(0),
            Chance::Place,
            Chance::Pass(9),
            Chance::Run(2, Fate::Succeeds),
            Chance::Run(0, Fate::Vanishes),
            Chance::Pass(1),
            Chance::Place,
        ],
    );
}

#[test]
fn an_undisturbed_job_ends_well_and_every_segment_was_done() {
    let mut cluster = Cluster::new("PerSegment");
    for _ in 0..60 {
        cluster.clock += 5;
        cluster.pass(usize::MAX, false);
        cluster.place();
        cluster.pass(usize::MAX, false);
        for which in 0..3 {
            cluster.run(which, Fate::Succeeds);
        }
    }
    assert!(super::status::is_true(&cluster.observed.status, ConditionType::Complete));
    assert_eq!(cluster.observed.status.done, "0-7");
    assert!(cluster.pods.is_empty(), "finished pods are gone: {:?}", cluster.pods.keys());
}
