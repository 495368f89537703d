//! Properties of placement over random fleets.

#![expect(clippy::arithmetic_side_effects, reason = "figures of tests")]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::place;
use crate::api::quantity::GIB;
use crate::api::video_upscale::ForeignProcesses;
use crate::fleet::claim::JobKey;
use crate::fleet::demand::{Demand, StepNeed, Wanted};
use crate::fleet::fixtures::*;
use crate::fleet::index::Fleet;
use crate::fleet::snapshot::Card;

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
    /// What single cards have shown: card by number, rung, need in GiB.
    shown: Vec<(usize, usize, u64)>,
    /// Cards by number that no segment should get again.
    avoid: Vec<usize>,
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
    let shown = prop::collection::vec((0_usize..20, 0_usize..3, 4_u64..40), 0..4);
    let avoid = prop::collection::vec(0_usize..20, 0..3);
    (nodes, jobs, claims, shown, avoid, 0_i64..120).prop_map(|(nodes, jobs, claims, shown, avoid, later)| {
        World { nodes, jobs, claims, shown, avoid, later }
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
            avoid_gpus: world.avoid.iter().filter_map(|card| uuids.get(*card).cloned()).collect(),
            ..wanted(segment.try_into().unwrap())
        });
        let mut wish =
            Demand { wanted: list.collect(), parallelism: *parallelism, ..demand(&job_of(world, number), 0) };
        wish.created = at(-i64::try_from(number).unwrap());
        let mut steps = wish.steps.to_vec();
        for (card, rung, gib) in &world.shown {
            let uuid = uuids.get(*card).map(|uuid| uuid.to_lowercase());
            steps[*rung].cards.extend(uuid.map(|uuid| (uuid, gib * GIB)));
        }
        wish.steps = steps.into();
        wish.gpu.foreign = [ForeignProcesses::Avoid, ForeignProcesses::Forbid, ForeignProcesses::Tolerate]
            [usize::from(*policy)];
        all.set_demand(wish);
    }
    all
}

fn on(need: &StepNeed, card: &Card) -> u64 {
    need.on_card("NVIDIA L4", &card.uuid)
}

proptest! {

    #[test]
    fn what_is_given_is_free_fits_and_is_given_once(world in world()) {
        let mut fleet = build(&world);
        pass_and_undo(&mut fleet, 0);
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
            *held.entry(&attempt.job).or_insert_with(|| snapshot.holdings.get(&attempt.job).map_or(0, BTreeMap::len)) += 1;
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
            let held = snapshot.holdings.get(&demand.job).map_or(0, BTreeMap::len);
            let Some(step) = outlook.effective_step else { continue };
            let served = |wanted: &Wanted| {
                snapshot.holdings.get(&demand.job).is_some_and(|held| held.contains_key(&wanted.segment))
                    || pass.placements.iter().any(|p| p.attempt.job == demand.job && p.attempt.segment == wanted.segment)
            };
            let waits = demand.wanted.iter().any(|w| !w.largest_only && w.first_step <= step && !served(w));
            if held + given >= demand.parallelism as usize || !waits {
                continue;
            }
            let need = demand.steps.iter().find(|need| need.step == step).unwrap();
            for card in &snapshot.cards {
                let used = pass.placements.iter().filter(|p| p.grant.node == snapshot.spots[card.spot].facts.name).count();
                let room = snapshot.spots[card.spot].room.cpu_millis >= (used as u64 + 1) * 1000;
                let forbidden = !card.company.suits(demand.gpu.foreign);
                let usable = card.closed.is_none() && !forbidden && card.available >= on(need, card) + GIB && room;
                prop_assert!(!usable || taken.contains(card.uuid.as_ref()), "{} is left over", card.uuid);
            }
        }
    }

    #[test]
    fn the_first_card_given_is_the_best_of_all_that_will_do(world in world()) {
        let fleet = build(&world);
        let snapshot = fleet.snapshot(at(0));
        let Some(first) = place(&snapshot, at(0)).placements.into_iter().next() else { return Ok(()) };
        let asked = snapshot.asked.iter().find(|asked| asked.demand.job == first.attempt.job).unwrap();
        let demand = &asked.demand;
        let wanted = demand.wanted.iter().find(|wanted| wanted.segment == first.attempt.segment).unwrap();
        if wanted.largest_only {
            return Ok(());
        }
        let need = demand.steps.iter().find(|need| need.step == first.grant.step).unwrap();
        let ranks = snapshot.cards.iter().enumerate().filter_map(|(index, card)| {
            let forbidden = !card.company.suits(demand.gpu.foreign);
            let room = snapshot.spots[card.spot].room.holds(demand.requests);
            let will_do = card.closed.is_none() && !forbidden && room && card.available >= on(need, card) + GIB;
            let foreign = card.foreign.filter(|_| demand.gpu.foreign != ForeignProcesses::Tolerate).unwrap_or(0);
            let again = wanted.avoid_gpus.contains(card.uuid.as_ref());
            will_do.then(|| (again, foreign, card.available - on(need, card), index))
        });
        let (.., best) = ranks.min().unwrap();
        prop_assert_eq!(&first.grant.gpu, snapshot.cards[best].uuid.as_ref());
        prop_assert_eq!(first.grant.need_bytes, on(need, &snapshot.cards[best]));
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
