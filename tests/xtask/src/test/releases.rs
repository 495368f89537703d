//! Two releases of the chart, each for the whole cluster and with its agents on the same nodes: the second stands back,
//! and says for whom.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};
use serde_json::json;
use video_upscale::api::conditions::{ConditionType, ScheduledReason, find};
use video_upscale::api::keys;
use video_upscale::api::video_upscale::VideoUpscaleStatus;

use super::agent::told::{Told, report};
use super::tenant::Tenant;
use crate::bed::{Bed, OPERATOR_NAMESPACE, RELEASE, TENANT, TENANT_PREFIX};
use crate::command::Run;
use crate::job::{Job, summary};

/// The second release, and the tenant in whose place it is.
const SECOND: &str = "second";
/// The tenant with the films.
const NAMESPACE: &str = "releases";
/// The definitions and the profile are the first one's, as one name is one object in a cluster.
const BESIDE: [&str; 4] =
    ["crds.enabled=false", "profiles.flashvsr=null", "controller.replicas=1", "agent.spreadSeconds=0"];
/// Time in which something is said.
const LIMIT: Duration = Duration::from_secs(60);
/// Time for a film.
const LONGEST: Duration = Duration::from_secs(180);

/// The agents of the second leave the Nodes to the first one's, its controller leaves the first one's namespaces and GPUs
/// alone, each with the first one's name; and a film comes out while both are there.
pub async fn the_second_stands_back_and_names_the_first(bed: &Bed, client: &Client) -> Result<()> {
    leave(bed, client).await?;
    let tenant = Tenant::arrive(bed, client.clone(), NAMESPACE).await?;
    let outcome = beside(bed, &tenant).await;
    let back = bed.hold_controllers(OPERATOR_NAMESPACE, false);
    let left = leave(bed, client).await;
    outcome.and(back).and(left)
}

async fn beside(bed: &Bed, tenant: &Tenant) -> Result<()> {
    let place = place();
    bed.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": place, "labels": {TENANT: place}}}))?;
    // Its agents never become ready, so there is no waiting for the whole.
    Run::new(bed.tools().path("helm")?)
        .args(["install", SECOND])
        .args([bed.checkout().join("charts/video-upscale")])
        .args(bed.chart_images()?)
        .args(["--namespace", &place, "--labels", &format!("{TENANT}={place}")])
        .args(BESIDE.iter().flat_map(|value| ["--set", value]))
        .env("KUBECONFIG", bed.kubeconfig())
        .done()
        .context("install the second release")?;
    let controller = format!("deployment/{SECOND}-controller");
    bed.kubectl(&["rollout", "status", &controller, "--namespace", &place, "--timeout=60s"])?;
    agents_stand_back(bed, &tenant.client).await?;

    // The first stands still, or nobody would see that the second saw the job.
    bed.hold_controllers(OPERATOR_NAMESPACE, true)?;
    let spec = json!({"range": {"start": "0s", "length": "2s"}, "encode": {"preset": "Fast"}, "scale": 2});
    let job = tenant.job("theirs", "film.mp4", spec).await?;
    let said = other_release(&job, RELEASE).await?;
    println!("    the second says: {said}");
    bed.hold_controllers(OPERATOR_NAMESPACE, false)?;
    let status = job.wait_for_end(LONGEST).await?.status.unwrap_or_default();
    let complete = find(&status.conditions, ConditionType::Complete);
    ensure!(complete.is_some_and(|it| it.status == "True"), "the job has failed: {}", summary(&status));

    // In a namespace of its own the second works, and finds that all GPUs are the first one's.
    let label = format!("{}={SECOND}", keys::RELEASE);
    bed.kubectl(&["label", "namespace", &tenant.namespace, &label])?;
    let job = tenant
        .job("ours", "film.mp4", json!({"destination": {"claim": {"name": "media"}, "path": "other.mp4"}}))
        .await?;
    let said = other_release(&job, &format!("another release's (in {OPERATOR_NAMESPACE})")).await?;
    println!("    in its own namespace it says: {said}");
    let leases: Api<Lease> = Api::namespaced(tenant.client.clone(), &place);
    let claims = ListParams::default().labels(&format!("app.kubernetes.io/managed-by={}", keys::MANAGED_BY));
    let claims = leases.list(&claims).await.context("list the second one's claims")?.items;
    ensure!(claims.is_empty(), "the second claims the first one's GPUs: {claims:?}");
    Ok(())
}

/// Waits until the agents of the second say whose nodes these are; the reports are still the first one's.
async fn agents_stand_back(bed: &Bed, client: &Client) -> Result<()> {
    let place = place();
    let pods: Api<Pod> = Api::namespaced(client.clone(), &place);
    let agents = ListParams::default().labels("app.kubernetes.io/component=agent");
    for node in bed.nodes() {
        let on_it = agents.clone().fields(&format!("spec.nodeName={node}"));
        let words = format!("the agent of the release in namespace {OPERATOR_NAMESPACE} reports this node");
        let deadline = tokio::time::Instant::now() + LIMIT;
        loop {
            let pod = pods.list(&on_it).await.context("look for the second one's agent")?.items.pop();
            // It may not listen yet.
            let answer = pod.and_then(|pod| Told::ask(&pod, "/readyz").ok());
            if let Some((ready, text)) = &answer
                && text.contains(&words)
            {
                ensure!(!ready, "ready although {text}");
                break;
            }
            ensure!(tokio::time::Instant::now() < deadline, "the agent on {node} says {answer:?}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
    let nodes: Api<Node> = Api::all(client.clone());
    for node in nodes.list(&ListParams::default()).await?.items {
        let by = report(&node).map(|report| report.ns);
        ensure!(by.as_deref() == Some(OPERATOR_NAMESPACE), "{} is reported by {by:?}", node.name_any());
    }
    Ok(())
}

/// Waits until a job says that it or the GPUs belong to another release, in words that hold these.
async fn other_release(job: &Job, words: &str) -> Result<String> {
    let said = |status: &VideoUpscaleStatus| {
        let scheduled = find(&status.conditions, ConditionType::Scheduled)?;
        let other = scheduled.reason == ScheduledReason::OtherRelease.as_str();
        (other && scheduled.message.contains(words)).then(|| scheduled.message.clone())
    };
    let what = format!("OtherRelease with {words:?}");
    let state = job.wait_for(&what, LIMIT, |status| said(status).is_some()).await?;
    state.status.as_ref().and_then(said).context("what was said is gone")
}

fn place() -> String {
    format!("{TENANT_PREFIX}{SECOND}")
}

async fn leave(bed: &Bed, client: &Client) -> Result<()> {
    bed.releases_of_tests_leave()?;
    Tenant::leave(bed, client, SECOND).await?;
    Tenant::leave(bed, client, NAMESPACE).await
}
