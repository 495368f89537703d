//! What the controller remembers of a job between passes: how long things have been so, what cools down, what was
//! said last. All of it may be lost at any instant: then something is tried a little early, or said once more.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use crate::api::conditions::ScheduledReason;
use crate::api::profile::FirstEnd;
use crate::fleet::demand::{Cause, Unread};

/// First time that a card or node cools down.
const FIRST_COOL_DOWN: Duration = Duration::from_secs(60);
/// Longest time that it cools down.
const LONGEST_COOL_DOWN: Duration = Duration::from_secs(600);
/// How long a node is out that showed other GPUs than it was told: then one attempt finds out whether it was mended.
const NODE_OUT: Duration = Duration::from_secs(3600);
/// Cards, nodes and segments remembered at most, each.
const MOST: usize = 4096;

/// Memory of one job.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    /// Cards that cool down.
    pub gpus: BTreeMap<String, CoolDown>,
    /// Nodes that cool down, and with which reason for the wait.
    pub nodes: BTreeMap<String, (CoolDown, ScheduledReason)>,
    /// Nodes that showed other GPUs than they were told, and until when they are out.
    pub bad_nodes: BTreeMap<String, Timestamp>,
    /// Nodes of own pods that are not ready, since when that was seen.
    pub silent: BTreeMap<String, Timestamp>,
    /// What ends of this job have shown of needs, by GPU model and step.
    pub needs: BTreeMap<(String, u32), SeenNeed>,
    /// Least memory, bytes, with which a run of this job came to its end, by GPU model and step.
    pub ran_with: BTreeMap<(String, u32), u64>,
    /// GPU models that cannot run the engine.
    pub models: BTreeSet<String>,
    /// Per segment: what its next attempt should avoid, and when it may be.
    pub segments: BTreeMap<u32, Aversion>,
    /// When a pod's end was first seen, by pod UID.
    pub ends: BTreeMap<String, Timestamp>,
    /// Attempts, by segment and number, whose pods were seen or made and not judged yet; with the UID once known.
    pub made: BTreeMap<(u32, u32), Option<String>>,
    /// Attempts, by segment and number, whose pod's create nobody has answered, and until when the pod may come.
    pub doubted: BTreeMap<(u32, u32), Timestamp>,
    /// A create that was refused: when to try again, and what the API server said.
    pub refused: Option<(Timestamp, String)>,
    /// A full volume: when to try again, and what was said.
    pub full: Option<(Timestamp, String)>,
    /// Since when the status that was written lacks counts.
    pub unwritten: Option<Timestamp>,
    /// Whether the API server has refused the status as it was, so that a short one is written.
    pub short: bool,
    /// Since when nothing of the job has run.
    pub idle: Option<Timestamp>,
    /// The wait as it was last told.
    pub told_wait: Option<ToldWait>,
    /// When the job's end was last estimated, and what then stood for it.
    pub estimated: Option<(Timestamp, Timestamp)>,
    /// When the job was first seen by this process.
    pub first_seen: Option<Timestamp>,
}

/// A card or node that is left alone for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CoolDown {
    /// Until when.
    pub until: Timestamp,
    /// How long the present one is.
    pub length: Duration,
}

/// What the next attempt of a segment should not get again.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Aversion {
    /// GPUs.
    pub gpus: BTreeSet<String>,
    /// Nodes.
    pub nodes: BTreeSet<String>,
    /// Not before.
    pub not_before: Option<Timestamp>,
    /// Step of the last attempt, if it was not at fault, and until when that step is waited for.
    pub keep: Option<(u32, Timestamp)>,
}

/// A need larger than the profile's estimate, as ends of this job have shown it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenNeed {
    /// Bytes.
    pub bytes: u64,
    /// The end that has shown it, while it is the only one: its card is bound. `None`: the model is.
    pub only: Option<FirstEnd>,
}

/// A wait as it was last told.
#[derive(Clone, Debug, PartialEq)]
pub struct ToldWait {
    /// GPUs by cause.
    pub causes: BTreeMap<Cause, u32>,
    /// Nodes whose reports cannot be used.
    pub unread: Unread,
    /// When.
    pub at: Timestamp,
}

impl Memory {
    /// Lets a card cool down: 60 s, twice as long each time, at most 10 min.
    pub fn cool_gpu(&mut self, gpu: &str, now: Timestamp) {
        let before = self.gpus.get(gpu).copied();
        insert(&mut self.gpus, gpu.to_owned(), longer(before, now));
    }

    /// Lets a node cool down.
    pub fn cool_node(&mut self, node: &str, reason: ScheduledReason, now: Timestamp) {
        let before = self.nodes.get(node).map(|(cool_down, _)| *cool_down);
        insert(&mut self.nodes, node.to_owned(), (longer(before, now), reason));
    }

    /// Takes a node out. True if it was in.
    pub fn take_out(&mut self, node: &str, now: Timestamp) -> bool {
        let was_in = self.bad_nodes.get(node).is_none_or(|until| *until <= now);
        insert(&mut self.bad_nodes, node.to_owned(), after(now, NODE_OUT));
        was_in
    }

    /// Nodes that are out.
    pub fn nodes_out(&self, now: Timestamp) -> impl Iterator<Item = &str> {
        self.bad_nodes.iter().filter(move |(_, until)| **until > now).map(|(node, _)| node.as_str())
    }

    /// Nodes that the job does not get, until when and with which reason for the wait.
    pub fn nodes_closed(&self, now: Timestamp) -> BTreeMap<String, (Timestamp, ScheduledReason)> {
        let cooling = self.nodes.iter().map(|(node, (cool_down, reason))| (node, cool_down.until, *reason));
        let out = self.bad_nodes.iter().map(|(node, until)| (node, *until, ScheduledReason::GpuUnhealthy));
        // One that is both is out.
        let closed = cooling.chain(out).filter(|(_, until, _)| *until > now);
        closed.map(|(node, until, reason)| (node.clone(), (until, reason))).collect()
    }

    /// When that pod's end was first seen; now, if it was not before.
    pub fn end_of(&mut self, uid: &str, now: Timestamp) -> Timestamp {
        if self.ends.len() >= MOST && !self.ends.contains_key(uid) {
            self.ends.clear();
        }
        *self.ends.entry(uid.to_owned()).or_insert(now)
    }

    /// Aversions of a segment, to be added to.
    pub fn segment(&mut self, segment: u32) -> &mut Aversion {
        if self.segments.len() >= MOST && !self.segments.contains_key(&segment) {
            self.segments.clear();
        }
        self.segments.entry(segment).or_default()
    }

    /// Notes what an end has shown of the need of a model at a step.
    pub fn note_need(&mut self, class: (String, u32), seen: SeenNeed) {
        insert(&mut self.needs, class, seen);
    }

    /// Notes with how many bytes a run of a model at a step came to its end.
    pub fn note_ran(&mut self, class: (String, u32), bytes: u64) {
        let least = self.ran_with.get(&class).map_or(bytes, |before| bytes.min(*before));
        insert(&mut self.ran_with, class, least);
    }

    /// Notes that an attempt's pod exists.
    pub fn note_made(&mut self, segment: u32, attempt: u32, uid: Option<&str>) {
        insert(&mut self.made, (segment, attempt), uid.map(str::to_owned));
    }

    /// Notes that the pod of an attempt may come until then.
    pub fn doubt(&mut self, segment: u32, attempt: u32, until: Timestamp) {
        insert(&mut self.doubted, (segment, attempt), until);
    }

    /// Until when the pod of an attempt may still come, if it may.
    pub fn doubted_until(&self, segment: u32, attempt: u32, now: Timestamp) -> Option<Timestamp> {
        self.doubted.get(&(segment, attempt)).copied().filter(|until| *until > now)
    }

    /// Forgets what concerns a finished segment.
    pub fn forget_segment(&mut self, segment: u32) {
        self.segments.remove(&segment);
    }
}

/// `now` plus a duration; the end of time on overflow.
pub fn after(now: Timestamp, duration: Duration) -> Timestamp {
    now.checked_add(duration).unwrap_or(Timestamp::MAX)
}

/// How long ago; zero for the future.
pub fn since(then: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(then)).unwrap_or_default()
}

fn insert<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: V) {
    if map.len() >= MOST && !map.contains_key(&key) {
        map.clear();
    }
    map.insert(key, value);
}

fn longer(before: Option<CoolDown>, now: Timestamp) -> CoolDown {
    // Somebody who behaved for as long as the longest cool-down begins afresh.
    let before = before.filter(|before| since(before.until, now) < LONGEST_COOL_DOWN);
    let length = before.map_or(FIRST_COOL_DOWN, |b| b.length.saturating_mul(2).min(LONGEST_COOL_DOWN));
    CoolDown { until: after(now, length), length }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cooling_down_doubles_to_ten_minutes_and_is_forgiven() {
        let mut memory = Memory::default();
        let mut now = Timestamp::from_second(1_000).unwrap();
        for seconds in [60, 120, 240, 480, 600, 600] {
            memory.cool_gpu("GPU-a", now);
            let cool_down = memory.gpus["GPU-a"];
            assert_eq!(cool_down.length.as_secs(), seconds);
            assert_eq!(cool_down.until, after(now, cool_down.length));
            now = cool_down.until;
        }
        memory.cool_gpu("GPU-a", after(now, LONGEST_COOL_DOWN));
        assert_eq!(memory.gpus["GPU-a"].length, FIRST_COOL_DOWN);
    }

    #[test]
    fn the_first_sight_of_an_end_stays() {
        let mut memory = Memory::default();
        let first = Timestamp::from_second(5).unwrap();
        assert_eq!(memory.end_of("p", first), first);
        assert_eq!(memory.end_of("p", after(first, Duration::from_secs(9))), first);
    }
}
