//! What the parts of the agent show each other: the last snapshot, and how the publishing stands.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use video_upscale::api::report::Report;

use crate::observer::Snapshot;
use crate::publish::Standing;

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

    /// How the publishing stands.
    pub fn standing(&self) -> Standing {
        self.lock().standing.clone()
    }

    /// Free memory by UUID as the server holds it.
    pub fn published_free(&self) -> BTreeMap<String, u64> {
        self.lock().published_free.clone()
    }

    /// Shows how the publishing stands.
    pub fn show(&self, standing: &Standing, published: Option<&Report>) {
        let gpus = published.map(|report| report.gpus.as_slice()).unwrap_or_default();
        let published_free =
            gpus.iter().filter_map(|gpu| Some((gpu.id.clone(), gpu.free?))).collect::<BTreeMap<_, _>>();
        *self.lock() = Shown { standing: standing.clone(), published_free };
    }

    fn lock(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
