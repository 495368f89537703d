//! The kubelet of the played nodes: runs the containers of our pods as their images would, with a real process on the
//! simulated driver for each engine.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Preconditions};
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::process::Child;
use tokio::task::JoinHandle;
use video_upscale::api::keys::{self, Role};
use video_upscale::api::quantity::GIB;
use video_upscale::api::report::Kind;
use video_upscale::api::worker::{Code, End, FinishFigures, MergeFigures, PrepareFigures};

use crate::engine::{self, Work};
use crate::played::cluster::uid;
use crate::played::containers::{self, container, end, ended, message, seconds};
use crate::world::{
    Alive, CROWDED, Owner, Part, PlayedNode, SEGMENTS, TOO_LARGE, World, need, number, until,
};

/// How long a container of ours takes.
const QUICK: Duration = Duration::from_millis(100);
/// How long an engine works.
const WORK: Duration = Duration::from_millis(600);
/// Pictures of a segment.
const PICTURES: u32 = 48;

/// Runs pods until it is dropped.
pub async fn run(world: Arc<World>) {
    let api: Api<Pod> = world.ours();
    let mut pods = watcher(api, watcher::Config::default()).default_backoff().touched_objects().boxed();
    // By UID; a pod that was deleted stays, so that it is taken away once.
    let mut known: BTreeMap<String, Life> = BTreeMap::new();
    while let Some(pod) = pods.next().await {
        let Ok(pod) = pod else { continue };
        let scheduled = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).is_some();
        if !known.contains_key(&uid(&pod)) {
            note(&world, &pod);
        }
        let life = known.entry(uid(&pod)).or_default();
        if pod.metadata.deletion_timestamp.is_some() && !life.leaving {
            life.leaving = true;
            let running = life.running.take();
            tokio::spawn(take_away(Arc::clone(&world), pod, running));
        } else if scheduled && !life.begun && !life.leaving {
            life.begun = true;
            life.running = Some(tokio::spawn(play(Arc::clone(&world), pod)));
        }
    }
}

#[derive(Default)]
struct Life {
    begun: bool,
    leaving: bool,
    running: Option<JoinHandle<()>>,
}

impl Drop for Life {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.abort();
        }
    }
}

/// Takes in a new pod.
fn note(world: &World, pod: &Pod) {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let ended = matches!(phase, Some("Succeeded" | "Failed"));
    let Some(gpu) = pod.annotations().get(keys::GPU_UUID).filter(|_| !ended) else { return };
    world.made(&uid(pod), Alive { segment: number(pod.labels(), keys::SEGMENT), gpu: gpu.clone() });
}

/// Ends a deleted pod's processes, then says that it is gone.
async fn take_away(world: Arc<World>, pod: Pod, running: Option<JoinHandle<()>>) {
    if let Some(running) = running {
        running.abort();
        let _aborted = running.await;
    }
    let id = uid(&pod);
    let holds = || {
        let owners = world.owners.lock().unwrap();
        let is_its = |pid: &u32| owners.get(pid).is_some_and(|owner| owner.pod.as_ref() == Some(&id));
        let cards = world.nodes.iter().flat_map(PlayedNode::cards);
        cards.flat_map(|card| card.holders).any(|holder| is_its(&holder.pid))
    };
    if let Err(why) = until("a deleted pod's engine ends", QUICK * 50, || !holds()).await {
        world.fault(why);
    }
    world.done(&id);
    let only = Preconditions { uid: Some(id), resource_version: None };
    let now = DeleteParams { preconditions: Some(only), ..DeleteParams::default().grace_period(0) };
    // Gone already is as good.
    let _gone = world.ours::<Pod>().delete(&pod.name_any(), &now).await;
}

async fn play(world: Arc<World>, pod: Pod) {
    match pod.labels().get(keys::ROLE).and_then(|role| Role::parse(role)) {
        Some(Role::Probe) => probe(&world, &pod).await,
        Some(Role::Segment) => segment(&world, &pod).await,
        Some(Role::Merge) => merge(&world, &pod).await,
        None => world.fault(format!("pod {} says no role", pod.name_any())),
    }
}

async fn probe(world: &World, pod: &Pod) {
    tokio::time::sleep(QUICK).await;
    tell(world, pod, containers::probed(SEGMENTS, PICTURES)).await;
}

async fn merge(world: &World, pod: &Pod) {
    tokio::time::sleep(QUICK).await;
    let parts = world.parts.lock().unwrap().len();
    if parts != usize::try_from(SEGMENTS).unwrap() {
        world.fault(format!("the merge began with {parts} of {SEGMENTS} parts"));
    }
    let figures = MergeFigures {
        frames: u64::from(SEGMENTS * PICTURES),
        width: 1280,
        height: 720,
        ..MergeFigures::default()
    };
    let end = End { merge: Some(figures), ..end(Code::Done) };
    let main = json!([ended("merge", Timestamp::now(), 0, &message(&end))]);
    tell(world, pod, json!({"phase": "Succeeded", "containerStatuses": main})).await;
}

async fn segment(world: &World, pod: &Pod) {
    let (labels, notes) = (pod.labels(), pod.annotations());
    let (segment, attempt) = (number(labels, keys::SEGMENT), number(labels, keys::ATTEMPT));
    let (step, need) = (number(notes, keys::STEP), need(notes));
    let gpu = notes[keys::GPU_UUID].clone();
    let node_name = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();
    let Some(node) = world.nodes.iter().find(|node| node.name == node_name) else {
        return world.fault(format!("pod {} stands on {node_name}, which is not ours", pod.name_any()));
    };
    let began = Timestamp::now();
    tell(world, pod, json!({"phase": "Pending", "initContainerStatuses": [running("prepare", began)]})).await;
    tokio::time::sleep(QUICK).await;

    let card = node.cards().into_iter().find(|card| card.uuid == gpu).unwrap();
    let code = if world.parts.lock().unwrap().contains_key(&segment) {
        Code::AlreadyDone
    } else if card.free < need {
        Code::GpuBusy
    } else {
        Code::Done
    };
    let figures =
        PrepareFigures { free_bytes: Some(card.free), need_bytes: need, ..PrepareFigures::default() };
    let said = End { prepare: Some(figures), ..end(code) };
    let prepared = ended("prepare", Timestamp::now(), i32::from(code.exit_code()), &message(&said));
    if code != Code::Done {
        world.done(&uid(pod));
        return tell(world, pod, json!({"phase": "Failed", "initContainerStatuses": [prepared]})).await;
    }

    let began = Timestamp::now();
    let inits = json!([prepared, running("upscale", began)]);
    tell(world, pod, json!({"phase": "Pending", "initContainerStatuses": inits})).await;
    if segment == CROWDED {
        neighbour(world, node, &gpu, card.free.saturating_sub(need / 2)).await;
    }
    if world.parts.lock().unwrap().contains_key(&segment) {
        world.fault(format!("segment {segment} is upscaled again although its part is there"));
    }
    let too_large = segment == TOO_LARGE && first_step(world, step);
    let bytes = if too_large { card.total + GIB } else { need / 10 * 9 };
    let work = Work { gpu: gpu.clone(), bytes, millis: Some(u64::try_from(WORK.as_millis()).unwrap()) };
    let owner = Owner { kind: Kind::Pod, pod: Some(uid(pod)) };
    let mut engine = begin(world, node, &work, owner);
    let mut text = String::new();
    engine.stdout.take().unwrap().read_to_string(&mut text).await.unwrap();
    let code = engine.wait().await.unwrap().code().unwrap_or(137);
    world.done(&uid(pod));
    let engine = ended("upscale", Timestamp::now(), code, &text);
    if code != 0 {
        let inits = json!([prepared, engine]);
        return tell(world, pod, json!({"phase": "Failed", "initContainerStatuses": inits})).await;
    }
    let inits = json!([prepared, engine]);
    let main = json!([running("finish", Timestamp::now())]);
    tell(world, pod, json!({"phase": "Running", "initContainerStatuses": inits, "containerStatuses": main}))
        .await;
    tokio::time::sleep(QUICK).await;
    // As the worker publishes: the first rename wins.
    world.parts.lock().unwrap().entry(segment).or_insert(Part { attempt, step });
    let said = End {
        finish: Some(FinishFigures { frames: PICTURES, ..FinishFigures::default() }),
        ..end(Code::Done)
    };
    let main = json!([ended("finish", Timestamp::now(), 0, &message(&said))]);
    tell(
        world,
        pod,
        json!({"phase": "Succeeded", "initContainerStatuses": inits, "containerStatuses": main}),
    )
    .await;
}

/// Whether that is the best step of the run: the first that any attempt had.
fn first_step(world: &World, step: u32) -> bool {
    *world.first_step.lock().unwrap().get_or_insert(step) >= step
}

/// Somebody else takes most of a card, once in a run, and stays.
async fn neighbour(world: &World, node: &PlayedNode, gpu: &str, bytes: u64) {
    {
        let mut neighbour = world.neighbour.lock().unwrap();
        if neighbour.is_some() {
            return;
        }
        let work = Work { gpu: gpu.to_owned(), bytes, millis: None };
        *neighbour = Some(begin(world, node, &work, Owner { kind: Kind::Host, pod: None }));
    }
    let there =
        || node.cards().iter().any(|card| card.uuid == gpu && card.holders.iter().any(|h| h.bytes >= bytes));
    if let Err(why) = until("the neighbour holds its memory", QUICK * 50, there).await {
        world.fault(why);
    }
}

/// Starts an engine; whose it is, is known before anybody can ask.
fn begin(world: &World, node: &PlayedNode, work: &Work, owner: Owner) -> Child {
    let mut owners = world.owners.lock().unwrap();
    let engine = engine::start(&node.socket(), work);
    owners.insert(engine.id().unwrap(), owner);
    engine
}

fn running(name: &str, since: Timestamp) -> Value {
    container(name, json!({"running": {"startedAt": seconds(since)}}))
}

/// Writes a pod's status.
async fn tell(world: &World, pod: &Pod, status: Value) {
    if let Err(why) = containers::tell(&world.ours(), pod, status).await {
        world.fault(why);
    }
}
