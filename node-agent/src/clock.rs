//! The only place that reads the clocks; everything else takes a [`Now`].

use std::time::{Duration, Instant};

use jiff::Timestamp;

/// One instant on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Time since the agent's start; never jumps, so every period is measured on it.
    pub up: Duration,
    /// Wall clock of the node, for people and for the `at` of reports.
    pub wall: Timestamp,
}

/// Where `up` counts from.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// Starts counting.
    #[expect(clippy::disallowed_methods, reason = "the edge where time enters the program")]
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// Reads both clocks.
    #[expect(clippy::disallowed_methods, reason = "the edge where time enters the program")]
    pub fn now(&self) -> Now {
        Now { up: self.start.elapsed(), wall: Timestamp::now() }
    }
}

#[cfg(test)]
impl Now {
    /// `seconds` after the start of a virtual clock.
    pub fn at(seconds: u64) -> Self {
        let wall = Timestamp::from_second(1_790_000_000 + i64::try_from(seconds).unwrap()).unwrap();
        Self { up: Duration::from_secs(seconds), wall }
    }
}
