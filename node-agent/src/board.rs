//! What the parts of the agent show each other: the last snapshot, and how the publishing stands.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use video_upscale::api::report::Report;

use crate::clock::Now;
use crate::observer::Snapshot;
use crate::publish::Standing;
use crate::sampler;

/// Shared by the HTTP server, the metrics and the publishing loop.
#[derive(Clone, Debug)]
pub struct Board {
    snapshots: watch::Receiver<Option<Snapshot>>,
    shown: Arc<Mutex<Shown>>,
}

#[derive(Debug, Default)]
struct Shown {
    standing: Standing,
    published_free: BTreeMap<String, u64>,
    bad: BTreeSet<String>,
}

impl Board {
    /// A board over the sampler's channel.
    pub fn new(snapshots: watch::Receiver<Option<Snapshot>>) -> Self {
        Self { snapshots, shown: Arc::default() }
    }

    /// The last snapshot; `None` before the first round.
    pub fn snapshot(&self) -> Option<Snapshot> {
        self.snapshots.borrow().clone()
    }

    /// What is to be told at `now`: the last snapshot; or, where the driver has hung from the first call on, that
    /// nothing is known since the start.
    pub fn view(&self, now: Now) -> Option<Snapshot> {
        let unanswered = || (now.up >= sampler::STUCK_AFTER).then(|| Snapshot::unanswered(now.start()));
        self.snapshot().or_else(unanswered)
    }

    /// How the publishing stands.
    pub fn standing(&self) -> Standing {
        self.lock().standing.clone()
    }

    /// Free memory by UUID as the server holds it.
    pub fn published_free(&self) -> BTreeMap<String, u64> {
        self.lock().published_free.clone()
    }

    /// UUIDs of the GPUs that are remembered as bad.
    pub fn bad(&self) -> BTreeSet<String> {
        self.lock().bad.clone()
    }

    /// Shows how the publishing stands, what the server holds, and which GPUs are remembered as bad.
    pub fn show(&self, standing: &Standing, published: Option<&Report>, bad: BTreeSet<String>) {
        let gpus = published.map(|report| report.gpus.as_slice()).unwrap_or_default();
        let published_free = gpus.iter().filter_map(|gpu| Some((gpu.id.clone(), gpu.free?))).collect();
        *self.lock() = Shown { standing: standing.clone(), published_free, bad };
    }

    fn lock(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
