//! Who is on one GPU, and who just was. Joins what the driver lists with what the kernel knows, and remembers each
//! process by id and start time, so that an id used again is another process.

use std::collections::BTreeMap;
use std::time::Duration;

use video_upscale::api::report::Kind;

use crate::attribution::Owner;
use crate::clock::Now;
use crate::gpu::Listed;
use crate::procfs::{Proc, RunState, Stat};

/// How long an ended process stays listed, for the verdict over its end.
const REMEMBERED: Duration = Duration::from_secs(120);
/// Ended processes that are remembered per GPU at most.
const MAX_ENDED: usize = 32;
/// Known processes looked up in `/proc` per round at most; more take turns.
const CHECKED_PER_ROUND: usize = 32;
/// Sweeps in a row that an id without a process must be listed before it is called a ghost.
const GHOST_AFTER: u8 = 3;

/// A process on a GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Whose it is.
    pub owner: Owner,
    /// As the driver listed it last.
    pub listed: Listed,
    /// Largest memory seen, bytes.
    pub peak: Option<u64>,
    /// State at the last look; `None` if the kernel knows no such process.
    pub state: Option<RunState>,
    /// When it was found gone; `None` as long as it lives.
    pub ended: Option<Now>,
    /// Start time in ticks since boot, which with the id is its identity.
    started: Option<u64>,
}

/// The processes of one GPU.
#[derive(Clone, Debug, Default)]
pub struct Roster {
    live: BTreeMap<u32, Process>,
    ended: Vec<Process>,
    unknown_sweeps: BTreeMap<u32, u8>,
    last_checked: Option<u32>,
}

impl Roster {
    /// Live processes by id.
    pub fn live(&self) -> impl Iterator<Item = &Process> {
        self.live.values()
    }

    /// Ended processes still remembered, the oldest first.
    pub fn ended(&self) -> impl Iterator<Item = &Process> {
        self.ended.iter()
    }

    /// Whether an MPS server is on the GPU.
    pub fn has_mps(&self) -> bool {
        self.live().any(|process| process.owner.kind == Kind::Mps)
    }

    /// Takes a new list of the driver. Returns whether the set of processes changed.
    pub fn sweep(&mut self, listed: Vec<Listed>, proc: &Proc, now: Now) -> bool {
        let mut before = std::mem::take(&mut self.live);
        let mut changed = false;
        let mut still_unknown = BTreeMap::new();
        for entry in listed {
            let pid = entry.pid;
            let known = before.remove(&pid);
            let stat = proc.stat(pid);
            let same = known.as_ref().is_some_and(|known| known.started == started(stat.as_ref()));
            let process = match (known, stat) {
                (Some(known), stat) if same => {
                    let sweeps = self.unknown_sweeps.get(&pid).copied().unwrap_or(0).saturating_add(1);
                    let owner = if stat.is_none() && sweeps >= GHOST_AFTER && proc.knows_ghosts() {
                        Owner::of(Kind::Ghost)
                    } else {
                        known.owner
                    };
                    if stat.is_none() {
                        still_unknown.insert(pid, sweeps);
                    }
                    Process {
                        owner,
                        peak: known.peak.max(entry.bytes),
                        state: stat.map(|stat| stat.state),
                        listed: entry,
                        ..known
                    }
                }
                (known, stat) => {
                    changed = true;
                    let had = known.is_some() || self.ended.iter().any(|process| process.listed.pid == pid);
                    self.ended.extend(known.map(|process| process.end(now)));
                    if stat.is_none() && had {
                        // It died, and the driver has not noticed yet: what it holds counts as unattributed.
                        continue;
                    }
                    if stat.is_none() {
                        still_unknown.insert(pid, 1);
                    }
                    newcomer(entry, stat, proc)
                }
            };
            self.live.insert(pid, process);
        }
        changed |= !before.is_empty();
        self.ended.extend(before.into_values().map(|process| process.end(now)));
        self.unknown_sweeps = still_unknown;
        self.forget(now);
        changed
    }

    /// Looks whether known processes still live, without asking the driver. Returns whether one ended.
    pub fn check(&mut self, proc: &Proc, now: Now) -> bool {
        let after = self.last_checked.map_or(0, |pid| pid.saturating_add(1));
        let turn: Vec<u32> = self
            .live
            .range(after..)
            .chain(self.live.range(..after))
            .filter(|(_, process)| process.started.is_some())
            .map(|(pid, _)| *pid)
            .take(CHECKED_PER_ROUND)
            .collect();
        self.last_checked = turn.last().copied();
        let mut ended = false;
        for pid in turn {
            let stat = proc.stat(pid);
            let Some(process) = self.live.get_mut(&pid) else { continue };
            if process.started == started(stat.as_ref()) {
                process.state = stat.map(|stat| stat.state);
            } else if let Some(process) = self.live.remove(&pid) {
                self.ended.push(process.end(now));
                ended = true;
            }
        }
        self.forget(now);
        ended
    }

    fn forget(&mut self, now: Now) {
        self.ended
            .retain(|process| process.ended.is_some_and(|end| now.up.saturating_sub(end.up) < REMEMBERED));
        let surplus = self.ended.len().saturating_sub(MAX_ENDED);
        self.ended.drain(..surplus);
    }
}

impl Process {
    fn end(mut self, now: Now) -> Self {
        self.ended = Some(now);
        self.listed.bytes = Some(0);
        self
    }
}

fn started(stat: Option<&Stat>) -> Option<u64> {
    stat.map(|stat| stat.started)
}

fn newcomer(listed: Listed, stat: Option<Stat>, proc: &Proc) -> Process {
    let owner = match &stat {
        Some(stat) if stat.mps => Owner::of(Kind::Mps),
        Some(_) => proc.owner(listed.pid),
        None => Owner::of(Kind::Unknown),
    };
    Process {
        owner,
        peak: listed.bytes,
        listed,
        started: started(stat.as_ref()),
        state: stat.map(|stat| stat.state),
        ended: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::procfs::tests::FakeProc;

    fn on(pid: u32, bytes: u64) -> Listed {
        Listed { pid, bytes: Some(bytes), compute: true, ..Listed::default() }
    }

    fn kinds(roster: &Roster) -> Vec<Kind> {
        roster.live().map(|process| process.owner.kind).collect()
    }

    #[test]
    fn a_process_that_left_is_remembered_with_its_peak_for_two_minutes() {
        let fake = FakeProc::new();
        fake.host(7, 100);
        let mut roster = Roster::default();
        assert!(roster.sweep(vec![on(7, 500)], &fake.proc(), Now::at(0)));
        assert!(!roster.sweep(vec![on(7, 900)], &fake.proc(), Now::at(10)));
        assert!(!roster.sweep(vec![on(7, 300)], &fake.proc(), Now::at(20)));
        assert!(!roster.check(&fake.proc(), Now::at(22)));
        fake.end(7);
        assert!(roster.check(&fake.proc(), Now::at(24)));
        assert_eq!(roster.live().count(), 0);
        let gone = roster.ended().next().unwrap();
        assert_eq!((gone.peak, gone.listed.bytes), (Some(900), Some(0)));
        roster.check(&fake.proc(), Now::at(143));
        assert_eq!(roster.ended().count(), 1);
        roster.check(&fake.proc(), Now::at(144));
        assert_eq!(roster.ended().count(), 0);
    }

    #[test]
    fn an_id_used_again_is_another_process() {
        let fake = FakeProc::new();
        fake.host(7, 100);
        let mut roster = Roster::default();
        roster.sweep(vec![on(7, 500)], &fake.proc(), Now::at(0));
        fake.pod(7, 200, "11111111-2222-4333-8444-555555555555");
        assert!(roster.sweep(vec![on(7, 40)], &fake.proc(), Now::at(10)));
        assert_eq!(kinds(&roster), [Kind::Pod]);
        assert_eq!(roster.ended().next().unwrap().owner.kind, Kind::Host);
    }

    #[test]
    fn an_id_without_a_process_becomes_a_ghost_at_the_third_sweep() {
        let fake = FakeProc::new();
        fake.host(1, 1);
        let mut roster = Roster::default();
        for (sweep, kind) in [Kind::Unknown, Kind::Unknown, Kind::Ghost, Kind::Ghost].into_iter().enumerate()
        {
            roster.sweep(vec![on(99, 5)], &fake.proc(), Now::at(sweep as u64));
            assert_eq!(kinds(&roster), [kind], "sweep {sweep}");
        }
    }

    #[test]
    fn where_others_are_hidden_nobody_is_called_a_ghost() {
        let fake = FakeProc::new();
        let mut roster = Roster::default();
        for sweep in 0..5 {
            roster.sweep(vec![on(99, 5)], &fake.proc(), Now::at(sweep));
        }
        assert_eq!(kinds(&roster), [Kind::Unknown]);
    }

    #[test]
    fn a_dead_process_that_the_driver_still_lists_does_not_come_back() {
        let fake = FakeProc::new();
        fake.host(7, 100);
        let mut roster = Roster::default();
        roster.sweep(vec![on(7, 500)], &fake.proc(), Now::at(0));
        fake.end(7);
        roster.check(&fake.proc(), Now::at(2));
        roster.sweep(vec![on(7, 500)], &fake.proc(), Now::at(4));
        assert_eq!((roster.live().count(), roster.ended().count()), (0, 1));
    }

    #[test]
    fn with_many_processes_each_gets_its_turn() {
        let fake = FakeProc::new();
        let pids = 2..102;
        pids.clone().for_each(|pid| fake.host(pid, 100));
        let mut roster = Roster::default();
        roster.sweep(pids.map(|pid| on(pid, 1)).collect(), &fake.proc(), Now::at(0));
        fake.end(90);
        let rounds = (1..10).find(|round| roster.check(&fake.proc(), Now::at(2 * round)));
        assert!(rounds.is_some_and(|rounds| rounds <= 4), "{rounds:?}");
    }

    #[test]
    fn a_zombie_is_told_apart() {
        let fake = FakeProc::new();
        fake.host(7, 100);
        let mut roster = Roster::default();
        roster.sweep(vec![on(7, 500)], &fake.proc(), Now::at(0));
        fake.zombie(7, 100);
        assert!(!roster.check(&fake.proc(), Now::at(2)));
        assert_eq!(roster.live().next().unwrap().state, Some(RunState::Zombie));
    }
}
