//! All controllers die by kill -9 in the middle of the demo's scenario: the result is the same each time, no segment
//! is upscaled twice at once and none is lost.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, ListParams};
use kube::runtime::watcher;
use kube::{Client, ResourceExt};
use video_upscale::api::profile::UpscaleProfile;

use super::standby;
use crate::bed::{Bed, OPERATOR_NAMESPACE};
use crate::demo;

/// Longest a run may take until its kill is due.
const LIMIT: Duration = Duration::from_secs(240);

/// When the controllers die.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kill {
    /// As soon as a claim was seen; its pod may be there by then or not. `tests/crash` dies exactly between the two.
    AtClaim,
    /// When the n-th change of a pod of the job was seen.
    AtPodChange(u32),
}

impl fmt::Display for Kill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtClaim => f.write_str("at_claim"),
            Self::AtPodChange(n) => write!(f, "at_pod_change_{n}"),
        }
    }
}

/// The deaths in one run of the scenario, each after the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deaths(Vec<Kill>);

impl fmt::Display for Deaths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<String> = self.0.iter().map(Kill::to_string).collect();
        f.write_str(&all.join("_then_"))
    }
}

/// The runs, the same each time: three deaths in one, or twenty in one each.
pub fn plan(full: bool) -> Vec<Deaths> {
    if full {
        let spread = (1..20).map(|n| Kill::AtPodChange(n * 97 % 83 + 3));
        std::iter::once(Kill::AtClaim).chain(spread).map(|kill| Deaths(vec![kill])).collect()
    } else {
        vec![Deaths(vec![Kill::AtClaim, Kill::AtPodChange(17), Kill::AtPodChange(11)])]
    }
}

/// One run of the scenario.
pub async fn run(bed: &Bed, client: &Client, deaths: &Deaths) -> Result<()> {
    let options = demo::Options::quiet("kill");
    let scenario = demo::scenario(bed, &options);
    let strikes = async {
        for kill in &deaths.0 {
            let struck = tokio::time::timeout(LIMIT, strike(client, bed, kill)).await;
            struck.with_context(|| format!("the instant {kill} did not come"))??;
        }
        anyhow::Ok(())
    };
    tokio::pin!(scenario, strikes);
    tokio::select! {
        struck = &mut strikes => {
            struck?;
            scenario.await?;
        }
        outcome = &mut scenario => {
            outcome?;
            anyhow::bail!("the run ended before all deaths of {deaths} had come");
        }
    }
    ensure!(learned(client).await? > 0, "what the run taught of memory did not survive the death");
    Ok(())
}

/// Needs that the profiles remember.
async fn learned(client: &Client) -> Result<usize> {
    let profiles: Api<UpscaleProfile> = Api::all(client.clone());
    let profiles = profiles.list(&ListParams::default()).await.context("list the profiles")?.items;
    Ok(profiles.iter().filter_map(|profile| profile.status.as_ref()).map(|s| s.learned.len()).sum())
}

async fn strike(client: &Client, bed: &Bed, kill: &Kill) -> Result<()> {
    match kill {
        Kill::AtClaim => {
            let leases: Api<Lease> = Api::namespaced(client.clone(), OPERATOR_NAMESPACE);
            let mut events = watcher(leases, watcher::Config::default()).boxed();
            while let Some(event) = events.next().await {
                let Ok(watcher::Event::Apply(lease)) = event else { continue };
                let held = lease.spec.as_ref().is_some_and(|spec| spec.holder_identity.is_some());
                if held && lease.name_any().starts_with("gpu-") && bed.kill_controllers()? {
                    return revive(client).await;
                }
            }
        }
        Kill::AtPodChange(n) => {
            let pods: Api<Pod> = Api::namespaced(client.clone(), demo::NAMESPACE);
            let mut seen = 0;
            let mut events = watcher(pods, watcher::Config::default()).boxed();
            while let Some(event) = events.next().await {
                let Ok(watcher::Event::Apply(_)) = event else { continue };
                seen += 1;
                // After an earlier death the next ones have to be there first.
                if seen >= *n && bed.kill_controllers()? {
                    return revive(client).await;
                }
            }
        }
    }
    anyhow::bail!("the watch ended")
}

/// Deletes the dead pods, so that their successors start at once instead of after the kubelet's back-off, and the Lease
/// of the one that acted, so that they do not wait for it.
async fn revive(client: &Client) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), OPERATOR_NAMESPACE);
    let controllers = ListParams::default().labels("app.kubernetes.io/component=controller");
    for pod in pods.list(&controllers).await.context("list the controller's pods")?.items {
        pods.delete(&pod.name_any(), &DeleteParams::default().grace_period(0))
            .await
            .context("delete the dead pod")?;
    }
    let leases: Api<Lease> = Api::namespaced(client.clone(), OPERATOR_NAMESPACE);
    match leases.delete(&standby::lease(), &DeleteParams::default()).await {
        // The one that died had not got so far.
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        other => other.map(drop).context("delete the leader's Lease"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_kill_is_at_a_claim() {
        for (full, runs, deaths) in [(false, 1, 3), (true, 20, 20)] {
            let plan = plan(full);
            let all: Vec<&Kill> = plan.iter().flat_map(|run| &run.0).collect();
            assert_eq!((plan.len(), all.len()), (runs, deaths));
            assert_eq!(all.iter().filter(|kill| ***kill == Kill::AtClaim).count(), 1);
        }
        assert_eq!(plan(false)[0].to_string(), "at_claim_then_at_pod_change_17_then_at_pod_change_11");
    }
}
