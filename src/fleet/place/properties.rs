//! Properties of placement over random fleets, and what a pass costs.

#![expect(clippy::arithmetic_side_effects, reason = "figures of tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::place;
use crate::api::quantity::GIB;
use crate::api::video_upscale::ForeignProcesses;
use crate::fleet::claim::JobKey;
use crate::fleet::demand::{Demand, Wanted};
use crate::fleet::fixtures::*;
use crate::fleet::index::Fleet;

/// Total, free, foreign processes.
type SomeCard = (u64, u64, u32);
/// Namespace, parallelism, segments with their first step and whether only the largest will do, policy.
type SomeJob = (u8, u32, Vec<(u32, bool)>, u8);

#[derive(Clone, Debug)]
struct World {
    /// Processors and cards of each node.
    nodes: Vec<(u32, Vec<SomeCard>)>,
    jobs: Vec<SomeJob>,
    /// Claims: card by number, job by number.
    claims: Vec<(usize, usize)>,
    later: i64,
}

fn world() -> impl Strategy<Value = World> {
    let card = (4_u64..80).prop_flat_map(|total| (Just(total), 0..=total, 0_u32..3));
    let node = (0_u32..6, prop::collection::vec(card, 0..6));
    let segment = (2_u32..6, prop::bool::weighted(0.1));
    let job = (0_u8..3, 0_u32..5, prop::collection::vec(segment, 0..8), 0_u8..3);
    let nodes = prop::collection::vec(node, 0..5);
    let jobs = prop::collection::vec(job, 0..6);
    let claims = prop::collection::vec((0_usize..20, 0_usize..6), 0..6);
    (nodes, jobs, claims, 0_i64..120).prop_map(|(nodes, jobs, claims, later)| World {
        nodes,
        jobs,
        claims,
        later,
    })
}

fn job_of(world: &World, number: usize) -> JobKey {
    job(["a", "b", "c"][usize::from(world.jobs[number].0)], &format!("job-{number}"))
}

fn build(world: &World) -> Fleet {
    let mut all = Fleet::new(RELEASE);
    let mut uuids = Vec::new();
    for (number, (cpu, cards)) in world.nodes.iter().enumerate() {
        let name = format!("node-{number}");
        let cards: Vec<Value> = cards
            .iter()
            .enumerate()
            .map(|(index, (total, free, foreign))| {
                let uuid = format!("GPU-{number}-{index}");
                uuids.push(uuid.clone());
                let procs = json!({"n": foreign, "b": 0, "more": foreign, "top": []});
                gpu_with(index.try_into().unwrap(), &uuid, *free, json!({"tot": total * GIB, "procs": procs}))
            })
            .collect();
        all.apply_node(
            node_with(&name, &cards, json!({"status": {"allocatable": {"cpu": cpu.to_string()}}})),
            at(0),
        );
    }
    for (card, number) in &world.claims {
        if let (Some(uuid), true) = (uuids.get(*card), *number < world.jobs.len()) {
            all.apply_claim(claim(uuid, &job_of(world, *number), u32::try_from(*card).unwrap() % 8, "me"));
        }
    }
    for (number, (_, parallelism, segments, policy)) in world.jobs.iter().enumerate() {
        let list = segments.iter().enumerate().map(|(segment, (first_step, largest_only))| Wanted {
            first_step: *first_step,
            largest_only: *largest_only,
            ..wanted(segment.try_into().unwrap())
        });
        let mut wish =
            Demand { wanted: list.collect(), parallelism: *parallelism, ..demand(&job_of(world, number), 0) };
        wish.created = at(-i64::try_from(number).unwrap());
        wish.gpu.foreign = [ForeignProcesses::Avoid, ForeignProcesses::Forbid, ForeignProcesses::Tolerate]
            [usize::from(*policy)];
        all.set_demand(wish);
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn what_is_given_is_free_fits_and_is_given_once(world in world()) {
        let mut fleet = build(&world);
        let before = place(&fleet.snapshot(at(0)), at(0));
        fleet.record_pass(&before);
        let snapshot = fleet.snapshot(at(world.later));
        let pass = place(&snapshot, at(world.later));
        let mut cards = BTreeSet::new();
        let mut segments = BTreeSet::new();
        let mut held: BTreeMap<&JobKey, usize> = BTreeMap::new();
        let mut pods: BTreeMap<&str, u64> = BTreeMap::new();
        for placement in &pass.placements {
            let (attempt, grant) = (&placement.attempt, &placement.grant);
            prop_assert!(cards.insert(&grant.gpu), "one GPU twice");
            prop_assert!(segments.insert((&attempt.job, attempt.segment)), "one segment twice");
            prop_assert!(fleet.claim(&grant.gpu).is_none_or(|claim| claim.is_free()), "a claimed GPU");
            prop_assert!(grant.seen.available >= grant.need_bytes + GIB, "too little memory");
            let asked = snapshot.asked.iter().find(|asked| asked.demand.job == attempt.job).unwrap();
            let due = asked.demand.wanted.iter().find(|wanted| wanted.segment == attempt.segment).unwrap();
            prop_assert!(grant.step >= due.first_step, "a step that failed before");
            *held.entry(&attempt.job).or_insert_with(|| snapshot.holdings.get(&attempt.job).map_or(0, BTreeSet::len)) += 1;
            *pods.entry(&grant.node).or_default() += 1000;
        }
        for (job, held) in held {
            let asked = snapshot.asked.iter().find(|asked| asked.demand.job == *job).unwrap();
            prop_assert!(held <= asked.demand.parallelism as usize, "more than parallelism");
        }
        for spot in &snapshot.spots {
            let used = pods.get(spot.facts.name.as_str()).copied().unwrap_or(0);
            prop_assert!(used <= spot.room.cpu_millis, "more pods than the node holds");
        }
        for outlook in pass.outlooks.values() {
            prop_assert_eq!(outlook.wait.causes.values().sum::<u32>() as usize, snapshot.cards.len());
        }
        prop_assert_eq!(&place(&fleet.snapshot(at(world.later)), at(world.later)), &pass, "not the same twice");
    }

    #[test]
    fn nobody_waits_for_a_card_that_is_left_over(world in world()) {
        let fleet = build(&world);
        let snapshot = fleet.snapshot(at(0));
        let pass = place(&snapshot, at(0));
        let taken: BTreeSet<&str> = pass.placements.iter().map(|placement| placement.grant.gpu.as_str()).collect();
        for asked in &snapshot.asked {
            let demand = &asked.demand;
            let outlook = &pass.outlooks[&demand.job];
            let given = pass.placements.iter().filter(|placement| placement.attempt.job == demand.job).count();
            let held = snapshot.holdings.get(&demand.job).map_or(0, BTreeSet::len);
            let Some(step) = outlook.effective_step else { continue };
            let served = |wanted: &Wanted| {
                snapshot.holdings.get(&demand.job).is_some_and(|held| held.contains(&wanted.segment))
                    || pass.placements.iter().any(|p| p.attempt.job == demand.job && p.attempt.segment == wanted.segment)
            };
            let waits = demand.wanted.iter().any(|w| !w.largest_only && w.first_step <= step && !served(w));
            if held + given >= demand.parallelism as usize || !waits {
                continue;
            }
            let need = demand.steps.iter().find(|need| need.step == step).unwrap().need_bytes + GIB;
            for card in &snapshot.cards {
                let used = pass.placements.iter().filter(|p| p.grant.node == snapshot.spots[card.spot].facts.name).count();
                let room = snapshot.spots[card.spot].room.cpu_millis >= (used as u64 + 1) * 1000;
                let forbidden = demand.gpu.foreign == ForeignProcesses::Forbid && card.foreign != Some(0);
                let usable = card.closed.is_none() && !forbidden && card.available >= need && room;
                prop_assert!(!usable || taken.contains(card.uuid.as_ref()), "{} is left over", card.uuid);
            }
        }
    }

    #[test]
    fn with_equal_demand_no_namespace_gets_two_more_than_another(cards in 0_u32..12, jobs in 1_usize..6) {
        let cards: Vec<Value> = (0..cards).map(|index| gpu(index, &format!("GPU-{index}"), 24)).collect();
        let mut fleet = fleet(vec![node("node-a", &cards)]);
        for number in 0..jobs {
            fleet.set_demand(demand(&job(&format!("n{number}"), "job"), 8));
        }
        let pass = place(&fleet.snapshot(at(0)), at(0));
        let counts: Vec<usize> = (0..jobs)
            .map(|number| pass.placements.iter().filter(|p| p.attempt.job.namespace == format!("n{number}")).count())
            .collect();
        prop_assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1, "{counts:?}");
        prop_assert_eq!(pass.placements.len(), cards.len().min(8 * jobs));
    }
}

#[test]
#[ignore = "measures; cargo test --release --lib -- --ignored --nocapture a_pass_over"]
#[expect(clippy::disallowed_methods, reason = "measures")]
fn a_pass_over_ten_thousand_gpus_and_a_hundred_thousand_segments() {
    let mut all = Fleet::new(RELEASE);
    for number in 0..1250_u64 {
        let cards: Vec<Value> = (0..8)
            .map(|index| {
                gpu(index, &format!("GPU-{number}-{index}"), 10 + (number * 7 + u64::from(index)) % 14)
            })
            .collect();
        all.apply_node(node(&format!("node-{number:04}"), &cards), at(0));
    }
    let list: Arc<[Wanted]> = (0..500).map(wanted).collect();
    for (classes, parallelism) in [(1, 50), (1, 8), (200, 8), (200, 50)] {
        for number in 0..200_u64 {
            let key = job(&format!("n{}", number % 20), &format!("job-{number}"));
            let mut wish = Demand { wanted: Arc::clone(&list), parallelism, ..demand(&key, 0) };
            wish.gpu.min_free_bytes = number % classes;
            all.set_demand(wish);
        }
        let mut times = Vec::new();
        let mut placed = 0;
        for _ in 0..5 {
            let begun = std::time::Instant::now();
            let snapshot = all.snapshot(at(1));
            let frozen = begun.elapsed();
            placed = place(&snapshot, at(1)).placements.len();
            times.push((begun.elapsed(), frozen));
        }
        times.sort();
        println!(
            "{classes} kinds of demand, parallelism {parallelism}: {placed} placed; median total, freeze {:?}",
            times[2]
        );
    }
}
