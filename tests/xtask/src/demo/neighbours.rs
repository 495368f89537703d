//! The others on the GPUs: a process of the machine, a pod of another namespace, a card on which the engine needs more
//! than the profile knows, and a process that barges in while the engine's memory still grows.

use std::time::Duration;

use anyhow::{Context, Result};
use gpusim::control::{Command, GpuState};
use k8s_openapi::api::core::v1::Node;
use kube::api::Api;
use kube::runtime::wait::await_condition;
use kube::{Client, ResourceExt};
use video_upscale::api::keys;
use video_upscale::api::quantity::{MIB, display};
use video_upscale::api::report::Report;

use crate::bed::Bed;
use crate::job::Job;

/// Memory that a neighbour leaves free, MiB.
const LEFT_FREE_MIB: u64 = 1536;
/// An engine that holds less still loads its weights, and so will want more, MiB.
pub const WEIGHTS_MIB: u64 = 3 * 1024;
/// What an engine may take while its neighbour is still starting, MiB; much less than it lacks.
const STILL_GROWS_MIB: u64 = 1024;
/// What the engine truly needs on the misjudged card, percent of the published formula.
const MISJUDGED_PERCENT: u32 = 218;
/// Model of the misjudged card.
const MISJUDGED_MODEL: &str = "3060";
/// Namespace of the pod that holds a GPU.
const NEIGHBOUR_NAMESPACE: &str = "labs";

/// The others, until they move out.
pub struct Neighbours<'a> {
    bed: &'a Bed,
    /// Cards that somebody else is on from the beginning.
    taken: Vec<GpuState>,
    /// The card on which the engine needs more than the profile knows.
    misjudged: GpuState,
}

impl<'a> Neighbours<'a> {
    /// Clears what earlier neighbours left, then lets the first two in.
    pub fn move_in(bed: &'a Bed) -> Result<Self> {
        for gpu in bed.gpus()? {
            bed.release(&gpu.node, &gpu.uuid)?;
            bed.control(&gpu.node)?.run(&Command::Need { gpu: gpu.uuid.parse()?, percent: 100 })?;
        }
        let gpus = bed.gpus()?;
        let first = |node: &str| gpus.iter().find(|gpu| gpu.node == node).cloned();
        let on_host = first("node-a").context("node-a has no GPU")?;
        let in_pod = first("node-b").context("node-b has no GPU")?;
        hold(bed, &on_host)?;
        println!("a process of {} takes {} of GPU #{}", on_host.node, mib(room(&on_host)), on_host.index);
        bed.hog_pod(NEIGHBOUR_NAMESPACE, &in_pod.node, &in_pod.uuid, room(&in_pod))?;
        println!(
            "a pod of namespace {NEIGHBOUR_NAMESPACE} takes {} of GPU #{} of {}",
            mib(room(&in_pod)),
            in_pod.index,
            in_pod.node
        );
        let misjudged = gpus.iter().find(|gpu| gpu.model.contains(MISJUDGED_MODEL)).cloned();
        let misjudged = misjudged.with_context(|| format!("there is no {MISJUDGED_MODEL}"))?;
        bed.control(&misjudged.node)?
            .run(&Command::Need { gpu: misjudged.uuid.parse()?, percent: MISJUDGED_PERCENT })?;
        Ok(Self { bed, taken: vec![on_host, in_pod], misjudged })
    }

    /// Whether a card is one of those that somebody else is on from the beginning.
    pub fn are_on(&self, gpu: &GpuState) -> bool {
        self.taken.iter().any(|taken| taken.uuid == gpu.uuid)
    }

    /// Whether a card is one of theirs, or the one on which the engine needs more than the profile knows.
    pub fn concern(&self, gpu: &GpuState) -> bool {
        self.are_on(gpu) || self.misjudged.uuid == gpu.uuid
    }

    /// Waits until the agents have told of the first two, and of who holds `others`.
    pub async fn wait_until_reported(&self, client: &Client, others: &[GpuState]) -> Result<()> {
        let nodes: Api<Node> = Api::all(client.clone());
        for gpu in self.taken.iter().chain(others) {
            let shows = |node: Option<&Node>| node.is_some_and(|node| taken_by_report(node, &gpu.uuid));
            let wait = await_condition(nodes.clone(), &gpu.node, shows);
            tokio::time::timeout(Duration::from_secs(90), wait)
                .await
                .with_context(|| format!("wait for the report of {} to show the neighbour", gpu.node))??;
        }
        Ok(())
    }

    /// Waits for an engine whose memory still grows and takes the rest of its card; again if it came too late. Gives
    /// the memory back once the end has been judged. Leaves alone the cards that are `spared`.
    pub async fn barge_in(&self, job: &Job, spared: &[GpuState]) -> Result<()> {
        let mut look = tokio::time::interval(Duration::from_millis(100));
        loop {
            look.tick().await;
            let gpus = self.bed.gpus()?.into_iter();
            let mut gpus = gpus.filter(|gpu| spared.iter().all(|spared| spared.uuid != gpu.uuid));
            let Some(gpu) = gpus.find(|gpu| self.engine_grows_on(gpu)) else { continue };
            let rest = (gpu.free / MIB).saturating_sub(STILL_GROWS_MIB);
            if self.bed.hog_process(&gpu.node, &gpu.uuid, rest).is_err() {
                continue;
            }
            println!(
                "          a process of {} takes what is left of GPU #{}: {}",
                gpu.node,
                gpu.index,
                mib(rest)
            );
            let judged = job.wait_for("a verdict on the neighbour", Duration::from_secs(120), |status| {
                let ends = status.out_of_memory.iter().flat_map(|o| &o.recent);
                ends.into_iter().any(|end| end.gpu == gpu.uuid && end.verdict == "ForeignProcess")
            });
            let judged = judged.await;
            self.bed.release(&gpu.node, &gpu.uuid)?;
            if judged.is_ok() {
                return Ok(());
            }
        }
    }

    /// Whether exactly one process is on the card, holds less than the engine's weights, and so will want more.
    fn engine_grows_on(&self, gpu: &GpuState) -> bool {
        let [holder] = gpu.holders.as_slice() else { return false };
        !self.concern(gpu) && holder.bytes < WEIGHTS_MIB * MIB
    }

    /// Everybody leaves; cards need what the formula says.
    pub fn move_out(self) -> Result<()> {
        for gpu in self.bed.gpus()? {
            self.bed.release(&gpu.node, &gpu.uuid)?;
        }
        let gpu = self.misjudged.uuid.parse()?;
        self.bed.control(&self.misjudged.node)?.run(&Command::Need { gpu, percent: 100 })?;
        Ok(())
    }
}

/// Lets a process of the node hold a card but for what no step runs in.
pub fn hold(bed: &Bed, gpu: &GpuState) -> Result<()> {
    bed.hog_process(&gpu.node, &gpu.uuid, room(gpu)).map(drop)
}

fn room(gpu: &GpuState) -> u64 {
    (gpu.free / MIB).saturating_sub(LEFT_FREE_MIB)
}

fn mib(mib: u64) -> String {
    display(mib.saturating_mul(MIB))
}

fn taken_by_report(node: &Node, uuid: &str) -> bool {
    let report =
        node.annotations().get(keys::REPORT).and_then(|text| serde_json::from_str::<Report>(text).ok());
    let gpus = report.map(|report| report.gpus).unwrap_or_default();
    gpus.iter().any(|gpu| gpu.id == uuid && gpu.free.is_some_and(|free| free <= 2 * LEFT_FREE_MIB * MIB))
}
