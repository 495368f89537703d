//! One job of one segment, an accident to its first attempt, and what has to come of it.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use gpusim::control::GpuState;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use video_upscale::api::conditions::{ConditionType, find};
use video_upscale::api::keys;
use video_upscale::api::quantity::{GIB, MIB};
use video_upscale::api::report::Report;

use super::MODEL;
use crate::bed::Bed;
use crate::demo::attempts::{Attempt, Attempts};
use crate::demo::film::Film;
use crate::demo::neighbours::WEIGHTS_MIB;
use crate::demo::watch::Watch;
use crate::job::{Job, manifest, summary};
use crate::test::agent::told::{Told, gpu};
use crate::test::films;
use crate::test::tenant::Tenant;

/// Longest that a job may take, its accident included.
const LIMIT: Duration = Duration::from_secs(300);
/// Time in which all cards are told of as they are.
const SETTLED: Duration = Duration::from_secs(180);
/// How many times as large the film becomes.
const SCALE: u32 = 2;
/// Less memory that came back than this the agent keeps to itself until its next heartbeat (`publish/change.rs`).
const UNTOLD: u64 = 2 * GIB;
/// The film, and what becomes of it.
const SOURCE: &str = "short.mkv";
const RESULT: &str = "out.mkv";

/// What the attempt after the accident must be. Each is at the same step.
#[derive(Clone, Copy, Debug)]
pub enum Next {
    /// On whatever card.
    Anywhere,
    /// On another card.
    AnotherGpu,
    /// On another node.
    AnotherNode,
    /// In more pieces, on whatever card.
    MorePieces,
}

impl Next {
    fn holds(self, before: &Attempt, after: &Attempt) -> bool {
        before.step == after.step
            && match self {
                Self::Anywhere => true,
                Self::AnotherGpu => before.gpu != after.gpu,
                Self::AnotherNode => before.node != after.node,
                Self::MorePieces => before.pieces < after.pieces,
            }
    }
}

/// The engine of a first attempt.
pub struct Engine<'a> {
    /// Name of its pod.
    pub pod: String,
    bed: &'a Bed,
    card: &'a GpuState,
}

impl Engine<'_> {
    /// Waits until it has begun to take memory of its card and is not done with that; the card as it is then.
    pub async fn wait_until_it_grows(&self, limit: Duration) -> Result<GpuState> {
        let grows = async {
            let mut look = tokio::time::interval(Duration::from_millis(100));
            loop {
                look.tick().await;
                let card = self.bed.gpu(&self.card.node, &self.card.uuid)?;
                if matches!(card.holders.as_slice(), [engine] if engine.bytes < WEIGHTS_MIB * MIB) {
                    return anyhow::Ok(card);
                }
            }
        };
        tokio::time::timeout(limit, grows).await.with_context(|| format!("{} did not grow", self.pod))?
    }
}

/// A tenant whose job meets an accident.
pub struct Story<'a> {
    bed: &'a Bed,
    client: &'a Client,
    name: &'a str,
    spec: Value,
    tenant: Tenant,
}

impl<'a> Story<'a> {
    /// A tenant with so many seconds of film, once the agents tell of every card about as it is; `spec` is merged into the spec of
    /// the job to come.
    pub async fn begin(
        bed: &'a Bed,
        client: &'a Client,
        name: &'a str,
        seconds: u32,
        spec: Value,
    ) -> Result<Self> {
        Tenant::leave(bed, client, name).await?;
        let tenant = Tenant::arrive(bed, client.clone(), name).await?;
        let [kind, ..] = films::KINDS;
        kind.make(&bed.film_programs()?, tenant.film(), seconds, &tenant.volume().join(SOURCE))?;
        for node in bed.nodes() {
            let as_they_are = |report: &Report| {
                // An engine may come or go meanwhile.
                let Ok(cards) = bed.gpus() else { return false };
                let here = cards.iter().filter(|card| card.node == node);
                { here }.all(|card| {
                    let told = gpu(report, &card.uuid).ok().and_then(|gpu| gpu.free);
                    told.is_some_and(|told| told.abs_diff(card.free) < UNTOLD)
                })
            };
            Told::of(client, node).until("nothing moves", SETTLED, as_they_are).await?;
        }
        Ok(Self { bed, client, name, spec, tenant })
    }

    /// The tenant's namespace.
    pub fn namespace(&self) -> &str {
        &self.tenant.namespace
    }

    /// Runs the job; its first attempt is to go to `card` and, while `accident` happens, to end with that verdict, the
    /// second is to be as wanted and to end well. Compares the film with its source.
    pub async fn end(
        self,
        card: &GpuState,
        verdict: &str,
        next: Next,
        accident: impl AsyncFnOnce(Engine<'_>) -> Result<()>,
    ) -> Result<()> {
        let outcome = self.play(card, verdict, next, accident).await;
        self.bed.exclude(|_| false)?;
        outcome.and(Tenant::leave(self.bed, self.client, self.name).await)
    }

    async fn play(
        &self,
        card: &GpuState,
        verdict: &str,
        next: Next,
        accident: impl AsyncFnOnce(Engine<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut spec = json!({
            "scale": SCALE, "encode": {"preset": "Fast"}, "segmentation": {"frames": 200}, "gpu": {"products": [MODEL]},
        });
        if let (Some(spec), Value::Object(more)) = (spec.as_object_mut(), &self.spec) {
            spec.extend(more.clone());
        }
        let manifest = manifest("film", "media", SOURCE, RESULT, spec);
        // Whatever a card has been through before, the first attempt has no other.
        self.bed.exclude(|gpu| gpu.uuid != card.uuid)?;
        let job = Job::create(self.client, &self.tenant.namespace, &manifest).await?;
        let names: BTreeMap<String, String> = self
            .bed
            .gpus()?
            .into_iter()
            .map(|gpu| (gpu.uuid, format!("{} #{} ({})", gpu.node, gpu.index, gpu.model)))
            .collect();
        let watch = Watch::start(self.client, &job, &names);
        let accident = async {
            let engine = self.first_engine(&job, card).await?;
            self.bed.exclude(|_| false)?;
            accident(engine).await.context("the accident did not happen")
        };
        let follow = async {
            let ended = tokio::time::timeout(LIMIT, watch.until_finished(&job)).await;
            ended.context("the job has not ended")?
        };
        let mut follow = std::pin::pin!(follow);
        let (attempts, happened) = tokio::select! {
            attempts = &mut follow => (attempts, Err(anyhow!("the job ended before the accident was over"))),
            happened = accident => (follow.await, happened),
        };
        let status = job.get().await?.status.unwrap_or_default();
        let attempts = attempts.with_context(|| summary(&status))?;
        happened?;
        judge(&attempts, card, verdict, next)?;
        let complete = find(&status.conditions, ConditionType::Complete);
        ensure!(complete.is_some_and(|c| c.status == "True"), "the job has failed: {}", summary(&status));
        let programs = self.bed.film_programs()?;
        let film = |name: &str| Film::decode(&programs, &self.tenant.volume().join(name));
        film(SOURCE)?.verify_upscaled(&film(RESULT)?, SCALE)
    }

    /// The first attempt's engine, once its pod is there.
    async fn first_engine<'b>(&'b self, job: &Job, card: &'b GpuState) -> Result<Engine<'b>> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.tenant.namespace);
        let ours = ListParams::default().labels(&format!(
            "{}={},{}={}",
            keys::JOB,
            job.name,
            keys::ROLE,
            keys::Role::Segment.as_str()
        ));
        let there = async {
            let mut look = tokio::time::interval(Duration::from_millis(100));
            loop {
                look.tick().await;
                let all = pods.list(&ours).await.context("list the job's pods")?.items;
                if let Some(pod) = all.first() {
                    return anyhow::Ok(pod.name_any());
                }
            }
        };
        let pod = tokio::time::timeout(LIMIT, there).await.context("no attempt was made")??;
        Ok(Engine { pod, bed: self.bed, card })
    }
}

fn judge(attempts: &Attempts, card: &GpuState, verdict: &str, next: Next) -> Result<()> {
    let all: Vec<String> = attempts
        .all()
        .map(|it| {
            format!(
                "{}/{} on {} {} step {} x{}: {}",
                it.segment, it.attempt, it.node, it.gpu, it.step, it.pieces, it.verdict
            )
        })
        .collect();
    let all = all.join("; ");
    let first = attempts.all().next().with_context(|| format!("no attempt was seen: {all}"))?;
    ensure!(first.gpu == card.uuid, "the first attempt did not go to {}: {all}", card.uuid);
    ensure!(first.verdict == verdict, "the first attempt did not end as {verdict}: {all}");
    let second = attempts.next(first).with_context(|| format!("there was no second attempt: {all}"))?;
    ensure!(next.holds(first, second), "the second attempt is not {next:?}: {all}");
    ensure!(second.verdict == "Succeeded", "the second attempt did not end well: {all}");
    Ok(())
}
