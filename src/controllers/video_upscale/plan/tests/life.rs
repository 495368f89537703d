//! The life of a whole job: stopped, failed, retried, degraded as one, ended, deleted.

use serde_json::json;

use super::super::fixtures::*;
use super::super::*;
use crate::api::conditions::{ConditionType, find};
use crate::api::keys::Role;
use crate::api::video_upscale::{OutOfMemory, OutOfMemoryEnd};
use crate::api::worker::{Code, End, MergeFigures};

#[test]
fn suspend_ends_what_runs_and_resume_goes_on() {
    let mut observed = probed(json!({"suspend": true}));
    assert_eq!(said(&observed.status, ConditionType::Suspended), "True/Requested");
    observed.status = probed(json!({})).status;
    observed.claims = vec![claim(&observed.identity.key, 3, 0, "GPU-1")];
    observed.pods = vec![segment(&observed, 3, 0, &working())];
    let stopped = plan(&observed, at(20));
    assert_eq!(kinds(&stopped), ["record", "delete"]);
    assert!(stopped.demand.is_none());
    step(&mut observed, stopped);
    observed.pods.clear();
    assert_eq!(kinds(&plan(&observed, at(25))), ["free"]);
    observed.claims.clear();
    observed.job.as_mut().unwrap().suspend = false;
    let goes_on = plan(&observed, at(30));
    assert_eq!(said(recorded(&goes_on).unwrap(), ConditionType::Suspended), "False/Resumed");
    assert_eq!(goes_on.demand.unwrap().wanted[0].attempt, 1, "the number of the ended attempt is used up");
}

#[test]
fn a_paused_job_keeps_no_gpu_that_it_does_not_use() {
    let mut observed = probed(json!({}));
    let key = observed.identity.key.clone();
    let gpus = ["GPU-1", "GPU-2", "GPU-3", "GPU-4"];
    let numbers = 0_u32..;
    observed.claims = numbers.zip(gpus).map(|(number, gpu)| claim(&key, number, 0, gpu)).collect();
    let on = |mut pod: crate::controllers::video_upscale::seen::SeenPod, gpu: &str| {
        pod.gpu = Some(gpu.to_owned());
        pod
    };
    observed.pods = vec![
        on(segment(&observed, 0, 0, &working()), "GPU-1"),
        on(segment(&observed, 1, 0, &engine_done()), "GPU-2"),
    ];
    // The pod of segment 2 was made and is gone, that of segment 3 was never made.
    observed.memory.made = [((2, 0), Some("uid".into()))].into();
    observed.identity.paused = true;
    let paused = plan(&observed, at(20));
    assert_eq!(said(recorded(&paused).unwrap(), ConditionType::Complete), "False/Paused");
    let given: Vec<(&str, bool)> = paused
        .changes
        .iter()
        .filter_map(|change| match change {
            Change::Release { claim, how, .. } => Some((claim.gpu.as_str(), *how == Freed::Free)),
            _ => None,
        })
        .collect();
    assert_eq!(given, [("GPU-2", true), ("GPU-4", true), ("GPU-3", false)]);
}

#[test]
fn all_done_merges_and_the_merge_ends_the_job() {
    let mut observed = probed(json!({"ttlSecondsAfterFinished": 100}));
    observed.status.done = "0-7".into();
    let merging = plan(&observed, at(50));
    assert_eq!(kinds(&merging), ["create", "record"]);
    step(&mut observed, merging);
    assert_eq!(said(&observed.status, ConditionType::Complete), "False/Merging");
    let figures = MergeFigures { frames: 480, bytes: 9, width: 1280, height: 720, sha256: "ab".into() };
    let end = End { merge: Some(figures), ..end(Code::Done, "") };
    observed.pods = vec![single(
        &observed,
        Role::Merge,
        0,
        &json!({"phase": "Succeeded",
        "containerStatuses": [container("merge", &terminated(0, &end))]}),
    )];
    let over = plan(&observed, at(60));
    let status = recorded(&over).unwrap();
    assert_eq!(said(status, ConditionType::Complete), "True/Succeeded");
    assert_eq!(said(status, ConditionType::Finished), "True/Succeeded");
    assert_eq!(said(status, ConditionType::Failed), "False/NoFinalFailure");
    assert_eq!(status.output.as_ref().unwrap().frames, 480);
    step(&mut observed, over);
    assert_eq!(kinds(&plan(&observed, at(61))), ["delete"], "the merge pod");
    observed.pods.clear();
    assert_eq!(kinds(&plan(&observed, at(62))), Vec::<&str>::new());
    assert_eq!(kinds(&plan(&observed, at(161))), ["delete job"]);
}

#[test]
fn a_failed_job_is_final_until_retry_failed_has_a_new_value() {
    let mut observed = probed(json!({}));
    observed.status.done = "0-6".into();
    observed.status.failed = "7".into();
    observed.status.tried = vec!["7:6/6/9/1//OwnDemand".into()];
    let end = OutOfMemoryEnd {
        time: status::whole_seconds(at(40)),
        segment: 7,
        attempt: 5,
        node: "gpu-c".into(),
        gpu: "GPU-1".into(),
        verdict: "OwnDemand".into(),
        needed: "5.2Gi".into(),
        free: "4.9Gi".into(),
        foreign: "0Mi".into(),
        who: String::new(),
        from: String::new(),
        to: "given up".into(),
    };
    observed.status.out_of_memory = Some(OutOfMemory { count: 6, recent: vec![end] });
    let failed = plan(&observed, at(50));
    assert_eq!(said(recorded(&failed).unwrap(), ConditionType::Failed), "True/OutOfGpuMemory");
    let told = find(&recorded(&failed).unwrap().conditions, ConditionType::Failed).unwrap().message.clone();
    for part in
        ["1 of 8", "segment 7 after 6 attempts", "on gpu-c: needed 5.2Gi, 4.9Gi were free", "a GPU must have"]
    {
        assert!(told.contains(part), "{told}");
    }
    step(&mut observed, failed);
    assert_eq!(kinds(&plan(&observed, at(51))), Vec::<&str>::new());
    observed.identity.retry_failed = Some("1".into());
    let again = plan(&observed, at(60));
    let status = recorded(&again).unwrap();
    assert_eq!(said(status, ConditionType::Failed), "False/NoFinalFailure");
    assert_eq!((status.failed.as_str(), status.tried[0].as_str()), ("", "7:6/0/9/1//OwnDemand"));
    assert_eq!(again.demand.unwrap().wanted[0].attempt, 6);
}

#[test]
fn deletion_and_deadline_end_everything() {
    let mut observed = probed(json!({"activeDeadlineSeconds": 60}));
    observed.claims = vec![claim(&observed.identity.key, 3, 0, "GPU-1")];
    observed.pods = vec![segment(&observed, 3, 0, &working())];
    let late = plan(&observed, at(100));
    assert_eq!(said(recorded(&late).unwrap(), ConditionType::Failed), "True/DeadlineExceeded");
    assert!(kinds(&late).contains(&"delete"));
    observed.identity.deleting = true;
    let leaving = plan(&observed, at(10));
    assert_eq!(said(recorded(&leaving).unwrap(), ConditionType::Complete), "False/Deleting");
    assert!(!kinds(&leaving).contains(&"create"));
}

#[test]
fn uniform_redoes_better_segments_in_a_new_round() {
    let mut observed = probed(json!({"degradation": {"consistency": "Uniform"}}));
    assert!(plan(&observed, at(2)).demand.unwrap().wanted.is_empty(), "the fleet has not said which step");
    observed.outlook = Some(Outlook { effective_step: Some(2), ..Outlook::default() });
    let first = plan(&observed, at(2));
    assert_eq!(first.demand.as_ref().unwrap().steps.len(), 1);
    step(&mut observed, first);
    observed.status.done = "0-5".into();
    let step_now = observed.status.effective.as_ref().unwrap().step;
    observed.status.tried = vec![format!("6:1/1/{}/1//OwnDemand", step_now + 3)];
    let lower = plan(&observed, at(30));
    let status = recorded(&lower).unwrap();
    assert_eq!((status.done.as_str(), status.round), ("", Some(1)));
    assert_eq!(status.effective.as_ref().unwrap().step, step_now + 3);
    let wanted = lower.demand.unwrap().wanted;
    assert_eq!(wanted.len(), 8);
    assert!(wanted.iter().all(|wanted| wanted.attempt >= 200), "no number is used twice");
}
