use serde_json::json;

use super::*;
use crate::api::quantity::GIB;
use crate::fleet::claim::Mark;
use crate::fleet::demand::{Cause, GpuRequirements, Unread};
use crate::fleet::fixtures::*;
use crate::fleet::pod::PodStage;

#[test]
fn a_sign_of_life_makes_a_report_fresh_and_wakes_who_holds_its_gpus() {
    let mine = job("media", "mine");
    let mut all = fleet(vec![node("node-a", &[gpu(0, "GPU-A", 24)])]);
    all.apply_claim(claim("GPU-A", &mine, 0, "me"));
    for (age, expected) in [(660, Freshness::Fresh), (661, Freshness::Stale), (1201, Freshness::Dead)] {
        assert_eq!(all.freshness("node-a", at(age)), Some(expected), "{age}");
    }
    assert!(
        all.apply_node(node("node-a", &[gpu(0, "GPU-A", 24)]), at(900)).is_empty(),
        "nothing new was said"
    );
    assert_eq!(all.freshness("node-a", at(900)), Some(Freshness::Stale));
    let woken = all.apply_node(node("node-a", &[gpu(0, "GPU-A", 23)]), at(900));
    assert_eq!(woken, BTreeSet::from([mine]));
    assert_eq!(all.freshness("node-a", at(900)), Some(Freshness::Fresh));
}

#[test]
fn a_report_that_was_old_when_first_seen_is_old() {
    for (seen, expected) in [(900, Freshness::Fresh), (901, Freshness::Stale), (1300, Freshness::Dead)] {
        let mut all = Fleet::new(RELEASE);
        all.apply_node(node("node-a", &[gpu(0, "GPU-A", 24)]), at(seen));
        assert_eq!(all.freshness("node-a", at(seen)), Some(expected), "{seen}");
    }
}

#[test]
fn a_wrong_clock_of_the_node_matters_at_the_first_sight_only() {
    let late = |seconds: i64, free: u64| {
        let report = report(&[gpu(0, "GPU-A", free)], at(seconds - 960));
        NodeFacts::of(&node_of("node-a", &report, json!({}))).unwrap()
    };
    let mut all = Fleet::new(RELEASE);
    all.apply_node(late(0, 24), at(0));
    assert_eq!(all.freshness("node-a", at(0)), Some(Freshness::Stale));
    all.apply_node(late(300, 23), at(300));
    assert_eq!(all.freshness("node-a", at(300)), Some(Freshness::Fresh), "it was seen to change");
    assert_eq!(all.freshness("node-a", at(961)), Some(Freshness::Stale));
}

#[test]
fn a_step_of_our_own_clock_ages_nothing() {
    let mine = job("media", "mine");
    for step in [3600, -3600] {
        let mut all = fleet(vec![node("node-a", &[gpu(0, "GPU-A", 9)])]);
        all.set_demand(demand(&mine, 1));
        pass_and_undo(&mut all, 0);
        all.clock_stepped(SignedDuration::from_secs(step));
        let after = |seconds: i64| at(step + seconds);
        let given = all.decide(after(59));
        assert_eq!(given.len(), 0, "patience has not run out");
        assert_eq!(all.freshness("node-a", after(660)), Some(Freshness::Fresh));
        assert_eq!(all.freshness("node-a", after(661)), Some(Freshness::Stale));
        assert_eq!(all.decide(after(60)).len(), 1, "patience has run out");
    }
}

#[test]
fn gpus_of_nodes_that_are_not_ready_are_not_offered() {
    let lost = node_with("node-a", &[gpu(0, "GPU-A", 24)], json!({"status": {"conditions": []}}));
    let all = fleet(vec![lost, node("node-b", &[gpu(0, "GPU-B", 24)])]);
    assert_eq!(all.matching(&GpuRequirements::default(), at(0)).gpus, 1);
}

#[test]
fn of_a_report_with_an_odd_uuid_or_twins_the_other_gpus_are_used() {
    let mine = job("media", "mine");
    let odd = ["GPU-A", "", "../GPU", "GPU-T", "gpu-t"];
    let cards: Vec<_> = (0..).zip(odd).map(|(index, uuid)| gpu(index, uuid, 24)).collect();
    let mut all = fleet(vec![node("node-a", &cards)]);
    all.set_demand(demand(&mine, 9));
    let given = all.decide(at(0));
    assert_eq!(given.iter().map(|given| given.grant.gpu.as_str()).collect::<Vec<_>>(), ["GPU-A"]);
    all.tell(true, at(0));
    let causes = &all.outlook(&mine).unwrap().wait.causes;
    assert_eq!(causes, &BTreeMap::from([(Cause::Unhealthy, 4), (Cause::Ours, 1)]));
    assert_eq!(all.matching(&GpuRequirements::default(), at(0)).gpus, 1);
    assert!(all.site("gpu-t").is_none() && all.site("gpu-a").is_some());
}

#[test]
fn a_report_that_cannot_be_used_is_told_with_its_node() {
    let mine = job("media", "mine");
    let broken = |version: u32| {
        let mut report = report(&[gpu(0, "GPU-A", 24)], at(0));
        report["v"] = version.into();
        NodeFacts::of(&node_of("node-a", &report, json!({}))).unwrap()
    };
    let mut all = fleet(vec![broken(2)]);
    all.set_demand(demand(&mine, 1));
    let told = |all: &mut Fleet, seconds: i64| {
        pass_and_undo(all, seconds);
        let woken = all.tell(true, at(seconds)).len();
        (woken, all.outlook(&mine).unwrap().wait.unread.clone())
    };
    let why = |version: u32| format!("the report has schema version {version}; this reader knows 1");
    let expected = |version: u32| Unread { nodes: 1, first: Some(("node-a".to_owned(), why(version))) };
    assert_eq!(told(&mut all, 0), (1, expected(2)));
    all.apply_node(broken(3), at(1));
    assert_eq!(told(&mut all, 1), (0, expected(3)), "known, and told a minute after the last");
    assert_eq!(told(&mut all, 61), (1, expected(3)));
    all.apply_node(node("node-a", &[gpu(0, "GPU-A", 9)]), at(62));
    assert_eq!(told(&mut all, 130).1, Unread::default());
}

#[test]
fn an_older_version_of_a_claim_changes_nothing() {
    let mine = job("media", "mine");
    let version = |version: &str, claim: Claim| Claim { resource_version: version.into(), ..claim };
    let mut all = Fleet::new(RELEASE);
    assert_eq!(all.apply_claim(version("9", claim("GPU-A", &mine, 0, "me"))), BTreeSet::from([mine.clone()]));
    assert!(all.apply_claim(version("8", Claim::unclaimed("gpu-a"))).is_empty());
    assert!(all.remove_claim(&version("8", Claim::unclaimed("gpu-a"))).is_empty());
    assert_eq!(all.claim("GPU-A").unwrap().holder, Some(attempt(&mine, 0)));
    assert_eq!(all.apply_claim(version("10", Claim::unclaimed("gpu-a"))), BTreeSet::from([mine]));
    assert!(all.claim("gpu-a").unwrap().is_free());
}

#[test]
fn the_last_pods_of_a_gpu_are_remembered_whatever_job_they_were_of() {
    let mut all = Fleet::new(RELEASE);
    let last = |all: &Fleet| all.last_pods("gpu-a").map(str::to_owned).collect::<Vec<_>>();
    for number in 0..10_u32 {
        let holder = job("media", ["mine", "other"][number as usize % 2]);
        let claim = Claim {
            last_pod_uid: Some(format!("p{}", number / 2)),
            resource_version: (number + 1).to_string(),
            ..claim("GPU-A", &holder, number, "me")
        };
        all.apply_claim(claim);
    }
    assert_eq!(last(&all), ["p0", "p1", "p2", "p3", "p4"]);
    for number in 5..20_u32 {
        let freed = Claim {
            last_pod_uid: Some(format!("p{number}")),
            resource_version: (number + 20).to_string(),
            ..Claim::unclaimed("GPU-A")
        };
        all.apply_claim(freed);
    }
    assert_eq!((last(&all).len(), last(&all)[0].as_str()), (8, "p12"));
    let gone = Claim { resource_version: "50".into(), ..Claim::unclaimed("GPU-A") };
    all.remove_claim(&gone);
    assert!(last(&all).is_empty());
}

#[test]
fn two_pods_on_one_gpu_are_found_and_the_named_one_is_spared() {
    let process = |uid: &str| json!({"k": "pod", "u": uid, "p": 1, "b": GIB, "t": "C"});
    let procs =
        json!({"procs": {"n": 3, "b": 3 * GIB, "top": [process("p1"), process("p2"), process("stranger")]}});
    let mut all = fleet(vec![node("node-a", &[gpu_with(0, "GPU-A", 21, procs)])]);
    let held = claim("GPU-A", &job("media", "mine"), 0, "me");
    let mut named = pod("p1", "GPU-A", PodStage::MayUseGpu);
    named.name = held.holder.as_ref().unwrap().pod_name();
    all.apply_claim(held);
    all.apply_pod(named);
    assert!(all.intruders().is_empty(), "one pod, and a neighbour that is not ours");
    all.apply_pod(pod("p2", "GPU-A", PodStage::MayUseGpu));
    assert_eq!(all.intruders().iter().map(|found| found.uid.as_str()).collect::<Vec<_>>(), ["p2"]);
    all.apply_pod(pod("p2", "GPU-A", PodStage::NeedsNoGpu));
    assert!(all.intruders().is_empty(), "its engine has ended since the report");
}

#[test]
fn what_the_fleet_could_offer_counts_used_cards_and_not_dead_ones() {
    let small = json!({"status": {"allocatable": {"memory": "16Gi"}}});
    let mut all = fleet(vec![
        node("node-a", &[gpu(0, "GPU-A", 0), gpu(1, "GPU-B", 24)]),
        node_with("node-b", &[gpu(0, "GPU-C", 24)], small),
    ]);
    all.apply_claim(claim("GPU-B", &job("media", "mine"), 0, "me"));
    let any = GpuRequirements::default();
    let expected = Matching {
        gpus: 3,
        largest_bytes: Some(24 * GIB),
        host_bytes: Some(16 * GIB),
        largest_host_bytes: Some(128 * GIB),
    };
    assert_eq!(all.matching(&any, at(0)), expected);
    assert_eq!(all.matching(&any, at(1201)), Matching::default());
    let none = GpuRequirements { products: vec!["H100".into()], ..any };
    assert_eq!(all.matching(&none, at(0)), Matching::default());
}

#[test]
fn an_outlook_wakes_its_job_when_more_than_figures_moved() {
    let mine = job("media", "mine");
    let mut all = fleet(vec![node("node-a", &[gpu(0, "GPU-A", 9)])]);
    all.set_demand(demand(&mine, 1));
    let told = |all: &mut Fleet, seconds: i64| {
        pass_and_undo(all, seconds);
        all.tell(true, at(seconds)).len()
    };
    assert_eq!((told(&mut all, 0), told(&mut all, 0)), (1, 0));
    all.apply_node(node("node-a", &[gpu(0, "GPU-A", 10)]), at(0));
    assert_eq!(told(&mut all, 0), 0, "a figure moved");
    assert_eq!(
        all.outlook(&mine).unwrap().wait.best,
        Some(("node-a".to_owned(), 0, 10 * GIB)),
        "and is known"
    );
    all.apply_claim(Claim { out: Some(Mark { cause: "x".into(), at: at(0) }), ..Claim::unclaimed("gpu-a") });
    assert_eq!(told(&mut all, 1), 1, "another reason");
    all.apply_node(node("node-b", &[gpu_with(0, "GPU-B", 9, json!({"h": "bad"}))]), at(1));
    assert_eq!(
        (told(&mut all, 2), told(&mut all, 60), told(&mut all, 61)),
        (0, 0, 1),
        "counts, once a minute"
    );
}

#[test]
fn a_job_that_asks_is_answered_without_telling_the_others() {
    let (mine, other) = (job("media", "mine"), job("media", "other"));
    let mut all = fleet(vec![node("node-a", &[gpu(0, "GPU-A", 9)])]);
    all.set_demand(demand(&other, 1));
    pass_and_undo(&mut all, 0);
    assert_eq!(all.tell(true, at(0)).len(), 1);
    all.set_demand(demand(&mine, 1));
    pass_and_undo(&mut all, 0);
    all.apply_claim(Claim { out: Some(Mark { cause: "x".into(), at: at(0) }), ..Claim::unclaimed("gpu-a") });
    assert_eq!(all.tell(false, at(0)), BTreeSet::from([mine]));
}

#[test]
fn a_demand_that_did_not_change_asks_for_no_pass() {
    let mine = job("media", "mine");
    let mut all = Fleet::new(RELEASE);
    assert!(all.set_demand(demand(&mine, 3)));
    assert!(!all.set_demand(demand(&mine, 3)));
    assert!(all.set_demand(demand(&mine, 4)));
}
