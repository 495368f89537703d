//! The driver's own log: one JSON line an event, from which a test proves who held which GPU when.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When, by the node's clock.
    pub at: jiff::Timestamp,
    /// What.
    #[serde(flatten)]
    pub event: Event,
}

/// A process, as the kernel described it when it first held memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    /// Process id in the daemon's namespace.
    pub pid: u32,
    /// Short name of its program.
    pub comm: String,
    /// Its cgroup: the path that names a pod where there is one, else the first.
    pub cgroup: String,
    /// UID of its pod, if it is in one.
    pub pod: Option<String>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// The daemon began.
    Start {
        /// Its node.
        node: String,
        /// UUIDs of its cards in index order.
        cards: Vec<String>,
    },
    /// A process that held nothing of a GPU got some of it.
    HoldStart {
        /// The GPU.
        uuid: String,
        /// The process.
        #[serde(flatten)]
        who: Who,
        /// Bytes it holds now.
        bytes: u64,
    },
    /// A holder got more, or gave some back.
    Hold {
        /// The GPU.
        uuid: String,
        /// The process.
        pid: u32,
        /// Bytes it holds now.
        bytes: u64,
    },
    /// A process was refused.
    Refused {
        /// The GPU.
        uuid: String,
        /// The process.
        #[serde(flatten)]
        who: Who,
        /// Bytes it asked for.
        bytes: u64,
        /// Bytes that were free.
        free: u64,
    },
    /// A process holds nothing of a GPU any more.
    HoldEnd {
        /// The GPU.
        uuid: String,
        /// The process.
        pid: u32,
        /// The most it held, bytes.
        peak: u64,
    },
    /// A test did something to the driver.
    Command {
        /// What.
        command: crate::control::Command,
    },
}

/// From its first to its last byte, one process on one GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// The GPU.
    pub uuid: String,
    /// The process.
    pub who: Who,
    /// From.
    pub start: jiff::Timestamp,
    /// To; none while it still holds.
    pub end: Option<jiff::Timestamp>,
    /// The most it held, bytes.
    pub peak: u64,
}

/// Reads a log; a torn last line (the daemon was killed) is left out.
///
/// # Errors
/// When the file cannot be read, or a line in the middle is not an entry.
pub fn read(path: &Path) -> io::Result<Vec<Entry>> {
    let text = std::fs::read_to_string(path)?;
    let whole = text.rfind('\n').and_then(|end| text.get(..end)).unwrap_or_default();
    whole.lines().map(|line| serde_json::from_str(line).map_err(io::Error::from)).collect()
}

/// Every hold of a log, in order of its start. A daemon that starts anew ends all holds before it.
#[must_use]
pub fn holds(entries: &[Entry]) -> Vec<Hold> {
    let mut holds: Vec<Hold> = Vec::new();
    for Entry { at, event } in entries {
        let open = |hold: &&mut Hold, uuid: &str, pid: u32| {
            hold.end.is_none() && hold.uuid == uuid && hold.who.pid == pid
        };
        match event {
            Event::HoldStart { uuid, who, bytes } => {
                holds.push(Hold { uuid: uuid.clone(), who: who.clone(), start: *at, end: None, peak: *bytes })
            }
            Event::Hold { uuid, pid, bytes } => {
                if let Some(hold) = holds.iter_mut().rev().find(|hold| open(hold, uuid, *pid)) {
                    hold.peak = hold.peak.max(*bytes);
                }
            }
            Event::HoldEnd { uuid, pid, peak } => {
                if let Some(hold) = holds.iter_mut().rev().find(|hold| open(hold, uuid, *pid)) {
                    hold.end = Some(*at);
                    hold.peak = *peak;
                }
            }
            Event::Start { .. } => {
                for hold in holds.iter_mut().filter(|hold| hold.end.is_none()) {
                    hold.end = Some(*at);
                }
            }
            Event::Refused { .. } | Event::Command { .. } => {}
        }
    }
    holds
}

/// Pairs of holds of one GPU that overlap in time, among those that `ours` picks.
pub fn overlaps(holds: &[Hold], ours: impl Fn(&Hold) -> bool) -> Vec<(&Hold, &Hold)> {
    let picked: Vec<&Hold> = holds.iter().filter(|hold| ours(hold)).collect();
    let mut pairs = Vec::new();
    for (at, first) in picked.iter().enumerate() {
        for second in picked.iter().skip(at.saturating_add(1)) {
            let before = |a: &Hold, b: &Hold| a.end.is_some_and(|end| end <= b.start);
            if first.uuid == second.uuid && !before(first, second) && !before(second, first) {
                pairs.push((*first, *second));
            }
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> jiff::Timestamp {
        jiff::Timestamp::from_second(second).unwrap()
    }

    fn start(second: i64, uuid: &str, pid: u32) -> Entry {
        let who = Who { pid, comm: "python".into(), cgroup: "/".into(), pod: None };
        Entry { at: at(second), event: Event::HoldStart { uuid: uuid.into(), who, bytes: 1 } }
    }

    fn end(second: i64, uuid: &str, pid: u32) -> Entry {
        Entry { at: at(second), event: Event::HoldEnd { uuid: uuid.into(), pid, peak: 5 } }
    }

    #[test]
    fn holds_of_one_gpu_overlap_unless_one_ends_before_the_other_starts() {
        let log =
            [start(1, "A", 10), start(2, "B", 11), end(3, "A", 10), start(3, "A", 12), start(4, "A", 13)];
        let holds = holds(&log);
        let pairs: Vec<(u32, u32)> =
            overlaps(&holds, |_| true).iter().map(|(a, b)| (a.who.pid, b.who.pid)).collect();
        assert_eq!(pairs, [(12, 13)]);
        assert!(overlaps(&holds, |hold| hold.who.pid != 13).is_empty());
    }

    #[test]
    fn an_entry_survives_the_way_through_a_file_and_a_torn_line_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let log = [start(1, "A", 10), end(2, "A", 10)];
        let mut text: String = log.iter().map(|e| serde_json::to_string(e).unwrap() + "\n").collect();
        text.push_str("{\"at\":");
        std::fs::write(&path, text).unwrap();
        assert_eq!(read(&path).unwrap(), log);
    }
}
