//! Steps of the controller's own wall clock. Ages of what was seen before have to outlive them: an hour that is put
//! forward makes no report an hour older.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// Two clocks may be read so far apart.
const APART: SignedDuration = SignedDuration::from_secs(1);

/// Watches the wall clock beside one that never steps.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Clock {
    /// What the wall clock showed when the other began, as far as is known.
    origin: Option<SignedDuration>,
}

impl Clock {
    /// Takes in both clocks. How far the wall clock has stepped since the last time, forward if positive; `None` if it
    /// has not. Whatever is said in error is taken back the next time.
    pub(super) fn step(&mut self, wall: Timestamp, steady: Duration) -> Option<SignedDuration> {
        let steady = SignedDuration::try_from(steady).ok()?;
        let origin = wall.duration_since(Timestamp::UNIX_EPOCH).saturating_sub(steady);
        let Some(before) = self.origin else {
            self.origin = Some(origin);
            return None;
        };
        let step = origin.saturating_sub(before);
        if step.abs() <= APART {
            return None;
        }
        self.origin = Some(origin);
        Some(step)
    }
}

/// An instant that was read before a step of the wall clock, as the clock counts now.
pub(super) fn stepped(instant: Timestamp, step: SignedDuration) -> Timestamp {
    instant.checked_add(step).unwrap_or(instant)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::fixtures::at;

    #[test]
    fn steps_of_the_wall_clock_are_told_once_and_its_running_is_not() {
        let mut clock = Clock::default();
        for (wall, steady, step) in [
            (100, 10, None),
            (700, 610, None),
            (701, 610, None),
            (4310, 620, Some(3600)),
            (4311, 621, None),
            (712, 622, Some(-3600)),
            (713, 623, None),
        ] {
            let told = clock.step(at(wall), Duration::from_secs(steady));
            assert_eq!(told, step.map(SignedDuration::from_secs), "{wall} {steady}");
        }
    }
}
