//! Builders of test objects: nodes as the API server has them, demands, jobs.

#![expect(clippy::arithmetic_side_effects, reason = "figures of tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, json};

use super::claim::{AttemptId, Claim, Grant, JobKey, SeenBefore};
use super::demand::{Demand, GpuRequirements, PodRequests, StepNeed, Wanted};
use super::index::Fleet;
use super::node::NodeFacts;
use super::pod::{PodFacts, PodStage};
use crate::api::keys;
use crate::api::quantity::GIB;

/// Namespace of the release in tests.
pub(crate) const RELEASE: &str = "upscale-system";

/// An instant of the test, seconds after its beginning.
pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

pub(super) fn job(namespace: &str, name: &str) -> JobKey {
    JobKey { namespace: namespace.into(), name: name.into(), uid: format!("9b1deb4d-{namespace}-{name}") }
}

/// A GPU in a report: 24 GiB, of which `free` are free, nobody on it.
pub(super) fn gpu(index: u32, uuid: &str, free: u64) -> Value {
    json!({"i": index, "id": uuid, "n": "NVIDIA L4", "tot": 24 * GIB, "rsv": 0, "free": free * GIB, "una": 0,
           "h": "ok", "procs": {"n": 0, "b": 0, "top": []}})
}

/// A GPU with some fields replaced.
pub(super) fn gpu_with(index: u32, uuid: &str, free: u64, fields: Value) -> Value {
    let mut gpu = gpu(index, uuid, free);
    merge(&mut gpu, fields);
    gpu
}

fn merge(into: &mut Value, fields: Value) {
    match (into, fields) {
        (Value::Object(into), Value::Object(fields)) => {
            for (key, value) in fields {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, value) => *into = value,
    }
}

pub(super) fn report(gpus: &[Value], sampled: Timestamp) -> Value {
    json!({"v": 1, "ns": RELEASE, "seq": 7, "inst": "c1f0a9e2", "at": sampled.to_string(), "hb": 300,
           "drv": "580.95.05", "state": "ok", "attr": "full", "gpus": gpus})
}

/// A ready node of 32 processors and 128 GiB with that report; `fields` are merged in.
pub(super) fn node_of(name: &str, report: &Value, fields: Value) -> Node {
    let mut node = json!({
        "metadata": {"name": name, "annotations": {keys::REPORT: report.to_string()}},
        "status": {
            "conditions": [{"type": "Ready", "status": "True"}],
            "allocatable": {"cpu": "32", "memory": "128Gi", "ephemeral-storage": "1Ti", "pods": "110"},
        },
    });
    merge(&mut node, fields);
    serde_json::from_value(node).unwrap()
}

pub(super) fn node(name: &str, gpus: &[Value]) -> NodeFacts {
    node_with(name, gpus, json!({}))
}

pub(super) fn node_with(name: &str, gpus: &[Value], fields: Value) -> NodeFacts {
    NodeFacts::of(&node_of(name, &report(gpus, at(0)), fields)).unwrap()
}

/// A fleet of these nodes, seen at the beginning.
pub(super) fn fleet(nodes: Vec<NodeFacts>) -> Fleet {
    let mut fleet = Fleet::new(RELEASE);
    for node in nodes {
        fleet.apply_node(node, at(0));
    }
    fleet
}

/// A demand of `segments` segments for steps 2 (16 GiB), 3 (8 GiB) and 4 (4 GiB) with 1 GiB of headroom.
pub(super) fn demand(job: &JobKey, segments: u32) -> Demand {
    let step = |step, gib| StepNeed {
        step,
        need_bytes: gib * GIB,
        learned: BTreeMap::new(),
        cards: BTreeMap::new(),
    };
    Demand {
        job: job.clone(),
        created: at(0),
        parallelism: 8,
        wanted: (0..segments).map(wanted).collect(),
        steps: Arc::from([step(2, 16), step(3, 8), step(4, 4)]),
        gpu: GpuRequirements { headroom_bytes: GIB, ..GpuRequirements::default() },
        requests: PodRequests { cpu_millis: 1000, memory_bytes: GIB, ephemeral_bytes: GIB },
        tolerations: Vec::new(),
        nodes: None,
        cooling_nodes: BTreeMap::new(),
        cooling_gpus: BTreeMap::new(),
        incompatible_models: BTreeSet::new(),
        patience: Some(Duration::from_secs(60)),
    }
}

/// One pass whose decisions are taken back: what it leaves is what it told and remembered.
pub(super) fn pass_and_undo(fleet: &mut Fleet, seconds: i64) {
    for placement in fleet.decide(at(seconds)) {
        fleet.settled(&placement, true);
    }
}

pub(super) fn wanted(segment: u32) -> Wanted {
    Wanted {
        segment,
        attempt: 0,
        first_step: 2,
        keep: None,
        avoid_gpus: BTreeSet::new(),
        avoid_nodes: BTreeSet::new(),
        largest_only: false,
    }
}

pub(super) fn attempt(job: &JobKey, segment: u32) -> AttemptId {
    AttemptId { job: job.clone(), segment, attempt: 0 }
}

pub(super) fn grant(gpu: &str) -> Grant {
    Grant {
        gpu: gpu.into(),
        gpu_index: 0,
        gpu_model: "NVIDIA L4".into(),
        node: "node-a".into(),
        step: 2,
        need_bytes: 16 * GIB,
        seen: SeenBefore {
            free: 24 * GIB,
            available: 24 * GIB,
            foreign: 0,
            total: 24 * GIB,
            seq: 7,
            inst: "c1f0a9e2".into(),
        },
    }
}

/// A claim of a segment of a job, by that process.
pub(super) fn claim(gpu: &str, job: &JobKey, segment: u32, actor: &str) -> Claim {
    Claim {
        holder: Some(attempt(job, segment)),
        grant: Some(grant(gpu)),
        actor: actor.into(),
        resource_version: "10".into(),
        ..Claim::unclaimed(gpu)
    }
}

/// A pod of ours on a GPU of `node-a`.
pub(super) fn pod(uid: &str, gpu: &str, stage: PodStage) -> PodFacts {
    PodFacts {
        uid: uid.into(),
        namespace: "media".into(),
        name: format!("pod-{uid}"),
        job: None,
        node: Some("node-a".into()),
        gpu: Some(gpu.to_ascii_lowercase()),
        requests: PodRequests { cpu_millis: 1000, memory_bytes: GIB, ephemeral_bytes: 0 },
        stage,
    }
}
