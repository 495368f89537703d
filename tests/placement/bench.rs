//! What placement costs at 10,000 GPUs and 100,000 waiting segments of 200 jobs: `cargo bench --bench placement`.
//!
//! Two kinds of fleet demand: all jobs alike, so that they share one view of the fleet, and each job different, which
//! is the dearest case. Times are of one core, as processor time of the thread, so that other work on the machine does not
//! count, and without the API server; decisions that found their caches emptied by such work are told apart. Memory is
//! what the process has resident. Fails when a figure is beyond its limit.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a measurement"
)]

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use video_upscale::api::keys;
use video_upscale::api::quantity::GIB;
use video_upscale::fleet::HeardPods;
use video_upscale::fleet::claim::{AttemptId, Claim, Grant, JobKey, SeenBefore};
use video_upscale::fleet::demand::{Demand, GpuRequirements, PodRequests, StepNeed, Wanted};
use video_upscale::fleet::index::Fleet;
use video_upscale::fleet::node::NodeFacts;
use video_upscale::fleet::place::place;
use video_upscale::fleet::pod::PodFacts;

const NODES: u32 = 1250;
const CARDS: u32 = 8;
const JOBS: u32 = 200;
const SEGMENTS: u32 = 500;
const PASSES: usize = 30;
const DECISIONS: u32 = 20_000;
/// First segment that holds a GPU at the beginning; those below it wait.
const HELD: u32 = 1000;
/// A full pass may take this long.
const MOST_PASS: Duration = Duration::from_millis(200);
/// 99 of 100 decisions may take this long.
const MOST_DECISION: Duration = Duration::from_micros(200);
/// A pod of an attempt, as the tests of the pod builder keep it.
const SEGMENT_POD: &str = include_str!("../../src/controllers/video_upscale/pods/testdata/segment.json");
/// What the state may take, MiB.
const MOST_MEMORY: u64 = 128;

/// Each measurement has a process of its own, as memory that was once resident tends to stay so.
fn main() {
    let told: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    if let [what, kinds] = told.as_slice() {
        let kinds = kinds.parse().unwrap();
        return if what == "pass" { full_pass(kinds) } else { one_decision(kinds) };
    }
    println!("{} GPUs, {JOBS} jobs, {} waiting segments", NODES * CARDS, JOBS * SEGMENTS);
    let mut failed = false;
    for (name, kinds) in [("all jobs alike", 1), ("each job different", JOBS)] {
        println!("\n{name}");
        for what in ["pass", "decision"] {
            let mut child = Command::new(std::env::current_exe().unwrap());
            failed |= !child.args([what, &kinds.to_string()]).status().unwrap().success();
        }
    }
    assert!(!failed, "a figure is beyond its limit");
}

/// One pass from scratch over a fleet of free GPUs.
fn full_pass(kinds: u32) {
    let mut fleet = fleet();
    (0..JOBS).for_each(|number| assert!(fleet.set_demand(demand(number, kinds))));
    let mut times = Vec::new();
    let mut placed = 0;
    for _ in 0..PASSES {
        let begun = spent();
        placed = place(&fleet.snapshot(at(1)), at(1)).placements.len();
        times.push(spent() - begun);
    }
    let most = tell(&format!("one full pass from scratch, {placed} GPUs given"), times);
    assert!(most <= MOST_PASS, "a pass takes {most:?}, more than {MOST_PASS:?}");
}

/// All GPUs are held; one is freed, and goes to whose turn it is.
fn one_decision(kinds: u32) {
    let before = resident();
    let mut fleet = fleet();
    (0..JOBS).for_each(|number| assert!(fleet.set_demand(demand(number, kinds))));
    for card in 0..NODES * CARDS {
        let holder = AttemptId { job: job(card % JOBS), segment: HELD + card / JOBS, attempt: 0 };
        fleet.apply_pod(pod(&holder, card));
        fleet.apply_claim(claim(card, 1, Some((holder, grant(card)))));
    }
    assert!(fleet.decide(at(1)).is_empty());
    memory("resident memory of that state", before);
    let heard = heard_pods();
    memory("the same with the pods of all GPUs as they were heard of", before);
    let (mut times, mut disturbed) = (Vec::new(), Vec::new());
    let mut switches = status("nonvoluntary_ctxt_switches:");
    for number in 0..DECISIONS {
        // A full cycle over the GPUs that visits them out of order.
        let card = (number * 7919) % (NODES * CARDS);
        let version = u64::from(number) * 2 + 2;
        let old = fleet.claim(&uuid(card)).unwrap().holder.clone().unwrap();
        let freed = claim(card, version, None);
        let begun = spent();
        fleet.remove_pod(&old.pod_name());
        fleet.apply_claim(freed);
        let placements = fleet.decide(at(2));
        let took = spent() - begun;
        let before = std::mem::replace(&mut switches, status("nonvoluntary_ctxt_switches:"));
        if before == switches { &mut times } else { &mut disturbed }.push(took);
        assert_eq!(placements.len(), 1);
        let placement = &placements[0];
        let taken = (placement.attempt.clone(), placement.grant.clone());
        fleet.apply_pod(pod(&taken.0, card));
        fleet.apply_claim(claim(card, version + 1, Some(taken)));
        fleet.settled(placement, false);
    }
    // Their caches were emptied by whoever had the core in between.
    if !disturbed.is_empty() {
        tell(&format!("{} decisions after another process had the core", disturbed.len()), disturbed);
    }
    let most = tell("one GPU freed -> one decision", times);
    assert!(most <= MOST_DECISION, "a decision takes {most:?}, more than {MOST_DECISION:?}");
    let mut times = Vec::new();
    for _ in 0..PASSES {
        let begun = spent();
        drop(fleet.tell(true, at(2)));
        times.push(spent() - begun);
    }
    tell("telling all jobs why they wait", times);
    memory(&format!("resident memory after {DECISIONS} decisions"), before);
    assert_eq!(heard.known(None).len(), usize::try_from(NODES * CARDS).unwrap());
}

/// A running pod for each GPU, as the controller makes it and the kubelet tells of it.
fn heard_pods() -> HeardPods {
    let heard = HeardPods::default();
    let whole: Pod = serde_json::from_str(SEGMENT_POD).unwrap();
    let said = json!({"code": "Done", "free": 24 * GIB, "need": 16 * GIB}).to_string();
    let image = format!("registry.example.org/video/engine@sha256:{}", "0".repeat(64));
    let condition = |kind: &str| {
        json!({"type": kind, "status": "True", "lastTransitionTime": at(0).to_string(),
        "observedGeneration": 1})
    };
    let conditions = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"]
        .map(condition);
    let container = |name: &str, state: Value| {
        json!({"name": name, "image": image, "imageID": image, "ready": false,
        "restartCount": 0, "containerID": format!("containerd://{}", "0".repeat(64)), "state": state})
    };
    let ended = json!({"terminated": {"exitCode": 0, "reason": "Completed", "message": said,
        "startedAt": at(0).to_string(), "finishedAt": at(1).to_string()}});
    let running = json!({"running": {"startedAt": at(1).to_string()}});
    let waiting = json!({"waiting": {"reason": "PodInitializing"}});
    let status: PodStatus = serde_json::from_value(json!({"phase": "Pending", "qosClass": "Burstable",
        "hostIP": "10.0.0.1", "podIP": "10.1.0.1", "startTime": at(0).to_string(),
        "conditions": conditions,
        "initContainerStatuses": [container("prepare", ended), container("upscale", running)],
        "containerStatuses": [container("finish", waiting)]}))
    .unwrap();
    for number in 0..JOBS {
        let job = job(number);
        let owner = json!([{"apiVersion": keys::API_VERSION, "kind": "VideoUpscale", "name": job.name,
            "uid": job.uid, "controller": true}]);
        let owner: Vec<OwnerReference> = serde_json::from_value(owner).unwrap();
        let pods = (0..NODES * CARDS / JOBS).map(|card| {
            let name = AttemptId { job: job.clone(), segment: HELD + card, attempt: 0 }.pod_name();
            let mut pod = Pod { status: Some(status.clone()), ..whole.clone() };
            (pod.metadata.uid, pod.metadata.name) = (Some(name.clone()), Some(name));
            pod.metadata.owner_references = Some(owner.clone());
            pod
        });
        let asking = heard.asking(&job.uid, Duration::ZERO);
        drop(heard.listed(&job.uid, asking, None, pods.collect()));
    }
    heard
}

/// Prints how times are spread, and answers the 99th percentile.
fn tell(what: &str, mut times: Vec<Duration>) -> Duration {
    times.sort();
    let at = |share: usize| times[(times.len() - 1) * share / 100];
    println!("  {what}: P50 {:?}, P99 {:?}, most {:?}", at(50), at(99), at(100));
    at(99)
}

fn memory(what: &str, before: u64) {
    let used = resident().saturating_sub(before) >> 20;
    println!("  {what}: {used} MiB");
    assert!(used <= MOST_MEMORY, "{what}: {used} MiB, more than {MOST_MEMORY}");
}

/// Processor time that this thread has used.
fn spent() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap()
}

/// Bytes that the process has resident.
fn resident() -> u64 {
    status("VmRSS:") << 10
}

/// A figure that the kernel tells of this thread.
fn status(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn node_name(number: u32) -> String {
    format!("node-{number:04}")
}

fn uuid(card: u32) -> String {
    format!("GPU-{card:08x}-7a3b-4c1d-9e2f-5a6b7c8d9e0f")
}

fn job(number: u32) -> JobKey {
    JobKey {
        namespace: format!("team-{:02}", number % 20),
        name: format!("film-{number:03}"),
        uid: format!("{number:08x}-3b7d-4bad-9bdd-2b0d7b3dcb6d"),
    }
}

/// Nodes of eight GPUs of three models; on every fourth GPU a neighbour holds some memory.
fn fleet() -> Fleet {
    let mut fleet = Fleet::new("upscale-system");
    for number in 0..NODES {
        let gpus: Vec<Value> = (0..CARDS).map(|index| gpu(number * CARDS + index, number, index)).collect();
        let report = json!({"v": 1, "ns": "upscale-system", "seq": 7, "inst": "c1f0a9e2", "at": at(0).to_string(),
            "hb": 300, "drv": "580.95.05", "state": "ok", "attr": "full", "gpus": gpus});
        let node: Node = serde_json::from_value(json!({
            "metadata": {"name": node_name(number), "annotations": {keys::REPORT: report.to_string()},
                "labels": {"kubernetes.io/hostname": node_name(number), "zone": format!("z{}", number % 3)}},
            "status": {"conditions": [{"type": "Ready", "status": "True"}],
                "allocatable": {"cpu": "128", "memory": "1Ti", "ephemeral-storage": "10Ti", "pods": "110"}},
        }))
        .unwrap();
        fleet.apply_node(NodeFacts::of(&node).unwrap(), at(0));
    }
    fleet
}

fn gpu(card: u32, node: u32, index: u32) -> Value {
    let (model, total) =
        [("NVIDIA L4", 24), ("NVIDIA L40S", 48), ("NVIDIA H100 80GB HBM3", 80)][node as usize % 3];
    let foreign = if card.is_multiple_of(4) { 1 + u64::from(card) % 4 } else { 0 };
    let top: Vec<Value> = (0..u32::from(foreign > 0))
        .map(|_| json!({"k": "host", "p": 9, "b": foreign * GIB, "t": "C"}))
        .collect();
    json!({"i": index, "id": uuid(card), "n": model, "tot": total * GIB, "rsv": 0, "free": (total - foreign) * GIB,
           "una": 0, "h": "ok", "procs": {"n": top.len(), "b": foreign * GIB, "top": top}})
}

/// The demand of a job. With `kinds` above 1 jobs differ in what they need.
fn demand(number: u32, kinds: u32) -> Demand {
    let more = u64::from(number % kinds) * 1_000_000;
    let step = |step, gib: u64| StepNeed {
        step,
        need_bytes: gib * GIB + more,
        learned: BTreeMap::new(),
        cards: BTreeMap::new(),
    };
    let wanted = |segment| Wanted {
        segment,
        attempt: 0,
        first_step: 2,
        keep: None,
        avoid_gpus: [].into(),
        avoid_nodes: [].into(),
        largest_only: false,
    };
    Demand {
        job: job(number),
        created: at(-i64::from(number)),
        parallelism: 1024,
        wanted: (0..SEGMENTS).map(wanted).collect(),
        steps: Arc::from([step(2, 16), step(3, 12), step(4, 8), step(5, 4)]),
        gpu: GpuRequirements { headroom_bytes: GIB, ..GpuRequirements::default() },
        requests: PodRequests { cpu_millis: 1000, memory_bytes: GIB, ephemeral_bytes: GIB },
        tolerations: Vec::new(),
        nodes: None,
        cooling_nodes: BTreeMap::new(),
        cooling_gpus: BTreeMap::new(),
        incompatible_models: [].into(),
        patience: Some(Duration::from_secs(60)),
    }
}

fn grant(card: u32) -> Grant {
    Grant {
        gpu: uuid(card),
        gpu_index: card % CARDS,
        gpu_model: "NVIDIA L4".into(),
        node: node_name(card / CARDS),
        step: 2,
        need_bytes: 16 * GIB,
        seen: SeenBefore { inst: "c1f0a9e2".into(), ..SeenBefore::default() },
    }
}

fn claim(card: u32, version: u64, held: Option<(AttemptId, Grant)>) -> Claim {
    let (holder, grant) = held.unzip();
    Claim {
        holder,
        grant,
        actor: "me".into(),
        resource_version: version.to_string(),
        ..Claim::unclaimed(&uuid(card))
    }
}

fn pod(holder: &AttemptId, card: u32) -> PodFacts {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": holder.pod_name(), "namespace": holder.job.namespace, "uid": holder.pod_name(),
            "labels": {keys::ROLE: "segment"}, "annotations": {keys::GPU_UUID: uuid(card)}},
        "spec": {"nodeName": node_name(card / CARDS), "containers": [
            {"name": "finish", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}]},
    }))
    .unwrap();
    PodFacts::of(&pod).unwrap()
}
