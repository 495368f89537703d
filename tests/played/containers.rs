//! What a kubelet says of the containers of our pods.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};
use video_upscale::api::worker::{self, Code, End, ProbeFigures};

use super::cluster::uid;

/// How a container of ours ends, as it says itself.
pub fn end(code: Code) -> End {
    End {
        v: worker::VERSION,
        code,
        message: "as played".to_owned(),
        probe: None,
        prepare: None,
        finish: None,
        merge: None,
        redo: Vec::new(),
    }
}

/// Its termination message.
pub fn message(end: &End) -> String {
    serde_json::to_string(end).unwrap()
}

/// A container that has ended.
pub fn ended(name: &str, at: Timestamp, code: i32, message: &str) -> Value {
    let reason = if code == 0 { "Completed" } else { "Error" };
    container(
        name,
        json!({"terminated": {"exitCode": code, "reason": reason, "message": message,
        "startedAt": seconds(at), "finishedAt": seconds(at)}}),
    )
}

/// A container in that state.
pub fn container(name: &str, state: Value) -> Value {
    json!({"name": name, "image": "played", "imageID": "", "restartCount": 0, "ready": false, "state": state})
}

/// Kubernetes keeps whole seconds.
pub fn seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap()
}

/// Status of a probe's pod that has found a film of so many segments with so many pictures each.
pub fn probed(segments: u32, pictures: u32) -> Value {
    let figures = ProbeFigures {
        segments,
        frames: u64::from(segments * pictures),
        longest_read: 77,
        longest_owned: pictures,
        width: 640,
        height: 360,
        scale: 2,
        frame_rate: "24/1".to_owned(),
        codec: "h264".to_owned(),
        duration_ms: 8000,
        warnings: Vec::new(),
    };
    let end = End { probe: Some(figures), ..end(Code::Done) };
    let main = json!([ended("probe", Timestamp::now(), 0, &message(&end))]);
    json!({"phase": "Succeeded", "containerStatuses": main})
}

/// Writes a pod's status; a pod that is gone needs none.
pub async fn tell(pods: &Api<Pod>, pod: &Pod, status: Value) -> Result<(), String> {
    let patch = json!({"metadata": {"uid": uid(pod)}, "status": status});
    match pods.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Merge(&patch)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(refusal)) if matches!(refusal.code, 404 | 409) => Ok(()),
        Err(error) => Err(format!("status of {}: {error}", pod.name_any())),
    }
}
