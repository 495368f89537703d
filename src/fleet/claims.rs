//! Claim operations. Each is one write of one Lease that the API server accepts only if nobody wrote since: creation
//! if there is no Lease, else replacement of the version that was read. Losing is an answer, not an error.
//!
//! Who completes or undoes another's claim first makes it his own, by one update: so the other's late give-back
//! carries an old version and fails. Nothing here waits for time to pass.

mod own_writes;
#[cfg(test)]
mod tests;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::PostParams;
use kube::{Api, Client};

use super::claim::{AttemptId, Claim, Grant, Mark, lease_name};
use super::handle::{FleetHandle, GpuView};
use super::place::Placement;
use crate::api::keys;
pub(super) use own_writes::OwnWrites;

/// Longest time that one request may take.
pub(super) const DEADLINE: Duration = Duration::from_secs(10);

/// What came of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is written; the claim as it stands now.
    Done(Claim),
    /// Somebody else wrote first; nothing was written. The claim as it stands now, `None` if it has no Lease any more.
    Lost(Option<Claim>),
}

impl Outcome {
    /// The claim, if it was written.
    pub fn done(self) -> Option<Claim> {
        match self {
            Self::Done(claim) => Some(claim),
            Self::Lost(_) => None,
        }
    }
}

/// Why it is not known, or cannot be, what came of an operation.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The write was refused, or may or may not have happened.
    #[error("write the claim of {gpu}: {source}")]
    Write {
        /// UUID of the GPU.
        gpu: String,
        /// What the API server or the way to it says.
        source: Box<kube::Error>,
    },
    /// The claim could not be read.
    #[error("read the claim of {gpu}: {source}")]
    Read {
        /// UUID of the GPU.
        gpu: String,
        /// What the API server or the way to it says.
        source: Box<kube::Error>,
    },
    /// The API server did not answer in time.
    #[error("the API server did not answer within 10 s about the claim of {gpu}")]
    Silence {
        /// UUID of the GPU.
        gpu: String,
    },
}

/// The claims of a release, written in the name of one process.
#[derive(Clone)]
pub struct Claims {
    api: Api<Lease>,
    fleet: FleetHandle,
}

impl Claims {
    pub(super) fn new(client: Client, fleet: FleetHandle) -> Self {
        Self { api: Api::namespaced(client, &fleet.config().namespace), fleet }
    }

    /// Gives a free GPU to an attempt. `before` is the claim as it was when the GPU was chosen; `None`: no Lease.
    pub async fn take(
        &self,
        holder: AttemptId,
        grant: Grant,
        before: Option<&Claim>,
    ) -> Result<Outcome, Error> {
        if let Some(before) = before.filter(|before| !before.is_free()) {
            return Ok(Outcome::Lost(Some(before.clone())));
        }
        let before = before.cloned().unwrap_or_else(|| Claim::unclaimed(&grant.gpu));
        self.write(Claim { gpu: grant.gpu.clone(), holder: Some(holder), grant: Some(grant), ..before }).await
    }

    /// Makes a claim this process's own, which comes before its pod is made or it is undone. Writes nothing if it is, and
    /// was written so lately that no other process undoes it.
    pub async fn own(&self, claim: &Claim) -> Result<Outcome, Error> {
        if self.fleet.wrote_lately(claim) {
            return Ok(Outcome::Done(claim.clone()));
        }
        self.write(claim.clone()).await
    }

    /// Gives the GPU back. `pod_uid`: the pod that held it, if there was one.
    pub async fn release(&self, claim: &Claim, pod_uid: Option<&str>) -> Result<Outcome, Error> {
        self.write(Claim { quarantined: None, ..vacated(claim, pod_uid) }).await
    }

    /// Gives the GPU back, straight to the attempt whose turn it is if there is one: one update instead of two.
    /// `pod_uid`: the pod that held it, whose engine has ended.
    pub async fn pass_on(&self, claim: &Claim, pod_uid: Option<&str>) -> Result<Outcome, Error> {
        let next = self.fleet.next_for(claim, pod_uid);
        let written = match next.clone() {
            Some(Placement { attempt, grant }) => {
                let vacated = Claim { quarantined: None, ..vacated(claim, pod_uid) };
                self.write(Claim { holder: Some(attempt), grant: Some(grant), ..vacated }).await
            }
            None => self.release(claim, pod_uid).await,
        };
        // Without an answer it may have happened: the attempt counts as served until its job asks again.
        self.fleet.given_back(claim, next.as_ref(), matches!(written, Ok(Outcome::Lost(_))));
        if let (Some(next), Ok(Outcome::Done(_))) = (next, &written) {
            tracing::info!(
                gpu = claim.gpu,
                step = next.grant.step,
                pod = next.attempt.pod_name(),
                "passed on"
            );
            self.fleet.wake([next.attempt.job]);
        }
        written
    }

    /// Holds the GPU until a report sampled after `at` (the node's clock where it is known) proves its memory back.
    pub async fn quarantine(
        &self,
        claim: &Claim,
        pod_uid: Option<&str>,
        cause: &str,
        at: Timestamp,
    ) -> Result<Outcome, Error> {
        let last_pod_uid = pod_uid.map(str::to_owned).or_else(|| claim.last_pod_uid.clone());
        let quarantined = Some(Mark { cause: cause.to_owned(), at });
        self.write(Claim { last_pod_uid, quarantined, ..claim.clone() }).await
    }

    /// Gives the GPU back and takes it out until its health or driver changes.
    pub async fn mark_out(
        &self,
        claim: &Claim,
        pod_uid: Option<&str>,
        cause: &str,
        at: Timestamp,
    ) -> Result<Outcome, Error> {
        let view = self.fleet.node_view(&claim.gpu);
        let out = Some(Mark { cause: format!("{cause} {}", condition_of(view.as_ref())), at });
        self.write(Claim { quarantined: None, out, ..vacated(claim, pod_uid) }).await
    }

    /// Lets a GPU that was out be used again.
    pub async fn mark_in(&self, claim: &Claim) -> Result<Outcome, Error> {
        self.write(Claim { out: None, ..claim.clone() }).await
    }

    /// The claim as the API server has it; `None` without a Lease.
    pub async fn read(&self, gpu: &str) -> Result<Option<Claim>, Error> {
        let name = lease_name(gpu);
        let answer = tokio::time::timeout(DEADLINE, self.api.get_opt(&name)).await;
        let lease = answer
            .map_err(|_elapsed| Error::Silence { gpu: gpu.to_owned() })?
            .map_err(|source| Error::Read { gpu: gpu.to_owned(), source: Box::new(source) })?;
        let claim = lease.as_ref().map(Claim::of_lease);
        self.learn(gpu, claim.as_ref());
        Ok(claim)
    }

    /// Writes a claim in this process's name. After an answer that leaves it open the Lease is read: it says.
    async fn write(&self, claim: Claim) -> Result<Outcome, Error> {
        let wanted = Claim { actor: self.fleet.config().actor.clone(), ..claim };
        let lease = wanted.to_lease(&self.fleet.config().namespace);
        let params =
            PostParams { field_manager: Some(keys::FIELD_MANAGER_CLAIM.to_owned()), ..PostParams::default() };
        let request = async {
            match &lease.metadata.resource_version {
                None => self.api.create(&params, &lease).await,
                Some(_) => self.api.replace(&lease_name(&wanted.gpu), &params, &lease).await,
            }
        };
        let error = match tokio::time::timeout(DEADLINE, request).await {
            Ok(Ok(lease)) => {
                let claim = Claim::of_lease(&lease);
                self.fleet.note_own_write(&claim);
                self.learn(&wanted.gpu, Some(&claim));
                return Ok(Outcome::Done(claim));
            }
            Ok(Err(kube::Error::Api(status))) if is_definite(status.code) && !is_lost(status.code) => {
                let source = Box::new(kube::Error::Api(status));
                return Err(Error::Write { gpu: wanted.gpu, source });
            }
            Ok(Err(source)) => Some(source),
            Err(_elapsed) => None,
        };
        let now = self.read(&wanted.gpu).await?;
        match (now, error) {
            (Some(now), _) if same(&now, &wanted) => Ok(Outcome::Done(now)),
            (now, Some(kube::Error::Api(status))) if is_lost(status.code) => Ok(Outcome::Lost(now)),
            (now, _) if now.as_ref().is_some_and(|now| now.resource_version != wanted.resource_version) => {
                Ok(Outcome::Lost(now))
            }
            (_, Some(source)) => Err(Error::Write { gpu: wanted.gpu, source: Box::new(source) }),
            (_, None) => Err(Error::Silence { gpu: wanted.gpu }),
        }
    }

    /// Tells the index at once, so that no decision is made on what the watch has not told yet.
    fn learn(&self, gpu: &str, claim: Option<&Claim>) {
        let jobs = {
            let mut fleet = self.fleet.lock();
            match claim {
                Some(claim) => fleet.apply_claim(claim.clone()),
                None => fleet.remove_claim(&Claim::unclaimed(gpu)),
            }
        };
        if !jobs.is_empty() {
            self.fleet.wake(jobs);
            self.fleet.touch();
        }
    }
}

/// The claim without holder.
fn vacated(claim: &Claim, pod_uid: Option<&str>) -> Claim {
    let last_pod_uid = pod_uid.map(str::to_owned).or_else(|| claim.last_pod_uid.clone());
    Claim { holder: None, grant: None, last_pod_uid, ..claim.clone() }
}

/// Health and driver as they stand behind the cause of a card being out; it stays out while they do.
pub(super) fn condition_of(view: Option<&GpuView>) -> String {
    match view {
        Some(view) => {
            let driver: String = view.driver.chars().filter(char::is_ascii_graphic).take(32).collect();
            format!("(health {:?}, driver {driver})", view.gpu.h)
        }
        None => "(health and driver unknown)".to_owned(),
    }
}

/// Whether a status means that nothing was written and never will be.
fn is_definite(code: u16) -> bool {
    (400..500).contains(&code) && !matches!(code, 408 | 429)
}

/// Whether a status means that somebody else wrote first: conflict, already exists, or gone.
fn is_lost(code: u16) -> bool {
    matches!(code, 404 | 409)
}

/// Whether a claim is what was to be written, its version aside.
fn same(now: &Claim, wanted: &Claim) -> bool {
    let wanted = Claim {
        resource_version: now.resource_version.clone(),
        gpu: if wanted.grant.is_some() { wanted.gpu.clone() } else { now.gpu.clone() },
        ..wanted.clone()
    };
    // Marks keep what their text keeps, so both sides are compared as they are written.
    wanted.to_lease("") == now.to_lease("")
}
