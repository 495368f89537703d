//! A table per rule of placement.

#![expect(clippy::arithmetic_side_effects, reason = "figures of tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};

use super::{Pass, place};
use crate::api::conditions::ScheduledReason;
use crate::api::keys;
use crate::api::quantity::GIB;
use crate::api::video_upscale::ForeignProcesses;
use crate::fleet::claim::{Claim, Mark};
use crate::fleet::demand::{Cause, Demand, StepNeed};
use crate::fleet::fixtures::*;
use crate::fleet::index::Fleet;
use crate::fleet::node::NodeFacts;
use crate::fleet::pod::PodStage;

/// A change of a demand.
type Change = Box<dyn Fn(&mut Demand)>;

fn pass(fleet: &Fleet, seconds: i64) -> Pass {
    place(&fleet.snapshot(at(seconds)), at(seconds))
}

fn ask(fleet: &mut Fleet, demand: Demand) -> Pass {
    fleet.set_demand(demand);
    pass(fleet, 0)
}

/// GPU, segment and step of each placement.
fn given(pass: &Pass) -> Vec<(&str, u32, u32)> {
    pass.placements.iter().map(|p| (p.grant.gpu.as_str(), p.attempt.segment, p.grant.step)).collect()
}

fn cause(pass: &Pass) -> Cause {
    let outlook = pass.outlooks.values().next().unwrap();
    assert_eq!(outlook.wait.causes.values().sum::<u32>(), outlook.wait.looked_at);
    *outlook.wait.causes.keys().next().unwrap()
}

fn process(uid: &str, gib: u64) -> Value {
    json!({"k": "pod", "u": uid, "p": 1, "b": gib * GIB, "t": "C"})
}

fn foreign(gib: u64) -> Value {
    json!({"procs": {"n": 1, "b": gib * GIB, "top": [{"k": "host", "p": 9, "b": gib * GIB, "t": "C"}]}})
}

#[test]
fn other_releases_are_named_by_their_namespaces_and_no_longer_when_they_have_gone() {
    let reported_by = |ns: &str| {
        let report = json!({"v": 1, "ns": ns, "seq": 1, "inst": "x", "at": at(0).to_string(), "hb": 300,
            "state": "ok", "attr": "full", "gpus": [gpu(0, "GPU-A", 24)]});
        NodeFacts::of(&node_of("node-a", &report, json!({}))).unwrap()
    };
    let mut fleet = Fleet::new(RELEASE);
    for (ns, named) in [("el\nse", &["else"][..]), ("third", &["third"]), (RELEASE, &[])] {
        fleet.apply_node(reported_by(ns), at(0));
        let pass = ask(&mut fleet, demand(&job("media", "mine"), 1));
        let told: Vec<&String> =
            pass.outlooks.values().flat_map(|outlook| &outlook.wait.other_releases).collect();
        assert_eq!(told, named, "{ns:?}");
    }
}

#[test]
fn every_cause_that_lies_with_node_or_card_is_told() {
    let mine = job("media", "mine");
    let one = |gpu: Value, fields: Value| node_with("node-a", &[gpu], fields);
    let card = |fields: Value| one(gpu_with(0, "GPU-A", 24, fields), json!({}));
    let plain = || gpu(0, "GPU-A", 24);
    let other = NodeFacts::of(&node_of(
        "node-a",
        &json!({"v": 1, "ns": "else", "seq": 1, "inst": "x", "at": at(0).to_string(), "hb": 300, "state": "ok",
                "attr": "full", "gpus": [plain()]}),
        json!({}),
    ));
    for (node, expected) in [
        (other.unwrap(), Cause::OtherRelease),
        (card(json!({"h": "suspect"})), Cause::Unhealthy),
        (card(json!({"free": null})), Cause::Unhealthy),
        (card(json!({"mig": true})), Cause::Excluded),
        (card(json!({"cm": "prohibited"})), Cause::Excluded),
        (one(plain(), json!({"metadata": {"annotations": {keys::EXCLUDE_GPUS: "0"}}})), Cause::Excluded),
        (
            one(plain(), json!({"metadata": {"annotations": {keys::EXCLUDE_GPUS: "gpu-a, 7"}}})),
            Cause::Excluded,
        ),
        (one(plain(), json!({"metadata": {"annotations": {keys::EXCLUDE_GPUS: "all"}}})), Cause::Excluded),
        (one(plain(), json!({"metadata": {"annotations": {keys::EXCLUDE_GPUS: "1"}}})), Cause::Ours),
        (one(plain(), json!({"spec": {"unschedulable": true}})), Cause::NodeUnschedulable),
        (
            one(plain(), json!({"spec": {"taints": [{"key": "x", "effect": "NoSchedule"}]}})),
            Cause::NodeUnschedulable,
        ),
        (
            one(plain(), json!({"spec": {"taints": [{"key": "x", "effect": "PreferNoSchedule"}]}})),
            Cause::Ours,
        ),
        (one(plain(), json!({"status": {"conditions": []}})), Cause::NodeUnschedulable),
        (one(plain(), json!({"status": {"allocatable": {"memory": "1023Mi"}}})), Cause::NodeFull),
        (one(plain(), json!({"status": {"allocatable": {"cpu": "999m"}}})), Cause::NodeFull),
        (one(plain(), json!({"status": {"allocatable": {"pods": "0"}}})), Cause::NodeFull),
        (card(json!({"cm": "exclusive-process", "procs": foreign(1)["procs"]})), Cause::ForeignProcesses),
        (card(json!({"cm": "exclusive-process", "procs": null})), Cause::ForeignProcesses),
        (card(json!({"cm": "exclusive-process"})), Cause::Ours),
        (card(json!({"tot": 16 * GIB, "free": 16 * GIB})), Cause::Ours),
        (card(json!({"tot": 4 * GIB, "free": 4 * GIB})), Cause::TooSmall),
        (card(json!({"free": 16 * GIB})), Cause::NotEnoughFree),
        (card(json!({"free": 17 * GIB})), Cause::Ours),
    ] {
        let shown = format!("{node:?}");
        assert_eq!(cause(&ask(&mut fleet(vec![node]), demand(&mine, 1))), expected, "{shown}");
    }
}

#[test]
fn every_cause_that_lies_with_the_job_is_told() {
    let mine = job("media", "mine");
    let cooling = |until, reason| BTreeMap::from([("node-a".to_owned(), (at(until), reason))]);
    let tests: Vec<(&str, Change, Cause)> = vec![
        (
            "selector",
            Box::new(|d| d.gpu.node_selector.extend([("zone".into(), "b".into())])),
            Cause::NotMatching,
        ),
        ("product", Box::new(|d| d.gpu.products = vec!["H100".into()]), Cause::NotMatching),
        (
            "part of a product",
            Box::new(|d| d.gpu.products = vec!["H100".into(), "nvidia l4".into()]),
            Cause::Ours,
        ),
        ("model", Box::new(|d| d.incompatible_models.extend(["NVIDIA L4".into()])), Cause::Incompatible),
        ("volume", Box::new(|d| d.nodes = Some(BTreeSet::from(["node-b".into()]))), Cause::VolumeNotHere),
        ("card cools", Box::new(|d| d.cooling_gpus.extend([("GPU-A".into(), at(1))])), Cause::CoolingDown),
        ("card cooled", Box::new(|d| d.cooling_gpus.extend([("GPU-A".into(), at(0))])), Cause::Ours),
        (
            "image",
            Box::new(move |d| d.cooling_nodes = cooling(1, ScheduledReason::ImagePull)),
            Cause::ImagePull,
        ),
        ("full", Box::new(move |d| d.cooling_nodes = cooling(1, ScheduledReason::NodeFull)), Cause::NodeFull),
        ("node", Box::new(move |d| d.cooling_nodes = cooling(1, ScheduledReason::Mixed)), Cause::CoolingDown),
        ("node over", Box::new(move |d| d.cooling_nodes = cooling(0, ScheduledReason::Mixed)), Cause::Ours),
        ("floor", Box::new(|d| d.gpu.min_free_bytes = 23 * GIB), Cause::NotEnoughFree),
        ("headroom", Box::new(|d| d.gpu.headroom_bytes = 7 * GIB), Cause::NotEnoughFree),
        ("parallelism", Box::new(|d| d.parallelism = 0), Cause::Fits),
    ];
    for (name, change, expected) in tests {
        let mut wish = demand(&mine, 1);
        change(&mut wish);
        let mut fleet = fleet(vec![node("node-a", &[gpu(0, "GPU-A", 22)])]);
        assert_eq!(cause(&ask(&mut fleet, wish)), expected, "{name}");
    }
}

#[test]
fn tolerated_taints_keep_nobody_away() {
    let mine = job("media", "mine");
    let taint = json!({"spec": {"taints": [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]}});
    for (toleration, expected) in [
        (json!({"operator": "Exists"}), Cause::Ours),
        (json!({"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}), Cause::Ours),
        (json!({"key": "gpu", "value": "yes"}), Cause::Ours),
        (json!({"key": "gpu", "value": "no"}), Cause::NodeUnschedulable),
        (json!({"key": "gpu", "operator": "Exists", "effect": "NoExecute"}), Cause::NodeUnschedulable),
        (json!({"key": "", "operator": "Equal"}), Cause::NodeUnschedulable),
    ] {
        let mut fleet = fleet(vec![node_with("node-a", &[gpu(0, "GPU-A", 24)], taint.clone())]);
        let wish = Demand {
            tolerations: vec![serde_json::from_value(toleration.clone()).unwrap()],
            ..demand(&mine, 1)
        };
        assert_eq!(cause(&ask(&mut fleet, wish)), expected, "{toleration}");
    }
}

#[test]
fn claims_keep_a_card_from_everybody() {
    let mine = job("media", "mine");
    let held = claim("GPU-A", &job("media", "other"), 0, "me");
    let mark = Some(Mark { cause: "x".into(), at: at(0) });
    for (claim, expected) in [
        (held.clone(), Cause::Ours),
        (Claim { quarantined: mark.clone(), ..held }, Cause::Quarantined),
        (Claim { out: mark, ..Claim::unclaimed("gpu-a") }, Cause::Unhealthy),
    ] {
        let mut fleet = fleet(vec![node("node-a", &[gpu(0, "GPU-A", 24)])]);
        fleet.apply_claim(claim);
        let pass = ask(&mut fleet, demand(&mine, 1));
        assert_eq!((cause(&pass), given(&pass)), (expected, vec![]));
    }
}

#[test]
fn a_card_that_a_pod_of_ours_may_still_use_is_not_given_without_a_claim_either() {
    let mine = job("media", "mine");
    for (stage, places) in [(PodStage::MayUseGpu, 0), (PodStage::NeedsNoGpu, 1), (PodStage::Ended, 1)] {
        let mut fleet = fleet(vec![node("node-a", &[gpu(0, "GPU-A", 24)])]);
        fleet.apply_pod(pod("p1", "GPU-A", stage));
        assert_eq!(ask(&mut fleet, demand(&mine, 1)).placements.len(), places, "{stage:?}");
    }
}

#[test]
fn the_same_uuid_on_two_nodes_is_used_on_neither() {
    let mut fleet =
        fleet(vec![node("node-a", &[gpu(0, "GPU-A", 24)]), node("node-b", &[gpu(0, "gpu-a", 24)])]);
    assert_eq!(cause(&ask(&mut fleet, demand(&job("media", "mine"), 1))), Cause::Unhealthy);
    fleet.remove_node("node-b");
    assert_eq!(pass(&fleet, 0).placements.len(), 1);
}

#[test]
fn old_reports_are_not_used_and_ageing_ones_need_more_headroom() {
    for (age, expected) in
        [(0, Cause::Ours), (330, Cause::Ours), (331, Cause::NotEnoughFree), (661, Cause::Stale)]
    {
        let mut fleet = fleet(vec![node("node-a", &[gpu(0, "GPU-A", 17)])]);
        fleet.set_demand(demand(&job("media", "mine"), 1));
        assert_eq!(cause(&pass(&fleet, age)), expected, "{age}");
    }
}

#[test]
fn what_ended_engines_of_ours_seem_to_hold_counts_as_available() {
    let busy = |uid: &str| {
        let procs = json!({"procs": {"n": 1, "b": 18 * GIB, "top": [process(uid, 18)]}});
        vec![node("node-a", &[gpu_with(0, "GPU-A", 6, procs)])]
    };
    let mine = job("media", "mine");
    let mut by_lease = fleet(busy("p1"));
    by_lease.apply_claim(Claim { last_pod_uid: Some("p1".into()), ..Claim::unclaimed("gpu-a") });
    let mut by_pod = fleet(busy("p1"));
    by_pod.apply_pod(pod("p1", "GPU-A", PodStage::NeedsNoGpu));
    for mut fleet in [by_lease, by_pod] {
        let pass = ask(&mut fleet, demand(&mine, 1));
        let seen = &pass.placements[0].grant.seen;
        assert_eq!((seen.free, seen.available, seen.foreign), (6 * GIB, 24 * GIB, 0));
    }
    assert_eq!(cause(&ask(&mut fleet(busy("p2")), demand(&mine, 1))), Cause::NotEnoughFree);
}

#[test]
fn an_ended_process_holds_nothing() {
    let procs = json!({"procs": {"n": 0, "b": 0, "top": [{"k": "pod", "u": "p1", "p": 1, "b": 18 * GIB, "t": "CE"}]}});
    let mut fleet = fleet(vec![node("node-a", &[gpu_with(0, "GPU-A", 6, procs)])]);
    fleet.apply_claim(Claim { last_pod_uid: Some("p1".into()), ..Claim::unclaimed("gpu-a") });
    assert_eq!(cause(&ask(&mut fleet, demand(&job("media", "mine"), 1))), Cause::NotEnoughFree);
}

#[test]
fn empty_cards_come_first_or_only_or_alike() {
    let mine = job("media", "mine");
    for (policy, expected) in [
        (ForeignProcesses::Avoid, vec![("GPU-B", 0, 2), ("GPU-A", 1, 2)]),
        (ForeignProcesses::Forbid, vec![("GPU-B", 0, 2)]),
        (ForeignProcesses::Tolerate, vec![("GPU-A", 0, 2), ("GPU-B", 1, 2)]),
    ] {
        let cards = [gpu_with(0, "GPU-A", 20, foreign(4)), gpu(1, "GPU-B", 24)];
        let mut wish = demand(&mine, 2);
        wish.gpu.foreign = policy;
        assert_eq!(given(&ask(&mut fleet(vec![node("node-a", &cards)]), wish)), expected, "{policy:?}");
    }
}

#[test]
fn who_puts_up_with_which_company() {
    use ForeignProcesses::{Avoid, Forbid, Tolerate};
    let mine = job("media", "mine");
    let listed = |kind: &str, flags: &str| json!({"procs": {"n": 1, "b": 0, "top": [{"k": kind, "p": 9, "b": 0, "t": flags}]}});
    for (name, attribution, fields, admitted) in [
        ("nobody", "full", json!({}), &[Forbid, Avoid, Tolerate][..]),
        ("a host process", "full", listed("host", "C"), &[Avoid, Tolerate]),
        (
            "an ended process",
            "full",
            json!({"procs": {"top": [listed("host", "CE")["procs"]["top"][0]]}}),
            &[Forbid, Avoid, Tolerate],
        ),
        ("the driver's own memory", "full", json!({"una": GIB}), &[Forbid, Avoid, Tolerate]),
        ("memory that nobody explains", "full", json!({"una": GIB + 1}), &[Avoid, Tolerate]),
        ("memory of which nobody knows", "full", json!({"una": null}), &[Avoid, Tolerate]),
        ("leaked memory", "full", json!({"leak": true}), &[Avoid, Tolerate]),
        ("an empty list of a nested namespace", "namespace", json!({}), &[Avoid, Tolerate]),
        ("no lists", "none", json!({}), &[Avoid, Tolerate]),
        ("an exclusive card", "full", json!({"cm": "exclusive-process"}), &[Forbid, Avoid, Tolerate]),
        ("an exclusive card, nested", "namespace", json!({"cm": "exclusive-process"}), &[]),
        ("an MPS server", "full", listed("mps", "C"), &[Tolerate]),
        ("an MPS client", "full", listed("pod", "MC"), &[Tolerate]),
    ] {
        let mut said = report(&[gpu_with(0, "GPU-A", 20, fields)], at(0));
        said["attr"] = attribution.into();
        let node = NodeFacts::of(&node_of("node-a", &said, json!({}))).unwrap();
        for policy in [Forbid, Avoid, Tolerate] {
            let mut wish = demand(&mine, 1);
            wish.gpu.foreign = policy;
            let pass = ask(&mut fleet(vec![node.clone()]), wish);
            let expected = if admitted.contains(&policy) { Cause::Ours } else { Cause::ForeignProcesses };
            assert_eq!(cause(&pass), expected, "{name}, {policy:?}");
        }
    }
}

#[test]
fn the_tightest_card_is_taken_and_ties_go_by_node_and_index() {
    let mut fleet = fleet(vec![
        node("node-b", &[gpu(0, "GPU-C", 20), gpu(1, "GPU-D", 18)]),
        node("node-a", &[gpu(1, "GPU-B", 20), gpu(0, "GPU-A", 20)]),
    ]);
    let pass = ask(&mut fleet, demand(&job("media", "mine"), 4));
    assert_eq!(given(&pass).iter().map(|g| g.0).collect::<Vec<_>>(), ["GPU-D", "GPU-A", "GPU-B", "GPU-C"]);
}

#[test]
fn cards_of_the_last_failures_come_last_but_come() {
    let mut fleet =
        fleet(vec![node("node-a", &[gpu(0, "GPU-A", 18)]), node("node-b", &[gpu(0, "GPU-B", 24)])]);
    let list = |change: &dyn Fn(&mut crate::fleet::demand::Wanted)| {
        let mut first = wanted(0);
        change(&mut first);
        Demand { wanted: Arc::from([first, wanted(1)]), ..demand(&job("media", "mine"), 0) }
    };
    let by_gpu = list(&|w| w.avoid_gpus = BTreeSet::from(["gpu-a".into()]));
    let by_node = list(&|w| w.avoid_nodes = BTreeSet::from(["node-a".into()]));
    for wish in [by_gpu, by_node] {
        assert_eq!(given(&ask(&mut fleet, wish)), [("GPU-B", 0, 2), ("GPU-A", 1, 2)]);
    }
    fleet.remove_node("node-b");
    assert_eq!(given(&pass(&fleet, 0)), [("GPU-A", 0, 2)]);
}

#[test]
fn a_second_try_under_never_takes_the_largest_card_or_waits() {
    let large = |free| gpu_with(0, "GPU-B", free, json!({"n": "NVIDIA H100", "tot": 80 * GIB}));
    let only = crate::fleet::demand::Wanted { largest_only: true, ..wanted(0) };
    let wish = Demand { wanted: Arc::from([only, wanted(1)]), ..demand(&job("media", "mine"), 0) };
    for (free, expected) in [(80, vec![("GPU-B", 0, 2), ("GPU-A", 1, 2)]), (8, vec![("GPU-A", 1, 2)])] {
        let mut fleet = fleet(vec![node("node-a", &[gpu(1, "GPU-A", 24)]), node("node-b", &[large(free)])]);
        assert_eq!(given(&ask(&mut fleet, wish.clone())), expected);
    }
}

#[test]
fn one_large_card_does_not_make_the_others_wait() {
    let small = |index: u32, uuid: &str| gpu_with(index, uuid, 12, json!({"tot": 12 * GIB}));
    let cards = [gpu(0, "GPU-A", 24), small(1, "GPU-B"), small(2, "GPU-C")];
    for (parallelism, step, places) in [(1, 2, 1), (2, 3, 2), (8, 3, 3)] {
        let mut fleet = fleet(vec![node("node-a", &cards)]);
        let pass = ask(&mut fleet, Demand { parallelism, ..demand(&job("media", "mine"), 9) });
        assert_eq!(pass.outlooks[&job("media", "mine")].effective_step, Some(step), "{parallelism}");
        assert_eq!(pass.placements.len(), places, "{parallelism}");
    }
}

#[test]
fn a_segment_starts_below_the_step_that_failed_it() {
    let mut low = wanted(0);
    low.first_step = 4;
    let wish = Demand { wanted: Arc::from([low, wanted(1)]), ..demand(&job("media", "mine"), 0) };
    let mut fleet = fleet(vec![node("node-a", &[gpu(0, "GPU-A", 6), gpu(1, "GPU-B", 24)])]);
    assert_eq!(given(&ask(&mut fleet, wish)), [("GPU-A", 0, 4), ("GPU-B", 1, 2)]);
}

#[test]
fn a_learnt_need_raises_the_formula_on_that_model_and_never_lowers_it() {
    for (learnt, free, places) in [(20, 20, 0), (20, 21, 1), (2, 16, 0), (2, 17, 1)] {
        let learned = BTreeMap::from([("NVIDIA L4".to_owned(), learnt * GIB)]);
        let steps = Arc::from([StepNeed { step: 2, need_bytes: 16 * GIB, learned, cards: BTreeMap::new() }]);
        let mut fleet = fleet(vec![node("node-a", &[gpu(0, "GPU-A", free)])]);
        let wish = Demand { steps, ..demand(&job("media", "mine"), 1) };
        assert_eq!(ask(&mut fleet, wish).placements.len(), places, "{learnt} {free}");
    }
}

/// The demand of the fixtures, with step 2 known to need more than a card has on these.
fn with_bound(segments: u32, cards: &[&str]) -> Demand {
    let wish = demand(&job("media", "mine"), segments);
    let mut steps = wish.steps.to_vec();
    steps[0].cards = cards.iter().map(|card| ((*card).to_owned(), 24 * GIB)).collect();
    Demand { steps: steps.into(), ..wish }
}

#[test]
fn what_one_card_has_shown_binds_that_card_and_lowers_nobody() {
    let cards = [gpu(0, "GPU-A", 24), gpu(1, "GPU-B", 24), gpu(2, "GPU-C", 24)];
    let mut fleet = fleet(vec![node("node-a", &cards)]);
    let given_to = |bound: &[&str], fleet: &mut Fleet| {
        let pass = ask(fleet, with_bound(4, bound));
        let steps: Vec<(String, u32)> =
            pass.placements.iter().map(|p| (p.grant.gpu.clone(), p.grant.step)).collect();
        (steps, pass.outlooks[&job("media", "mine")].effective_step)
    };
    let on = |cards: &[&str], step| cards.iter().map(|card| ((*card).to_owned(), step)).collect::<Vec<_>>();
    assert_eq!(given_to(&["gpu-b"], &mut fleet), (on(&["GPU-A", "GPU-C"], 2), Some(2)));
    assert_eq!(given_to(&["GPU-B", "GPU-C"], &mut fleet), (on(&["GPU-A"], 2), Some(2)));
    let all = ["GPU-A", "GPU-B", "GPU-C"];
    assert_eq!(given_to(&all, &mut fleet), (on(&all, 3), Some(3)), "there is none to wait for");
    // The bound card is not lost: a segment that may go lower gets it.
    let mut low = wanted(3);
    low.first_step = 3;
    let wish = Demand { wanted: Arc::from([wanted(0), wanted(1), low]), ..with_bound(0, &["GPU-A"]) };
    assert_eq!(given(&ask(&mut fleet, wish)), [("GPU-B", 0, 2), ("GPU-C", 1, 2), ("GPU-A", 3, 3)]);
}

#[test]
fn a_segment_that_was_not_at_fault_keeps_its_step_while_a_card_could_hold_it() {
    // The large card is used by others at the moment, so that a job of four goes at step 3.
    let small =
        |index| gpu_with(index, &format!("GPU-{index}"), 12, json!({"tot": 12 * GIB, "n": "NVIDIA A2"}));
    let large = |free| gpu_with(9, "GPU-9", free, if free < 24 { foreign(24 - free) } else { json!({}) });
    let kept = crate::fleet::demand::Wanted { keep: Some(2), ..wanted(0) };
    let wish = Demand { wanted: Arc::from([kept, wanted(1)]), ..demand(&job("media", "mine"), 0) };
    let mut busy = fleet(vec![node("node-a", &[small(0), small(1), small(2), large(4)])]);
    assert_eq!(given(&ask(&mut busy, wish.clone())), [("GPU-0", 1, 3)], "segment 0 waits for its step");
    let mut idle = fleet(vec![node("node-a", &[small(0), small(1), small(2), large(24)])]);
    assert_eq!(given(&ask(&mut idle, wish.clone())), [("GPU-9", 0, 2), ("GPU-0", 1, 3)]);
    let mut none = fleet(vec![node("node-a", &[small(0), small(1)])]);
    assert_eq!(given(&ask(&mut none, wish)), [("GPU-0", 0, 3), ("GPU-1", 1, 3)], "no card could hold step 2");
}

#[test]
fn patience_is_counted_once_then_the_step_falls_and_rises_again() {
    let mine = job("media", "mine");
    let mut fleet = fleet(vec![node("node-a", &[gpu_with(0, "GPU-A", 10, foreign(14))])]);
    fleet.set_demand(demand(&mine, 3));
    let step = |fleet: &mut Fleet, seconds| {
        let pass = pass(fleet, seconds);
        pass_and_undo(fleet, seconds);
        let outlook = pass.outlooks[&mine].clone();
        let steps: Vec<u32> = pass.placements.iter().map(|p| p.grant.step).collect();
        (steps, outlook.effective_step, outlook.lowered_by_patience, pass.next)
    };
    assert_eq!(step(&mut fleet, 0), (vec![], Some(2), false, Some(at(60))));
    assert_eq!(step(&mut fleet, 59), (vec![], Some(2), false, Some(at(60))));
    let missed = |seen: i64| Some(at(seen + 331));
    assert_eq!(step(&mut fleet, 60), (vec![3], Some(3), true, missed(0)), "next, a heartbeat may be missed");
    assert_eq!(step(&mut fleet, 61), (vec![3], Some(3), true, missed(0)), "it is spent, not counted again");
    let seen = fleet.apply_node(node("node-a", &[gpu(0, "GPU-A", 24)]), at(62));
    assert!(seen.is_empty());
    assert_eq!(step(&mut fleet, 62), (vec![2], Some(2), false, missed(62)), "the better step is tried first");
    fleet.apply_node(node("node-a", &[gpu_with(0, "GPU-A", 10, foreign(14))]), at(70));
    assert_eq!(step(&mut fleet, 70), (vec![], Some(2), false, Some(at(130))));
}

#[test]
fn without_patience_a_job_waits_for_its_step() {
    let mut fleet = fleet(vec![node("node-a", &[gpu(0, "GPU-A", 10)])]);
    fleet.set_demand(Demand { patience: None, ..demand(&job("media", "mine"), 1) });
    for seconds in [0, 100, 600] {
        let pass = pass(&fleet, seconds);
        pass_and_undo(&mut fleet, seconds);
        assert_eq!((given(&pass), pass.starved.len()), (vec![], 0));
    }
}

#[test]
fn the_namespace_with_the_fewest_gpus_is_served_first_then_the_oldest_job() {
    let (old, young, other) = (job("media", "old"), job("media", "young"), job("lab", "other"));
    let mut fleet =
        fleet(vec![node("node-a", &(0..6).map(|i| gpu(i, &format!("GPU-{i}"), 24)).collect::<Vec<_>>())]);
    fleet.apply_claim(claim("GPU-0", &other, 9, "me"));
    fleet.set_demand(Demand { created: at(-5), ..demand(&young, 8) });
    fleet.set_demand(Demand { created: at(-9), parallelism: 2, ..demand(&old, 8) });
    fleet.set_demand(demand(&other, 8));
    let pass = pass(&fleet, 0);
    let order: Vec<&str> = pass.placements.iter().map(|p| p.attempt.job.name.as_str()).collect();
    assert_eq!(order, ["old", "other", "old", "other", "young"]);
}

#[test]
fn claims_count_against_parallelism_and_quarantined_ones_do_not() {
    let mine = job("media", "mine");
    let cards: Vec<Value> = (0..4).map(|i| gpu(i, &format!("GPU-{i}"), 24)).collect();
    let mut fleet = fleet(vec![node("node-a", &cards)]);
    let lost = Some(Mark { cause: "lost".into(), at: at(0) });
    fleet.apply_claim(claim("GPU-0", &mine, 0, "me"));
    fleet.apply_claim(Claim { quarantined: lost, ..claim("GPU-1", &mine, 1, "me") });
    let pass = ask(&mut fleet, Demand { parallelism: 2, ..demand(&mine, 4) });
    assert_eq!(given(&pass), [("GPU-2", 1, 2)], "segment 0 runs, so 1 is next");
    assert_eq!(pass.outlooks[&mine].unplaced, 2);
}

#[test]
fn an_attempt_that_was_served_gets_no_second_gpu_until_its_job_asks_again() {
    let mine = job("media", "mine");
    let mut fleet = fleet(vec![node("node-a", &[gpu(0, "GPU-A", 24), gpu(1, "GPU-B", 24)])]);
    fleet.set_demand(demand(&mine, 1));
    let first = fleet.decide(at(0));
    assert_eq!(first.len(), 1);
    assert_eq!(fleet.decide(at(0)), [], "it is promised one");
    fleet.settled(&first[0], false);
    assert_eq!(fleet.decide(at(0)), [], "the claim may have been written, and nobody has told");
    assert!(fleet.set_demand(demand(&mine, 1)));
    assert_eq!(fleet.decide(at(0)), first);
    fleet.settled(&first[0], true);
    assert_eq!(fleet.decide(at(0)), first, "somebody else was faster with the card, which is free again");
}

#[test]
fn a_node_is_not_filled_beyond_what_our_pods_and_claims_leave() {
    let mine = job("media", "mine");
    let cards: Vec<Value> = (0..4).map(|i| gpu(i, &format!("GPU-{i}"), 24)).collect();
    let size = json!({"status": {"allocatable": {"cpu": "3"}}});
    let mut fleet = fleet(vec![node_with("node-a", &cards, size)]);
    fleet.set_demand(demand(&mine, 4));
    assert_eq!(pass(&fleet, 0).placements.len(), 3);
    fleet.apply_claim(claim("GPU-0", &mine, 9, "me"));
    assert_eq!(pass(&fleet, 0).placements.len(), 2, "a claim announces a pod");
    fleet.apply_pod(pod("p1", "GPU-9", PodStage::NeedsNoGpu));
    assert_eq!(pass(&fleet, 0).placements.len(), 1, "a pod that encodes holds its room");
    fleet.apply_pod(pod("p1", "GPU-9", PodStage::Ended));
    assert_eq!(pass(&fleet, 0).placements.len(), 2);
}

#[test]
fn the_wait_names_the_nearest_card_and_the_numbers() {
    let mine = job("media", "mine");
    let mut fleet = fleet(vec![node("node-a", &[gpu(0, "GPU-A", 9), gpu(1, "GPU-B", 12)])]);
    let pass = ask(&mut fleet, demand(&mine, 2));
    let outlook = &pass.outlooks[&mine];
    assert_eq!((outlook.effective_step, outlook.unplaced), (Some(2), 2));
    assert_eq!(outlook.wait.best, Some(("node-a".to_owned(), 1, 12 * GIB)));
    assert_eq!((outlook.wait.need_bytes, outlook.wait.headroom_bytes), (16 * GIB, GIB));
    assert_eq!(outlook.wait.causes, BTreeMap::from([(Cause::NotEnoughFree, 2)]));
    assert_eq!(outlook.wait.products, BTreeMap::from([("NVIDIA L4".to_owned(), 2)]));
}
