//! What goes wrong on real nodes: each fault ends with the verdict that is right, the attempt after it is the right
//! one, and the film is the film that went in, picture by picture.

mod story;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gpusim::control::{Command, GpuState, PinMode, Spoil};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, EvictParams, PostParams};
use kube::runtime::wait::await_condition;
use kube::{Client, ResourceExt};
use rustix::process::Signal;
use serde_json::json;
use video_upscale::api::keys;
use video_upscale::api::profile::UpscaleProfile;
use video_upscale::api::quantity::MIB;

use crate::bed::{Bed, OPERATOR_NAMESPACE, TENANT};
use story::{Engine, Next, Story};

/// Program of the agents.
const AGENT: &str = "upscale-agent";
/// A model of which each node has two cards.
const MODEL: &str = "A4000";
/// Time in which an engine is at work.
const AT_WORK: Duration = Duration::from_secs(60);
/// Time in which the API server notices that a kubelet is silent, and what follows from it.
const SILENCE: Duration = Duration::from_secs(120);

/// An exception that has nothing to do with memory: the same step on another card.
pub async fn an_engine_that_crashes_moves(bed: &Bed, client: &Client) -> Result<()> {
    let story = Story::begin(bed, client, "crash", SECONDS, json!({})).await?;
    let first = spoil(bed, Spoil::Crash)?;
    story.end(&first, "EngineError", Next::AnotherGpu, async |_| Ok(())).await
}

/// Exit status 0 with a black picture in the middle: refused, and done again on another card.
pub async fn a_black_picture_is_refused(bed: &Bed, client: &Client) -> Result<()> {
    let story = Story::begin(bed, client, "black", SECONDS, json!({})).await?;
    let first = spoil(bed, Spoil::BlackFrame)?;
    story.end(&first, "BadOutput", Next::AnotherGpu, async |_| Ok(())).await
}

/// A node on which another GPU is visible than the promised one.
pub async fn a_swapped_gpu_is_noticed(bed: &Bed, client: &Client) -> Result<()> {
    pinned(bed, client, "swap", PinMode::Swap, "GpuMismatch").await
}

/// A node on which every GPU is visible whatever a pod is promised.
pub async fn an_ignored_pin_is_noticed(bed: &Bed, client: &Client) -> Result<()> {
    pinned(bed, client, "ignore", PinMode::Ignore, "PinIgnored").await
}

/// A node on which no GPU is visible.
pub async fn an_invisible_gpu_is_noticed(bed: &Bed, client: &Client) -> Result<()> {
    pinned(bed, client, "invisible", PinMode::None, "PinIgnored").await
}

async fn pinned(bed: &Bed, client: &Client, name: &str, mode: PinMode, verdict: &str) -> Result<()> {
    let story = Story::begin(bed, client, name, SECONDS, json!({})).await?;
    let card = first_card(bed)?;
    bed.control(&card.node)?.run(&Command::Pin { mode })?;
    let outcome = story.end(&card, verdict, Next::AnotherNode, async |_| Ok(())).await;
    bed.control(&card.node)?.run(&Command::Pin { mode: PinMode::Honour })?;
    outcome
}

/// While no agent speaks, a neighbour takes the card that the last report calls free: the pre-check leaves, and the
/// step stays.
pub async fn a_card_taken_behind_a_silent_agent_is_left(bed: &Bed, client: &Client) -> Result<()> {
    let story = Story::begin(bed, client, "busy", SECONDS, json!({})).await?;
    let card = first_card(bed)?;
    ensure!(bed.signal(AGENT, Signal::STOP)? == bed.nodes().len(), "an agent is missing");
    let outcome = async {
        bed.hog_process(&card.node, &card.uuid, rest_of(&card))?;
        story.end(&card, "GpuBusy", Next::AnotherGpu, async |_| Ok(())).await
    };
    let outcome = outcome.await;
    bed.signal(AGENT, Signal::CONT)?;
    bed.release(&card.node, &card.uuid)?;
    outcome
}

/// The agents are silent while a neighbour takes what the engine still wants: the text and the view before decide.
pub async fn a_neighbour_behind_a_silent_agent_is_blamed(bed: &Bed, client: &Client) -> Result<()> {
    let story = Story::begin(bed, client, "silent", SECONDS, json!({})).await?;
    let card = first_card(bed)?;
    let outcome = story
        .end(&card, "ForeignProcess", Next::AnotherGpu, async |engine: Engine| {
            bed.signal(AGENT, Signal::STOP)?;
            engine.wait_until_it_grows(AT_WORK).await?;
            take_what_is_left(bed, &card)
        })
        .await;
    bed.signal(AGENT, Signal::CONT)?;
    bed.release(&card.node, &card.uuid)?;
    outcome
}

/// Memory that no process holds: nobody's step falls, and the card is out until the memory is back.
pub async fn leaked_memory_is_nobodys_fault(bed: &Bed, client: &Client) -> Result<()> {
    let story = Story::begin(bed, client, "leak", SECONDS, json!({})).await?;
    let card = first_card(bed)?;
    let gpu = || card.uuid.parse().context("read the card's UUID");
    let outcome = story
        .end(&card, "LeakedMemory", Next::AnotherGpu, async |engine: Engine| {
            let left = engine.wait_until_it_grows(AT_WORK).await?.free / MIB;
            let mib = left.saturating_sub(GROWS_MIB);
            bed.control(&card.node)?.run(&Command::Leak { gpu: gpu()?, mib })?;
            Ok(())
        })
        .await;
    let outcome = match outcome {
        Ok(()) => quarantined(client, &card, true).await,
        Err(error) => Err(error),
    };
    bed.control(&card.node)?.run(&Command::Leak { gpu: gpu()?, mib: 0 })?;
    outcome?;
    quarantined(client, &card, false).await
}

/// A card that falls off the bus under an engine.
pub async fn a_lost_card_is_left(bed: &Bed, client: &Client) -> Result<()> {
    let story = Story::begin(bed, client, "lost", SECONDS, json!({})).await?;
    let card = first_card(bed)?;
    let gpu = || card.uuid.parse().context("read the card's UUID");
    let outcome = story
        .end(&card, "GpuFault", Next::AnotherGpu, async |engine: Engine| {
            engine.wait_until_it_grows(AT_WORK).await?;
            bed.control(&card.node)?.run(&Command::Lose { gpu: gpu()?, back: false })?;
            Ok(())
        })
        .await;
    bed.control(&card.node)?.run(&Command::Lose { gpu: gpu()?, back: true })?;
    // Only a new life of the driver makes the card well again.
    let driver = Command::Driver { action: gpusim::control::DriverAction::Reload, version: None };
    bed.control(&card.node)?.run(&driver)?;
    outcome
}

/// The kernel ends an engine whose limit is too low: shorter pieces, the same step.
pub async fn an_engine_without_host_memory_works_in_pieces(bed: &Bed, client: &Client) -> Result<()> {
    // Who arrives has left before, with all that was theirs: the profile comes after.
    let story = Story::begin(bed, client, "lean", LEAN_SECONDS, json!({"profile": "lean"})).await?;
    let profiles: Api<UpscaleProfile> = Api::all(client.clone());
    // A chart that has just been installed offers it a moment later.
    let offered = await_condition(profiles.clone(), "flashvsr", |it: Option<&UpscaleProfile>| it.is_some());
    let offered = tokio::time::timeout(SILENCE, offered).await.context("wait for the profile")??;
    let mut lean = offered.context("the profile has gone")?;
    lean.metadata = kube::core::ObjectMeta {
        name: Some("lean".into()),
        labels: Some([(TENANT.to_owned(), story.namespace().to_owned())].into()),
        ..Default::default()
    };
    lean.status = None;
    lean.spec.host_memory.base_mib = LEAN_BASE_MIB;
    lean.spec.host_memory.output_pixel_frame /= 2;
    profiles.create(&PostParams::default(), &lean).await.context("create the profile")?;
    story.end(&first_card(bed)?, "HostMemory", Next::MorePieces, async |_| Ok(())).await
}

/// A pod that is evicted as by a drain comes back at its step and nothing is counted.
pub async fn an_evicted_pod_comes_back(bed: &Bed, client: &Client) -> Result<()> {
    let story = Story::begin(bed, client, "evicted", SECONDS, json!({})).await?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), story.namespace());
    let card = first_card(bed)?;
    story
        .end(&card, "Disrupted", Next::Anywhere, async |engine: Engine| {
            engine.wait_until_it_grows(AT_WORK).await?;
            pods.evict(&engine.pod, &EvictParams::default()).await.context("evict the pod")?;
            Ok(())
        })
        .await
}

/// A node whose kubelet is silent and that is declared out of service: its pod is lost while the engine still runs.
/// The segment comes back elsewhere at its step; the card stays out until its node is back and the memory free.
pub async fn a_lost_nodes_pod_comes_back_elsewhere(bed: &Bed, client: &Client) -> Result<()> {
    let story = Story::begin(bed, client, "node", SECONDS, json!({})).await?;
    let card = first_card(bed)?;
    let nodes: Api<Node> = Api::all(client.clone());
    // A run that does not end by itself: the process must outlive its pod.
    bed.control(&card.node)?.run(&Command::Engine {
        gpu: card.uuid.parse().context("read the card's UUID")?,
        spoil: Spoil::Hang,
        runs: Some(1),
    })?;
    let outcome = story
        .end(&card, "Disrupted", Next::AnotherNode, async |engine: Engine| {
            engine.wait_until_it_grows(AT_WORK).await?;
            bed.hold_kubelet(&card.node, true)?;
            let silent = await_condition(nodes.clone(), &card.node, is_silent);
            tokio::time::timeout(SILENCE, silent).await.context("wait for the node to be not Ready")??;
            let held = bed.gpu(&card.node, &card.uuid)?.holders;
            ensure!(!held.is_empty(), "the engine has ended with its kubelet");
            bed.out_of_service(&card.node, true)
        })
        .await;
    let still = bed.gpu(&card.node, &card.uuid)?.holders.len();
    let outcome = match outcome {
        Ok(()) => quarantined(client, &card, true).await,
        Err(error) => Err(error),
    };
    bed.out_of_service(&card.node, false)?;
    bed.hold_kubelet(&card.node, false)?;
    outcome?;
    ensure!(still > 0, "the lost engine had ended before its node was back");
    quarantined(client, &card, false).await
}

fn is_silent(node: Option<&Node>) -> bool {
    let conditions = node.and_then(|node| node.status.as_ref()?.conditions.as_ref());
    conditions.into_iter().flatten().any(|it| it.type_ == "Ready" && it.status != "True")
}

/// What an engine may still take before the card is full, MiB; much less than it lacks.
const GROWS_MIB: u64 = 1024;
/// Memory that a neighbour leaves free, MiB; no step runs in that.
const LEFT_MIB: u64 = 1536;
/// What the engine of the lean profile is said to need without pictures, MiB: with half of what it needs for pictures,
/// much less than it takes.
const LEAN_BASE_MIB: i32 = 32;
/// Length of its film: in two pieces each reads less than the whole, its context included.
const LEAN_SECONDS: u32 = 5;
/// Length of all others.
const SECONDS: u32 = 2;

/// The card that a story's first attempt gets.
fn first_card(bed: &Bed) -> Result<GpuState> {
    let card = bed.gpus()?.into_iter().find(|gpu| gpu.model.contains(MODEL));
    card.with_context(|| format!("there is no {MODEL}"))
}

fn rest_of(card: &GpuState) -> u64 {
    (card.free / MIB).saturating_sub(LEFT_MIB)
}

/// Lets a process take a card but for a rest in which the engine on it cannot grow up.
fn take_what_is_left(bed: &Bed, card: &GpuState) -> Result<()> {
    let free = bed.gpu(&card.node, &card.uuid)?.free / MIB;
    bed.hog_process(&card.node, &card.uuid, free.saturating_sub(GROWS_MIB)).map(drop)
}

/// Spoils the next run on the first card.
fn spoil(bed: &Bed, spoil: Spoil) -> Result<GpuState> {
    let card = first_card(bed)?;
    let gpu = card.uuid.parse().context("read the card's UUID")?;
    bed.control(&card.node)?.run(&Command::Engine { gpu, spoil, runs: Some(1) })?;
    Ok(card)
}

/// Waits until a card is in quarantine, or no more.
async fn quarantined(client: &Client, card: &GpuState, wanted: bool) -> Result<()> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), OPERATOR_NAMESPACE);
    let name = card.uuid.to_lowercase();
    let shows = |lease: Option<&Lease>| {
        lease.is_some_and(|lease| lease.annotations().contains_key(keys::QUARANTINED) == wanted)
    };
    let wait = tokio::time::timeout(SILENCE, await_condition(leases, &name, shows));
    wait.await.with_context(|| format!("wait for lease {name}: quarantined = {wanted}"))??;
    Ok(())
}
