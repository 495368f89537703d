//! Builders for tests of plans: an [`Observed`] made by hand, pods, ends and claims, and what a plan says.

#![expect(clippy::arithmetic_side_effects, reason = "figures of tests")]

use serde_json::{Value, json};

use super::*;
use crate::api::conditions::{ConditionType, find};
use crate::api::keys::{self, Role};
use crate::api::video_upscale::VideoUpscale;
use crate::api::worker::{Code, End, ProbeFigures};
use crate::controllers::video_upscale::pods::{PullPolicy, VisibleDevices};
use crate::fleet::HeardPod;
use crate::fleet::claim::{AttemptId, Grant, JobKey, SeenBefore};
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
        last_pods: BTreeMap::new(),
        nodes: BTreeMap::new(),
        paces: Arc::default(),
        fleet: Offer {
            gpus: 4,
            largest_gpu: Some(24 * GIB),
            host_budget_bytes: Some(32 * GIB),
            largest_host_bytes: Some(64 * GIB),
        },
        volumes: Volumes::default(),
        other_release: None,
        cluster: "c1".into(),
        actor: "a".into(),
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
        longest_owned: 60,
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
    End {
        v: 1,
        code,
        message: message.into(),
        probe: None,
        prepare: None,
        finish: None,
        merge: None,
        redo: Vec::new(),
    }
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
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": key.namespace, "uid": format!("uid-{name}"), "labels": all,
            "creationTimestamp": at(0).to_string(),
            "annotations": {keys::GPU_UUID: "GPU-1", keys::STEP: "2", keys::NEED: "13000000000"},
            "ownerReferences": [{"apiVersion": keys::API_VERSION, "kind": "VideoUpscale", "name": key.name,
                                 "uid": key.uid, "controller": true}]},
        "spec": {"nodeName": "node-a", "containers": []},
        "status": status,
    }))
    .unwrap();
    SeenPod::of(Arc::new(HeardPod::of(pod)), key).unwrap()
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

pub fn recorded(plan: &Plan) -> Option<&VideoUpscaleStatus> {
    plan.changes.iter().find_map(|change| match change {
        Change::RecordStatus(status) => Some(&**status),
        _ => None,
    })
}

/// `Type=Status/Reason` of a condition.
pub fn said(status: &VideoUpscaleStatus, kind: ConditionType) -> String {
    find(&status.conditions, kind).map_or_else(String::new, |c| format!("{}/{}", c.status, c.reason))
}

pub fn kinds(plan: &Plan) -> Vec<&'static str> {
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

pub fn working() -> Value {
    json!({"phase": "Pending", "initContainerStatuses": [
        container("prepare", &json!({"running": {}})), container("upscale", &json!({"waiting": {}}))]})
}

pub fn engine_done() -> Value {
    let done = json!({"terminated": {"exitCode": 0, "finishedAt": at(5).to_string()}});
    json!({"phase": "Running", "initContainerStatuses": [container("prepare", &done), container("upscale", &done)],
           "containerStatuses": [container("finish", &json!({"running": {}}))]})
}

pub fn succeeded() -> Value {
    let mut status = engine_done();
    status["phase"] = json!("Succeeded");
    status["containerStatuses"] = json!([container("finish", &terminated(0, &end(Code::Done, "")))]);
    status
}

pub fn prepare_failed(code: Code) -> Value {
    json!({"phase": "Failed", "initContainerStatuses": [
        container("prepare", &terminated(i32::from(code.exit_code()), &end(code, "too little")))]})
}

/// An engine that ended with 1 and left that text.
pub fn engine_failed(text: &str) -> Value {
    let done = json!({"terminated": {"exitCode": 0, "finishedAt": at(2).to_string()}});
    let failed = json!({"terminated": {"exitCode": 1, "message": text, "startedAt": at(3).to_string(),
                        "finishedAt": at(10).to_string()}});
    json!({"phase": "Failed",
           "initContainerStatuses": [container("prepare", &done), container("upscale", &failed)]})
}

/// What PyTorch says that holds `own` of 12 GiB, with a neighbour on the card that holds `others`; all in GiB.
pub fn out_of_memory(requested: f64, own: f64, others: f64) -> String {
    let list =
        if others > 0.0 { format!(" Process 77 has {others:.2} GiB memory in use.") } else { String::new() };
    format!(
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate {requested:.2} GiB. GPU 0 has a total capacity \
         of 12.00 GiB of which {:.2} GiB is free.{list} Including non-PyTorch memory, this process has {own:.2} GiB \
         memory in use. Of the allocated memory {:.2} GiB is allocated by PyTorch, and 10.00 MiB is reserved by \
         PyTorch but unallocated.",
        12.0 - own - others,
        own - 0.5,
    )
}

/// A report made after that end: another pod holds so much of a card of 12 GiB.
pub fn crowded(gib: u64) -> GpuView {
    let gpu = json!({"i": 0, "id": "GPU-1", "n": "L40S", "tot": 12 * GIB, "rsv": 0, "free": (12 - gib) * GIB, "una": 0,
        "h": "ok", "procs": {"n": 1, "b": gib * GIB, "top": [
            {"k": "pod", "u": "11111111-3b7d-4bad-9bdd-2b0d7b3dcb6d", "p": 77, "b": gib * GIB, "t": "C"}]}});
    GpuView {
        at: at(12),
        sound: true,
        attribution: crate::api::report::Attribution::Full,
        gpu: serde_json::from_value(gpu).unwrap(),
    }
}
