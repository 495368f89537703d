//! The agents on real kubelets: what happens to a node's GPUs stands on its Node in time, each process with its owner,
//! and an agent that can no longer see says so before it ends.

pub mod told;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use gpusim::card::MIB;
use gpusim::control::{Command, DriverAction, GpuState};
use gpusim::journal::{self, Event};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, ResourceExt};
use serde_json::json;
use tokio::sync::watch;
use video_upscale::api::report::{Health, Kind, Report, State};

use crate::bed::{Bed, OPERATOR_NAMESPACE};
use crate::gpu::Hog;
use crate::images::Image;
use told::{Told, gpu, process};

/// Memory of a neighbour that cannot wait to be told.
const TAKEN_MIB: u64 = 2_048;
/// Time in which that stands on the Node.
const ATTACK: Duration = Duration::from_secs(10);
/// Time in which a fault of a card or of the driver does.
const FAULT: Duration = Duration::from_secs(15);
/// Time in which a new process is listed with its owner: a sweep, and a write that may have to keep its gap.
const LISTED: Duration = Duration::from_secs(60);
/// Time in which everything settles between two stories.
const SETTLED: Duration = Duration::from_secs(180);
/// Age of the last sample at which liveness fails, and the time between two rounds and two looks around it.
const DEAD_AFTER: Duration = Duration::from_secs(120);
const SLACK: Duration = Duration::from_secs(5);
/// Versions that the driver is loaded in by turns.
const VERSIONS: [&str; 2] = ["580.95.05", "590.10.01"];
/// Namespace of a neighbour's pod.
const NEIGHBOURS: &str = "labs";

/// 2 GiB that a process of the host takes are on the Node within ten seconds.
pub async fn memory_that_a_host_process_takes_is_told_within_ten_seconds(
    bed: &Bed,
    client: &Client,
) -> Result<()> {
    let agent = Told::of(client, "node-a");
    let card = settled(bed, &agent, "1").await?;
    let outcome = async {
        let hog = bed.hog_process(&card.node, &card.uuid, TAKEN_MIB)?;
        let pid = pid_of(bed, &card, &hog)?;
        let least = card.free.saturating_sub(TAKEN_MIB * MIB);
        let shows =
            |report: &Report| gpu(report, &card.uuid).is_ok_and(|gpu| gpu.free.is_some_and(|f| f <= least));
        agent.until("the memory is taken", ATTACK, shows).await?;
        let took = since_it_held(bed, &card, pid)?;
        println!("    the memory is on the Node after {took:.1} s");
        ensure!(took <= ATTACK.as_secs_f64(), "only after {took:.1} s");
        Ok(())
    };
    let outcome = outcome.await;
    bed.release(&card.node, &card.uuid)?;
    outcome
}

/// A host process is told as one, a pod's with the pod's UID, and one in the agent's own pod with that pod's UID.
pub async fn every_process_is_told_with_its_owner(bed: &Bed, client: &Client) -> Result<()> {
    let agent = Told::of(client, "node-a");
    let card = settled(bed, &agent, "2").await?;
    let own = agent.pod().await?;
    let outcome = async {
        let host = pid_of(bed, &card, &bed.hog_process(&card.node, &card.uuid, 1_000)?)?;
        let pod = bed.hog_pod(NEIGHBOURS, &card.node, &card.uuid, 1_100)?;
        let (in_pod, uid) = (pid_of(bed, &card, &pod)?, uid_of(client, &pod).await?);
        let in_own = hog_inside(bed, client, &own, &card, 1_200).await?;
        let expected = [
            (host, Kind::Host, None, 1_000),
            (in_pod, Kind::Pod, Some(uid), 1_100),
            (in_own, Kind::Pod, own.uid(), 1_200),
        ];
        let listed = |report: &Report| {
            expected.iter().all(|(pid, kind, uid, mib)| {
                process(report, &card.uuid, *pid)
                    .is_some_and(|it| it.k == *kind && it.u == *uid && it.b == Some(mib * MIB))
            })
        };
        agent.until("each process has its owner", LISTED, listed).await?;
        Ok(())
    };
    let outcome = outcome.await;
    bed.release(&card.node, &card.uuid)?;
    // A container that was put into a pod goes only with the pod.
    agent.renew().await?;
    outcome
}

/// A lost card, an Xid 79 and a reloaded driver are on the Node within fifteen seconds; after the reload the agent
/// tells before it ends, and its successor finds the cards well.
pub async fn a_lost_card_an_xid_and_a_reload_are_told_within_fifteen_seconds(
    bed: &Bed,
    client: &Client,
) -> Result<()> {
    let agent = Told::of(client, "node-b");
    let lost = settled(bed, &agent, "0").await?;
    let struck = settled(bed, &agent, "1").await?;
    agent.renew().await?;
    let health = |card: &GpuState, health: Health| {
        let uuid = card.uuid.clone();
        move |report: &Report| gpu(report, &uuid).is_ok_and(|gpu| gpu.h == health)
    };
    let of = |card: &GpuState| card.uuid.parse().context("read the card's UUID");

    bed.control("node-b")?.run(&Command::Lose { gpu: of(&lost)?, back: false })?;
    let (report, took) = agent.until("the card is lost", FAULT, health(&lost, Health::Lost)).await?;
    println!("    the lost card is on the Node after {:.1} s", took.as_secs_f64());
    ensure!(gpu(&report, &lost.uuid)?.free.is_none(), "a lost card has no free memory");
    bed.control("node-b")?.run(&Command::Lose { gpu: of(&lost)?, back: true })?;

    bed.control("node-b")?.run(&Command::Xid { gpu: of(&struck)?, code: 79 })?;
    let (report, took) = agent.until("the Xid is told", FAULT, health(&struck, Health::Bad)).await?;
    println!("    the Xid is on the Node after {:.1} s", took.as_secs_f64());
    ensure!(gpu(&report, &struck.uuid)?.xid == Some(79), "the report names no Xid 79");

    let version =
        VERSIONS.into_iter().find(|version| report.drv != *version).context("name another version")?;
    bed.control("node-b")?
        .run(&Command::Driver { action: DriverAction::Reload, version: Some(version.to_owned()) })?;
    let mismatch = |report: &Report| report.state == State::DriverMismatch;
    let (told, took) = agent.until("the driver has changed", FAULT, mismatch).await?;
    println!("    the reloaded driver is on the Node after {:.1} s", took.as_secs_f64());
    let well = |report: &Report| {
        report.state == State::Ok
            && report.drv == version
            && report.gpus.iter().all(|gpu| gpu.h == Health::Ok)
    };
    agent.until("its successor finds all cards well", SETTLED, well).await?;
    let (code, ended) = last_end(&agent.pod().await?)?;
    ensure!(code == 75, "the agent ended with {code}");
    ensure!(told.at <= ended, "told at {}, but ended at {ended}", told.at);
    Ok(())
}

/// While the driver's daemon stands still, liveness fails after two minutes, and metrics are answered all the time.
/// `told` becomes true when the Node says so.
pub async fn a_driver_that_hangs_ends_liveness_and_no_metrics(
    bed: &Bed,
    client: &Client,
    told: watch::Sender<bool>,
) -> Result<()> {
    let agent = Told::of(client, "node-b");
    settled(bed, &agent, "0").await?;
    let pod = agent.pod().await?;
    bed.hold_driver("node-b", true)?;
    let outcome = hangs(&agent, &pod, &told).await;
    bed.hold_driver("node-b", false)?;
    outcome?;
    agent.until("the agent sees again", SETTLED, |report| report.state == State::Ok).await?;
    Ok(())
}

async fn hangs(agent: &Told, pod: &Pod, told: &watch::Sender<bool>) -> Result<()> {
    let began = Instant::now();
    let mut look = tokio::time::interval(Duration::from_secs(1));
    let mut stuck = None;
    loop {
        look.tick().await;
        let (answered, metrics) = Told::ask(pod, "/metrics")?;
        ensure!(answered, "metrics: {metrics}");
        if stuck.is_none() && metrics.contains("upscale_agent_state{state=\"nvml-stuck\"} 1") {
            agent.until("the hang is told", FAULT, |report| report.state == State::NvmlStuck).await?;
            stuck = Some(began.elapsed());
            told.send_replace(true);
        }
        let (live, why) = Told::ask(pod, "/livez")?;
        if !live {
            let took = began.elapsed();
            println!("    stuck on the Node by {stuck:?}, dead after {:.1} s", took.as_secs_f64());
            ensure!(stuck.is_some(), "the Node was never told");
            ensure!(took + SLACK >= DEAD_AFTER, "dead after {took:?} only");
            ensure!(why.contains("the driver has not come back from"), "no call is named: {why}");
            return Ok(());
        }
        ensure!(began.elapsed() <= DEAD_AFTER + SLACK, "alive after {:?}", began.elapsed());
    }
}

/// A card of the agent's node without neighbours, once the report says of it what is: readable, well, as free as it is.
async fn settled(bed: &Bed, agent: &Told, index: &str) -> Result<GpuState> {
    bed.release(agent.node, index)?;
    let well = |report: &Report| {
        // The engine of a job may come and go meanwhile.
        let Ok(card) = bed.gpu(agent.node, index) else { return false };
        let Ok(gpu) = gpu(report, &card.uuid) else { return false };
        report.state == State::Ok && gpu.h == Health::Ok && gpu.free == Some(card.free)
    };
    agent.until("nothing moves", SETTLED, well).await?;
    bed.gpu(agent.node, index)
}

/// The process of a hog, as the driver sees it.
fn pid_of(bed: &Bed, card: &GpuState, hog: &Hog) -> Result<u32> {
    match hog {
        Hog::Process(pid) => Ok(*pid),
        Hog::Pod { name, .. } => newest(bed, card).with_context(|| format!("find the process of pod {name}")),
    }
}

/// The process that came last to a card.
fn newest(bed: &Bed, card: &GpuState) -> Result<u32> {
    let entries = journal::read(&bed.journal(&card.node)).context("read the driver's journal")?;
    let holds = journal::holds(&entries);
    let last = holds.iter().rev().find(|hold| hold.uuid == card.uuid && hold.end.is_none());
    last.map(|hold| hold.who.pid).context("nobody holds memory of the card")
}

async fn uid_of(client: &Client, hog: &Hog) -> Result<String> {
    let Hog::Pod { namespace, name } = hog else { anyhow::bail!("{hog} is no pod") };
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    pods.get(name).await.context("read the neighbour's pod")?.uid().context("a pod without a UID")
}

/// Seconds since a process got memory of a card, by the driver's journal.
fn since_it_held(bed: &Bed, card: &GpuState, pid: u32) -> Result<f64> {
    let entries = journal::read(&bed.journal(&card.node)).context("read the driver's journal")?;
    let held = entries.iter().rev().find_map(|entry| match &entry.event {
        Event::HoldStart { uuid, who, .. } if *uuid == card.uuid && who.pid == pid => Some(entry.at),
        _ => None,
    });
    let held = held.context("the driver's journal knows no such process")?;
    Ok(jiff::Timestamp::now().duration_since(held).as_secs_f64())
}

/// Lets a process in the agent's own pod hold memory of a card; its id on the host is the answer.
async fn hog_inside(bed: &Bed, client: &Client, pod: &Pod, card: &GpuState, mib: u64) -> Result<u32> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), OPERATOR_NAMESPACE);
    let container = json!({
        "name": "hog",
        "image": bed.image(Image::Hog),
        "args": ["--gpu", "0", "--mib", mib.to_string()],
        "env": [{"name": "NVIDIA_VISIBLE_DEVICES", "value": card.uuid}],
    });
    let patch = Patch::Strategic(json!({"spec": {"ephemeralContainers": [container]}}));
    pods.patch_ephemeral_containers(&pod.name_any(), &PatchParams::default(), &patch)
        .await
        .context("put a container into the agent's pod")?;
    bed.wait("the container in the agent's pod to hold memory", Duration::from_secs(60), || {
        let now = bed.gpu(&card.node, &card.uuid)?;
        let ours = now.holders.iter().find(|holder| holder.bytes == mib * MIB);
        Ok(ours.map(|holder| holder.pid))
    })
}

/// Exit code and time of the last end of the agent's container.
fn last_end(pod: &Pod) -> Result<(i32, jiff::Timestamp)> {
    let containers = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    let agent = containers.into_iter().flatten().find(|container| container.name == "agent");
    let ended = agent.and_then(|agent| agent.last_state.as_ref()?.terminated.as_ref());
    let ended = ended.context("the agent's container has not ended")?;
    let at = ended.finished_at.as_ref().context("an end without a time")?;
    Ok((ended.exit_code, at.0))
}
