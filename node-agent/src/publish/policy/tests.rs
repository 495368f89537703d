//! Loads on a virtual clock.

#![expect(clippy::arithmetic_side_effects, reason = "figures of tests")]

use proptest::prelude::*;
use video_upscale::api::report::Health;

use super::super::bucket::{REFILL, SIZE};
use super::*;
use crate::report::tests::{ended, gpu, process, report};

const GIB: u64 = 1 << 30;
const TIMING: Timing = Timing { heartbeat: Duration::from_secs(300), spread: Duration::ZERO };

/// A write that was made: when, why, with the report or without.
type Write = (u64, Cause, bool);

fn card(free: u64) -> Report {
    report(vec![gpu(0, 48 * GIB, free)])
}

/// Runs `seconds` of a virtual clock in steps of 2 s over what is true at each.
fn run(seconds: u64, seed: u64, truth: impl Fn(u64) -> Report) -> Vec<Write> {
    let mut policy = Policy::new(TIMING, Duration::ZERO, 0.0);
    let mut writes = Vec::new();
    for second in (0..seconds).step_by(2) {
        let (now, current) = (Duration::from_secs(second), truth(second));
        let chance = ((second + seed).wrapping_mul(0x9E37_79B9) % 1_000) as f64 / 1_000.0;
        if let Decision::Write { cause, with_report } = policy.decide(&current, now) {
            policy.attempt(&current, cause, now);
            policy.confirmed(with_report.then(|| current.clone()), now, chance);
            writes.push((second, cause, with_report));
        }
    }
    writes
}

#[test]
fn a_flat_gpu_costs_heartbeats_only() {
    for seed in 0..50 {
        let writes = run(3_600, seed, |_| card(20 * GIB));
        assert_eq!(writes[0], (0, Cause::Heartbeat, true), "the first write brings the report");
        assert!(writes[1..].iter().all(|(_, cause, report)| *cause == Cause::Heartbeat && !report));
        assert!((11..=13).contains(&(writes.len() - 1)), "{} heartbeats", writes.len() - 1);
    }
}

#[test]
fn each_change_is_written_after_its_own_settling() {
    let mut crowd = card(20 * GIB);
    crowd.gpus[0].procs.get_or_insert_default().top = vec![process(9, Some(GIB))];
    let mut end = card(20 * GIB);
    end.gpus[0].procs.get_or_insert_default().top = vec![ended(9)];
    let mut lost = card(20 * GIB);
    lost.gpus[0].h = Health::Lost;
    let table: [(&str, Report, u64, Cause); 5] = [
        ("2 GiB taken", card(18 * GIB), 6, Cause::Urgent),
        ("1 GiB taken", card(19 * GIB), 10, Cause::Material),
        ("another process", crowd, 10, Cause::Material),
        ("a pod's process ended", end, 2, Cause::Urgent),
        ("a lost GPU", lost, 0, Cause::Urgent),
    ];
    for (what, after, settle, cause) in table {
        let writes = run(200, 0, |second| if second < 100 { card(20 * GIB) } else { after.clone() });
        assert_eq!(writes[1..], [(100 + settle, cause, true)], "{what}");
    }
}

#[test]
fn a_change_that_goes_back_before_it_settled_is_not_told() {
    let writes = run(200, 0, |second| card(if (100..108).contains(&second) { 19 * GIB } else { 20 * GIB }));
    assert_eq!(writes.len(), 1);
}

#[test]
fn small_moves_ride_with_the_heartbeat() {
    let writes = run(600, 0, |second| card(20 * GIB - second));
    assert!(writes.iter().all(|(_, cause, with_report)| *cause == Cause::Heartbeat && *with_report));
}

#[test]
fn a_failed_write_is_not_remembered_as_published() {
    let mut policy = Policy::new(TIMING, Duration::ZERO, 0.0);
    let current = card(20 * GIB);
    let write = Decision::Write { cause: Cause::Heartbeat, with_report: true };
    assert_eq!(policy.decide(&current, Duration::ZERO), write);
    policy.failed(None, Duration::ZERO, 1.0);
    let until = Duration::from_secs(1);
    assert_eq!(policy.decide(&current, Duration::ZERO), Decision::Wait { until, hold: Some(Hold::Pause) });
    assert_eq!(policy.decide(&current, until), write);
}

#[test]
fn the_pause_doubles_to_a_minute_and_obeys_the_server() {
    let mut policy = Policy::new(TIMING, Duration::ZERO, 0.0);
    let pauses: Vec<u64> = (0..8)
        .map(|_| {
            policy.failed(None, Duration::ZERO, 1.0);
            policy.paused_until.as_secs()
        })
        .collect();
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
    policy.failed(Some(Duration::from_secs(90)), Duration::ZERO, 0.5);
    assert_eq!(policy.paused_until.as_secs(), 90);
    policy.failed(Some(Duration::from_secs(86_400)), Duration::ZERO, 0.5);
    assert_eq!(policy.paused_until.as_secs(), 600, "not for a day");
}

#[test]
fn after_hours_of_failure_it_recovers_and_tells_the_newest() {
    let mut policy = Policy::new(TIMING, Duration::ZERO, 0.0);
    (0..500).for_each(|second| policy.failed(None, Duration::from_secs(second), 0.5));
    let now = Duration::from_secs(600);
    assert!(matches!(policy.decide(&card(GIB), now), Decision::Write { with_report: true, .. }));
}

/// What the policy meets between two of its decisions.
#[derive(Clone, Copy, Debug)]
enum Met {
    Confirmed,
    Failed(u64),
    Hopeless,
}

proptest! {
    /// Whoever waits until then does not ask again at once.
    #[test]
    fn what_is_to_be_waited_for_lies_ahead(
        story in prop::collection::vec(
            (
                1u64..400_000,
                0u64..40,
                0u64..4,
                prop_oneof![
                    3 => Just(Met::Confirmed),
                    1 => (0u64..700).prop_map(Met::Failed),
                    1 => Just(Met::Hopeless),
                ],
            ),
            1..200,
        ),
    ) {
        let (mut policy, mut now) = (Policy::new(TIMING, Duration::ZERO, 0.5), Duration::ZERO);
        for (millis, free, ends, met) in story {
            now += Duration::from_millis(millis);
            let mut current = card(free * GIB);
            let health = if free == 0 { Health::Lost } else { Health::Ok };
            current.gpus[0].h = health;
            let dead = (0..ends).map(|pid| ended(9 + pid as u32));
            current.gpus[0].procs.get_or_insert_default().top = dead.collect();
            match policy.decide(&current, now) {
                Decision::Wait { until, .. } => prop_assert!(until > now, "{until:?} at {now:?}"),
                Decision::Write { cause, with_report } => {
                    policy.attempt(&current, cause, now);
                    match met {
                        Met::Confirmed => policy.confirmed(with_report.then_some(current), now, 0.5),
                        Met::Failed(after) => policy.failed(Some(Duration::from_secs(after)), now, 0.5),
                        Met::Hopeless => policy.hopeless(now),
                    }
                }
            }
        }
    }

    #[test]
    fn no_load_beats_the_bucket(levels in prop::collection::vec(0u64..40, 900)) {
        let writes = run(1_800, 5, |second| card(levels[second as usize / 2] * GIB));
        let changes: Vec<u64> =
            writes.iter().filter(|(_, cause, _)| *cause != Cause::Heartbeat).map(|(at, ..)| *at).collect();
        for (first, begin) in changes.iter().enumerate() {
            for (last, end) in changes.iter().enumerate().skip(first) {
                let allowed = u64::from(SIZE) + (end - begin) / REFILL.as_secs();
                prop_assert!((last - first) as u64 <= allowed);
            }
        }
        for pair in changes.windows(2) {
            prop_assert!(pair[1] - pair[0] >= 6);
        }
    }
}

#[test]
fn an_end_is_told_by_a_sample_that_is_surely_later() {
    let mut end = card(17 * GIB);
    end.gpus[0].procs.get_or_insert_default().top = vec![ended(9)];
    let truth = |second| match second {
        0..100 => card(20 * GIB),
        100..106 => card(17 * GIB),
        _ => end.clone(),
    };
    assert_eq!(run(200, 0, truth)[1..], [(108, Cause::Urgent, true)]);
}

#[test]
fn a_heartbeat_that_is_overdue_while_a_change_settles_is_waited_for_not_asked_for() {
    let mut policy = Policy::new(TIMING, Duration::ZERO, 0.0);
    policy.confirmed(Some(card(20 * GIB)), Duration::ZERO, 0.0);
    let seconds = Duration::from_secs;
    let wait = |until| Decision::Wait { until: seconds(until), hold: Some(Hold::Settle) };
    assert_eq!(policy.decide(&card(19 * GIB), seconds(268)), wait(270), "the heartbeat comes first");
    assert_eq!(policy.decide(&card(19 * GIB), seconds(272)), wait(278));
    let write = Decision::Write { cause: Cause::Material, with_report: true };
    assert_eq!(policy.decide(&card(19 * GIB), seconds(278)), write);
}
