//! How jobs, segments and GPUs stand at one instant, counted for the metrics. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::api::conditions::{ConditionType, FailureReason, ScheduledReason, State, find};
use crate::api::video_upscale::VideoUpscale;
use crate::fleet::demand::Cause;
use crate::fleet::node::Inventory;
use crate::fleet::snapshot::{Card, Snapshot};
use crate::telemetry::Standing;

/// States of a GPU, as label.
const GPU_STATES: [&str; 8] =
    ["free", "ours", "foreign", "quarantined", "unhealthy", "excluded", "stale", "other_release"];
/// States of a segment, as label.
const SEGMENT_STATES: [&str; 4] = ["waiting", "running", "succeeded", "failed"];

/// Counts the GPUs; the jobs are added by [`count_job`].
pub fn of_fleet(fleet: &Snapshot, now: Timestamp) -> Standing {
    let mut standing = Standing {
        jobs: State::ALL.iter().map(|state| (state.as_str(), 0)).collect(),
        segments: SEGMENT_STATES.iter().map(|state| (*state, 0)).collect(),
        gpus: GPU_STATES.iter().map(|state| (*state, 0)).collect(),
        ..Standing::default()
    };
    for card in &fleet.cards {
        add(&mut standing.gpus, gpu_state(card), 1);
        if let Some(spot) = fleet.spots.get(card.spot) {
            standing.free.push((spot.facts.name.clone(), card.index, card.free));
        }
    }
    let ages = fleet.spots.iter().filter_map(|spot| match &spot.facts.inventory {
        Inventory::Known { at, .. } => Some(now.as_second().saturating_sub(at.as_second())),
        Inventory::Missing | Inventory::Invalid(_) => None,
    });
    standing.oldest_report = ages.max().map(|age| u64::try_from(age).unwrap_or(0));
    standing
}

/// Counts a job and its segments.
pub fn count_job(standing: &mut Standing, job: &VideoUpscale) {
    let Some(status) = &job.status else { return };
    let reason = |kind| find(&status.conditions, kind).map(|condition| condition.reason.as_str());
    let word = reason(ConditionType::Complete).unwrap_or(State::Pending.as_str());
    let known = State::parse(word).map(State::as_str);
    // What is of neither list was written by another version.
    if let Some(word) = known.or_else(|| FailureReason::parse(word).map(FailureReason::as_str)) {
        add(&mut standing.jobs, word, 1);
    }
    let Some(segments) = &status.segments else { return };
    let counts = [segments.waiting, segments.running, segments.succeeded, segments.failed];
    for (state, count) in SEGMENT_STATES.into_iter().zip(counts) {
        add(&mut standing.segments, state, u64::try_from(count).unwrap_or(0));
    }
    let waits = find(&status.conditions, ConditionType::Scheduled)
        .filter(|scheduled| scheduled.status == "False")
        .and_then(|scheduled| ScheduledReason::parse(&scheduled.reason));
    if let Some(reason) = waits {
        add(&mut standing.unplaced, reason.as_str(), u64::try_from(segments.waiting).unwrap_or(0));
    }
}

fn add(counts: &mut BTreeMap<&'static str, u64>, word: &'static str, count: u64) {
    let sum = counts.entry(word).or_default();
    *sum = sum.saturating_add(count);
}

/// The state of a GPU whoever asks. A card with others on it is `foreign` though it may still be used.
const fn gpu_state(card: &Card) -> &'static str {
    match card.closed {
        Some(Cause::OtherRelease) => "other_release",
        Some(Cause::Stale) => "stale",
        Some(Cause::Unhealthy) => "unhealthy",
        Some(Cause::Quarantined) => "quarantined",
        Some(Cause::Ours) => "ours",
        Some(Cause::ForeignProcesses) => "foreign",
        Some(_) => "excluded",
        None => match card.foreign {
            Some(0) => "free",
            // Without lists, memory that is in use is somebody's.
            None if card.foreign_bytes == 0 => "free",
            None | Some(_) => "foreign",
        },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::fleet::snapshot::Company;

    fn job(status: Value) -> VideoUpscale {
        let claim = |path: &str| json!({"claim": {"name": "m"}, "path": path});
        serde_json::from_value(json!({
            "apiVersion": "upscale.video/v1alpha1", "kind": "VideoUpscale", "metadata": {"name": "a"},
            "spec": {"source": claim("a.mp4"), "destination": claim("b.mp4")}, "status": status,
        }))
        .unwrap()
    }

    fn condition(kind: &str, status: &str, reason: &str) -> Value {
        json!({"type": kind, "status": status, "reason": reason, "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"})
    }

    fn segments(waiting: u32, running: u32) -> Value {
        json!({"total": waiting.saturating_add(running), "waiting": waiting, "running": running, "succeeded": 0, "failed": 0})
    }

    #[test]
    fn jobs_are_counted_by_their_word_and_waits_by_their_reason() {
        let jobs = [
            job(json!({"segments": segments(5, 3), "conditions": [condition("Complete", "False", "Running"),
                condition("Scheduled", "False", "ParallelismReached")]})),
            job(
                json!({"segments": segments(4, 0), "conditions": [condition("Complete", "False", "WaitingForGpu"),
                condition("Scheduled", "False", "NotEnoughFreeMemory")]}),
            ),
            job(json!({"conditions": [condition("Complete", "False", "OutOfGpuMemory")]})),
            job(json!({"conditions": [condition("Complete", "False", "SomethingElse")]})),
            job(Value::Null),
        ];
        let mut counted = of_fleet(&Snapshot::default(), Timestamp::UNIX_EPOCH);
        jobs.iter().for_each(|job| count_job(&mut counted, job));
        let of = |word: &str| counted.jobs.get(word).copied();
        assert_eq!((of("Running"), of("WaitingForGpu"), of("OutOfGpuMemory")), (Some(1), Some(1), Some(1)));
        assert_eq!((of("Merging"), of("SomethingElse")), (Some(0), None));
        assert_eq!(counted.jobs.values().sum::<u64>(), 3);
        assert_eq!((counted.segments["waiting"], counted.segments["running"]), (9, 3));
        let waits = BTreeMap::from([("ParallelismReached", 5), ("NotEnoughFreeMemory", 4)]);
        assert_eq!(counted.unplaced, waits);
        assert_eq!((counted.oldest_report, counted.gpus["free"]), (None, 0));
    }

    #[test]
    fn each_gpu_has_one_state() {
        let card = |closed, foreign, foreign_bytes| Card {
            uuid: Arc::from("GPU-1"),
            spot: 0,
            index: 0,
            model: 0,
            total: 8,
            usable: 8,
            free: 8,
            available: 8,
            foreign,
            foreign_bytes,
            company: Company::default(),
            closed,
        };
        for (card, state) in [
            (card(None, Some(0), 0), "free"),
            (card(None, None, 0), "free"),
            (card(None, Some(1), 1), "foreign"),
            (card(None, None, 1), "foreign"),
            (card(Some(Cause::Ours), Some(1), 1), "ours"),
            (card(Some(Cause::ForeignProcesses), Some(1), 1), "foreign"),
            (card(Some(Cause::NodeUnschedulable), Some(0), 0), "excluded"),
            (card(Some(Cause::Stale), Some(0), 0), "stale"),
        ] {
            assert_eq!(gpu_state(&card), state);
            assert!(GPU_STATES.contains(&state));
        }
    }
}
