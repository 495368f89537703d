//! When to write: fast attack, slow release. A pure state machine; every step is given its `now`.
//!
//! With thousands of nodes each write is multiplied, and each Node write is sent to everyone who watches Nodes. So a
//! change must matter, must have settled, must keep a gap to the last write, and must pay a token. What cannot wait
//! (a card or the driver went bad) pays nothing but comes at most once a minute.

use std::time::Duration;

use video_upscale::api::report::Report;

use super::bucket::Bucket;
use super::change::Change;

/// Smallest gap between two writes of changes.
const GAP: Duration = Duration::from_secs(30);
/// The same for urgent ones and for ended processes.
const GAP_URGENT: Duration = Duration::from_secs(6);
/// The same for what goes past the bucket.
const GAP_VOICED: Duration = Duration::from_secs(60);
/// First pause after a failed write; doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause after failed writes.
const LAST_PAUSE: Duration = Duration::from_secs(60);
/// Longest pause that a server's `Retry-After` makes: a wrong one must not silence the agent for good.
const LONGEST_OBEYED: Duration = Duration::from_secs(600);
/// Pause after an answer that only a person can change.
const HOPELESS_PAUSE: Duration = Duration::from_secs(300);

/// Periods that the user may set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Time between two writes when nothing happens.
    pub heartbeat: Duration,
    /// The first write comes within this time after the start, so that a rolling update makes no herd.
    pub spread: Duration,
}

/// Why a write is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// A change that matters.
    Material,
    /// A change that cannot wait.
    Urgent,
    /// Nothing but time.
    Heartbeat,
    /// The agent ends.
    Final,
}

/// What keeps a change from being written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hold {
    /// It does not matter enough.
    Band,
    /// It may still be moving.
    Settle,
    /// The last write was just now.
    Gap,
    /// No token left.
    Bucket,
    /// The API server refused, or is away.
    Pause,
}

impl Cause {
    /// Word for metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Material => "material",
            Self::Urgent => "urgent",
            Self::Heartbeat => "heartbeat",
            Self::Final => "final",
        }
    }
}

impl Hold {
    /// Word for metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Band => "band",
            Self::Settle => "settle",
            Self::Gap => "gap",
            Self::Bucket => "bucket",
            Self::Pause => "pause",
        }
    }
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing before `until`, unless the report changes.
    Wait {
        /// When to ask again at the latest.
        until: Duration,
        /// What holds a change back; `None` if there is none.
        hold: Option<Hold>,
    },
    /// Write now.
    Write {
        /// Why.
        cause: Cause,
        /// Whether the report goes along, or the heartbeat alone.
        with_report: bool,
    },
}

/// The state machine of one agent.
#[derive(Clone, Debug)]
pub struct Policy {
    timing: Timing,
    /// The report that the server is known to hold; taken only from a successful answer.
    published: Option<Report>,
    /// When the change that waits has settled.
    settled_at: Option<Duration>,
    /// When the end of a pod's process was first seen. The report about it must be sampled well after it, since the
    /// times of both are whole seconds, so no other cause may write it earlier.
    ended_at: Option<Duration>,
    last_change: Option<Duration>,
    last_voiced: Option<Duration>,
    heartbeat_at: Duration,
    paused_until: Duration,
    failures: u32,
    bucket: Bucket,
}

impl Policy {
    /// An agent that starts now. `chance` in [0, 1) spreads the first write.
    pub fn new(timing: Timing, now: Duration, chance: f64) -> Self {
        Self {
            timing,
            published: None,
            settled_at: None,
            ended_at: None,
            last_change: None,
            last_voiced: None,
            heartbeat_at: now.saturating_add(part(timing.spread, chance)),
            paused_until: Duration::ZERO,
            failures: 0,
            bucket: Bucket::full(),
        }
    }

    /// What the server is known to hold.
    pub const fn published(&self) -> Option<&Report> {
        self.published.as_ref()
    }

    /// Decides for the report that is true now.
    pub fn decide(&mut self, current: &Report, now: Duration) -> Decision {
        let change = self.published.as_ref().map(|published| Change::between(published, current));
        let wanted = self.wanted(change, now);
        let (due, hold) = wanted.map_or((Duration::MAX, None), |(due, hold, _)| (due, Some(hold)));
        let cause = match (wanted, change) {
            (Some((due, ..)), Some(change)) if due <= now => {
                Some(if change > Change::Material { Cause::Urgent } else { Cause::Material })
            }
            _ if self.heartbeat_at <= now && hold != Some(Hold::Settle) => Some(Cause::Heartbeat),
            _ => None,
        };
        let retry_at = if self.failures > 0 && !self.is_free(change, now) {
            self.bucket.next(now)
        } else {
            Duration::ZERO
        };
        match cause {
            Some(_) if now < self.paused_until => {
                Decision::Wait { until: self.paused_until.max(retry_at), hold: Some(Hold::Pause) }
            }
            Some(_) if now < retry_at => Decision::Wait { until: retry_at, hold: Some(Hold::Bucket) },
            Some(cause) => Decision::Write { cause, with_report: change != Some(Change::None) },
            None => {
                let hold = hold.or((change == Some(Change::Slight)).then_some(Hold::Band));
                // A heartbeat that is overdue rides with the change that settles.
                let heartbeat = if self.heartbeat_at > now { self.heartbeat_at } else { Duration::MAX };
                Decision::Wait { until: due.min(heartbeat).max(self.paused_until), hold }
            }
        }
    }

    /// When a change may be written, and what holds it until then.
    fn wanted(&mut self, change: Option<Change>, now: Duration) -> Option<(Duration, Hold, Change)> {
        let Some(change) = change.filter(|change| *change >= Change::Material) else {
            self.settled_at = None;
            self.ended_at = None;
            return None;
        };
        let settled_at = now.saturating_add(settle(change));
        let settled_at = self.settled_at.map_or(settled_at, |known| known.min(settled_at));
        self.settled_at = Some(settled_at);
        let settled_at = if change == Change::Ended {
            self.ended_at.get_or_insert(now).saturating_add(settle(change))
        } else {
            settled_at
        };
        let after =
            |last: Option<Duration>, gap| last.map_or(Duration::ZERO, |last| last.saturating_add(gap));
        if self.is_free(Some(change), now) {
            return Some((now, Hold::Gap, change));
        }
        let gap = if change > Change::Material { GAP_URGENT } else { GAP };
        let limits = [
            (settled_at, Hold::Settle),
            (after(self.last_change, gap), Hold::Gap),
            (self.bucket.next(now), Hold::Bucket),
        ];
        let (due, hold) = limits.into_iter().max_by_key(|(due, _)| *due)?;
        Some((due, hold, change))
    }

    /// Whether a change goes past the bucket.
    fn is_free(&self, change: Option<Change>, now: Duration) -> bool {
        change == Some(Change::Voiced)
            && self.last_voiced.is_none_or(|last| last.saturating_add(GAP_VOICED) <= now)
    }

    /// A write is about to be tried. It is paid for now, as an answer that is lost may still have taken effect. A
    /// heartbeat costs nothing, but to try a failed one again does: a server in trouble gets no more writes than a
    /// node in turmoil would make.
    pub fn attempt(&mut self, current: &Report, cause: Cause, now: Duration) {
        match cause {
            Cause::Material | Cause::Urgent => {}
            Cause::Heartbeat if self.failures > 0 => return self.bucket.take(now),
            Cause::Heartbeat | Cause::Final => return,
        }
        let change = self.published.as_ref().map(|published| Change::between(published, current));
        if self.is_free(change, now) {
            self.last_voiced = Some(now);
        } else {
            self.bucket.take(now);
        }
        self.last_change = Some(now);
    }

    /// The server confirmed. `report` is what it holds now, if it was sent along; `chance` in [0, 1) spreads the next
    /// heartbeat by a tenth.
    pub fn confirmed(&mut self, report: Option<Report>, now: Duration, chance: f64) {
        if let Some(report) = report {
            self.published = Some(report);
            self.settled_at = None;
            self.ended_at = None;
        }
        self.failures = 0;
        self.paused_until = Duration::ZERO;
        let tenth = self.timing.heartbeat.mul_f64(0.1);
        let earliest = self.timing.heartbeat.saturating_sub(tenth);
        self.heartbeat_at =
            now.saturating_add(earliest).saturating_add(part(tenth.saturating_mul(2), chance));
    }

    /// The server refused or did not answer. Nothing is remembered as published; the newest report wins next time.
    pub fn failed(&mut self, retry_after: Option<Duration>, now: Duration, chance: f64) {
        let ceiling = FIRST_PAUSE.saturating_mul(2u32.saturating_pow(self.failures.min(6))).min(LAST_PAUSE);
        self.failures = self.failures.saturating_add(1);
        let asked = retry_after.unwrap_or(Duration::ZERO).min(LONGEST_OBEYED);
        let pause = part(ceiling, chance).max(asked);
        self.paused_until = now.saturating_add(pause);
    }

    /// The server said something that only a person can change.
    pub fn hopeless(&mut self, now: Duration) {
        self.failures = self.failures.saturating_add(1);
        self.paused_until = now.saturating_add(HOPELESS_PAUSE);
    }
}

const fn settle(change: Change) -> Duration {
    Duration::from_secs(match change {
        Change::None | Change::Slight | Change::Material => 10,
        Change::Urgent => 6,
        Change::Ended => 2,
        Change::Voiced => 0,
    })
}

fn part(of: Duration, chance: f64) -> Duration {
    of.mul_f64(chance.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests;
