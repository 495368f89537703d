//! The sweeper: gives back what nobody will. Claims of vanished jobs, claims whose maker never made the pod,
//! quarantines whose memory is proved back, cards whose health or driver has changed; and ends the pod that shares a
//! GPU with the one the claim names. What it does rests on live reads, never on the absence of something in memory.

mod judge;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Preconditions};
use kube::{Api, Client, ResourceExt};

use self::judge::{Case, Stood, judge};
use super::claim::{AttemptId, Claim, JobKey};
use super::claims::{Claims, DEADLINE, Error as ClaimError, Outcome};
use super::handle::FleetHandle;
use super::index::Intruder;
use super::pod::{PodFacts, PodStage};
use crate::api::video_upscale::VideoUpscale;

/// Pause between two sweeps; the claims of a leader that died with nothing due stand for that much longer.
const PERIOD: Duration = Duration::from_secs(10);

/// When each claim was first seen as it is, with its Lease version: by the wall clock, and by how long the sweeper had
/// run.
type FirstSeen = BTreeMap<String, (String, Timestamp, Duration)>;

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Claim(#[from] ClaimError),
    #[error("read VideoUpscale {job}: {source}")]
    ReadJob { job: String, source: Box<kube::Error> },
    #[error("read pod {pod}: {source}")]
    ReadPod { pod: String, source: Box<kube::Error> },
    #[error("delete pod {pod}: {source}")]
    DeletePod { pod: String, source: Box<kube::Error> },
    #[error("the API server did not answer within 10 s about {what}")]
    Silence { what: String },
}

/// Sweeps at once when everything has been listed, then every 10 s.
pub(super) async fn run(fleet: &FleetHandle, claims: &Claims, client: Client) {
    let mut first_seen = FirstSeen::new();
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while !fleet.is_ready() {
        ticks.tick().await;
    }
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let began = ticks.tick().await;
    loop {
        sweep(fleet, claims, &client, &mut first_seen, (fleet.now(), began.elapsed())).await;
        ticks.tick().await;
    }
}

/// One sweep, at a time by the wall clock and by how long the sweeper has run.
async fn sweep(
    fleet: &FleetHandle,
    claims: &Claims,
    client: &Client,
    first_seen: &mut FirstSeen,
    (now, up): (Timestamp, Duration),
) {
    let cases: Vec<(Claim, Case)> = {
        let fleet_now = fleet.lock();
        let all: Vec<Claim> = fleet_now.claims().map(|claim| Claim::clone(claim)).collect();
        drop(fleet_now);
        remember(first_seen, &all, now, up);
        let stood = |claim: &Claim| {
            let (_, since, at) = first_seen.get(&claim.gpu)?;
            Some(Stood { since: *since, length: up.saturating_sub(*at) })
        };
        all.into_iter()
            .filter_map(|claim| Some((judge(&claim, fleet, stood(&claim)?, now), claim)))
            .map(|(case, claim)| (claim, case))
            .collect()
    };
    for (claim, case) in cases {
        let gpu = claim.gpu.clone();
        if let Err(error) = settle(claims, client, claim, case).await {
            tracing::warn!(gpu, "{error}");
        }
    }
    let intruders = fleet.lock().intruders();
    for intruder in intruders {
        if let Err(error) = expel(claims, client, &intruder).await {
            tracing::warn!(gpu = intruder.gpu, "{error}");
        }
    }
}

fn remember(first_seen: &mut FirstSeen, claims: &[Claim], now: Timestamp, up: Duration) {
    let versions: BTreeMap<&str, &str> =
        claims.iter().map(|claim| (claim.gpu.as_str(), claim.resource_version.as_str())).collect();
    first_seen.retain(|gpu, (version, ..)| versions.get(gpu.as_str()) == Some(&version.as_str()));
    for (gpu, version) in versions {
        first_seen.entry(gpu.to_owned()).or_insert_with(|| (version.to_owned(), now, up));
    }
}

async fn settle(claims: &Claims, client: &Client, claim: Claim, case: Case) -> Result<(), Error> {
    match case {
        Case::Fine => {}
        Case::Proved => {
            tracing::info!(gpu = claim.gpu, "its memory is back: free again");
            claims.release(&claim, None).await?;
        }
        Case::Changed => {
            tracing::info!(gpu = claim.gpu, "its health or driver changed: in again");
            claims.mark_in(&claim).await?;
        }
        Case::Held { abandoned } => {
            let Some(holder) = claim.holder.clone() else { return Ok(()) };
            let vanished = !job_lives(client, &holder.job).await?;
            if !vanished && !abandoned {
                return Ok(());
            }
            // Ours first, so that a give-back or a late completion by the other one fails; then the proof.
            let Outcome::Done(own) = claims.own(&claim).await? else { return Ok(()) };
            let pod = pod_of(client, &holder).await?;
            let idle = pod.as_ref().is_none_or(|pod| pod.stage != PodStage::MayUseGpu);
            if (vanished && idle) || (abandoned && pod.is_none()) {
                tracing::info!(
                    gpu = claim.gpu,
                    pod = holder.pod_name(),
                    vanished,
                    "nobody needs this claim: released"
                );
                claims.release(&own, pod.as_ref().map(|pod| pod.uid.as_str())).await?;
            }
        }
    }
    Ok(())
}

/// Whether the job is still there, read live.
async fn job_lives(client: &Client, job: &JobKey) -> Result<bool, Error> {
    let api: Api<VideoUpscale> = Api::namespaced(client.clone(), &job.namespace);
    let what = format!("VideoUpscale {}/{}", job.namespace, job.name);
    let found = tokio::time::timeout(DEADLINE, api.get_metadata_opt(&job.name)).await;
    let found = found.map_err(|_elapsed| Error::Silence { what })?.map_err(|source| Error::ReadJob {
        job: format!("{}/{}", job.namespace, job.name),
        source: Box::new(source),
    })?;
    Ok(found.is_some_and(|object| object.uid().as_deref() == Some(job.uid.as_str())))
}

/// The pod of an attempt, read live.
async fn pod_of(client: &Client, holder: &AttemptId) -> Result<Option<PodFacts>, Error> {
    let name = holder.pod_name();
    let api: Api<Pod> = Api::namespaced(client.clone(), &holder.job.namespace);
    let found = tokio::time::timeout(DEADLINE, api.get_opt(&name)).await;
    let found = found
        .map_err(|_elapsed| Error::Silence { what: format!("pod {name}") })?
        .map_err(|source| Error::ReadPod { pod: name, source: Box::new(source) })?;
    Ok(found.as_ref().and_then(PodFacts::of))
}

/// Ends a pod that shares a GPU with the one its claim names, if the claim still does not name it.
async fn expel(claims: &Claims, client: &Client, intruder: &Intruder) -> Result<(), Error> {
    let holder = claims.read(&intruder.gpu).await?.and_then(|claim| claim.holder);
    if holder
        .is_some_and(|holder| holder.job.namespace == intruder.namespace && holder.pod_name() == intruder.pod)
    {
        return Ok(());
    }
    tracing::warn!(gpu = intruder.gpu, pod = intruder.pod, "shares a GPU that is not its own: deleted");
    let api: Api<Pod> = Api::namespaced(client.clone(), &intruder.namespace);
    let preconditions = Preconditions { uid: Some(intruder.uid.clone()), resource_version: None };
    let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    match tokio::time::timeout(DEADLINE, api.delete(&intruder.pod, &params)).await {
        Err(_elapsed) => Err(Error::Silence { what: format!("pod {}", intruder.pod) }),
        Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => Ok(()),
        Ok(Err(source)) => Err(Error::DeletePod { pod: intruder.pod.clone(), source: Box::new(source) }),
        Ok(Ok(_)) => Ok(()),
    }
}
