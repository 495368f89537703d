//! What was measured comes back: in deadlines, in the cutting of later films, in the estimate.

#![expect(clippy::arithmetic_side_effects, reason = "figures of tests")]

use std::sync::Arc;

use serde_json::{Value, json};

use super::super::fixtures::*;
use super::super::*;
use crate::api::worker::{Code, End, PrepareFigures};
use crate::controllers::video_upscale::pace::Paces;

/// A segment of 90 frames whose engine ran for so long.
fn ran(seconds: i64) -> Value {
    let prepared = End {
        prepare: Some(PrepareFigures { frames: 90, ..PrepareFigures::default() }),
        ..end(Code::Done, "")
    };
    let engine = json!({"terminated": {"exitCode": 0, "startedAt": at(100).to_string(),
                        "finishedAt": at(100 + seconds).to_string()}});
    json!({"phase": "Succeeded",
           "initContainerStatuses": [container("prepare", &terminated(0, &prepared)), container("upscale", &engine)],
           "containerStatuses": [container("finish", &terminated(0, &end(Code::Done, "")))]})
}

/// A job on one GPU of which three engine runs took 300 s each.
fn measured() -> Observed {
    let mut observed = probed(json!({"parallelism": 1}));
    let key = observed.identity.key.clone();
    let mut paces = Paces::default();
    let mut taken = 0;
    for number in 0..3 {
        observed.claims = vec![claim(&key, number, 0, "GPU-1")];
        observed.pods = vec![segment(&observed, number, 0, &ran(300))];
        // The end is seen, told with others, and seen once more.
        for second in [0, 10, 11] {
            let pass = plan(&observed, at(500 + i64::from(number) * 20 + second));
            for timing in pass.timings.clone() {
                assert_eq!((timing.model.as_str(), timing.runs, timing.millis), ("L40S", 1, 300_000));
                paces.add(timing);
                taken += 1;
            }
            step(&mut observed, pass);
        }
    }
    assert_eq!(taken, 3, "each is taken in once");
    assert_eq!(observed.status.done, "0-2");
    observed.pods.clear();
    observed.paces = Arc::new(paces);
    observed
}

fn deadline(observed: &Observed) -> i64 {
    let mut observed = observed.clone();
    observed.claims = vec![claim(&observed.identity.key, 3, 0, "GPU-1")];
    let made = plan(&observed, at(600));
    let pod = made.changes.iter().find_map(|change| match change {
        Change::CreatePod { pod, .. } => pod.spec.clone(),
        _ => None,
    });
    pod.unwrap().active_deadline_seconds.unwrap()
}

#[test]
fn a_slow_model_gets_later_deadlines() {
    let mut observed = measured();
    let slow = deadline(&observed);
    observed.paces = Arc::default();
    // Four times 300 s instead of four times the guess, and the rest of the pod as before.
    assert!(slow > deadline(&observed) + 600, "{slow} {}", deadline(&observed));
}

#[test]
fn the_estimate_is_what_is_left_at_the_measured_pace_of_the_gpus_that_run() {
    let mut observed = measured();
    observed.memory.estimated = None;
    observed.memory.unwritten = Some(at(0));
    observed.status.estimated_completion_time = None;
    let key = observed.identity.key.clone();
    let mut minutes_on = |gpus: u32| {
        let numbers = 3..3 + gpus;
        observed.claims = numbers.map(|n| claim(&key, n, 0, &format!("GPU-{n}"))).collect();
        observed.job.as_mut().unwrap().parallelism = gpus;
        let told = plan(&observed, at(600));
        (recorded(&told).unwrap().estimated_completion_time.as_ref().unwrap().0.as_second()
            - at(600).as_second())
            / 60
    };
    // Five segments are left; one is half done, or two.
    assert_eq!((minutes_on(1), minutes_on(2)), (24, 11), "4.5 times 308 s on one, 4 times on two");
}

#[test]
fn later_films_are_cut_by_what_was_measured() {
    let mut later = observed(json!({}));
    let mut task = || {
        let made = plan(&later, at(0));
        let pod = made.changes.iter().find_map(|change| match change {
            Change::CreatePod { pod, .. } => Some(serde_json::to_string(pod).unwrap()),
            _ => None,
        });
        later.paces = measured().paces;
        pod.unwrap()
    };
    let (guessed, known) = (task(), task());
    assert_ne!(guessed, known);
}

#[test]
fn only_runs_that_came_to_their_good_end_are_measured() {
    let mut observed = probed(json!({}));
    observed.claims = vec![claim(&observed.identity.key, 3, 0, "GPU-1")];
    observed.pods = vec![segment(&observed, 3, 0, &engine_failed("RuntimeError: so it is"))];
    assert!(plan(&observed, at(200)).timings.is_empty());
}
