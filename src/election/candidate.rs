//! What one process does about the Lease at an instant, from what it has seen of it. Pure: all times are lengths since
//! the process began, by its own clock; the times that stand on the Lease are only compared with each other.
//!
//! The rules are those of client-go's leader election: whoever sees a record unchanged for as long as the record asks
//! for takes it, by compare-and-swap; a holder that has not renewed within a shorter time holds nothing any more. A
//! holder counts from before its write, an observer from after its read, so the holder is always the first to give up
//! unless one clock runs 1.5 times as fast as the other.

use std::time::Duration;

use jiff::Timestamp;

/// How long a record keeps others away that does not change.
pub const LENGTH: Duration = Duration::from_secs(15);
/// How long a holder leads after its last renewal that was answered.
pub const RENEWAL: Duration = Duration::from_secs(10);
/// Pause between two renewals, two looks, or two tries.
pub const PAUSE: Duration = Duration::from_secs(2);
/// Longest wait for the answer to one request.
const ANSWER: Duration = Duration::from_secs(5);
/// No record keeps others away for longer than that, whatever it asks for.
const LONGEST: Duration = Duration::from_secs(60);

/// What stands on a Lease.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Who holds it; `None`: nobody.
    pub holder: Option<String>,
    /// When it was renewed, by the holder's wall clock.
    pub renewed: Option<Timestamp>,
    /// How long it is to keep others away, as it says itself.
    pub length: Option<Duration>,
    /// How often the holder has changed.
    pub transitions: i32,
}

impl Record {
    /// How long it keeps others away: at least [`LENGTH`], which its holder may count on.
    fn respected(&self) -> Duration {
        self.length.unwrap_or(LENGTH).clamp(LENGTH, LONGEST)
    }
}

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Read the Lease.
    Look,
    /// Take the Lease, unless somebody has written it since it was read.
    Acquire,
    /// Write the Lease again, unless somebody else has.
    Renew,
    /// Nothing before that instant, if no sign comes.
    Wait(Duration),
    /// Lead no more, and never again.
    Lost(Loss),
}

/// Why a leader leads no more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Loss {
    /// No renewal was answered in time.
    #[error("it was not renewed within 10 s")]
    Late,
    /// Somebody else has taken it.
    #[error("{0} holds it")]
    Taken(String),
}

/// One process that wants to lead.
#[derive(Clone, Debug)]
pub struct Candidate {
    me: String,
    seen: Option<Seen>,
    /// Whether the Lease may be another than the one that was seen, because a request failed.
    doubtful: bool,
    /// No request before that instant, unless there is a reason.
    next: Duration,
    /// When the last renewal that was answered had been sent.
    held: Option<Duration>,
}

/// The Lease as it was last seen; `None`: there is none.
#[derive(Clone, Debug)]
struct Seen {
    record: Option<Record>,
    /// When it was first seen to say so.
    since: Duration,
}

impl Candidate {
    /// One that has seen nothing yet. `me`: a name that no other process ever has.
    pub const fn new(me: String) -> Self {
        Self { me, seen: None, doubtful: true, next: Duration::ZERO, held: None }
    }

    /// Whether it leads.
    pub fn leads(&self, now: Duration) -> bool {
        self.held.is_some_and(|held| now < held.saturating_add(RENEWAL))
    }

    /// Whether the Lease may be another than the one that was seen last.
    pub const fn is_doubtful(&self) -> bool {
        self.doubtful
    }

    /// Who holds the Lease as it was last seen; `None`: it has not been seen yet.
    pub fn holder(&self) -> Option<Option<&str>> {
        self.seen.as_ref().map(|seen| seen.record.as_ref().and_then(|record| record.holder.as_deref()))
    }

    /// How long the answer to a request that is sent now is waited for.
    pub fn patience(&self, now: Duration) -> Duration {
        let left = self.held.map(|held| held.saturating_add(RENEWAL).saturating_sub(now));
        left.map_or(ANSWER, |left| left.min(ANSWER))
    }

    /// What to do now.
    pub fn decide(&self, now: Duration) -> Action {
        let holder = self.holder().flatten();
        if let Some(held) = self.held {
            let end = held.saturating_add(RENEWAL);
            return match holder.filter(|holder| *holder != self.me) {
                Some(other) => Action::Lost(Loss::Taken(other.to_owned())),
                None if now >= end => Action::Lost(Loss::Late),
                None if now < self.next => Action::Wait(self.next.min(end)),
                None if self.doubtful => Action::Look,
                None => Action::Renew,
            };
        }
        if self.doubtful {
            return if now < self.next { Action::Wait(self.next) } else { Action::Look };
        }
        match self.free_at() {
            Some(free) if now >= free => Action::Acquire,
            _ if now >= self.next => Action::Look,
            free => Action::Wait(free.map_or(self.next, |free| free.min(self.next))),
        }
    }

    /// From when on the Lease may be taken, if it stays as it is.
    fn free_at(&self) -> Option<Duration> {
        let seen = self.seen.as_ref()?;
        let Some(record) = &seen.record else { return Some(Duration::ZERO) };
        let others = record.holder.as_ref().filter(|holder| **holder != self.me);
        // A record of its own is of a write that was done and not answered: nobody knows since when it holds.
        Some(others.map_or(Duration::ZERO, |_| seen.since.saturating_add(record.respected())))
    }

    /// Takes in the Lease as it was read by a request that was sent at `sent` and answered at `now`.
    pub fn read(&mut self, record: Option<Record>, sent: Duration, now: Duration) {
        let same = self.seen.as_ref().filter(|seen| seen.record == record).map(|seen| seen.since);
        self.seen = Some(Seen { record, since: same.unwrap_or(now) });
        self.doubtful = false;
        // A leader that had to look is overdue.
        self.next = if self.held.is_some() { now } else { sent.saturating_add(PAUSE) };
    }

    /// Takes in that its own record was written by a request that was sent at `sent`.
    pub fn wrote(&mut self, record: Record, sent: Duration) {
        self.seen = Some(Seen { record: Some(record), since: sent });
        self.doubtful = false;
        self.next = sent.saturating_add(PAUSE);
        self.held = Some(sent);
    }

    /// Takes in that a request that was sent at `sent` was refused, or that nobody knows what came of it.
    pub fn failed(&mut self, sent: Duration) {
        self.doubtful = true;
        self.next = sent.saturating_add(PAUSE);
    }

    /// Takes in a sign that the Lease is free.
    pub fn hint(&mut self) {
        if self.held.is_none() {
            self.doubtful = true;
            self.next = Duration::ZERO;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn held_by(holder: &str, renewed: i64) -> Record {
        Record {
            holder: Some(holder.to_owned()),
            renewed: Some(Timestamp::from_second(renewed).unwrap()),
            ..Record::default()
        }
    }

    fn looked(record: Option<Record>, now: u64) -> Candidate {
        let mut candidate = Candidate::new("me".to_owned());
        candidate.read(record, at(now), at(now));
        candidate
    }

    fn leader(sent: u64) -> Candidate {
        let mut candidate = looked(None, sent);
        candidate.wrote(held_by("me", 0), at(sent));
        candidate
    }

    #[test]
    fn what_is_free_is_taken_and_what_is_held_is_waited_for() {
        assert_eq!(Candidate::new("me".to_owned()).decide(at(0)), Action::Look);
        for free in [None, Some(Record::default()), Some(held_by("me", 0))] {
            assert_eq!(looked(free.clone(), 100).decide(at(100)), Action::Acquire, "{free:?}");
        }
        let standby = looked(Some(held_by("other", 0)), 1_000);
        assert_eq!(standby.decide(at(1_000)), Action::Wait(at(3_000)));
        assert_eq!(standby.decide(at(3_000)), Action::Look);
        assert_eq!(standby.decide(at(15_999)), Action::Look);
        assert_eq!(standby.decide(at(16_000)), Action::Acquire);
    }

    /// The times on the record are of another clock, in the past or far ahead.
    #[test]
    fn a_record_ends_when_it_has_been_seen_unchanged_for_long_enough() {
        for renewed in [0, 9_000_000_000] {
            let mut standby = looked(Some(held_by("other", renewed)), 0);
            for second in 1..15 {
                standby.read(Some(held_by("other", renewed)), at(second * 1_000), at(second * 1_000));
                assert_ne!(standby.decide(at(second * 1_000)), Action::Acquire);
            }
            assert_eq!(standby.decide(at(14_500)), Action::Wait(at(15_000)), "sooner than the next look");
            assert_eq!(standby.decide(at(15_000)), Action::Acquire);
            standby.read(Some(held_by("other", renewed + 1)), at(15_000), at(15_100));
            assert_eq!(standby.decide(at(30_099)), Action::Look);
            assert_eq!(standby.decide(at(30_100)), Action::Acquire);
        }
    }

    #[test]
    fn a_record_keeps_others_away_as_it_asks_within_bounds() {
        for (asked, millis) in [(0, 15_000), (1, 15_000), (30, 30_000), (u64::MAX, 60_000)] {
            let record = Record { length: Some(Duration::from_secs(asked)), ..held_by("other", 0) };
            let standby = looked(Some(record), 0);
            assert_ne!(standby.decide(at(millis - 1)), Action::Acquire, "{asked}");
            assert_eq!(standby.decide(at(millis)), Action::Acquire, "{asked}");
        }
    }

    #[test]
    fn a_leader_renews_and_leads_no_longer_than_its_last_renewal_allows() {
        let mut leader = leader(1_000);
        assert!(leader.leads(at(10_999)) && !leader.leads(at(11_000)));
        assert_eq!(leader.decide(at(1_100)), Action::Wait(at(3_000)));
        assert_eq!(leader.decide(at(3_000)), Action::Renew);
        leader.wrote(held_by("me", 1), at(3_000));
        assert_eq!(leader.decide(at(3_100)), Action::Wait(at(5_000)));
        leader.failed(at(5_000));
        assert_eq!(leader.decide(at(5_010)), Action::Wait(at(7_000)));
        assert_eq!(leader.decide(at(7_000)), Action::Look);
        leader.read(Some(held_by("me", 1)), at(7_000), at(7_050));
        assert_eq!(leader.decide(at(7_050)), Action::Renew, "it is overdue");
        leader.failed(at(12_000));
        assert_eq!(
            leader.decide(at(12_100)),
            Action::Wait(at(13_000)),
            "the end is nearer than the next try"
        );
        assert_eq!(leader.patience(at(12_900)), at(100), "no answer is waited for beyond the end");
        assert_eq!(leader.decide(at(13_000)), Action::Lost(Loss::Late));
    }

    #[test]
    fn a_leader_whose_lease_is_anothers_has_lost_and_one_whose_lease_is_gone_writes_it() {
        let mut leader = leader(0);
        leader.failed(at(2_000));
        leader.read(None, at(4_000), at(4_000));
        assert_eq!(leader.decide(at(4_000)), Action::Renew);
        leader.failed(at(4_000));
        leader.read(Some(held_by("other", 5)), at(6_000), at(6_000));
        assert_eq!(leader.decide(at(6_000)), Action::Lost(Loss::Taken("other".to_owned())));
    }

    #[test]
    fn a_try_that_failed_is_followed_by_a_pause_and_a_look() {
        let mut candidate = looked(None, 0);
        candidate.failed(at(10));
        assert_eq!(candidate.decide(at(20)), Action::Wait(at(2_010)));
        assert_eq!(candidate.decide(at(2_010)), Action::Look);
    }

    #[test]
    fn a_sign_is_looked_after_at_once_and_means_nothing_to_a_leader() {
        let mut standby = looked(Some(held_by("other", 0)), 0);
        standby.hint();
        assert_eq!(standby.decide(at(10)), Action::Look);
        let mut leader = leader(0);
        leader.hint();
        assert_eq!(leader.decide(at(10)), Action::Wait(at(2_000)));
    }
}
