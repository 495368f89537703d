//! When memory that no process explains has leaked.

use std::time::Duration;

use crate::clock::Now;
use crate::gpu::Memory;

/// Memory beyond the driver's own overhead from which a leak is suspected, bytes.
const NOTABLE: u64 = 512 << 20;
/// The most that a driver which tells its reserved memory apart uses for itself, bytes.
const MAX_OVERHEAD: u64 = 512 << 20;
/// How long it must last.
const LASTING: Duration = Duration::from_secs(60);

/// Suspicion over one GPU. A flag for people: the free memory tells the truth without it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leak {
    /// Smallest use seen without a process: the driver's overhead, bytes.
    overhead: Option<u64>,
    since: Option<Duration>,
}

impl Leak {
    /// A process list was read. `unattributed` is `None` while processes come and go, or if it cannot be known;
    /// `empty` says that no process was listed.
    pub fn swept(&mut self, memory: &Memory, unattributed: Option<u64>, empty: bool, now: Now) {
        if empty {
            self.overhead = Some(self.overhead.map_or(memory.used, |known| known.min(memory.used)));
        }
        let overhead = match memory.reserved {
            Some(_) => Some(self.overhead.unwrap_or(0).min(MAX_OVERHEAD)),
            // `used` then holds the reserved part, of unknown size.
            None => self.overhead,
        };
        let leaked = unattributed.zip(overhead).map(|(held, overhead)| held.saturating_sub(overhead));
        let notable = leaked.is_some_and(|leaked| leaked > NOTABLE);
        self.since = if notable { self.since.or(Some(now.up)) } else { None };
    }

    /// Whether memory has leaked, as far as can be told.
    pub fn is_suspected(&self, now: Now) -> bool {
        self.since.is_some_and(|since| now.up.saturating_sub(since) >= LASTING)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn memory(used: u64, reserved: Option<u64>) -> Memory {
        let total = 48 * GIB;
        Memory::new(total, reserved, total.saturating_sub(used).saturating_sub(GIB), used).unwrap()
    }

    #[test]
    fn what_stays_for_a_minute_beyond_the_overhead_has_leaked() {
        let mut leak = Leak::default();
        leak.swept(&memory(GIB / 4, Some(GIB)), Some(GIB / 4), true, Now::at(0));
        leak.swept(&memory(3 * GIB, Some(GIB)), Some(3 * GIB), true, Now::at(10));
        assert!(!leak.is_suspected(Now::at(69)));
        assert!(leak.is_suspected(Now::at(70)));
        leak.swept(&memory(GIB / 2, Some(GIB)), Some(GIB / 2), true, Now::at(80));
        assert!(!leak.is_suspected(Now::at(200)), "a quarter more than the overhead");
    }

    #[test]
    fn a_coming_or_going_process_begins_the_minute_anew() {
        let mut leak = Leak::default();
        leak.swept(&memory(3 * GIB, Some(GIB)), Some(3 * GIB), false, Now::at(0));
        leak.swept(&memory(3 * GIB, Some(GIB)), None, false, Now::at(50));
        leak.swept(&memory(3 * GIB, Some(GIB)), Some(3 * GIB), false, Now::at(60));
        assert!(!leak.is_suspected(Now::at(119)));
        assert!(leak.is_suspected(Now::at(120)));
    }

    #[test]
    fn memory_that_leaked_before_the_agent_came_is_no_overhead() {
        let mut leak = Leak::default();
        leak.swept(&memory(3 * GIB, Some(GIB)), Some(3 * GIB), true, Now::at(0));
        assert!(leak.is_suspected(Now::at(60)));
    }

    #[test]
    fn what_an_old_driver_keeps_is_not_taken_for_a_leak() {
        let mut leak = Leak::default();
        leak.swept(&memory(3 * GIB, None), Some(2 * GIB), false, Now::at(0));
        assert!(!leak.is_suspected(Now::at(600)), "never seen empty");
        leak.swept(&memory(GIB, None), Some(GIB), true, Now::at(700));
        leak.swept(&memory(3 * GIB, None), Some(3 * GIB), true, Now::at(710));
        assert!(leak.is_suspected(Now::at(770)));
    }
}
