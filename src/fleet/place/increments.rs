//! The board that is kept ready decides as one that is made from scratch, after any changes in any order.

#![expect(clippy::arithmetic_side_effects, reason = "figures of tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::SignedDuration;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::place;
use crate::api::conditions::ScheduledReason;
use crate::api::quantity::GIB;
use crate::api::video_upscale::ForeignProcesses;
use crate::fleet::claim::{AttemptId, Claim, Grant, JobKey, Mark};
use crate::fleet::demand::{Demand, StepNeed, Wanted};
use crate::fleet::fixtures::*;
use crate::fleet::index::Fleet;
use crate::fleet::node::NodeFacts;
use crate::fleet::place::Placement;
use crate::fleet::pod::{PodFacts, PodStage};

const NODES: u8 = 4;
const CARDS: u8 = 3;
const JOBS: u8 = 4;

/// Something that happens to a fleet.
#[derive(Clone, Debug)]
enum Event {
    /// A node reports; each card: free, foreign processes, sort.
    Report { node: u8, cards: Vec<(u64, u32, u8)>, sort: u8 },
    /// A node is gone.
    Gone { node: u8 },
    /// Somebody's claim.
    Claim { card: u8, job: u8, segment: u32, mark: u8, last: u8 },
    /// A claim's Lease is deleted.
    Unclaim { card: u8 },
    /// A pod of ours.
    Pod { pod: u8, card: u8, stage: u8, named: bool },
    /// A pod is gone.
    PodGone { pod: u8 },
    /// A job asks.
    Ask { job: u8, sort: u8, parallelism: u32, segments: Vec<(u32, u32, u8)> },
    /// A job asks no more.
    Drop { job: u8 },
    /// Time passes, or the clock is set back unnoticed.
    Wait { seconds: i64 },
    /// The clock is set.
    Step { seconds: i64 },
    /// The claim of the oldest placement that is being written: is won, lost, or nobody knows.
    Settle { outcome: u8 },
    /// A claim is given back.
    GiveBack { card: u8, written: bool },
    /// A pass.
    Decide,
}

fn event() -> impl Strategy<Value = Event> {
    let card = 0..NODES * CARDS;
    let report = prop::collection::vec((0_u64..24, 0_u32..3, 0_u8..12), usize::from(CARDS));
    let segment = (0_u32..8, 2_u32..6, 0_u8..8);
    prop_oneof![
        4 => (0..NODES, report, 0_u8..16).prop_map(|(node, cards, sort)| Event::Report { node, cards, sort }),
        1 => (0..NODES).prop_map(|node| Event::Gone { node }),
        4 => (card.clone(), 0..JOBS, 0_u32..8, 0_u8..6, 0_u8..6)
            .prop_map(|(card, job, segment, mark, last)| Event::Claim { card, job, segment, mark, last }),
        2 => card.clone().prop_map(|card| Event::Unclaim { card }),
        3 => (0_u8..6, card.clone(), 0_u8..3, any::<bool>())
            .prop_map(|(pod, card, stage, named)| Event::Pod { pod, card, stage, named }),
        1 => (0_u8..6).prop_map(|pod| Event::PodGone { pod }),
        4 => (0..JOBS, 0_u8..12, 0_u32..5, prop::collection::vec(segment, 0..6))
            .prop_map(|(job, sort, parallelism, segments)| Event::Ask { job, sort, parallelism, segments }),
        1 => (0..JOBS).prop_map(|job| Event::Drop { job }),
        3 => (0_i64..400).prop_map(|seconds| Event::Wait { seconds }),
        1 => Just(Event::Wait { seconds: -120 }),
        1 => (-500_i64..500).prop_map(|seconds| Event::Step { seconds }),
        4 => (0_u8..3).prop_map(|outcome| Event::Settle { outcome }),
        2 => (card, any::<bool>()).prop_map(|(card, written)| Event::GiveBack { card, written }),
        4 => Just(Event::Decide),
    ]
}

struct World {
    fleet: Fleet,
    clock: i64,
    version: u64,
    pending: Vec<Placement>,
}

fn job_of(number: u8) -> JobKey {
    job(["a", "a", "b", "c"][usize::from(number)], &format!("job-{number}"))
}

fn node_name(card: u8) -> String {
    format!("node-{}", card / CARDS)
}

fn uuid(card: u8) -> String {
    format!("GPU-{card}")
}

fn grant_of(card: u8) -> Grant {
    Grant { node: node_name(card), ..grant(&uuid(card)) }
}

/// Steps of which two cards have shown that they need more, and of which one has shown more than it has.
fn bound(steps: &[StepNeed], sort: u8) -> Arc<[StepNeed]> {
    let mut steps = steps.to_vec();
    let card = |number: u8| uuid(number).to_lowercase();
    steps[0].cards = BTreeMap::from([(card(sort - 10), 18 * GIB), (card(4), 90 * GIB)]);
    steps[1].cards = BTreeMap::from([(card(7), 10 * GIB)]);
    steps.into()
}

impl World {
    fn new() -> Self {
        Self { fleet: Fleet::new(RELEASE), clock: 0, version: 10, pending: Vec::new() }
    }

    fn version(&mut self) -> String {
        self.version += 1;
        self.version.to_string()
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Report { node, cards, sort } => self.report(node, &cards, sort),
            Event::Gone { node } => drop(self.fleet.remove_node(&format!("node-{node}"))),
            Event::Claim { card, job, segment, mark, last } => self.claim(card, job, segment, mark, last),
            Event::Unclaim { card } => {
                let gone = Claim { resource_version: self.version(), ..Claim::unclaimed(&uuid(card)) };
                self.fleet.remove_claim(&gone);
            }
            Event::Pod { pod, card, stage, named } => self.pod(pod, card, stage, named),
            Event::PodGone { pod } => drop(self.fleet.remove_pod(&format!("p{pod}"))),
            Event::Ask { job, sort, parallelism, segments } => self.ask(job, sort, parallelism, &segments),
            Event::Drop { job } => self.fleet.drop_demand(&job_of(job)),
            Event::Wait { seconds } => self.clock += if self.clock + seconds < 0 { 0 } else { seconds },
            Event::Step { seconds } => {
                self.clock += seconds;
                self.fleet.clock_stepped(SignedDuration::from_secs(seconds));
            }
            Event::Settle { outcome } => self.settle(outcome),
            Event::GiveBack { card, written } => self.give_back(card, written),
            Event::Decide => {}
        }
    }

    fn report(&mut self, node: u8, cards: &[(u64, u32, u8)], sort: u8) {
        let name = format!("node-{node}");
        let gpus: Vec<Value> = (0_u8..)
            .zip(cards)
            .map(|(index, (free, foreign, sort))| {
                let card = node * CARDS + index;
                let process = |uid: &str| json!({"k": "pod", "u": uid, "p": 1, "b": 2 * GIB, "t": "C"});
                let procs = json!({"n": foreign, "b": u64::from(*foreign) * GIB, "more": foreign, "top": []});
                let fields = match sort {
                    0 => json!({"h": "bad"}),
                    1 => json!({"mig": true}),
                    2 => json!({"cm": "exclusive-process", "procs": procs}),
                    3 => json!({"procs": {"n": 1, "b": 2 * GIB, "top": [process("p0")]}}),
                    4 => json!({"procs": {"n": 1, "b": 2 * GIB, "top": [process("p1")]}}),
                    5 => json!({"n": "NVIDIA H100", "tot": 80 * GIB, "procs": procs}),
                    6 => json!({"procs": null}),
                    8 => json!({"procs": procs, "leak": true}),
                    9 => json!({"procs": {"n": 1, "b": 0, "top": [{"k": "mps", "p": 1, "b": 0, "t": "C"}]}}),
                    _ => json!({"procs": procs}),
                };
                // The first card of the first node turns up elsewhere, too.
                let id = if *sort == 7 && index == 0 { uuid(0) } else { uuid(card) };
                gpu_with(index.into(), &id, *free, fields)
            })
            .collect();
        let fields = match sort {
            0 => json!({"metadata": {"labels": {"zone": "x"}}}),
            1 => json!({"spec": {"unschedulable": true}}),
            2 => json!({"spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}}),
            3 => json!({"metadata": {"annotations": {crate::api::keys::EXCLUDE_GPUS: "1"}}}),
            4 => json!({"metadata": {"annotations": {crate::api::keys::REPORT: "broken"}}}),
            5..8 => json!({"status": {"allocatable": {"cpu": "2"}}}),
            _ => json!({}),
        };
        let node = node_of(&name, &report(&gpus, at(self.clock)), fields);
        self.fleet.apply_node(NodeFacts::of(&node).unwrap(), at(self.clock));
    }

    fn claim(&mut self, card: u8, job: u8, segment: u32, mark: u8, last: u8) {
        let mark_now = || Some(Mark { cause: "x".into(), at: at(0) });
        let claim = Claim {
            holder: (mark != 0).then(|| attempt(&job_of(job), segment)),
            grant: (mark != 0).then(|| grant_of(card)),
            quarantined: mark_now().filter(|_| mark == 1),
            out: mark_now().filter(|_| mark == 2),
            last_pod_uid: (last < 2).then(|| format!("p{last}")),
            resource_version: self.version(),
            ..Claim::unclaimed(&uuid(card))
        };
        self.fleet.apply_claim(claim);
    }

    fn pod(&mut self, number: u8, card: u8, stage: u8, named: bool) {
        let stage = [PodStage::MayUseGpu, PodStage::NeedsNoGpu, PodStage::Ended][usize::from(stage)];
        let uid = format!("p{number}");
        let mut facts = PodFacts { node: Some(node_name(card)), ..pod(&uid, &uuid(card), stage) };
        let holder = self.fleet.claim(&uuid(card)).and_then(|claim| claim.holder.clone());
        if let Some(AttemptId { job, .. }) = holder.as_ref().filter(|_| named) {
            facts.namespace.clone_from(&job.namespace);
            facts.name = holder.as_ref().unwrap().pod_name();
        }
        self.fleet.apply_pod(facts);
    }

    fn ask(&mut self, job: u8, sort: u8, parallelism: u32, segments: &[(u32, u32, u8)]) {
        let list = segments.iter().map(|(segment, first_step, sort)| Wanted {
            first_step: *first_step,
            largest_only: *sort == 0,
            avoid_gpus: (*sort == 1).then(|| uuid(2).to_lowercase()).into_iter().collect(),
            avoid_nodes: (*sort == 2).then(|| "node-1".to_owned()).into_iter().collect(),
            keep: (*sort >= 6).then(|| u32::from(*sort) - 4),
            ..wanted(*segment)
        });
        let mut wish = Demand { wanted: list.collect(), parallelism, ..demand(&job_of(job), 0) };
        wish.created = at(-i64::from(job));
        let until = at(self.clock + 30);
        match sort {
            0 => wish.gpu.foreign = ForeignProcesses::Forbid,
            1 => wish.gpu.foreign = ForeignProcesses::Tolerate,
            2 => wish.gpu.products = vec!["h100".into()],
            3 => wish.gpu.node_selector = BTreeMap::from([("zone".into(), "x".into())]),
            4 => wish.nodes = Some(BTreeSet::from(["node-0".into(), "node-2".into()])),
            5 => wish.cooling_gpus = BTreeMap::from([(uuid(3), until)]),
            6 => wish.cooling_nodes = BTreeMap::from([("node-1".into(), (until, ScheduledReason::NodeFull))]),
            7 => wish.patience = None,
            8 => wish.requests.cpu_millis = 2000,
            10 | 11 => wish.steps = bound(&wish.steps, sort),
            _ => wish.gpu.min_free_bytes = 18 * GIB,
        }
        self.fleet.set_demand(wish);
    }

    fn settle(&mut self, outcome: u8) {
        if self.pending.is_empty() {
            return;
        }
        let placement = self.pending.remove(0);
        if outcome == 0 {
            let claim = Claim {
                holder: Some(placement.attempt.clone()),
                grant: Some(placement.grant.clone()),
                resource_version: self.version(),
                ..Claim::unclaimed(&placement.grant.gpu)
            };
            self.fleet.apply_claim(claim);
        }
        self.fleet.settled(&placement, outcome == 1);
    }

    fn give_back(&mut self, card: u8, written: bool) {
        let Some(claim) = self.fleet.claim(&uuid(card)).map(|claim| Claim::clone(claim)) else { return };
        if claim.holder.is_none() || claim.quarantined.is_some() {
            return;
        }
        let next = self.fleet.decide_for(&claim, Some("p0"), at(self.clock));
        self.pending.extend(self.fleet.undelivered());
        if written {
            let after = Claim {
                holder: next.as_ref().map(|next| next.attempt.clone()),
                grant: next.as_ref().map(|next| next.grant.clone()),
                resource_version: self.version(),
                ..claim.clone()
            };
            self.fleet.apply_claim(after);
        }
        self.fleet.given_back(&claim.gpu);
        if let Some(next) = next {
            self.fleet.settled(&next, !written);
        }
    }

    /// A pass, which decides as a board made from scratch decides.
    fn decide(&mut self) -> Result<(), TestCaseError> {
        let now = at(self.clock);
        let scratch = place(&self.fleet.snapshot(now), now);
        let placements = self.fleet.decide(now);
        prop_assert_eq!(&placements, &scratch.placements);
        self.fleet.tell(true, now);
        let told: BTreeMap<_, _> = scratch
            .outlooks
            .keys()
            .filter_map(|job| Some((job.clone(), self.fleet.outlook(job)?.clone())))
            .collect();
        prop_assert_eq!(told, scratch.outlooks);
        prop_assert_eq!(self.fleet.next_change(now), scratch.next);
        let again = self.fleet.snapshot(now);
        let starved = again.asked.iter().filter_map(|a| Some((a.demand.job.clone(), a.starved?)));
        prop_assert_eq!(starved.collect::<BTreeMap<_, _>>(), scratch.starved);
        self.pending.extend(placements);
        Ok(())
    }
}

proptest! {

    #[test]
    fn changes_one_by_one_lead_where_a_new_beginning_leads(events in prop::collection::vec(event(), 1..80)) {
        let mut world = World::new();
        for event in events {
            let decides = matches!(event, Event::Decide | Event::Wait { .. });
            world.happen(event);
            if decides {
                world.decide()?;
            }
        }
        world.decide()?;
    }
}

/// A pod that is there already under the name of the attempt that is placed takes the node's room once, not twice.
#[test]
fn room_is_taken_once_by_an_attempt_whose_pod_is_there() {
    let mut world = World::new();
    let segments = (0..3).map(|segment| (segment, 2, 3)).collect();
    for event in [
        Event::Report { node: 0, cards: vec![(20, 0, 8); 3], sort: 5 },
        Event::Claim { card: 0, job: 0, segment: 0, mark: 3, last: 5 },
        Event::Pod { pod: 0, card: 0, stage: 1, named: true },
        Event::Unclaim { card: 0 },
        Event::Ask { job: 0, sort: 7, parallelism: 4, segments },
    ] {
        world.happen(event);
    }
    world.decide().unwrap();
    world.decide().unwrap();
}
