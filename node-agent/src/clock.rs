//! The only place that reads the clocks; everything else takes a [`Now`].

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

/// One instant on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Time since the agent's start; never jumps, so every period is measured on it.
    pub up: Duration,
    /// Wall clock of the node, for people and for the `at` of reports.
    pub wall: Timestamp,
}

impl Now {
    /// The start of the agent, as this instant's clocks tell it.
    pub fn start(self) -> Self {
        Self { up: Duration::ZERO, wall: self.wall.checked_sub(self.up).unwrap_or(self.wall) }
    }
}

/// Where `up` counts from: the runtime's clock, which a test can stop, and the system's outside a runtime.
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
        let up = Duration::from_secs(seconds);
        let start: Timestamp = "2026-11-23T07:50:11Z".parse().unwrap();
        Self { up, wall: start.saturating_add(up).unwrap() }
    }
}
