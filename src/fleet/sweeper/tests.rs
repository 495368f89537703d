use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::judge::{Case, Stood, judge};
use super::{FirstSeen, sweep};
use crate::api::keys;
use crate::api::quantity::GIB;
use crate::fleet::claim::{Claim, Mark};
use crate::fleet::claims::Claims;
use crate::fleet::fake_api::{FakeApi, lease_path};
use crate::fleet::fixtures::*;
use crate::fleet::handle::{FleetConfig, FleetHandle};
use crate::fleet::node::NodeFacts;
use crate::fleet::pod::PodStage;

fn handle(api: &FakeApi) -> (FleetHandle, Claims) {
    let config = FleetConfig { namespace: RELEASE.into(), actor: "me".into(), watch_namespaces: Vec::new() };
    let fleet = FleetHandle::new(config);
    let claims = fleet.claims(&api.client());
    (fleet, claims)
}

const STOOD: Stood = Stood { since: Timestamp::UNIX_EPOCH, length: Duration::ZERO };

/// A node whose report was sampled then.
fn sampled(gpu: Value, seconds: i64) -> NodeFacts {
    NodeFacts::of(&node_of("node-a", &report(&[gpu], at(seconds)), json!({}))).unwrap()
}

fn quarantined(cause: &str, seconds: i64) -> Claim {
    let mark = Mark { cause: cause.into(), at: at(seconds) };
    Claim {
        quarantined: Some(mark),
        last_pod_uid: Some("p1".into()),
        ..claim("GPU-A", &job("media", "mine"), 0, "me")
    }
}

#[tokio::test]
async fn a_quarantine_ends_by_proof_only() {
    let busy =
        json!({"procs": {"n": 1, "b": GIB, "top": [{"k": "pod", "u": "p1", "p": 1, "b": GIB, "t": "C"}]}});
    let shrunk = json!({"una": 3 * GIB});
    for (name, node, expected) in [
        ("sampled before the end", sampled(gpu(0, "GPU-A", 24), 99), Case::Fine),
        ("sampled at the end", sampled(gpu(0, "GPU-A", 24), 100), Case::Fine),
        ("all back", sampled(gpu(0, "GPU-A", 24), 101), Case::Proved),
        ("its process is there", sampled(gpu_with(0, "GPU-A", 23, busy), 101), Case::Fine),
        ("memory without a process", sampled(gpu_with(0, "GPU-A", 20, shrunk), 101), Case::Fine),
        ("a neighbour has come", sampled(gpu(0, "GPU-A", 10), 101), Case::Proved),
        ("free unknown", sampled(gpu_with(0, "GPU-A", 24, json!({"free": null})), 101), Case::Fine),
    ] {
        let (fleet, _) = handle(&FakeApi::default());
        fleet.lock().apply_node(node, at(101));
        assert_eq!(judge(&quarantined("lost pod", 100), &fleet, STOOD, at(102)), expected, "{name}");
    }
}

#[tokio::test]
async fn a_quarantine_does_not_end_while_a_pod_may_use_the_gpu_or_the_report_is_old() {
    let (fleet, _) = handle(&FakeApi::default());
    fleet.lock().apply_node(sampled(gpu(0, "GPU-A", 24), 101), at(101));
    assert_eq!(judge(&quarantined("lost pod", 100), &fleet, STOOD, at(101 + 661)), Case::Fine);
    fleet.lock().apply_pod(pod("p2", "GPU-A", PodStage::MayUseGpu));
    assert_eq!(judge(&quarantined("lost pod", 100), &fleet, STOOD, at(102)), Case::Fine);
}

#[tokio::test]
async fn a_card_that_is_out_comes_back_when_health_or_driver_changes() {
    let out = |cause: &str| Claim {
        out: Some(Mark { cause: cause.into(), at: at(0) }),
        ..Claim::unclaimed("gpu-a")
    };
    let (fleet, _) = handle(&FakeApi::default());
    fleet.lock().apply_node(sampled(gpu(0, "GPU-A", 24), 1), at(1));
    for (cause, expected) in [
        ("GpuFault (health Ok, driver 580.95.05)", Case::Fine),
        ("GpuFault (health Bad, driver 580.95.05)", Case::Changed),
        ("GpuFault (health Ok, driver 570.1)", Case::Changed),
        ("GpuFault (health and driver unknown)", Case::Changed),
    ] {
        assert_eq!(judge(&out(cause), &fleet, STOOD, at(2)), expected, "{cause}");
    }
}

struct Scene {
    api: FakeApi,
    fleet: FleetHandle,
    claims: Claims,
}

/// A claim of segment 0 by that process, with or without its job and with a pod in that phase.
fn scene(actor: &str, job_uid: Option<&str>, phase: Option<&str>) -> Scene {
    let api = FakeApi::default();
    let (fleet, claims) = handle(&api);
    let mine = job("media", "mine");
    let held = claim("GPU-A", &mine, 0, actor);
    api.put(&lease_path("gpu-a"), serde_json::to_value(held.to_lease(RELEASE)).unwrap());
    if let Some(uid) = job_uid {
        let object = json!({"apiVersion": keys::API_VERSION, "kind": "VideoUpscale",
                            "metadata": {"name": "mine", "namespace": "media", "uid": uid}});
        api.put("/apis/upscale.video/v1alpha1/namespaces/media/videoupscales/mine", object);
    }
    if let Some(phase) = phase {
        let name = held.holder.as_ref().unwrap().pod_name();
        let pod = json!({"metadata": {"name": name, "namespace": "media", "uid": "p1", "labels": {keys::ROLE: "segment"}},
                         "spec": {"containers": []}, "status": {"phase": phase}});
        api.put(&format!("/api/v1/namespaces/media/pods/{name}"), pod);
    }
    let lease = api.lock().objects[&lease_path("gpu-a")].clone();
    fleet.lock().apply_claim(Claim::of_lease(&serde_json::from_value(lease).unwrap()));
    Scene { api, fleet, claims }
}

impl Scene {
    /// Sweeps at once and again that many seconds later; whether the claim is free then. The wall clock has been put
    /// an hour forward or back meanwhile.
    async fn is_released_after(&self, seconds: u64, set: i64) -> bool {
        let mut seen = FirstSeen::new();
        for now in [(at(0), Duration::ZERO), (at(set), Duration::from_secs(seconds))] {
            sweep(&self.fleet, &self.claims, &self.api.client(), &mut seen, now).await;
        }
        let lease = self.api.lock().objects[&lease_path("gpu-a")].clone();
        Claim::of_lease(&serde_json::from_value(lease).unwrap()).is_free()
    }
}

#[tokio::test]
async fn claims_go_back_when_nobody_will_use_them() {
    let uid = job("media", "mine").uid;
    for (name, actor, job_uid, phase, seconds, released) in [
        ("job and pod gone", "other", None, None, 1, true),
        ("job gone, pod still runs", "other", None, Some("Running"), 60, false),
        ("job gone, pod ended", "me", None, Some("Failed"), 1, true),
        ("another job of that name", "me", Some("new"), None, 1, true),
        ("own claim whose pod is to come", "me", Some(uid.as_str()), None, 600, false),
        ("another's claim, young", "other", Some(uid.as_str()), None, 30, false),
        ("another's claim, abandoned", "other", Some(uid.as_str()), None, 31, true),
        ("another's claim with a pod", "other", Some(uid.as_str()), Some("Pending"), 600, false),
    ] {
        for set in [-3600, 3600] {
            let scene = scene(actor, job_uid, phase);
            assert_eq!(scene.is_released_after(seconds, set).await, released, "{name}");
        }
    }
}

#[tokio::test]
async fn a_job_that_cannot_be_read_keeps_its_claims() {
    let scene = scene("other", None, None);
    // Nothing else may be concluded from an error: the path answers with something that is no object.
    scene.api.put(
        "/apis/upscale.video/v1alpha1/namespaces/media/videoupscales/mine",
        json!({"metadata": {"uid": 7}}),
    );
    assert!(!scene.is_released_after(600, 600).await);
}

#[tokio::test]
async fn of_two_pods_on_one_gpu_the_one_that_the_claim_does_not_name_is_deleted() {
    let uid = job("media", "mine").uid;
    let scene = scene("me", Some(&uid), Some("Running"));
    let name = claim("GPU-A", &job("media", "mine"), 0, "me").holder.unwrap().pod_name();
    let process = |uid: &str| json!({"k": "pod", "u": uid, "p": 1, "b": GIB, "t": "C"});
    let procs = json!({"procs": {"n": 2, "b": 2 * GIB, "top": [process("p1"), process("p2")]}});
    {
        let mut fleet = scene.fleet.lock();
        fleet.apply_node(node("node-a", &[gpu_with(0, "GPU-A", 22, procs)]), at(0));
        let mut named = pod("p1", "GPU-A", PodStage::MayUseGpu);
        named.name.clone_from(&name);
        fleet.apply_pod(named);
        fleet.apply_pod(pod("p2", "GPU-A", PodStage::MayUseGpu));
    }
    let path = "/api/v1/namespaces/media/pods/pod-p2";
    scene.api.put(path, json!({"metadata": {"name": "pod-p2", "namespace": "media", "uid": "p2"}}));
    scene.is_released_after(1, 1).await;
    let state = scene.api.lock();
    assert!(!state.objects.contains_key(path));
    assert!(state.objects.contains_key(&format!("/api/v1/namespaces/media/pods/{name}")));
}
