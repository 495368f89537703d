//! A cluster in a few lines, and plans against it: pods end as chance has it, GPUs are given as the fleet would, the
//! controller dies after any prefix of its changes and forgets everything, notes of an attempt vanish with its pod. The
//! tenant suspends, changes the spec, asks for another try, deletes; claims, pods and status are seen late. Another controller is at work
//! on the same job, and creates of pods come through long after they were sent.

#![expect(clippy::arithmetic_side_effects, reason = "a test counts small numbers")]

mod cluster;

use proptest::prelude::*;

use self::cluster::{Cluster, Late};
use super::status;
use crate::api::conditions::ConditionType;
use crate::api::video_upscale::DegradationPolicy;

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
    /// The same, with pods and status no newer than heard of, and claims now or as they were a pass ago.
    Behind(usize, bool),
    /// The controller at work hears of one pod how it is now, or that it is gone.
    Hear(usize),
    /// The fleet serves the demand.
    Place,
    /// A pass whose first create of a pod gets no answer.
    Stall,
    /// That create comes through.
    Land,
    /// The other controller goes on.
    Switch,
    /// Seconds pass.
    Wait(i64),
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
        2 => (0usize..12, any::<bool>()).prop_map(|(prefix, claims)| Chance::Behind(prefix, claims)),
        1 => (0usize..8).prop_map(Chance::Hear),
        2 => Just(Chance::Place),
        1 => Just(Chance::Stall),
        1 => Just(Chance::Land),
        1 => Just(Chance::Switch),
        1 => (1i64..40).prop_map(Chance::Wait),
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
            Chance::Pass(prefix) => cluster.pass(*prefix, Late::default()),
            Chance::Late(prefix) => cluster.pass(*prefix, Late { claims: true, rest: false }),
            Chance::Behind(prefix, claims) => cluster.pass(*prefix, Late { claims: *claims, rest: true }),
            Chance::Hear(which) => cluster.hear(*which),
            Chance::Tenant(wish) => cluster.wish(*wish),
            Chance::Place => cluster.place(),
            Chance::Stall => cluster.stall(),
            Chance::Land => cluster.land(),
            Chance::Switch => cluster.switch(),
            Chance::Wait(seconds) => cluster.wait(*seconds),
            Chance::Run(which, fate) => cluster.run(*which, *fate),
        }
    }
    // The world behaves from now on.
    cluster.wish(Wish::Suspend(false));
    let deleting = cluster.observed.identity.deleting;
    for _ in 0..400 {
        cluster.wait(15);
        cluster.pass(usize::MAX, Late::default());
        cluster.place();
        cluster.pass(usize::MAX, Late::default());
        for which in 0..4 {
            cluster.run(which, Fate::Succeeds);
        }
        if cluster.is_over() || (deleting && cluster.claims.is_empty()) {
            break;
        }
    }
    assert!(cluster.is_over() || deleting, "{:?} {:?}", cluster.observed.status, cluster.claims);
    for _ in 0..4 {
        cluster.wait(15);
        cluster.pass(usize::MAX, Late::default());
    }
    assert!(cluster.claims.is_empty(), "nothing is held after the end: {:?}", cluster.claims);
    let before = cluster.observed.status.clone();
    cluster.pass(usize::MAX, Late::default());
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
fn a_gpu_is_not_given_back_for_a_pod_whose_name_another_controller_has_used_again() {
    let mut chances = vec![Chance::Pass(9), Chance::Place, Chance::Pass(9)];
    chances.extend([Chance::Run(0, Fate::Succeeds), Chance::Hear(0), Chance::Run(0, Fate::Vanishes)]);
    chances.extend([Chance::Switch, Chance::Pass(9), Chance::Switch, Chance::Behind(9, false)]);
    chances.extend([Chance::Place, Chance::Pass(9)]);
    lives_through("PerSegment", &chances);
}

#[test]
fn a_create_that_nobody_answered_is_not_forgotten_when_a_later_pass_stops_half_way() {
    let mut chances = vec![Chance::Pass(0), Chance::Stall, Chance::Pass(0), Chance::Place, Chance::Switch];
    chances.extend([Chance::Stall, Chance::Late(9), Chance::Tenant(Wish::Suspend(true)), Chance::Pass(9)]);
    lives_through("PerSegment", &chances);
}

#[test]
fn a_round_that_begins_while_a_pod_is_being_made_waits_for_it() {
    let mut chances = vec![Chance::Stall, Chance::Place, Chance::Stall, Chance::Stall];
    chances.extend([
        Chance::Run(0, Fate::NeedsMoreThanTheCard),
        Chance::Pass(3),
        Chance::Place,
        Chance::Pass(2),
    ]);
    lives_through("Uniform", &chances);
}

#[test]
fn an_undisturbed_job_ends_well_and_every_segment_was_done() {
    let mut cluster = Cluster::new("PerSegment");
    for _ in 0..60 {
        cluster.wait(5);
        cluster.pass(usize::MAX, Late::default());
        cluster.place();
        cluster.pass(usize::MAX, Late::default());
        for which in 0..3 {
            cluster.run(which, Fate::Succeeds);
        }
    }
    assert!(status::is_true(&cluster.observed.status, ConditionType::Complete));
    assert_eq!(cluster.observed.status.done, "0-7");
    assert!(cluster.pods.is_empty(), "finished pods are gone: {:?}", cluster.pods.keys());
}
