//! What the job loop holds of the fleet, and the task that drives it.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::{Either, select};
use jiff::Timestamp;
use kube::Client;
use tokio::sync::{Notify, mpsc};

use super::claim::{Claim, JobKey};
use super::claims::Claims;
use super::demand::{Demand, GpuRequirements, Outlook};
use super::index::Fleet;
pub use super::index::Matching;
use super::node::NodeFacts;
use super::{allocator, sweeper, watch};
use crate::api::quantity::GIB;
use crate::api::report::{Attribution, Gpu, State};

/// Most host memory that a pod is planned with, bytes.
const MOST_HOST_BYTES: u64 = 64 * GIB;

/// What the fleet loop is told.
#[derive(Clone, Debug)]
pub struct FleetConfig {
    /// Namespace of the release: its claims lie there, and its agents' reports name it.
    pub namespace: String,
    /// Random identity of this process, written on each claim.
    pub actor: String,
    /// Namespaces whose pods are watched; empty: all.
    pub watch_namespaces: Vec<String>,
}

/// The two ways to the API server. The watch client may retry and has a read timeout a little above five minutes;
/// the request client does not retry by itself.
#[derive(Clone)]
pub struct Clients {
    /// For watches.
    pub watch: Client,
    /// For everything else.
    pub request: Client,
}

/// Jobs that have to look again: a claim of theirs changed, their outlook did, or an agent spoke about their GPU.
/// A job may come more than once.
pub type Wakes = mpsc::UnboundedReceiver<JobKey>;

/// The fleet, as the job loop sees it. Cheap to clone; every call is synchronous and answers from memory.
#[derive(Clone)]
pub struct FleetHandle {
    shared: Arc<Shared>,
}

struct Shared {
    config: FleetConfig,
    fleet: Mutex<Fleet>,
    changed: Notify,
    wakes: mpsc::UnboundedSender<JobKey>,
    filled: AtomicU8,
}

/// What the newest report says of one GPU.
#[derive(Clone, Debug, PartialEq)]
pub struct GpuView {
    /// Its node.
    pub node: String,
    /// Number of the report.
    pub seq: u64,
    /// Agent start that the number belongs to.
    pub inst: String,
    /// When it was sampled, by the node's clock.
    pub at: Timestamp,
    /// Driver version.
    pub driver: String,
    /// State of the agent's view as a whole.
    pub state: State,
    /// How far the process lists can be believed.
    pub attribution: Attribution,
    /// The GPU.
    pub gpu: Gpu,
}

impl FleetHandle {
    /// A fleet that knows nothing yet, and the jobs that it will wake.
    pub fn new(config: FleetConfig) -> (Self, Wakes) {
        let (wakes, awake) = mpsc::unbounded_channel();
        let fleet = Mutex::new(Fleet::new(&config.namespace));
        let shared = Shared { config, fleet, changed: Notify::new(), wakes, filled: AtomicU8::new(0) };
        (Self { shared: Arc::new(shared) }, awake)
    }

    /// The claim operations of this process.
    pub fn claims(&self, request: &Client) -> Claims {
        Claims::new(request.clone(), self.clone())
    }

    /// What the loop was told.
    pub fn config(&self) -> &FleetConfig {
        &self.shared.config
    }

    /// Says what a job could use now; replaces what it asked for before. To be called *before* a claim of the job is
    /// released, so that an old demand does not bring back the attempt that has just ended.
    pub fn set_demand(&self, demand: Demand) {
        if self.lock().set_demand(demand) {
            self.touch();
        }
    }

    /// Forgets what a job asked for.
    pub fn drop_demand(&self, job: &JobKey) {
        self.lock().drop_demand(job);
        self.touch();
    }

    /// The state of a job's wait after the last pass; `None` before the first.
    pub fn outlook(&self, job: &JobKey) -> Option<Outlook> {
        self.lock().outlook(job).cloned()
    }

    /// The claims that a job holds, quarantined ones too, by GPU.
    pub fn claims_of(&self, job: &JobKey) -> Vec<Claim> {
        let fleet = self.lock();
        let held =
            fleet.claims().filter(|claim| claim.holder.as_ref().is_some_and(|holder| holder.job == *job));
        held.map(|claim| Claim::clone(claim)).collect()
    }

    /// The claim of a GPU, if it has a Lease.
    pub fn claim_on(&self, gpu: &str) -> Option<Claim> {
        self.lock().claim(gpu).map(|claim| Claim::clone(claim))
    }

    /// What the newest report says of a GPU; `None` if none names it, or two nodes do.
    pub fn node_view(&self, gpu: &str) -> Option<GpuView> {
        let fleet = self.lock();
        let (facts, report, gpu) = fleet.site(gpu)?;
        Some(GpuView {
            node: facts.name.clone(),
            seq: report.seq,
            inst: report.inst.clone(),
            at: report.at,
            driver: report.drv.clone(),
            state: report.state,
            attribution: report.attr,
            gpu: gpu.clone(),
        })
    }

    /// What is known of a node; `None` if there is no such node.
    pub fn node_facts(&self, name: &str) -> Option<Arc<NodeFacts>> {
        self.lock().node(name).cloned()
    }

    /// All nodes, by name.
    pub fn nodes(&self) -> Vec<Arc<NodeFacts>> {
        self.lock().nodes().cloned().collect()
    }

    /// GPUs that match these requirements, whoever uses them now.
    pub fn matching_gpus(&self, wanted: &GpuRequirements, now: Timestamp) -> Matching {
        self.lock().matching(wanted, now)
    }

    /// Host memory that a pod may be planned with: the smallest matching node's allocatable memory divided by its
    /// GPUs, at most 64 GiB; `None` if no node matches.
    pub fn host_budget(&self, wanted: &GpuRequirements, now: Timestamp) -> Option<u64> {
        self.lock().matching(wanted, now).host_bytes.map(|bytes| bytes.min(MOST_HOST_BYTES))
    }

    /// Memory that pods may use of a node, bytes.
    pub fn memory_allocatable(&self, node: &str) -> Option<u64> {
        self.lock().node(node).map(|facts| facts.allocatable.memory_bytes)
    }

    /// Whether nodes, claims and pods have each been listed once. Nothing is decided before.
    pub fn is_ready(&self) -> bool {
        self.shared.filled.load(Ordering::Acquire) == ALL_FILLED
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Fleet> {
        self.shared.fleet.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a pass.
    pub(super) fn touch(&self) {
        self.shared.changed.notify_one();
    }

    /// Resolves once something changed since the last call.
    pub(super) async fn changed(&self) {
        self.shared.changed.notified().await;
    }

    /// Tells jobs to look again. Nobody listens once the job loop has gone, and that is fine.
    pub(super) fn wake(&self, jobs: impl IntoIterator<Item = JobKey>) {
        for job in jobs {
            let _gone = self.shared.wakes.send(job);
        }
    }

    /// Notes that a kind of object has been listed once.
    pub(super) fn fill(&self, part: Part) {
        self.shared.filled.fetch_or(part as u8, Ordering::AcqRel);
        self.touch();
    }
}

/// What has to be listed before anything is decided.
#[derive(Clone, Copy, Debug)]
pub(super) enum Part {
    Nodes = 1,
    Claims = 2,
    Pods = 4,
}

const ALL_FILLED: u8 = Part::Nodes as u8 | Part::Claims as u8 | Part::Pods as u8;

/// Runs watches, allocator and sweeper until `shutdown` resolves. Never fails: what goes wrong is tried again.
pub async fn run(fleet: FleetHandle, clients: Clients, shutdown: impl Future<Output = ()>) {
    let claims = fleet.claims(&clients.request);
    let work = async {
        futures::join!(
            watch::nodes(&fleet, clients.watch.clone()),
            watch::claims(&fleet, clients.watch.clone()),
            watch::pods(&fleet, clients.watch.clone()),
            allocator::run(&fleet, &claims),
            sweeper::run(&fleet, &claims, clients.request.clone()),
        );
    };
    futures::pin_mut!(work, shutdown);
    match select(work, shutdown).await {
        Either::Left(_) | Either::Right(_) => {}
    }
}

/// The wall clock, read at the edges of the fleet loop only.
#[expect(clippy::disallowed_methods, reason = "the edge where decisions get their `now`")]
pub(super) fn now() -> Timestamp {
    Timestamp::now()
}
