//! A cluster in a few lines, and plans against it: pods end as chance has it, GPUs are given as the fleet would, the
//! controller dies after any prefix of its changes and forgets everything, notes of an attempt vanish with its pod.

#![expect(clippy::arithmetic_side_effects, reason = "a test counts small numbers")]

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::fixtures::{at, claim, container, end, probed, segment, single, terminated};
use super::*;
use crate::api::conditions::ConditionType;
use crate::api::keys::Role;
use crate::api::worker::{Code, MergeFigures};

/// How an attempt goes.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Succeeds,
    FindsTheGpuBusy,
    RunsOutOfMemory,
    Vanishes,
    IsEvicted,
}

/// One choice of chance.
#[derive(Clone, Copy, Debug)]
enum Chance {
    /// A pass, of which that many changes go through before the controller dies; 9 or more: all.
    Pass(usize),
    /// The fleet serves the demand.
    Place,
    /// A running attempt goes on.
    Run(usize, Fate),
}

struct Cluster {
    observed: Observed,
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
    fn new() -> Self {
        let mut observed = probed(json!({"parallelism": 3, "attemptsPerSegment": 20}));
        observed.memory = Memory::default();
        Self { observed, pods: BTreeMap::new(), claims: BTreeMap::new(), demand: None, clock: 10 }
    }

    fn pass(&mut self, prefix: usize) {
        self.clock += 1;
        self.observed.pods = self.pods.values().map(|(pod, _)| pod.clone()).collect();
        self.observed.claims = self.claims.values().cloned().collect();
        let plan = plan(&self.observed, at(self.clock));
        self.demand = plan.demand.clone();
        let all = prefix >= 9;
        for change in plan.changes.into_iter().take(if all { usize::MAX } else { prefix }) {
            self.apply(change);
        }
        self.observed.memory = if all { plan.memory } else { Memory::default() };
        self.check();
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::CreatePod { pod, claim } => {
                let name = pod.metadata.name.clone().unwrap();
                let made = match &claim {
                    Some(claim) => {
                        let holder = claim.holder.as_ref().unwrap();
                        let running = json!({"phase": "Pending",
                            "initContainerStatuses": [container("prepare", &json!({"running": {}}))]});
                        let mut pod = segment(&self.observed, holder.segment, holder.attempt, &running);
                        pod.gpu = Some(claim.gpu.clone());
                        pod
                    }
                    None => single(&self.observed, Role::Merge, 0, &json!({"phase": "Running"})),
                };
                assert!(self.pods.insert(name, (made, Stage::Fresh)).is_none(), "made twice");
            }
            Change::RecordStatus(status) => {
                let before = &self.observed.status;
                assert!(!super::status::is_true(before, ConditionType::Complete), "an end is final");
                self.observed.status = *status;
            }
            Change::Release { claim, .. } => {
                // In this world memory comes back at once and cards heal, so every way of giving back frees.
                self.claims.remove(&claim.gpu);
            }
            Change::DeletePod { name, .. } => {
                self.pods.remove(&name);
            }
            Change::FreezeProfile(_) | Change::DeleteJob => {}
        }
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
        assert!(segments.len() <= 3, "parallelism");
    }

    fn place(&mut self) {
        // A demand may be served twice, and long after it was made.
        let Some(demand) = self.demand.clone() else { return };
        let free: Vec<&str> = GPUS.into_iter().filter(|gpu| !self.claims.contains_key(*gpu)).collect();
        for (wanted, gpu) in demand.wanted.iter().zip(free) {
            let mut given = claim(&self.observed.identity.key, wanted.segment, wanted.attempt, gpu);
            given.grant.as_mut().unwrap().step = wanted.first_step;
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
        next.gpu = pod.gpu;
        self.pods.insert(name.clone(), (next, after));
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
        1 => Just(Fate::Vanishes),
        1 => Just(Fate::IsEvicted),
    ]
}

fn any_chance() -> impl Strategy<Value = Chance> {
    prop_oneof![
        4 => (0usize..12).prop_map(Chance::Pass),
        2 => Just(Chance::Place),
        4 => (0usize..8, any_fate()).prop_map(|(which, fate)| Chance::Run(which, fate)),
    ]
}

/// Lets that happen, then the world behaves: the job must end, and leave nothing.
fn lives_through(chances: &[Chance]) {
    let mut cluster = Cluster::new();
    for chance in chances {
        match chance {
            Chance::Pass(prefix) => cluster.pass(*prefix),
            Chance::Place => cluster.place(),
            Chance::Run(which, fate) => cluster.run(*which, *fate),
        }
    }
    for _ in 0..400 {
        cluster.clock += 15;
        cluster.pass(usize::MAX);
        cluster.place();
        cluster.pass(usize::MAX);
        for which in 0..4 {
            cluster.run(which, Fate::Succeeds);
        }
        if cluster.is_over() {
            break;
        }
    }
    assert!(cluster.is_over(), "{:?} {:?}", cluster.observed.status, cluster.claims);
    for _ in 0..4 {
        cluster.pass(usize::MAX);
    }
    assert!(cluster.claims.is_empty(), "nothing is held after the end");
    let before = cluster.observed.status.clone();
    cluster.pass(usize::MAX);
    assert_eq!(before, cluster.observed.status, "a pass over an unchanged world changes nothing");
}

proptest! {
    #[test]
    fn whatever_happens_no_segment_runs_twice_at_once_and_the_job_ends(
        chances in proptest::collection::vec(any_chance(), 0..80),
    ) {
        lives_through(&chances);
    }
}

#[test]
fn a_segment_whose_pods_vanish_again_and_again_between_deaths_of_the_controller_is_done() {
    let vanishes = Chance::Run(0, Fate::Vanishes);
    let mut chances = vec![Chance::Pass(0); 8];
    chances.extend([Chance::Place, Chance::Pass(9), vanishes, vanishes, vanishes, Chance::Pass(5)]);
    chances.extend([Chance::Pass(1), Chance::Pass(1), vanishes, Chance::Pass(0), Chance::Pass(0)]);
    chances.push(Chance::Pass(2));
    lives_through(&chances);
}

#[test]
fn a_demand_is_served_again_while_a_segments_engine_has_ended_and_anothers_pod_has_vanished() {
    lives_through(&[
        Chance::Pass(0),
        Chance::Place,
        Chance::Pass(9),
        Chance::Run(2, Fate::Succeeds),
        Chance::Run(0, Fate::Vanishes),
        Chance::Pass(1),
        Chance::Place,
    ]);
}

#[test]
fn an_undisturbed_job_ends_well_and_every_segment_was_done() {
    let mut cluster = Cluster::new();
    for _ in 0..60 {
        cluster.clock += 5;
        cluster.pass(usize::MAX);
        cluster.place();
        cluster.pass(usize::MAX);
        for which in 0..3 {
            cluster.run(which, Fate::Succeeds);
        }
    }
    assert!(super::status::is_true(&cluster.observed.status, ConditionType::Complete));
    assert_eq!(cluster.observed.status.done, "0-7");
    assert!(cluster.pods.is_empty(), "finished pods are gone: {:?}", cluster.pods.keys());
}
