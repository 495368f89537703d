//! What can go wrong beside the neighbours, all in one run: at first no card has room, one engine crashes, one leaves a
//! black picture, and somebody deletes a pod at work.

use std::time::Duration;

use anyhow::{Context, Result};
use gpusim::control::{Command, GpuState, Spoil};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, ListParams};
use kube::{Client, ResourceExt};
use video_upscale::api::conditions::{ConditionType, find};
use video_upscale::api::keys;
use video_upscale::api::quantity::{MIB, display};

use super::neighbours::{Neighbours, WEIGHTS_MIB, hold};
use super::transcript::Transcript;
use crate::bed::Bed;
use crate::job::Job;

/// How each accident but the first ends.
pub const VERDICTS: [&str; 3] = ["EngineError", "BadOutput", "Disrupted"];
/// Node and model of the cards on which the engine's next run is spoilt, one each.
const SPOILT: (&str, &str) = ("node-b", "3060");
const SPOILS: [Spoil; 2] = [Spoil::Crash, Spoil::BlackFrame];
/// Time in which the job says that it waits.
const WAITS: Duration = Duration::from_secs(60);

/// The accidents, until they are undone.
pub struct Accidents<'a> {
    bed: &'a Bed,
    /// Cards that have no room until the job has said so.
    pub filled: Vec<GpuState>,
    /// Cards whose next run is spoilt.
    pub spoilt: Vec<GpuState>,
}

impl<'a> Accidents<'a> {
    /// Fills every card that the neighbours have left and spoils the next run of two.
    ///
    /// # Errors
    /// When a driver refuses.
    pub fn prepare(bed: &'a Bed, neighbours: &Neighbours<'_>) -> Result<Self> {
        let gpus = bed.gpus()?;
        let filled: Vec<GpuState> = gpus.into_iter().filter(|gpu| !neighbours.are_on(gpu)).collect();
        for gpu in &filled {
            hold(bed, gpu)?;
        }
        println!("processes of both nodes take the other {} GPUs", filled.len());
        let (node, model) = SPOILT;
        let spoilt = filled.iter().filter(|gpu| gpu.node == node && gpu.model.contains(model));
        let spoilt: Vec<GpuState> = spoilt.take(SPOILS.len()).cloned().collect();
        for (gpu, spoil) in spoilt.iter().zip(SPOILS) {
            engine(bed, gpu, spoil, Some(1))?;
            println!("the next run on GPU #{} of {} is spoilt: {spoil:?}", gpu.index, gpu.node);
        }
        Ok(Self { bed, filled, spoilt })
    }

    /// Gives the cards back once the job has told that it waits for them; then a neighbour barges in, then somebody deletes a
    /// pod whose engine is at work.
    pub async fn happen(
        &self,
        client: &Client,
        job: &Job,
        neighbours: &Neighbours<'_>,
        transcript: Option<&Transcript<'_>>,
    ) -> Result<()> {
        job.wait_for("a wait for memory", WAITS, |status| {
            find(&status.conditions, ConditionType::Scheduled).is_some_and(|c| c.status == "False")
        })
        .await?;
        if let Some(transcript) = transcript {
            transcript.waiting()?;
        }
        for gpu in &self.filled {
            self.bed.release(&gpu.node, &gpu.uuid)?;
        }
        println!("          the processes leave {} GPUs", self.filled.len());
        neighbours.barge_in(job, &self.spoilt).await?;
        let mut look = tokio::time::interval(Duration::from_millis(100));
        loop {
            look.tick().await;
            let gpus = self.bed.gpus()?;
            let Some(gpu) = gpus.iter().find(|gpu| self.engine_works_on(gpu, neighbours)) else { continue };
            let Some(pod) = pod_on(client, job, &gpu.uuid).await? else { continue };
            let pods: Api<Pod> = Api::namespaced(client.clone(), &job.namespace);
            pods.delete(&pod, &DeleteParams::default()).await.context("delete the pod at work")?;
            println!(
                "          somebody deletes the pod on GPU #{} of {}, whose engine holds {}",
                gpu.index,
                gpu.node,
                display(gpu.holders.iter().map(|holder| holder.bytes).sum())
            );
            return Ok(());
        }
    }

    /// Whether the engine on a card has its weights and nothing else is to befall it.
    fn engine_works_on(&self, gpu: &GpuState, neighbours: &Neighbours<'_>) -> bool {
        let other = self.spoilt.iter().any(|spoilt| spoilt.uuid == gpu.uuid) || neighbours.concern(gpu);
        let [holder] = gpu.holders.as_slice() else { return false };
        !other && holder.bytes >= WEIGHTS_MIB * MIB
    }

    /// Lets every engine work well. Cards that are still full empty when the neighbours move out.
    ///
    /// # Errors
    /// When a driver refuses.
    pub fn undo(self) -> Result<()> {
        self.spoilt.iter().try_for_each(|gpu| engine(self.bed, gpu, Spoil::None, None))
    }
}

/// How engines work on a card, for so many runs or until told otherwise.
fn engine(bed: &Bed, gpu: &GpuState, spoil: Spoil, runs: Option<u32>) -> Result<()> {
    let uuid = gpu.uuid.parse().context("read the card's UUID")?;
    bed.control(&gpu.node)?.run(&Command::Engine { gpu: uuid, spoil, runs })?;
    Ok(())
}

/// The job's pod that has that card.
async fn pod_on(client: &Client, job: &Job, uuid: &str) -> Result<Option<String>> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), &job.namespace);
    let ours = ListParams::default().labels(&format!("{}={}", keys::JOB, job.name));
    let all = pods.list(&ours).await.context("list the job's pods")?;
    let runs = |pod: &Pod| {
        pod.status.as_ref().and_then(|s| s.phase.as_deref()).is_some_and(|p| p == "Pending" || p == "Running")
    };
    let on_it = |pod: &Pod| pod.annotations().get(keys::GPU_UUID).is_some_and(|on| on == uuid);
    Ok(all.iter().find(|pod| runs(pod) && on_it(pod)).map(ResourceExt::name_any))
}
