//! Everything a user can get wrong, or a cluster can be short of: each with its condition, reason and message within
//! ten seconds, and never a loop.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::watcher;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use video_upscale::api::conditions::{ConditionType, find};
use video_upscale::api::keys;

use super::tenant::Tenant;
use crate::job::{Job, manifest};

/// Time in which the reason must show.
const LIMIT: Duration = Duration::from_secs(10);
/// Most pods that a job may make which cannot run: the probe.
const MOST_PODS: usize = 1;
/// Time after the reason has shown in which a loop would make the next pod.
const QUIET: Duration = Duration::from_secs(3);

/// Time after its end in which a job is still there to be looked at.
const TTL_SECONDS: u32 = 6;

/// What must be said of a job.
struct Said {
    kind: ConditionType,
    reason: &'static str,
    /// Part of the message.
    message: &'static str,
}

const fn said(kind: ConditionType, reason: &'static str, message: &'static str) -> Said {
    Said { kind, reason, message }
}

async fn expect(tenant: &Tenant, spec: Value, said: Said) -> Result<Job> {
    let mut pods = Pods::of_job(tenant);
    let job = tenant.job("job", "film.mp4", spec).await?;
    let what = format!("{}={} with {:?}", said.kind.as_str(), said.reason, said.message);
    job.wait_for(&what, LIMIT, |status| {
        find(&status.conditions, said.kind)
            .is_some_and(|c| c.reason == said.reason && c.message.contains(said.message))
    })
    .await?;
    pods.stay_few().await?;
    Ok(job)
}

/// All pods that are ever made for the job `job`.
struct Pods {
    made: watch::Receiver<usize>,
    _counting: JoinSet<()>,
}

impl Pods {
    fn of_job(tenant: &Tenant) -> Self {
        let api: Api<Pod> = Api::namespaced(tenant.client.clone(), &tenant.namespace);
        let ours = watcher::Config::default().labels(&format!("{}=job", keys::JOB));
        let (tell, made) = watch::channel(0);
        let mut counting = JoinSet::new();
        counting.spawn(async move {
            let mut seen = BTreeSet::new();
            let mut events = watcher(api, ours).boxed();
            while let Some(event) = events.next().await {
                if let Ok(watcher::Event::Apply(pod) | watcher::Event::InitApply(pod)) = event {
                    seen.insert(pod.uid());
                    tell.send_replace(seen.len());
                }
            }
        });
        Self { made, _counting: counting }
    }

    /// Fails if more are made than a job may make that cannot run.
    async fn stay_few(&mut self) -> Result<()> {
        let many = self.made.wait_for(|made| *made > MOST_PODS);
        match tokio::time::timeout(QUIET, many).await {
            Err(_quiet) => Ok(()),
            Ok(made) => {
                anyhow::bail!("{} pods were made for a job that cannot run", *made.context("count pods")?)
            }
        }
    }
}

/// The source is not on the claim.
pub async fn a_missing_source_is_named(tenant: Tenant) -> Result<()> {
    let spec = json!({"source": {"claim": {"name": "media"}, "path": "in/none.mp4"}});
    expect(&tenant, spec, said(ConditionType::Failed, "SourceNotFound", "in/none.mp4")).await?;
    Ok(())
}

/// The source is a text.
pub async fn a_source_that_is_no_film_is_refused(tenant: Tenant) -> Result<()> {
    std::fs::write(tenant.volume().join("notes.mp4"), "Dear diary, today I did not film anything.\n")?;
    let spec = json!({"source": {"claim": {"name": "media"}, "path": "notes.mp4"}});
    expect(&tenant, spec, said(ConditionType::Failed, "InvalidSource", "notes.mp4")).await?;
    Ok(())
}

/// A job that has failed goes when its time is up.
pub async fn a_failed_job_goes_when_its_time_is_up(tenant: Tenant) -> Result<()> {
    let spec = json!({"profile": "fast", "ttlSecondsAfterFinished": TTL_SECONDS});
    let job = expect(&tenant, spec, said(ConditionType::Failed, "ProfileNotFound", "\"fast\"")).await?;
    job.wait_until_gone(LIMIT).await
}

/// The claim does not exist; it may still be made, so the job waits and says that somebody must act.
pub async fn a_missing_claim_needs_the_user(tenant: Tenant) -> Result<()> {
    let spec = json!({"source": {"claim": {"name": "nowhere"}, "path": "film.mp4"}});
    expect(&tenant, spec, said(ConditionType::Stalled, "NeedsUser", "nowhere")).await?;
    Ok(())
}

/// The claim is ReadWriteOnce and a pod on a node without fitting GPUs uses it.
pub async fn a_volume_in_use_elsewhere_is_named(tenant: Tenant) -> Result<()> {
    tenant.claim("once", "ReadWriteOnce").await?;
    std::fs::copy(tenant.film(), tenant.volume_of("once").join("film.mp4"))?;
    tenant.holder_pod("holder", "once", "node-b").await?;
    let spec = json!({
        "source": {"claim": {"name": "once"}, "path": "film.mp4"},
        "destination": {"claim": {"name": "once"}, "path": "out.mp4"},
        "gpu": {"nodeSelector": {"kubernetes.io/hostname": "node-a"}},
    });
    // The film is probed first, on the node of the volume; only then are GPUs looked for.
    let said = said(ConditionType::Scheduled, "VolumeNotHere", "cannot mount the volumes");
    expect(&tenant, spec, said).await?;
    Ok(())
}

/// Something lies at the destination.
pub async fn an_existing_destination_is_not_overwritten(tenant: Tenant) -> Result<()> {
    std::fs::write(tenant.volume().join("out.mp4"), "precious")?;
    expect(&tenant, json!({}), said(ConditionType::Failed, "DestinationExists", "out.mp4")).await?;
    ensure!(std::fs::read(tenant.volume().join("out.mp4"))? == b"precious", "the file was touched");
    Ok(())
}

/// The API server refuses by the schema's own rules.
pub async fn a_spec_against_the_rules_is_refused_at_once(tenant: Tenant) -> Result<()> {
    let wrong = manifest("job", "media", "../film.mp4", "out.mp4", json!({}));
    let refused = Job::create(&tenant.client, &tenant.namespace, &wrong).await;
    let Err(error) = refused else { anyhow::bail!("a path with .. was accepted") };
    let text = format!("{error:#}");
    ensure!(text.contains("spec.source"), "the refusal does not name the field: {text}");
    Ok(())
}

/// No such profile.
pub async fn a_missing_profile_is_named(tenant: Tenant) -> Result<()> {
    let spec = json!({"profile": "fast"});
    expect(&tenant, spec, said(ConditionType::Failed, "ProfileNotFound", "\"fast\"")).await?;
    Ok(())
}

/// No card has as much memory as the tenant wants free.
pub async fn cards_that_are_too_small_are_counted(tenant: Tenant) -> Result<()> {
    let spec = json!({"gpu": {"minFreeMemory": "900Gi"}});
    expect(&tenant, spec, said(ConditionType::Scheduled, "NotEnoughFreeMemory", "0 of 10 GPUs")).await?;
    Ok(())
}

/// The profile offers other scales.
pub async fn a_scale_that_is_not_offered_is_named(tenant: Tenant) -> Result<()> {
    tenant
        .profile("even-scales", |spec| {
            spec.scales = vec![2, 4];
            for step in &mut spec.ladder {
                step.tiles.iter_mut().for_each(|tiles| drop(tiles.remove("3")));
            }
        })
        .await?;
    let spec = json!({"profile": "even-scales", "scale": 3});
    let message = "scale 3 is not offered by profile even-scales; offered: 2, 4";
    expect(&tenant, spec, said(ConditionType::Failed, "StepsOutOfRange", message)).await?;
    Ok(())
}

/// Both nodes are cordoned.
pub async fn cordoned_nodes_are_named(tenant: Tenant) -> Result<()> {
    let nodes: Api<Node> = Api::all(tenant.client.clone());
    cordon(&nodes, true).await?;
    let outcome =
        expect(&tenant, json!({}), said(ConditionType::Scheduled, "NodeUnschedulable", "unschedulable"))
            .await;
    cordon(&nodes, false).await?;
    outcome.map(|_| ())
}

async fn cordon(nodes: &Api<Node>, unschedulable: bool) -> Result<()> {
    for name in ["node-a", "node-b"] {
        let patch = json!({"spec": {"unschedulable": unschedulable}});
        nodes.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
    }
    Ok(())
}

/// Another tenant's pods request all the memory of both nodes.
pub async fn full_nodes_are_named(tenant: Tenant) -> Result<()> {
    for node in ["node-a", "node-b"] {
        tenant.filler_pod(&format!("filler-{node}"), node).await?;
    }
    expect(&tenant, json!({}), said(ConditionType::Scheduled, "NodeFull", "Insufficient memory")).await?;
    Ok(())
}

/// A quota forbids the pods.
pub async fn a_quota_that_refuses_pods_is_named(tenant: Tenant) -> Result<()> {
    tenant.quota_without_pods().await?;
    expect(&tenant, json!({}), said(ConditionType::Scheduled, "PodsForbidden", "quota")).await?;
    Ok(())
}

/// No node has a report, as no agent runs.
pub async fn missing_reports_are_named(tenant: Tenant) -> Result<()> {
    tenant.without_agents().await?;
    let said = said(ConditionType::Scheduled, "ReportMissing", "no node has a GPU report");
    let outcome = expect(&tenant, json!({}), said).await;
    tenant.with_agents().await?;
    outcome.map(|_| ())
}
