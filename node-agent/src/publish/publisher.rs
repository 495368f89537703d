//! Carries out what the policy decides, and keeps off a Node that another release's live agent reports.

use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use tracing::{debug, info, warn};
use video_upscale::api::report::{Heartbeat, Report, State, digest, read};

use super::node::{Annotations, NodeAnnotations, PublishError, Refusal};
use super::occupant::occupant;
use super::policy::{Cause, Decision, Policy, Timing};
use super::verdicts::Verdicts;
use crate::clock::{Clock, Now};
use crate::metrics::Published;
use crate::report::fit;

/// Pause between two tries of the last words.
const FAREWELL_PAUSE: Duration = Duration::from_millis(250);
/// How long the smallest report is written after the server refused a larger one: a policy may be mended, and lists of
/// processes are what verdicts are made of.
const SMALLEST_FOR: Duration = Duration::from_secs(3600);

/// How the publishing stands, for readiness.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// Nothing has been written yet.
    #[default]
    Starting,
    /// The last write succeeded.
    Published,
    /// Another release's agent lives on this node.
    Occupied {
        /// Namespace of that release.
        by: String,
    },
    /// The last write failed.
    Failing {
        /// Why.
        message: String,
    },
}

/// Publishes one node's report.
pub struct Publisher {
    node: NodeAnnotations,
    policy: Policy,
    clock: Clock,
    metrics: Published,
    /// Spreads what thousands of agents would do at once.
    chance: StdRng,
    standing: Standing,
    /// Number, text digest and time of the report that the server is known to hold.
    written: Option<Written>,
    seq: u64,
    smallest_until: Duration,
    /// What is remembered of bad cards; `recalled` once the Node was read for it.
    verdicts: Verdicts,
    recalled: bool,
    /// The server's cache was behind at the last write.
    cache_is_behind: bool,
}

#[derive(Clone, Debug)]
struct Written {
    seq: u64,
    smallest: bool,
    sha: String,
    heartbeat: String,
}

impl Publisher {
    /// A publisher that has written nothing yet.
    pub fn new(
        node: NodeAnnotations,
        timing: Timing,
        clock: Clock,
        metrics: Published,
        mut chance: StdRng,
    ) -> Self {
        Self {
            node,
            policy: Policy::new(timing, clock.now().up, chance.random()),
            clock,
            metrics,
            chance,
            standing: Standing::default(),
            written: None,
            seq: 0,
            smallest_until: Duration::ZERO,
            verdicts: Verdicts::default(),
            recalled: false,
            cache_is_behind: false,
        }
    }

    /// How it stands.
    pub const fn standing(&self) -> &Standing {
        &self.standing
    }

    /// What the server is known to hold, before it was shrunk.
    pub const fn published(&self) -> Option<&Report> {
        self.policy.published()
    }

    /// What is remembered of bad cards.
    pub const fn verdicts(&self) -> &Verdicts {
        &self.verdicts
    }

    /// Writes `current`, with what is remembered of bad cards, if it is time to. Returns when to be called again at the
    /// latest.
    pub async fn offer(&mut self, current: &Report) -> Duration {
        let now = self.clock.now();
        let current = &self.verdicts.applied(current.clone());
        match self.policy.decide(current, now.up) {
            Decision::Wait { until, hold } => {
                if let Some(hold) = hold {
                    self.metrics.held(hold);
                }
                until
            }
            Decision::Write { cause, with_report } => {
                self.write(current, cause, with_report).await;
                self.clock.now().up
            }
        }
    }

    /// The last words before the end: the report if the state is news, and in any case a heartbeat that says it. Tried
    /// again until `limit`, unless only a person can help.
    pub async fn farewell(&mut self, current: &Report, limit: Duration) {
        if matches!(self.standing, Standing::Occupied { .. }) {
            return;
        }
        // A stopped agent's last report stays as it was: a rolling update must move nothing.
        let with_report = current.state != State::Stopped || self.written.is_none();
        // A server that does not answer the first time leaves time for a second.
        let one_try = limit.mul_f64(0.5);
        let tries = async {
            loop {
                let tried =
                    tokio::time::timeout(one_try, self.write(current, Cause::Final, with_report)).await;
                let pause = match tried {
                    Ok(None) => return true,
                    Ok(Some(Refusal::Hopeless)) => return false,
                    Ok(Some(Refusal::Again(asked))) => {
                        asked.map_or(FAREWELL_PAUSE, |after| after.max(FAREWELL_PAUSE))
                    }
                    Ok(Some(Refusal::TooLarge)) | Err(_) => FAREWELL_PAUSE,
                };
                #[expect(clippy::disallowed_methods, reason = "the server is left alone for a moment")]
                tokio::time::sleep(pause).await;
            }
        };
        if tokio::time::timeout(limit, tries).await != Ok(true) {
            warn!("the last report could not be written in time");
        }
    }

    /// One try. Why it came to nothing, if it did.
    async fn write(&mut self, current: &Report, cause: Cause, with_report: bool) -> Option<Refusal> {
        let outcome = self.try_write(current, cause, with_report).await;
        let now = self.clock.now();
        match outcome {
            Ok(Outcome::Written(report)) => {
                if self.standing != Standing::Published {
                    info!("the node's report is published");
                }
                self.standing = Standing::Published;
                self.cache_is_behind = false;
                self.metrics.succeeded(cause, now);
                self.policy.confirmed(report, now.up, self.chance.random());
                None
            }
            Ok(Outcome::Occupied(by)) => {
                let occupied = Standing::Occupied { by };
                if self.standing != occupied {
                    warn!(standing = ?occupied, "another release's agent reports this node; not writing");
                }
                self.standing = occupied;
                self.policy.hopeless(now.up);
                Some(Refusal::Hopeless)
            }
            Err(Failure::Print(error)) => {
                self.standing = Standing::Failing { message: format!("print the report: {error}") };
                self.policy.hopeless(now.up);
                Some(Refusal::Hopeless)
            }
            Err(Failure::Call(error)) => Some(self.refused(&error, cause, now)),
        }
    }

    fn refused(&mut self, error: &PublishError, cause: Cause, now: Now) -> Refusal {
        warn!(%error, "the report could not be written");
        self.metrics.failed(cause, error.result());
        self.standing = Standing::Failing { message: error.to_string() };
        self.cache_is_behind = error.is_conflict();
        let refusal = error.refusal();
        match refusal {
            Refusal::Hopeless => self.policy.hopeless(now.up),
            Refusal::TooLarge if now.up < self.smallest_until => self.policy.hopeless(now.up),
            Refusal::TooLarge => {
                self.smallest_until = now.up.saturating_add(SMALLEST_FOR);
                self.policy.failed(None, now.up, self.chance.random());
            }
            Refusal::Again(after) => self.policy.failed(after, now.up, self.chance.random()),
        }
        refusal
    }

    async fn try_write(
        &mut self,
        current: &Report,
        cause: Cause,
        with_report: bool,
    ) -> Result<Outcome, Failure> {
        let standing = self.node.read(self.cache_is_behind).await.map_err(Failure::Call)?;
        if let Some(by) = occupant(&standing, current, self.clock.now()) {
            return Ok(Outcome::Occupied(by));
        }
        if !self.recalled {
            self.recalled = true;
            if let Some(report) = standing.sound_report() {
                self.verdicts.recall(&report);
            }
        }
        let current = &self.verdicts.applied(current.clone());
        let now = self.clock.now().up;
        let smallest = now < self.smallest_until;
        let own = self.written.clone().filter(|written| {
            standing.heartbeat.as_deref() == Some(&written.heartbeat)
                && standing.report.as_deref().map(digest).as_ref() == Some(&written.sha)
        });
        // Where somebody else may be about to write, the one who comes second must look again.
        let unless_changed = standing.version.as_deref().filter(|_| own.is_none());
        self.policy.attempt(current, cause, now);
        match own.filter(|written| written.smallest == smallest && !with_report) {
            Some(written) => {
                let heartbeat = heartbeat(current, written.seq, written.sha.clone()).to_string();
                self.node.write(None, &heartbeat, None).await.map_err(Failure::Call)?;
                self.written = Some(Written { heartbeat, ..written });
                Ok(Outcome::Written(None))
            }
            None => self.write_report(current, smallest, unless_changed).await,
        }
    }

    async fn write_report(
        &mut self,
        current: &Report,
        smallest: bool,
        unless_changed: Option<&str>,
    ) -> Result<Outcome, Failure> {
        self.seq = self.seq.saturating_add(1);
        let numbered = Report { seq: self.seq, ..current.clone() };
        let (_, text) = fit(&numbered, smallest).map_err(Failure::Print)?;
        let sha = digest(&text);
        let heartbeat = heartbeat(current, self.seq, sha.clone()).to_string();
        debug!(bytes = text.len(), seq = self.seq, "writing the report");
        self.node.write(Some(&text), &heartbeat, unless_changed).await.map_err(Failure::Call)?;
        self.metrics.size(text.len());
        self.written = Some(Written { seq: self.seq, smallest, sha, heartbeat });
        Ok(Outcome::Written(Some(current.clone())))
    }
}

enum Outcome {
    /// Confirmed; with the report if it went along.
    Written(Option<Report>),
    /// Not written, as this release's agent lives.
    Occupied(String),
}

enum Failure {
    Call(PublishError),
    Print(serde_json::Error),
}

fn heartbeat(current: &Report, seq: u64, sha: String) -> Heartbeat {
    Heartbeat { seq, inst: current.inst.clone(), at: current.at, state: current.state, sha }
}

impl Annotations {
    /// The report, if it and the heartbeat belong together.
    fn sound_report(&self) -> Option<Report> {
        Some(read(self.report.as_deref()?, self.heartbeat.as_deref()?).ok()?.0)
    }
}

#[cfg(test)]
mod tests;
