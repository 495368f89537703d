//! An upgrade of the chart as an administrator does it: other values for a profile, with jobs there and things learnt.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::wait::await_condition;
use kube::{Client, ResourceExt};
use serde_json::json;
use video_upscale::api::conditions::ConditionType;
use video_upscale::api::profile::{Learned, UpscaleProfile};

use super::tenant::Tenant;
use crate::bed::Bed;
use crate::demo;

/// Time in which the controller applies the chart's profiles after its start.
const LIMIT: Duration = Duration::from_secs(60);
/// Host memory that the new values give the engine, MiB; not the bed's.
const BASE_MIB: i64 = 640;
const PROFILE: &str = "flashvsr";
const NAMESPACE: &str = "upgrade";

/// `helm upgrade` with another `hostMemory`: the profile has it, and still knows what it knew; a job is the same object.
pub async fn keeps_what_was_learnt_and_the_jobs(bed: &Bed, client: &Client) -> Result<()> {
    Tenant::leave(bed, client, NAMESPACE).await?;
    let tenant = Tenant::arrive(bed, client.clone(), NAMESPACE).await?;
    let outcome = upgrade(bed, &tenant).await;
    bed.install_chart().context("put the bed's values back")?;
    let forgotten = demo::unlearn(client).await;
    let left = Tenant::leave(bed, client, NAMESPACE).await;
    outcome.and(forgotten).and(left)
}

async fn upgrade(bed: &Bed, tenant: &Tenant) -> Result<()> {
    let job = tenant.job("job", "film.mp4", json!({"suspend": true})).await?;
    job.wait_for_reason(ConditionType::Suspended, "Requested", LIMIT).await?;
    let profiles: Api<UpscaleProfile> = Api::all(tenant.client.clone());
    let fact = json!([{
        "gpuModel": "NVIDIA RTX A4000", "step": 2, "pictureClass": "264x152@4", "needBytes": 5_000_000_000_i64,
        "samples": 3, "lastSeen": "2026-01-01T00:00:00Z",
    }]);
    let patch = Patch::Merge(json!({"status": {"learned": fact}}));
    profiles.patch_status(PROFILE, &PatchParams::default(), &patch).await.context("teach the profile")?;
    let known = learned(&profiles.get(PROFILE).await?);
    ensure!(known.len() == 1, "the profile did not take the fact");

    bed.upgrade_chart(&[&format!("profiles.{PROFILE}.spec.hostMemory.baseMiB={BASE_MIB}")])?;
    let changed = |profile: Option<&UpscaleProfile>| {
        profile.is_some_and(|profile| i64::from(profile.spec.host_memory.base_mib) == BASE_MIB)
    };
    let profile = tokio::time::timeout(LIMIT, await_condition(profiles, PROFILE, changed)).await;
    let profile =
        profile.context("wait for the profile's new host memory")??.context("the profile is gone")?;
    ensure!(learned(&profile) == known, "the upgrade took {known:?} and left {:?}", learned(&profile));
    let after = job.get().await.context("look for the job after the upgrade")?;
    ensure!(after.uid().as_deref() == Some(job.uid.as_str()), "the upgrade made the job anew");
    job.wait_for_reason(ConditionType::Suspended, "Requested", LIMIT).await?;
    Ok(())
}

fn learned(profile: &UpscaleProfile) -> Vec<Learned> {
    profile.status.as_ref().map(|status| status.learned.clone()).unwrap_or_default()
}
