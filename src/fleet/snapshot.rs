//! The fleet at one instant, frozen for [`super::place`]: plain sorted data, no I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::claim::JobKey;
use super::demand::{Cause, Demand, PodRequests};
use super::node::NodeFacts;
use crate::api::video_upscale::ForeignProcesses;

/// The fleet at one instant.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Nodes, by name.
    pub spots: Vec<Spot>,
    /// GPUs, by node and index.
    pub cards: Vec<Card>,
    /// Product names; [`Card::model`] counts in here.
    pub models: Vec<Arc<str>>,
    /// What jobs ask for, by job.
    pub asked: Vec<Asked>,
    /// Segments that hold a GPU, with how many each, by job; quarantined ones not counted.
    pub holdings: BTreeMap<JobKey, BTreeMap<u32, u32>>,
}

/// A node.
#[derive(Clone, Debug, PartialEq)]
pub struct Spot {
    /// What is known of it.
    pub facts: Arc<NodeFacts>,
    /// What our own pods leave of it.
    pub room: Room,
    /// Age of the newest sign of life of its agent, seconds, once a heartbeat was missed; else 0. Counted in tenths of
    /// a heartbeat, rounded down.
    pub silent_for: u64,
    /// When time alone changes what the report is worth; `None`: never.
    pub until: Option<Timestamp>,
}

/// What is left of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Thousandths of a processor.
    pub cpu_millis: u64,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Bytes of ephemeral storage.
    pub ephemeral_bytes: u64,
    /// Pods.
    pub pods: u64,
}

impl Room {
    /// Whether a pod with these requests fits.
    pub fn holds(&self, requests: PodRequests) -> bool {
        self.pods > 0
            && self.cpu_millis >= requests.cpu_millis
            && self.memory_bytes >= requests.memory_bytes
            && self.ephemeral_bytes >= requests.ephemeral_bytes
    }

    /// What is left when `pods` pods that request so much together have come.
    pub fn less(self, requests: PodRequests, pods: u64) -> Self {
        Self {
            cpu_millis: self.cpu_millis.saturating_sub(requests.cpu_millis),
            memory_bytes: self.memory_bytes.saturating_sub(requests.memory_bytes),
            ephemeral_bytes: self.ephemeral_bytes.saturating_sub(requests.ephemeral_bytes),
            pods: self.pods.saturating_sub(pods),
        }
    }
}

/// A GPU.
#[derive(Clone, Debug, PartialEq)]
pub struct Card {
    /// UUID as the agent writes it.
    pub uuid: Arc<str>,
    /// Index of its node in [`Snapshot::spots`].
    pub spot: usize,
    /// Index on its node, for people.
    pub index: u32,
    /// Index of its product name in [`Snapshot::models`].
    pub model: usize,
    /// Total memory, bytes.
    pub total: u64,
    /// What an engine can get when nobody else is there, bytes: total less what the driver keeps.
    pub usable: u64,
    /// Free memory as reported, bytes.
    pub free: u64,
    /// Free memory as reckoned, bytes: what ended engines of ours still seem to hold is added.
    pub available: u64,
    /// Foreign processes; `None` if the lists cannot be believed.
    pub foreign: Option<u32>,
    /// Bytes of foreign processes and memory without a process.
    pub foreign_bytes: u64,
    /// Who else is there, as far as jobs say whom they put up with.
    pub company: Company,
    /// Why nobody gets it, whoever asks; the first such cause.
    pub closed: Option<Cause>,
}

impl Card {
    /// Whether another GPU of the same node is the same to whoever knows neither of them by its UUID.
    pub fn is_like(&self, other: &Self) -> bool {
        self.model == other.model
            && self.usable == other.usable
            && self.available == other.available
            && self.company == other.company
            && self.closed == other.closed
    }
}

/// Who else is on a GPU, as far as jobs say whom they put up with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Company {
    /// Nobody, for certain.
    #[default]
    None,
    /// Foreign processes, memory that nobody explains, or nobody can tell.
    Others,
    /// An MPS server, which shares the GPU out.
    Server,
}

impl Company {
    /// Whether a job with that policy puts up with it.
    pub fn suits(self, policy: ForeignProcesses) -> bool {
        match policy {
            ForeignProcesses::Forbid => self == Self::None,
            ForeignProcesses::Avoid => self != Self::Server,
            ForeignProcesses::Tolerate => true,
        }
    }
}

/// What a job asks for, and what is remembered of its patience.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The demand.
    pub demand: Arc<Demand>,
    /// Its patience.
    pub starved: Option<Starved>,
    /// Attempts that got a GPU since the demand was made: segment and attempt.
    pub served: BTreeSet<(u32, u32)>,
}

/// A job for whose step no card has had the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Starved {
    /// Since when.
    pub since: Timestamp,
    /// Whether patience ran out: it may go lower until it is placed on its own step again.
    pub spent: bool,
}
