//! Tables for each phase and each bad input: an [`Observed`] built by hand, a plan, no API.

use serde_json::{Value, json};

use super::*;
use crate::api::conditions::{ConditionType, find};
use crate::api::keys::{self, Role};
use crate::api::video_upscale::VideoUpscale;
use crate::api::worker::{Code, End, MergeFigures, ProbeFigures};
use crate::controllers::video_upscale::pods::{PullPolicy, VisibleDevices};
use crate::fleet::claim::{AttemptId, Grant, JobKey, SeenBefore};
use crate::fleet::demand::{Cause, Wait};
use crate::profile::testdata::flashvsr;

const GIB: u64 = 1 << 30;

pub fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000_i64.saturating_add(second)).unwrap()
}

/// A job ten seconds old, with a profile and nothing else.
pub fn observed(spec: Value) -> Observed {
    let mut whole = json!({
        "source": {"claim": {"name": "media"}, "path": "in/a.mp4"},
        "destination": {"claim": {"name": "media"}, "path": "out/a.mp4"},
    });
    for (key, value) in spec.as_object().unwrap() {
        whole[key] = value.clone();
    }
    let object: VideoUpscale = serde_json::from_value(json!({
        "apiVersion": keys::API_VERSION, "kind": "VideoUpscale",
        "metadata": {"namespace": "media", "name": "holiday", "uid": "9b1deb4d-3b7d", "generation": 1,
                     "resourceVersion": "1", "creationTimestamp": at(-10).to_string()},
        "spec": whole,
    }))
    .unwrap();
    Observed {
        identity: Identity::of(&object).unwrap(),
        job: Job::read(&object.spec),
        status: VideoUpscaleStatus::default(),
        profile: Profile::Found {
            name: "flashvsr".into(),
            spec: Box::new(flashvsr()),
            learned: UpscaleProfileStatus::default(),
        },
        pods: Vec::new(),
        claims: Vec::new(),
        outlook: None,
        views: BTreeMap::new(),
        fleet: Offer { gpus: 4, largest_gpu: Some(24 * GIB), host_budget_bytes: Some(32 * GIB) },
        volumes: Volumes::default(),
        other_release: None,
        cluster: "c1".into(),
        live_jobs: Vec::new(),
        memory: Memory::default(),
        release: Release {
            name: "video-upscale".into(),
            worker_image: "worker:1".into(),
            pull_policy: PullPolicy::IfNotPresent,
            runtime_class: Some("nvidia".into()),
            visible_devices: VisibleDevices::Uuid,
            user: Some(65_532),
            group: Some(65_532),
            fs_group: Some(65_532),
        },
    }
}

/// The same after the probe: eight segments of a 640x360 film at scale 2.
pub fn probed(spec: Value) -> Observed {
    let mut observed = observed(spec);
    let figures = ProbeFigures {
        segments: 8,
        frames: 480,
        longest_read: 93,
        width: 640,
        height: 360,
        scale: 2,
        frame_rate: "24/1".into(),
        codec: "h264".into(),
        duration_ms: 20_000,
        warnings: Vec::new(),
    };
    let first = plan(&observed, at(0));
    step(&mut observed, first);
    let end = End { probe: Some(figures), ..end(Code::Done, "") };
    observed.pods = vec![single(
        &observed,
        Role::Probe,
        0,
        &json!({"phase": "Succeeded",
        "containerStatuses": [container("probe", &terminated(0, &end))]}),
    )];
    let second = plan(&observed, at(1));
    step(&mut observed, second);
    observed.pods.clear();
    observed.profile =
        Profile::Frozen { spec: Box::new(flashvsr()), learned: UpscaleProfileStatus::default() };
    observed
}

pub fn end(code: Code, message: &str) -> End {
    End { v: 1, code, message: message.into(), probe: None, prepare: None, finish: None, merge: None }
}

pub fn terminated(exit_code: i32, end: &End) -> Value {
    json!({"terminated": {"exitCode": exit_code, "message": serde_json::to_string(end).unwrap(),
           "startedAt": at(0).to_string(), "finishedAt": at(1).to_string()}})
}

pub fn container(name: &str, state: &Value) -> Value {
    json!({"name": name, "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state})
}

fn pod(observed: &Observed, role: Role, name: &str, labels: Value, status: &Value) -> SeenPod {
    let key = &observed.identity.key;
    let mut all = json!({keys::JOB_UID: key.uid, keys::ROLE: role.as_str()});
    for (label, value) in labels.as_object().unwrap() {
        all[label] = value.clone();
    }
    let pod = serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": key.namespace, "uid": format!("uid-{name}"), "labels": all,
            "creationTimestamp": at(0).to_string(),
            "annotations": {keys::GPU_UUID: "GPU-1", keys::STEP: "2", keys::NEED: "13000000000"},
            "ownerReferences": [{"apiVersion": keys::API_VERSION, "kind": "VideoUpscale", "name": key.name,
                                 "uid": key.uid, "controller": true}]},
        "spec": {"nodeName": "node-a", "containers": []},
        "status": status,
    }))
    .unwrap();
    SeenPod::of(pod, key).unwrap()
}

pub fn single(observed: &Observed, role: Role, number: u32, status: &Value) -> SeenPod {
    let name = format!("{}-{}-{number}", observed.identity.key.pod_prefix(), role.as_str());
    pod(observed, role, &name, json!({}), status)
}

pub fn segment(observed: &Observed, segment: u32, attempt: u32, status: &Value) -> SeenPod {
    let id = AttemptId { job: observed.identity.key.clone(), segment, attempt };
    let labels =
        json!({keys::SEGMENT: segment.to_string(), keys::ATTEMPT: attempt.to_string(), keys::GPU_INDEX: "0"});
    pod(observed, Role::Segment, &id.pod_name(), labels, status)
}

pub fn claim(key: &JobKey, segment: u32, attempt: u32, gpu: &str) -> Claim {
    Claim {
        gpu: gpu.into(),
        holder: Some(AttemptId { job: key.clone(), segment, attempt }),
        grant: Some(Grant {
            gpu: gpu.into(),
            gpu_index: 0,
            gpu_model: "L40S".into(),
            node: "node-a".into(),
            step: 2,
            need_bytes: 13_000_000_000,
            seen: SeenBefore::default(),
        }),
        actor: "a".into(),
        last_pod_uid: None,
        quarantined: None,
        out: None,
        resource_version: "1".into(),
    }
}

/// Takes a plan's status and memory over, as if all of it went through.
pub fn step(observed: &mut Observed, plan: Plan) {
    for change in plan.changes {
        if let Change::RecordStatus(status) = change {
            observed.status = *status;
        }
    }
    observed.memory = plan.memory;
}

fn recorded(plan: &Plan) -> Option<&VideoUpscaleStatus> {
    plan.changes.iter().find_map(|change| match change {
        Change::RecordStatus(status) => Some(&**status),
        _ => None,
    })
}

/// `Type=Status/Reason` of a condition.
fn said(status: &VideoUpscaleStatus, kind: ConditionType) -> String {
    find(&status.conditions, kind).map_or_else(String::new, |c| format!("{}/{}", c.status, c.reason))
}

fn kinds(plan: &Plan) -> Vec<&'static str> {
    plan.changes
        .iter()
        .map(|change| match change {
            Change::FreezeProfile(_) => "freeze",
            Change::CreatePod { .. } => "create",
            Change::RecordStatus(_) => "record",
            Change::Release { how: Freed::Free, .. } => "free",
            Change::Release { how: Freed::Quarantined { .. }, .. } => "quarantine",
            Change::Release { how: Freed::Out { .. }, .. } => "out",
            Change::DeletePod { .. } => "delete",
            Change::DeleteJob => "delete job",
        })
        .collect()
}

fn working() -> Value {
    json!({"phase": "Pending", "initContainerStatuses": [
        container("prepare", &json!({"running": {}})), container("upscale", &json!({"waiting": {}}))]})
}

fn engine_done() -> Value {
    let done = json!({"terminated": {"exitCode": 0, "finishedAt": at(5).to_string()}});
    json!({"phase": "Running", "initContainerStatuses": [container("prepare", &done), container("upscale", &done)],
           "containerStatuses": [container("finish", &json!({"running": {}}))]})
}

fn succeeded() -> Value {
    let mut status = engine_done();
    status["phase"] = json!("Succeeded");
    status["containerStatuses"] = json!([container("finish", &terminated(0, &end(Code::Done, "")))]);
    status
}

fn prepare_failed(code: Code) -> Value {
    json!({"phase": "Failed", "initContainerStatuses": [
        container("prepare", &terminated(i32::from(code.exit_code()), &end(code, "too little")))]})
}

#[test]
fn the_first_pass_freezes_the_profile_makes_the_probe_and_says_so() {
    let observed = observed(json!({}));
    let plan = plan(&observed, at(0));
    assert_eq!(kinds(&plan), ["freeze", "create", "record"]);
    let status = recorded(&plan).unwrap();
    assert_eq!(said(status, ConditionType::Complete), "False/Probing");
    assert_eq!(said(status, ConditionType::Failed), "False/NoFinalFailure");
    assert_eq!(said(status, ConditionType::Finished), "False/Probing");
    assert_eq!(said(status, ConditionType::Scheduled), "Unknown/NotPlanned");
    assert_eq!(status.profile.as_ref().unwrap().revision, "holiday-9b1deb-profile");
    assert!(plan.requeue.is_some() && plan.demand.is_none());
}

#[test]
fn a_second_pass_over_an_unchanged_world_writes_nothing() {
    let mut observed = observed(json!({}));
    let first = plan(&observed, at(0));
    step(&mut observed, first);
    observed.profile =
        Profile::Frozen { spec: Box::new(flashvsr()), learned: UpscaleProfileStatus::default() };
    let running =
        json!({"phase": "Running", "containerStatuses": [container("probe", &json!({"running": {}}))]});
    observed.pods = vec![single(&observed, Role::Probe, 0, &running)];
    assert_eq!(kinds(&plan(&observed, at(3))), Vec::<&str>::new());
}

#[test]
fn the_probes_figures_become_status_before_its_pod_goes() {
    let observed = probed(json!({}));
    assert_eq!(observed.status.progress.as_deref(), Some("0/8"));
    assert_eq!(observed.status.video.as_ref().unwrap().duration, "20s");
    let plan = plan(&observed, at(2));
    let demand = plan.demand.unwrap();
    assert_eq!(demand.wanted.len(), 8);
    assert_eq!((demand.wanted[0].segment, demand.wanted[0].attempt), (0, 0));
    assert_eq!(demand.steps[0].step, 2);
    assert!(demand.requests.memory_bytes > GIB);
}

#[test]
fn bad_input_ends_with_its_word_and_its_message() {
    let broken = |code: Code, message: &str| {
        json!({"phase": "Failed", "containerStatuses": [
            container("probe", &terminated(i32::from(code.exit_code()), &end(code, message)))]})
    };
    for (code, word) in [
        (Code::SourceNotFound, "SourceNotFound"),
        (Code::InvalidSource, "InvalidSource"),
        (Code::UnsupportedSource, "UnsupportedSource"),
        (Code::DestinationExists, "DestinationExists"),
        (Code::DestinationNotWritable, "DestinationNotWritable"),
    ] {
        let mut observed = observed(json!({}));
        let first = plan(&observed, at(0));
        step(&mut observed, first);
        observed.pods = vec![single(&observed, Role::Probe, 0, &broken(code, "in/a.mp4 is so"))];
        let second = plan(&observed, at(1));
        let status = recorded(&second).unwrap();
        for kind in [ConditionType::Failed, ConditionType::Finished, ConditionType::Stalled] {
            assert_eq!(said(status, kind), format!("True/{word}"), "{code:?}");
        }
        assert_eq!(said(status, ConditionType::Complete), format!("False/{word}"));
        assert!(find(&status.conditions, ConditionType::Failed).unwrap().message.contains("in/a.mp4 is so"));
        assert_eq!(second.events.len(), 1);
        step(&mut observed, second);
        assert_eq!(kinds(&plan(&observed, at(2))), Vec::<&str>::new(), "never a loop: {code:?}");
    }
}

#[test]
fn what_is_wrong_around_the_job_is_said() {
    let mut no_profile = observed(json!({"profile": "fast"}));
    no_profile.profile = Profile::Missing { message: "profile \"fast\" is not offered".into() };
    let failed = plan(&no_profile, at(0));
    assert_eq!(said(recorded(&failed).unwrap(), ConditionType::Failed), "True/ProfileNotFound");

    let steps = plan(&observed(json!({"steps": {"first": 12, "last": 14}})), at(0));
    assert_eq!(said(recorded(&steps).unwrap(), ConditionType::Failed), "True/StepsOutOfRange");

    let mut no_claim = observed(json!({}));
    no_claim.volumes.missing = vec!["media".into()];
    let stalled = plan(&no_claim, at(0));
    let status = recorded(&stalled).unwrap();
    assert_eq!(said(status, ConditionType::Stalled), "True/NeedsUser");
    assert_eq!(said(status, ConditionType::Failed), "False/NoFinalFailure");
    assert!(find(&status.conditions, ConditionType::Stalled).unwrap().message.contains("media"));
    step(&mut no_claim, stalled);
    no_claim.volumes.missing.clear();
    let mended = plan(&no_claim, at(5));
    assert_eq!(said(recorded(&mended).unwrap(), ConditionType::Stalled), "", "goes on by itself");

    let mut elsewhere = observed(json!({}));
    elsewhere.other_release = Some("other".into());
    let left = plan(&elsewhere, at(0));
    assert_eq!(kinds(&left), ["record"]);
    assert_eq!(said(recorded(&left).unwrap(), ConditionType::Scheduled), "False/OtherRelease");
}

#[test]
fn waits_are_told_with_numbers_and_not_again_while_nothing_changes() {
    for (causes, reason) in [
        (&[][..], "ReportMissing"),
        (&[(Cause::TooSmall, 4)], "NotEnoughFreeMemory"),
        (&[(Cause::NodeUnschedulable, 4)], "NodeUnschedulable"),
        (&[(Cause::NodeFull, 4)], "NodeFull"),
        (&[(Cause::VolumeNotHere, 4)], "VolumeNotHere"),
    ] {
        let mut observed = probed(json!({}));
        observed.outlook = Some(Outlook {
            unplaced: 8,
            wait: Wait {
                looked_at: causes.iter().map(|c| c.1).sum(),
                causes: causes.iter().copied().collect(),
                ..Wait::default()
            },
            ..Outlook::default()
        });
        let told = plan(&observed, at(2));
        let status = recorded(&told).unwrap();
        assert_eq!(said(status, ConditionType::Scheduled), format!("False/{reason}"));
        assert_eq!(said(status, ConditionType::Complete), "False/WaitingForGpu");
        assert_eq!(told.events.len(), 1);
        step(&mut observed, told);
        observed.outlook.as_mut().unwrap().wait.need_bytes = 5;
        let again = plan(&observed, at(90));
        assert_eq!(
            (kinds(&again), again.events.len()),
            (vec![], 0),
            "{reason}: figures that moved rewrite nothing"
        );
    }
}

#[test]
fn a_claim_without_a_pod_is_completed_and_one_of_a_settled_attempt_is_undone() {
    let mut observed = probed(json!({}));
    let key = observed.identity.key.clone();
    observed.claims = vec![claim(&key, 0, 0, "GPU-1")];
    let plan1 = plan(&observed, at(2));
    let Change::CreatePod { pod, .. } = &plan1.changes[0] else { panic!("{:?}", kinds(&plan1)) };
    assert_eq!(pod.metadata.name.as_deref(), Some("holiday-9b1deb-00000-0000"));
    assert_eq!(plan1.demand.unwrap().wanted[0].segment, 1);

    observed.status.done = "0".into();
    assert_eq!(kinds(&plan(&observed, at(2))).last(), Some(&"free"));
    observed.status.done = String::new();
    observed.status.tried = vec!["0:1/0/2/1//GpuBusy".into()];
    assert!(kinds(&plan(&observed, at(2))).contains(&"free"), "attempt 0 has been judged");
    observed.claims = vec![claim(&key, 0, 1, "GPU-1")];
    assert!(kinds(&plan(&observed, at(2))).contains(&"create"));
}

#[test]
fn the_gpu_is_free_once_the_engine_ended_well_and_the_pod_goes_once_recorded() {
    let mut observed = probed(json!({}));
    let key = observed.identity.key.clone();
    observed.claims = vec![claim(&key, 3, 0, "GPU-1")];
    observed.pods = vec![segment(&observed, 3, 0, &engine_done())];
    let freed = plan(&observed, at(20));
    assert_eq!(kinds(&freed)[0], "free");
    step(&mut observed, freed);
    observed.claims.clear();
    observed.pods = vec![segment(&observed, 3, 0, &succeeded())];
    let done = plan(&observed, at(40));
    assert_eq!(kinds(&done), ["record", "delete"]);
    assert_eq!(recorded(&done).unwrap().done, "3");
    step(&mut observed, done);
    observed.pods = vec![segment(&observed, 3, 0, &succeeded()), segment(&observed, 4, 0, &succeeded())];
    let soon = plan(&observed, at(42));
    assert_eq!(kinds(&soon), Vec::<&str>::new(), "ends are told in batches, and nothing goes before");
    assert!(soon.requeue.unwrap() <= Duration::from_secs(8));
}

#[test]
fn a_busy_gpu_costs_no_attempt_and_cools_down() {
    let mut observed = probed(json!({}));
    let key = observed.identity.key.clone();
    observed.claims = vec![claim(&key, 3, 0, "GPU-1")];
    observed.pods = vec![segment(&observed, 3, 0, &prepare_failed(Code::GpuBusy))];
    let judged = plan(&observed, at(20));
    assert_eq!(kinds(&judged), ["record", "free"], "a failed pod is kept for its log");
    assert_eq!(recorded(&judged).unwrap().tried, ["3:1/0/2/1//GpuBusy"]);
    assert_eq!(judged.verdicts, [Verdict::GpuBusy]);
    step(&mut observed, judged);
    observed.claims.clear();
    let next = plan(&observed, at(21)).demand.unwrap();
    assert_eq!((next.wanted[0].segment, next.wanted[0].attempt), (3, 1), "tried segments come first");
    assert!(next.cooling_gpus.contains_key("GPU-1"));
}

#[test]
fn a_pod_that_no_claim_names_is_deleted_while_it_may_use_a_gpu() {
    let mut observed = probed(json!({}));
    observed.pods = vec![segment(&observed, 3, 0, &working())];
    let ended = plan(&observed, at(20));
    assert_eq!(kinds(&ended), ["record", "delete"]);
    observed.claims = vec![claim(&observed.identity.key, 3, 0, "GPU-1")];
    assert!(!kinds(&plan(&observed, at(20))).contains(&"delete"));
}

#[test]
fn a_pod_that_no_node_takes_frees_its_gpu_once_it_is_gone() {
    let mut observed = probed(json!({}));
    let key = observed.identity.key.clone();
    observed.claims = vec![claim(&key, 3, 0, "GPU-1")];
    let mut waiting = segment(&observed, 3, 0, &json!({"phase": "Pending"}));
    waiting.progress = crate::controllers::video_upscale::seen::Progress::Unscheduled(
        crate::controllers::video_upscale::seen::Hold {
            reason: Some(crate::api::conditions::ScheduledReason::NodeFull),
            message: "Insufficient memory".into(),
            pulling: false,
        },
    );
    observed.pods = vec![waiting];
    let early = plan(&observed, at(10));
    assert_eq!(said(recorded(&early).unwrap(), ConditionType::Scheduled), "False/NodeFull");
    let late = plan(&observed, at(31));
    assert_eq!(kinds(&late), ["record", "delete"]);
    assert_eq!(recorded(&late).unwrap().tried, ["3:1/0/2/1//NotStarted"]);
    step(&mut observed, late);
    observed.pods.clear();
    let gone = plan(&observed, at(33));
    assert!(kinds(&gone).contains(&"free"), "{:?}", kinds(&gone));
    assert!(gone.demand.unwrap().cooling_nodes.contains_key("node-a"));
}

#[test]
fn a_vanished_pod_quarantines_its_gpu() {
    let mut observed = probed(json!({}));
    observed.claims = vec![claim(&observed.identity.key, 3, 0, "GPU-1")];
    observed.pods = vec![segment(&observed, 3, 0, &working())];
    let running = plan(&observed, at(20));
    step(&mut observed, running);
    observed.pods.clear();
    let gone = plan(&observed, at(40));
    assert_eq!(kinds(&gone), ["record", "quarantine"]);
    assert_eq!(recorded(&gone).unwrap().tried, ["3:1/0/2/1//Disrupted"]);
}

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
    let failed = plan(&observed, at(50));
    assert_eq!(said(recorded(&failed).unwrap(), ConditionType::Failed), "True/OutOfGpuMemory");
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
fn a_refused_pod_is_told_and_nothing_is_asked_for_meanwhile() {
    let mut observed = probed(json!({}));
    observed.memory.refused = Some((at(60), "exceeded quota gpu-pods".into()));
    let refused = plan(&observed, at(10));
    let status = recorded(&refused).unwrap();
    assert_eq!(said(status, ConditionType::Scheduled), "False/PodsForbidden");
    assert!(refused.demand.unwrap().wanted.is_empty());
    assert!(!plan(&observed, at(61)).demand.unwrap().wanted.is_empty());
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
