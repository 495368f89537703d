//! Condition types and reasons, the closed lists, and the one way to set a condition.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// Longest message that is ever written, characters.
pub const MAX_MESSAGE: usize = 300;

macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$doc])* $variant),+ }

        impl $name {
            /// All words, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The word on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => stringify!($variant)),+ }
            }

            /// Reads a word back; `None` if it is not of this list.
            pub fn parse(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|word| word.as_str() == text)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

pub(crate) use words;

words! {
    /// Condition types of a `VideoUpscale`.
    ConditionType {
        /// The summary; its reason is the STATUS column.
        Complete,
        /// True when the job has failed for good.
        Failed,
        /// True at either end.
        Finished,
        /// Whether every due segment has a GPU, else why not.
        Scheduled,
        /// True once anything ran with other parameters than wanted.
        Degraded,
        /// Whether the tenant stopped the job.
        Suspended,
        /// True only while a plan is being made (kstatus).
        Reconciling,
        /// True only if somebody must act (kstatus).
        Stalled,
    }
}

words! {
    /// Why a job has failed for good.
    FailureReason {
        /// No film in the file.
        InvalidSource,
        /// A film that we refuse; the message begins with a word of [`Refusal`].
        UnsupportedSource,
        /// Nothing at that path.
        SourceNotFound,
        /// The file changed during the job.
        SourceChanged,
        /// Something is at the destination already.
        DestinationExists,
        /// The destination cannot be written.
        DestinationNotWritable,
        /// No such profile.
        ProfileNotFound,
        /// The steps asked for are not on the profile's ladder.
        StepsOutOfRange,
        /// Out of GPU memory at the lowest step.
        OutOfGpuMemory,
        /// Out of host memory with nothing left to lower.
        OutOfHostMemory,
        /// A segment used up its attempts.
        AttemptsExhausted,
        /// `activeDeadlineSeconds` passed.
        DeadlineExceeded,
        /// The engine refused its input or arguments.
        EngineError,
        /// The parts could not be joined.
        MergeFailed,
    }
}

words! {
    /// Words that begin the message of [`FailureReason::UnsupportedSource`].
    Refusal {
        /// More than one film in the file and none named.
        SeveralVideoStreams,
        /// Interlaced pictures.
        Interlaced,
        /// PQ or HLG.
        HighDynamicRange,
        /// A matrix that is not converted exactly.
        ColourMatrix,
        /// Size or pixel format changes inside the film.
        FormatChanges,
        /// An alpha channel.
        Alpha,
        /// Times that stand still or run backwards.
        BrokenTimes,
        /// Encrypted.
        Encrypted,
        /// A playlist, not a film.
        Playlist,
        /// Shorter than its header says (strict only).
        Truncated,
        /// Decoder messages (strict only).
        Damaged,
        /// The destination's container cannot hold the other streams.
        StreamsDoNotFit,
    }
}

words! {
    /// State words of the condition `Complete` other than failures.
    State {
        /// Not looked at yet.
        Pending,
        /// Accepted, nothing started.
        Accepted,
        /// The film is being indexed.
        Probing,
        /// No GPU fits at the moment and nothing runs.
        WaitingForGpu,
        /// At least one segment runs.
        Running,
        /// The parts are being joined.
        Merging,
        /// Stopped by the tenant.
        Suspended,
        /// Not reconciled, by annotation.
        Paused,
        /// Being deleted.
        Deleting,
        /// Done.
        Succeeded,
    }
}

words! {
    /// Reasons of the condition `Scheduled`.
    ScheduledReason {
        /// True: some of what is due has GPUs, the rest is bounded by parallelism or will be soon.
        GpusFound,
        /// True: everything due runs.
        AllPlaced,
        /// No GPU has enough free memory.
        NotEnoughFreeMemory,
        /// Only GPUs with foreign processes are left.
        ForeignProcesses,
        /// `spec.gpu` matches none.
        NoGpuMatches,
        /// Reports are too old.
        ReportStale,
        /// No node has a report.
        ReportMissing,
        /// The GPUs are not healthy.
        GpuUnhealthy,
        /// The API server refuses our pods.
        PodsForbidden,
        /// The job runs as many as it may.
        ParallelismReached,
        /// The job or the GPUs belong to another release.
        OtherRelease,
        /// The nodes have no room for the pod.
        NodeFull,
        /// The nodes are cordoned or tainted.
        NodeUnschedulable,
        /// A volume cannot be mounted on the GPUs' nodes.
        VolumeNotHere,
        /// The engine's image cannot be had.
        ImagePull,
        /// A volume is full.
        OutOfSpace,
        /// Several causes; counts in the message.
        Mixed,
        /// Unknown: nothing planned yet.
        NotPlanned,
    }
}

words! {
    /// Reasons of the conditions `Degraded`, `Suspended`, `Reconciling`, `Stalled`, `Failed`.
    OtherReason {
        /// Degraded: smaller tiles.
        GpuMemory,
        /// Degraded: shorter pieces or less context.
        HostMemory,
        /// Suspended is true.
        Requested,
        /// Suspended is false again.
        Resumed,
        /// Reconciling: the film is being indexed.
        Probing,
        /// Reconciling: segments are being planned.
        Planning,
        /// Reconciling: the spec changed.
        SpecChanged,
        /// Stalled: somebody must act.
        NeedsUser,
        /// Failed is false.
        NoFinalFailure,
    }
}

/// Status of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// `True`
    True,
    /// `False`
    False,
    /// `Unknown`
    Unknown,
}

impl Status {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// A condition as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// Which.
    pub kind: ConditionType,
    /// Its status.
    pub status: Status,
    /// A word of the closed lists above.
    pub reason: &'static str,
    /// One line, cut to [`MAX_MESSAGE`] characters.
    pub message: String,
}

/// Puts a condition into the list, keeping its transition time unless the status flips.
pub fn set(conditions: &mut Vec<Condition>, desired: Desired, generation: i64, now: Timestamp) {
    let message = one_line(&desired.message);
    let status = desired.status.as_str();
    let at = Timestamp::from_second(now.as_second()).unwrap_or(now);
    match conditions.iter_mut().find(|c| c.type_ == desired.kind.as_str()) {
        Some(old) => {
            if old.status != status {
                old.last_transition_time = Time(at);
                old.status = status.to_owned();
            }
            old.reason = desired.reason.to_owned();
            old.message = message;
            old.observed_generation = Some(generation);
        }
        None => conditions.push(Condition {
            type_: desired.kind.as_str().to_owned(),
            status: status.to_owned(),
            reason: desired.reason.to_owned(),
            message,
            last_transition_time: Time(at),
            observed_generation: Some(generation),
        }),
    }
}

/// Takes a condition out of the list; for those that exist only while true.
pub fn remove(conditions: &mut Vec<Condition>, kind: ConditionType) {
    conditions.retain(|c| c.type_ != kind.as_str());
}

/// The condition of that type, if it is there.
pub fn find(conditions: &[Condition], kind: ConditionType) -> Option<&Condition> {
    conditions.iter().find(|c| c.type_ == kind.as_str())
}

/// One line of at most [`MAX_MESSAGE`] characters, control characters as blanks.
pub fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_MESSAGE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn desired(status: Status, message: &str) -> Desired {
        Desired {
            kind: ConditionType::Complete,
            status,
            reason: State::Running.as_str(),
            message: message.to_owned(),
        }
    }

    #[test]
    fn transition_time_moves_with_the_status_only() {
        let mut list = Vec::new();
        let t = |s| Timestamp::from_second(s).unwrap();
        set(&mut list, desired(Status::False, "a"), 1, t(10));
        set(&mut list, desired(Status::False, "b"), 2, t(20));
        assert_eq!(list[0].last_transition_time.0, t(10));
        assert_eq!((list[0].message.as_str(), list[0].observed_generation), ("b", Some(2)));
        set(&mut list, desired(Status::True, "c"), 2, t(30));
        assert_eq!(list[0].last_transition_time.0, t(30));
        assert_eq!(list.len(), 1);
    }

    #[test]
    fn messages_are_one_bounded_line() {
        let mut list = Vec::new();
        set(&mut list, desired(Status::False, &"é\n".repeat(400)), 1, Timestamp::UNIX_EPOCH);
        assert_eq!(list[0].message.chars().count(), MAX_MESSAGE);
        assert!(!list[0].message.contains('\n'));
    }

    #[test]
    fn words_read_back() {
        for reason in FailureReason::ALL {
            assert_eq!(FailureReason::parse(reason.as_str()), Some(*reason));
        }
        assert_eq!(State::parse("running"), None);
    }
}
