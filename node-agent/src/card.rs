//! One GPU over time: when to ask it what, and the memory it is said to use.

mod leak;

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Now;
use crate::gpu::{Identity, Instance, Memory, Signs};
use crate::health::Record;
use crate::probe::Fault;
use crate::roster::Roster;
pub use leak::Leak;

/// Memory that must move before the processes are asked for early.
const MOVED: u64 = 64 << 20;
/// Memory that must move before they are asked for at once.
const MOVED_FAR: u64 = 2 << 30;
/// Longest time between two process lists.
const SWEEP: Duration = Duration::from_secs(60);
/// Shortest time between two process lists of one GPU.
const SWEEP_GAP: Duration = Duration::from_secs(10);
/// The same when memory moved far.
const SWEEP_GAP_FAR: Duration = Duration::from_secs(3);
/// Time between two health checks.
const SIGNS: Duration = Duration::from_secs(60);
/// How long after a process's end its memory may still be on the way back: not yet memory without a process.
const RELEASE: Duration = Duration::from_secs(10);
/// How long the largest use counts as the use.
const HOLD: Duration = Duration::from_secs(120);

/// Everything remembered of one GPU.
#[derive(Debug)]
pub struct Card {
    /// Who it is.
    pub identity: Identity,
    /// Its memory at the last round.
    pub memory: Result<Memory, Fault>,
    /// Peak of its use.
    pub peak: PeakHold,
    /// Who is on it.
    pub roster: Roster,
    /// Why `roster` cannot be believed, if it cannot.
    pub roster_fault: Option<Fault>,
    /// Used memory at the last sweep that no process explains, bytes.
    pub unattributed: Option<u64>,
    /// Whether that memory has leaked.
    pub leak: Leak,
    /// Health and modes at the last check.
    pub signs: Signs,
    /// MIG instances at the last round.
    pub instances: Vec<Instance>,
    /// Verdict over its health.
    pub health: Record,
    cadence: Cadence,
}

impl Card {
    /// A GPU of which nothing is known yet.
    pub fn new(identity: Identity) -> Self {
        Self {
            identity,
            memory: Err(Fault::NotReady(0)),
            peak: PeakHold::default(),
            roster: Roster::default(),
            roster_fault: None,
            unattributed: None,
            leak: Leak::default(),
            signs: Signs::default(),
            instances: Vec::new(),
            health: Record::default(),
            cadence: Cadence::default(),
        }
    }

    /// Asks for an early sweep: a process ended or an Xid came.
    pub fn hurry(&mut self) {
        self.cadence.hurry = true;
    }

    /// Whether the processes are to be asked for now.
    pub fn sweep_is_due(&self, now: Now) -> bool {
        self.memory.as_ref().is_ok_and(|memory| self.cadence.sweep_is_due(memory.used, now))
    }

    /// Notes that they were asked for, and whether the set of processes changed.
    pub fn swept(&mut self, changed: bool, now: Now) {
        let used = self.memory.as_ref().map_or(0, |memory| memory.used);
        self.cadence.swept = Some((now.up, used));
        let sum = self.roster.live().map(|process| process.listed.bytes).sum::<Option<u64>>();
        let measured = match (&self.roster_fault, sum) {
            (None, Some(sum)) => Some(used.saturating_sub(sum)),
            _ => None,
        };
        // What a dying process still holds would look like a leak; look again when it has had its time.
        let releasing = self.is_releasing(now);
        self.cadence.hurry = releasing;
        self.unattributed = match (self.unattributed, measured) {
            (Some(known), Some(measured)) if releasing => Some(known.min(measured)),
            _ => measured,
        };
        if let Ok(memory) = &self.memory {
            let quiet = !changed && !releasing;
            let empty = self.roster_fault.is_none() && self.roster.live().next().is_none();
            self.leak.swept(memory, self.unattributed.filter(|_| quiet), empty, now);
        }
    }

    /// Whether memory of a process that has ended may still be on the way back.
    pub fn is_releasing(&self, now: Now) -> bool {
        let mut ends = self.roster.ended().filter_map(|process| Some(process.ended?.up));
        ends.any(|at| now.up.saturating_sub(at) < RELEASE)
    }

    /// Asks for an early check of health and modes: the GPU answers otherwise than before.
    pub fn hurry_signs(&mut self) {
        self.cadence.signs = None;
    }

    /// Whether the health is to be checked now; notes that it is.
    pub fn take_signs_turn(&mut self, now: Now) -> bool {
        let due = self.cadence.signs.is_none_or(|at| now.up.saturating_sub(at) >= SIGNS);
        if due {
            self.cadence.signs = Some(now.up);
        }
        due
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Cadence {
    swept: Option<(Duration, u64)>,
    signs: Option<Duration>,
    hurry: bool,
}

impl Cadence {
    fn sweep_is_due(&self, used: u64, now: Now) -> bool {
        let Some((at, then)) = self.swept else { return true };
        let age = now.up.saturating_sub(at);
        let moved = used.abs_diff(then);
        age >= SWEEP
            || (moved >= MOVED_FAR && age >= SWEEP_GAP_FAR)
            || ((moved >= MOVED || self.hurry) && age >= SWEEP_GAP)
    }
}

/// The largest use of the last two minutes: small frees and refills inside one workload do not move it.
#[derive(Clone, Debug, Default)]
pub struct PeakHold {
    /// Falling values with the times at which they were seen.
    falling: VecDeque<(Duration, u64)>,
}

impl PeakHold {
    /// Takes a reading; returns the peak.
    pub fn observe(&mut self, used: u64, now: Now) -> u64 {
        while self.falling.back().is_some_and(|(_, value)| *value <= used) {
            self.falling.pop_back();
        }
        self.falling.push_back((now.up, used));
        while self.falling.front().is_some_and(|(at, _)| now.up.saturating_sub(*at) > HOLD) {
            self.falling.pop_front();
        }
        self.falling.front().map_or(used, |(_, value)| *value)
    }

    /// The peak as it stands.
    pub fn get(&self) -> Option<u64> {
        self.falling.front().map(|(_, value)| *value)
    }

    /// Starts anew from a reading: other processes, other peak.
    pub fn restart(&mut self, used: u64, now: Now) {
        self.falling.clear();
        self.falling.push_back((now.up, used));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn the_peak_holds_for_two_minutes_and_no_longer() {
        let mut peak = PeakHold::default();
        assert_eq!(peak.observe(10, Now::at(0)), 10);
        assert_eq!(peak.observe(4, Now::at(2)), 10);
        assert_eq!(peak.observe(6, Now::at(60)), 10);
        assert_eq!(peak.observe(5, Now::at(120)), 10);
        assert_eq!(peak.observe(5, Now::at(121)), 6);
        assert_eq!(peak.observe(5, Now::at(181)), 5);
    }

    #[test]
    fn process_lists_are_asked_for_when_memory_moved_or_a_minute_passed() {
        let table = [
            (Cadence::default(), 0, 0, true),
            (swept(false), 0, 59, false),
            (swept(false), 0, 60, true),
            (swept(false), MOVED, 9, false),
            (swept(false), MOVED, 10, true),
            (swept(false), MOVED - 1, 30, false),
            (swept(false), 2 * GIB, 2, false),
            (swept(false), 2 * GIB, 3, true),
            (swept(true), 0, 9, false),
            (swept(true), 0, 10, true),
        ];
        for (cadence, moved, age, due) in table {
            assert_eq!(cadence.sweep_is_due(GIB + moved, Now::at(age)), due, "moved {moved} after {age} s");
        }
    }

    fn swept(hurry: bool) -> Cadence {
        Cadence { swept: Some((Duration::ZERO, GIB)), hurry, ..Cadence::default() }
    }
}
