//! Status as data: what a condition says, how people read times, and what makes a status worth writing.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::conditions::{self, ConditionType, Desired, OtherReason, ScheduledReason, State, Status};
use crate::api::video_upscale::VideoUpscaleStatus;

/// What a condition is to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Which condition.
    pub kind: ConditionType,
    /// Its status.
    pub status: Status,
    /// A word of the closed lists.
    pub reason: &'static str,
    /// One line.
    pub message: String,
}

impl Said {
    /// The condition `Complete` with a state word.
    pub fn complete(status: Status, state: State, message: impl Into<String>) -> Self {
        Self { kind: ConditionType::Complete, status, reason: state.as_str(), message: message.into() }
    }

    /// As the vocabulary wants it.
    pub fn into_desired(self) -> Desired {
        Desired { kind: self.kind, status: self.status, reason: self.reason, message: self.message }
    }
}

/// The state word: reason of `Complete`.
pub fn word(status: &VideoUpscaleStatus) -> Option<&str> {
    conditions::find(&status.conditions, ConditionType::Complete).map(|c| c.reason.as_str())
}

/// Whether a condition is true.
pub fn is_true(status: &VideoUpscaleStatus, kind: ConditionType) -> bool {
    conditions::find(&status.conditions, kind).is_some_and(|c| c.status == "True")
}

/// Sets what every status has: `Failed` and `Finished`, and the generation of all conditions.
pub fn base(status: &mut VideoUpscaleStatus, generation: i64, now: Timestamp) {
    let complete = conditions::find(&status.conditions, ConditionType::Complete).cloned();
    let (word, message) = complete.map(|c| (c.reason, c.message)).unwrap_or_default();
    if !is_true(status, ConditionType::Failed) {
        let said = Said {
            kind: ConditionType::Failed,
            status: Status::False,
            reason: OtherReason::NoFinalFailure.as_str(),
            message: "No final failure".to_owned(),
        };
        conditions::set(&mut status.conditions, said.into_desired(), generation, now);
    }
    if !is_true(status, ConditionType::Finished) {
        let state = State::parse(&word).unwrap_or(State::Pending);
        let said = Said {
            kind: ConditionType::Finished,
            status: Status::False,
            reason: state.as_str(),
            message: "Not finished".to_owned(),
        };
        conditions::set(&mut status.conditions, said.into_desired(), generation, now);
    }
    if State::parse(&word) == Some(State::Succeeded) {
        let said = Said {
            kind: ConditionType::Finished,
            status: Status::True,
            reason: State::Succeeded.as_str(),
            message,
        };
        conditions::set(&mut status.conditions, said.into_desired(), generation, now);
    }
    for condition in &mut status.conditions {
        condition.observed_generation = Some(generation);
    }
    status.conditions.sort_by_key(|c| order(&c.type_));
}

fn order(kind: &str) -> usize {
    ConditionType::ALL.iter().position(|known| known.as_str() == kind).unwrap_or(usize::MAX)
}

/// How much two statuses differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// Not at all.
    None,
    /// In counts and what follows from them; may be told later, with others.
    Counts,
    /// In more than counts; told at once.
    Facts,
}

/// Compares two statuses.
pub fn difference(old: &VideoUpscaleStatus, new: &VideoUpscaleStatus) -> Difference {
    if old == new {
        return Difference::None;
    }
    let no_news = new.tried.iter().all(|entry| old.tried.contains(entry));
    let scheduled = conditions::find(&new.conditions, ConditionType::Scheduled);
    let content = scheduled.is_some_and(|told| wants_nothing(&told.reason));
    let same = without_counts(old, content) == without_counts(new, content);
    if no_news && same { Difference::Counts } else { Difference::Facts }
}

/// `content`: also without why GPUs were lacking, now that they are not.
fn without_counts(status: &VideoUpscaleStatus, content: bool) -> VideoUpscaleStatus {
    let mut status = status.clone();
    status.segments = None;
    status.progress = None;
    status.done = String::new();
    status.tried = Vec::new();
    status.estimated_completion_time = None;
    for condition in &mut status.conditions {
        if condition.type_ == ConditionType::Complete.as_str() {
            condition.message = String::new();
        }
    }
    if content {
        conditions::remove(&mut status.conditions, ConditionType::Scheduled);
    }
    status
}

/// Whether a reason of `Scheduled` says that no GPU is lacking. Which of these words stands there follows from counts,
/// as from an end to the next start.
fn wants_nothing(reason: &str) -> bool {
    matches!(
        ScheduledReason::parse(reason),
        Some(ScheduledReason::GpusFound | ScheduledReason::AllPlaced | ScheduledReason::ParallelismReached)
    )
}

/// That instant in whole seconds, as API objects have it.
pub fn whole_seconds(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}

/// A duration for people, at most two units: `41m`, `1h3m`, `12s`.
pub fn duration(length: Duration) -> String {
    let seconds = length.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes, seconds % 60) {
        (0, 0, 0, s) => format!("{s}s"),
        (0, 0, m, s) if m < 10 && s > 0 => format!("{m}m{s}s"),
        (0, 0, m, _) => format!("{m}m"),
        (0, h, 0, _) => format!("{h}h"),
        (0, h, m, _) => format!("{h}h{m}m"),
        (d, 0, ..) => format!("{d}d"),
        (d, h, ..) => format!("{d}d{h}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::video_upscale::SegmentCounts;

    fn running() -> VideoUpscaleStatus {
        let mut status = VideoUpscaleStatus::default();
        let said = Said::complete(Status::False, State::Running, "1 of 8 segments done");
        conditions::set(&mut status.conditions, said.into_desired(), 1, Timestamp::UNIX_EPOCH);
        base(&mut status, 1, Timestamp::UNIX_EPOCH);
        status
    }

    #[test]
    fn counts_may_wait_and_facts_may_not() {
        let old = running();
        assert_eq!(difference(&old, &old), Difference::None);
        let mut counts = old.clone();
        counts.done = "0".into();
        counts.progress = Some("1/8".into());
        counts.segments = Some(SegmentCounts { total: 8, ..SegmentCounts::default() });
        assert_eq!(difference(&old, &counts), Difference::Counts);
        let mut tried = old.clone();
        tried.tried = vec!["3:1/1/4/1//OwnDemand".into()];
        assert_eq!(difference(&old, &tried), Difference::Facts);
        assert_eq!(difference(&tried, &old), Difference::Counts, "an entry less is a segment done");
    }

    #[test]
    fn every_status_has_the_four_conditions_in_order() {
        let mut status = running();
        let types = |status: &VideoUpscaleStatus| {
            status
                .conditions
                .iter()
                .map(|c| format!("{}={}/{}", c.type_, c.status, c.reason))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            types(&status),
            ["Complete=False/Running", "Failed=False/NoFinalFailure", "Finished=False/Running"]
        );
        base(&mut status, 2, Timestamp::UNIX_EPOCH);
        assert!(status.conditions.iter().all(|c| c.observed_generation == Some(2)));
    }

    #[test]
    fn durations_have_at_most_two_units() {
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (125, "2m5s"),
            (2_470, "41m"),
            (3_600, "1h"),
            (3_780, "1h3m"),
            (90_000, "1d1h"),
        ] {
            assert_eq!(duration(Duration::from_secs(seconds)), text);
        }
    }
}
