//! Which of several controllers acts: the one that holds a Lease.
//!
//! An election saves work and keeps two controllers from writing over each other's status. Safety does not rest on it:
//! a process may be held up between its decision and its write for as long as it pleases, so claims of GPUs are made to
//! bear two controllers at once (see [`crate::fleet`]).
//!
//! [`candidate`] decides, purely; this module does as it says: reads and writes the Lease by compare-and-swap, and
//! watches it while another holds it, so that one that is given back is taken at once. The watch is only a sign to look;
//! what was read counts.

mod candidate;
mod lease;
#[cfg(test)]
mod tests;

use std::time::Duration;

use futures::future::{Either, select};
use futures::stream::BoxStream;
use futures::{StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::PostParams;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

pub use self::candidate::Loss;
use self::candidate::{Action, Candidate};
use crate::api::keys;

/// What a process is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// It has not seen the Lease yet.
    Unknown,
    /// Another acts, or nobody does yet.
    Standby,
    /// It acts.
    Leader,
}

/// Leading is over, and with it the process: nothing of it may write on.
#[derive(Debug, thiserror::Error)]
#[error("lost the Lease {lease}: {loss}")]
pub struct Lost {
    lease: String,
    loss: Loss,
}

/// Whose Lease it is, and who wants it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub lease: String,
    /// The release it is of.
    pub release: String,
    /// Name of this process, which no other ever has.
    pub identity: String,
}

/// Takes part in the election, tells `roles` what comes of it, and gives the Lease back once `ended` is true: when
/// nothing of this process writes any more.
///
/// # Errors
/// When it led and leads no more.
pub async fn run(
    settings: &Settings,
    request: Client,
    watches: Client,
    roles: &watch::Sender<Role>,
    mut ended: watch::Receiver<bool>,
) -> Result<(), Lost> {
    #[expect(clippy::disallowed_methods, reason = "edge: the clock of the election")]
    let began = Instant::now();
    let mut candidate = Candidate::new(settings.identity.clone());
    let mut seat =
        Seat { api: Api::namespaced(request, &settings.namespace), settings, known: None, told: None };
    let mut signs = signs(Api::namespaced(watches, &settings.namespace), &settings.lease);
    while !*ended.borrow() {
        let sent = began.elapsed();
        let wait = match candidate.decide(sent) {
            Action::Lost(loss) => return Err(Lost { lease: settings.lease.clone(), loss }),
            Action::Wait(until) => Some(until.saturating_sub(sent)),
            Action::Look => {
                match seat.look(candidate.patience(sent)).await {
                    Some(record) => candidate.read(record, sent, began.elapsed()),
                    None => candidate.failed(sent),
                }
                None
            }
            Action::Acquire | Action::Renew => {
                match seat.take(candidate.patience(sent)).await {
                    Some(record) => candidate.wrote(record, sent),
                    None => candidate.failed(sent),
                }
                None
            }
        };
        seat.tell(&candidate, began.elapsed(), roles);
        let Some(wait) = wait else { continue };
        if *roles.borrow() == Role::Leader {
            // Nobody gives back what is ours.
            signs = stream::pending().boxed();
        }
        let ending = ended.wait_for(|ended| *ended);
        futures::pin_mut!(ending);
        let sign = timeout(wait, signs.next());
        futures::pin_mut!(sign);
        match select(ending, sign).await {
            Either::Left(_) => break,
            Either::Right((Ok(Some(())), _)) => candidate.hint(),
            Either::Right((Ok(None), _)) => signs = stream::pending().boxed(),
            Either::Right((Err(_elapsed), _)) => {}
        }
    }
    if candidate.leads(began.elapsed()) {
        // A write that was not answered may have been done: what is given back must be the Lease as it is.
        if candidate.is_doubtful() {
            let _seen = seat.look(candidate.patience(began.elapsed())).await;
        }
        seat.give_back(candidate.patience(began.elapsed())).await;
    }
    Ok(())
}

/// The Lease and the way to it.
struct Seat<'a> {
    api: Api<Lease>,
    settings: &'a Settings,
    /// The Lease as it was last read or written.
    known: Option<Lease>,
    /// What was last told, and of whom.
    told: Option<(Role, Option<String>)>,
}

impl Seat<'_> {
    /// Reads the Lease. `None`: nobody knows what it says.
    async fn look(&mut self, patience: Duration) -> Option<Option<candidate::Record>> {
        self.known =
            self.answered("read", timeout(patience, self.api.get_opt(&self.settings.lease)).await)?;
        Some(self.known.as_ref().map(lease::record))
    }

    /// Writes the Lease with this process as its holder, unless somebody has written it since it was read. `None`: it
    /// was not written, or nobody knows.
    async fn take(&mut self, patience: Duration) -> Option<candidate::Record> {
        let before =
            self.known.clone().unwrap_or_else(|| lease::fresh(&self.settings.lease, &self.settings.release));
        let written =
            self.write(lease::held(before, &self.settings.identity, wall_clock()), patience).await?;
        Some(lease::record(self.known.insert(written)))
    }

    /// Writes the Lease without holder, so that nobody waits for its end.
    async fn give_back(&mut self, patience: Duration) {
        let ours = |lease: &Lease| lease::record(lease).holder.as_ref() == Some(&self.settings.identity);
        let Some(known) = self.known.take().filter(ours) else { return };
        if self.write(lease::released(known, wall_clock()), patience).await.is_some() {
            tracing::info!(lease = self.settings.lease, "gave the lead back");
        }
    }

    async fn write(&self, lease: Lease, patience: Duration) -> Option<Lease> {
        let params = PostParams {
            field_manager: Some(keys::FIELD_MANAGER_ELECTION.to_owned()),
            ..PostParams::default()
        };
        let written = async {
            match &lease.metadata.resource_version {
                None => self.api.create(&params, &lease).await,
                Some(_) => self.api.replace(&self.settings.lease, &params, &lease).await,
            }
        };
        self.answered("write", timeout(patience, written).await)
    }

    fn answered<T>(
        &self,
        doing: &str,
        answer: Result<Result<T, kube::Error>, tokio::time::error::Elapsed>,
    ) -> Option<T> {
        let lease = &self.settings.lease;
        match answer {
            Ok(Ok(answer)) => return Some(answer),
            Ok(Err(kube::Error::Api(status))) if status.code == 409 => {
                tracing::info!(lease, "somebody else wrote first");
            }
            Ok(Err(error)) => tracing::warn!(lease, %error, "could not {doing} the Lease of the leader"),
            Err(_elapsed) => {
                tracing::warn!(lease, "no answer in time to a {doing} of the Lease of the leader")
            }
        }
        None
    }

    /// Says what the process is, if that is new.
    fn tell(&mut self, candidate: &Candidate, now: Duration, roles: &watch::Sender<Role>) {
        let Some(holder) = candidate.holder() else { return };
        let role = if candidate.leads(now) { Role::Leader } else { Role::Standby };
        let news = (role.clone(), holder.map(str::to_owned));
        if self.told.as_ref() == Some(&news) || (role == Role::Standby && *roles.borrow() == Role::Leader) {
            return;
        }
        match role {
            Role::Leader => {
                tracing::info!(lease = self.settings.lease, identity = self.settings.identity, "leads")
            }
            Role::Standby | Role::Unknown => {
                tracing::info!(lease = self.settings.lease, leader = holder, "stands by");
            }
        }
        self.told = Some(news);
        roles.send_replace(role);
    }
}

/// A sign each time that the Lease is seen to be free.
fn signs(api: Api<Lease>, name: &str) -> BoxStream<'static, ()> {
    let one = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let events = watcher::watcher(api, one).default_backoff();
    let free = events.filter_map(|event| {
        let free = match event {
            Ok(Event::Apply(lease)) => lease::record(&lease).holder.is_none(),
            Ok(Event::Delete(_)) => true,
            Ok(Event::Init | Event::InitApply(_) | Event::InitDone) => false,
            Err(error) => {
                tracing::warn!(%error, "the Lease of the leader is not watched; it is read every 2 s");
                false
            }
        };
        std::future::ready(free.then_some(()))
    });
    free.boxed()
}

fn wall_clock() -> Timestamp {
    #[expect(clippy::disallowed_methods, reason = "edge: what people read on the Lease")]
    Timestamp::now()
}
