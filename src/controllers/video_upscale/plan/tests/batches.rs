//! How often the status is written while a job runs.

#![expect(clippy::arithmetic_side_effects, reason = "figures of tests")]

use serde_json::json;

use super::super::fixtures::*;
use super::super::*;
use crate::api::conditions::ConditionType;
use crate::fleet::demand::{Cause, Wait};

/// Runs eight segments, two at once, each for `seconds`; a GPU is free for the next a second after an end. Answers how
/// many status writes there were between the first start and the last end.
fn writes_of_a_film(parallelism: u32, seconds: i64) -> usize {
    let mut observed = probed(json!({"parallelism": parallelism}));
    observed.outlook = Some(Outlook { effective_step: Some(2), ..Outlook::default() });
    let key = observed.identity.key.clone();
    let mut running: Vec<(u32, i64)> = Vec::new();
    let mut next = 0;
    let mut writes = 0;
    for second in 2..8 * seconds + 60 {
        for (number, begun) in &running {
            if second >= begun + seconds {
                observed.pods.retain(|pod| pod.segment != *number);
                observed.pods.push(segment(&observed, *number, 0, &succeeded()));
            }
        }
        let plan = plan(&observed, at(second));
        for change in &plan.changes {
            match change {
                Change::RecordStatus(status) if next < 8 || status.done != "0-7" => writes += 1,
                Change::DeletePod { name, .. } => observed.pods.retain(|pod| pod.name != *name),
                Change::Release { claim, .. } => observed.claims.retain(|held| held.gpu != claim.gpu),
                _ => {}
            }
        }
        let due = plan.demand.as_ref().map_or(0, |demand| demand.wanted.len());
        step(&mut observed, plan);
        if observed.status.done == "0-7" {
            return writes;
        }
        running.retain(|(number, _)| observed.pods.iter().any(|pod| pod.segment == *number));
        for _ in 0..due.min(8 - next as usize) {
            observed.claims.push(claim(&key, next, 0, &format!("GPU-{next}")));
            let mut pod = segment(&observed, next, 0, &working());
            pod.gpu = Some(format!("GPU-{next}"));
            observed.pods.push(pod);
            running.push((next, second));
            next += 1;
        }
    }
    panic!("only {} of 8 segments were done", observed.status.done);
}

#[test]
fn a_finished_segment_costs_one_status_write() {
    for (parallelism, seconds) in [(1, 30), (2, 30), (2, 31), (1, 4)] {
        let writes = writes_of_a_film(parallelism, seconds);
        // One for the first start, one for the last end.
        assert!(
            writes <= 8 + 2,
            "{writes} writes for 8 segments, {parallelism} at once for {seconds} s each"
        );
    }
}

#[test]
fn a_wait_is_told_at_once_and_its_end_with_the_next_counts() {
    let mut observed = probed(json!({}));
    let key = observed.identity.key.clone();
    observed.outlook = Some(Outlook { effective_step: Some(2), ..Outlook::default() });
    observed.claims = vec![claim(&key, 0, 0, "GPU-1")];
    observed.pods = vec![segment(&observed, 0, 0, &working())];
    let running = plan(&observed, at(20));
    step(&mut observed, running);
    assert_eq!(said(&observed.status, ConditionType::Scheduled), "True/GpusFound");
    let wait = Wait { looked_at: 3, causes: [(Cause::NotEnoughFree, 3)].into(), ..Wait::default() };
    observed.outlook = Some(Outlook { unplaced: 7, wait, ..observed.outlook.clone().unwrap() });
    let waits = plan(&observed, at(21));
    assert_eq!(said(recorded(&waits).unwrap(), ConditionType::Scheduled), "False/NotEnoughFreeMemory");
    step(&mut observed, waits);
    observed.outlook.as_mut().unwrap().unplaced = 0;
    let goes_on = plan(&observed, at(22));
    assert_eq!(kinds(&goes_on), Vec::<&str>::new());
    step(&mut observed, goes_on);
    assert_eq!(said(recorded(&plan(&observed, at(32))).unwrap(), ConditionType::Scheduled), "True/GpusFound");
}
