//! The controller that acts dies in the middle of a job, and the one that stands by goes on.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use kube::Client;
use kube::api::Api;
use kube::runtime::wait::await_condition;
use serde_json::json;
use video_upscale::api::conditions::{ConditionType, State};

use super::tenant::Tenant;
use crate::bed::{Bed, OPERATOR_NAMESPACE, RELEASE};

/// The standby acts within that after a death.
const LIMIT: Duration = Duration::from_secs(20);
/// Time for everything else.
const LONGEST: Duration = Duration::from_secs(240);
const NAMESPACE: &str = "standby";

/// Name of the Lease that says which controller acts.
pub fn lease() -> String {
    format!("{RELEASE}-controller")
}

/// kill -9 of the acting controller while a job runs: another has its Lease within 20 s, and the job ends well.
pub async fn acts_within_twenty_seconds_of_a_death(bed: &Bed, client: &Client) -> Result<()> {
    Tenant::leave(bed, client, NAMESPACE).await?;
    let tenant = Tenant::arrive(bed, client.clone(), NAMESPACE).await?;
    let outcome = goes_on(bed, &tenant).await;
    outcome.and(Tenant::leave(bed, client, NAMESPACE).await)
}

async fn goes_on(bed: &Bed, tenant: &Tenant) -> Result<()> {
    let leases: Api<Lease> = Api::namespaced(tenant.client.clone(), OPERATOR_NAMESPACE);
    let job = tenant.job("job", "film.mp4", json!({"range": {"start": "0s", "length": "4s"}})).await?;
    job.wait_for_reason(ConditionType::Complete, State::Running.as_str(), LONGEST).await?;
    let before = leases.get(&lease()).await.context("read the leader's Lease")?;
    let dead = holder(&before).context("nobody leads")?;
    bed.kill_controller(pod_of(dead))?;
    let killed = Instant::now();
    // The kubelet starts the dead one again at once, as another who stands by: either of the two may be the next.
    let another = |lease: Option<&Lease>| lease.and_then(holder).is_some_and(|next| next != dead);
    let after = tokio::time::timeout(LIMIT, await_condition(leases, &lease(), another)).await;
    let after = after.with_context(|| format!("wait for another than {dead}"))??;
    println!(
        "    {} leads {:.1} s after the death of {dead}",
        after.as_ref().and_then(holder).unwrap_or_default(),
        killed.elapsed().as_secs_f32()
    );
    let status = job.wait_for_end(LONGEST).await?.status.context("a job without status")?;
    let complete = status.conditions.iter().find(|c| c.type_ == ConditionType::Complete.as_str());
    ensure!(complete.is_some_and(|it| it.status == "True"), "the job did not end well: {complete:?}");
    Ok(())
}

/// Who holds a Lease: `pod_process`.
fn holder(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref()
}

fn pod_of(holder: &str) -> &str {
    holder.rsplit_once('_').map_or(holder, |(pod, _)| pod)
}
