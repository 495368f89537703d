//! What the job loop holds of the fleet, and the task that drives it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::channel::mpsc;
use futures::future::{Either, select};
use jiff::Timestamp;
use kube::Client;
use kube::runtime::events::Recorder;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::claim::{Claim, JobKey};
use super::claims::{Claims, OwnWrites};
use super::clock::Clock;
use super::demand::{Demand, GpuRequirements, Outlook};
use super::heard_pods::HeardPods;
use super::index::Fleet;
pub use super::index::Matching;
use super::node::NodeFacts;
use super::place::Placement;
use super::snapshot::Snapshot;
use super::{allocator, news, sweeper, watch};
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

/// The ways to the API server. The watch client may retry and has a read timeout a little above five minutes;
/// the request client does not retry by itself.
#[derive(Clone)]
pub struct Clients {
    /// For watches.
    pub watch: Client,
    /// For everything else.
    pub request: Client,
    /// For events on nodes.
    pub recorder: Recorder,
}

/// Jobs that have to look again: a claim or a pod of theirs changed, their outlook did, or an agent spoke about their GPU.
/// A job may come more than once.
pub type Wakes = mpsc::UnboundedReceiver<JobKey>;

/// Somebody who wants to know which jobs have to look again.
struct Listener {
    /// Jobs of this namespace only.
    namespace: Option<String>,
    wakes: mpsc::UnboundedSender<JobKey>,
}

/// The fleet, as the job loop sees it. Cheap to clone; every call is synchronous and answers from memory.
#[derive(Clone)]
pub struct FleetHandle {
    shared: Arc<Shared>,
}

struct Shared {
    config: FleetConfig,
    fleet: Mutex<Fleet>,
    /// Locked before the fleet.
    clock: Mutex<Clock>,
    began: Instant,
    own_writes: OwnWrites,
    changed: Notify,
    listeners: Mutex<Vec<Listener>>,
    filled: AtomicU8,
    heard_pods: HeardPods,
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
    /// A fleet that knows nothing yet.
    pub fn new(config: FleetConfig) -> Self {
        let fleet = Mutex::new(Fleet::new(&config.namespace));
        #[expect(clippy::disallowed_methods, reason = "the clock beside which steps of the wall clock show")]
        let began = Instant::now();
        let shared = Shared {
            config,
            fleet,
            clock: Mutex::default(),
            began,
            own_writes: OwnWrites::default(),
            changed: Notify::new(),
            listeners: Mutex::default(),
            filled: AtomicU8::new(0),
            heard_pods: HeardPods::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// From now on, the jobs of a namespace, or of all, that have to look again.
    pub fn wakes(&self, namespace: Option<&str>) -> Wakes {
        let (wakes, awake) = mpsc::unbounded();
        let listener = Listener { namespace: namespace.map(str::to_owned), wakes };
        self.shared.listeners.lock().unwrap_or_else(PoisonError::into_inner).push(listener);
        awake
    }

    /// The claim operations of this process.
    pub fn claims(&self, request: &Client) -> Claims {
        Claims::new(request.clone(), self.clone())
    }

    /// Notes a claim as this process has just written it.
    pub(super) fn note_own_write(&self, claim: &Claim) {
        self.shared.own_writes.note(claim, self.up());
    }

    /// Whether this process wrote the claim as it is, and so lately that no other process undoes it yet.
    pub(super) fn wrote_lately(&self, claim: &Claim) -> bool {
        self.shared.own_writes.is_fresh(claim, self.up())
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
        self.lock().claims_of(job).map(|claim| Claim::clone(claim)).collect()
    }

    /// The claim of a GPU, if it has a Lease.
    pub fn claim_on(&self, gpu: &str) -> Option<Claim> {
        self.lock().claim(gpu).map(|claim| Claim::clone(claim))
    }

    /// UIDs of the last pods that had a GPU, whatever job they were of; those of this process's time are known, and
    /// one from before.
    pub fn last_pods(&self, gpu: &str) -> BTreeSet<String> {
        self.lock().last_pods(gpu).map(str::to_owned).collect()
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

    /// Names of the nodes of which that is so.
    pub fn nodes_where(&self, is_so: impl Fn(&NodeFacts) -> bool) -> BTreeSet<String> {
        self.lock().nodes().filter(|node| is_so(node)).map(|node| node.name.clone()).collect()
    }

    /// GPUs that match these requirements, whoever uses them now; the host memory that a pod may be planned with is at
    /// most 64 GiB.
    pub fn matching_gpus(&self, wanted: &GpuRequirements) -> Matching {
        let now = self.now();
        let all = self.lock().matching(wanted, now);
        Matching { host_bytes: all.host_bytes.map(|bytes| bytes.min(MOST_HOST_BYTES)), ..all }
    }

    /// The pods of jobs as this process has heard of them.
    pub fn heard_pods(&self) -> &HeardPods {
        &self.shared.heard_pods
    }

    /// How long the fleet has been known.
    pub fn up(&self) -> Duration {
        self.shared.began.elapsed()
    }

    /// Forgets a job that is gone.
    pub fn forget(&self, job: &JobKey) {
        self.shared.heard_pods.forget(&job.uid);
        self.drop_demand(job);
    }

    /// Whether nodes, claims and pods have each been listed once. Nothing is decided before.
    pub fn is_ready(&self) -> bool {
        self.shared.filled.load(Ordering::Acquire) == ALL_FILLED
    }

    /// What has not been listed yet, in words; nothing once the fleet is ready.
    pub fn missing(&self) -> Vec<&'static str> {
        let filled = self.shared.filled.load(Ordering::Acquire);
        let parts = [(Part::Nodes, "nodes"), (Part::Claims, "claims"), (Part::Pods, "pods")];
        parts.into_iter().filter(|(part, _)| filled & *part as u8 == 0).map(|(_, word)| word).collect()
    }

    /// The fleet as it is now, frozen.
    pub fn snapshot(&self, now: Timestamp) -> Snapshot {
        self.lock().snapshot(now)
    }

    /// What may be done with a claim that is given back: who is to get its GPU next, if anybody. To be followed by
    /// [`FleetHandle::given_back`].
    pub(super) fn next_for(&self, claim: &Claim, pod_uid: Option<&str>) -> Option<Placement> {
        let now = self.now();
        let next = self.is_ready().then(|| self.lock().decide_for(claim, pod_uid, now))?;
        self.touch();
        next
    }

    /// Notes what came of giving a claim back.
    pub(super) fn given_back(&self, claim: &Claim, next: Option<&Placement>, lost: bool) {
        {
            let mut fleet = self.lock();
            fleet.given_back(&claim.gpu);
            if let Some(next) = next {
                fleet.settled(next, lost);
            }
        }
        self.touch();
    }

    /// The wall clock, read at the edges of the fleet loop only. If it has been set since the last time, what the fleet
    /// remembers keeps its age.
    pub(super) fn now(&self) -> Timestamp {
        let mut clock = self.shared.clock.lock().unwrap_or_else(PoisonError::into_inner);
        #[expect(clippy::disallowed_methods, reason = "the edge where decisions get their `now`")]
        let now = Timestamp::now();
        if let Some(step) = clock.step(now, self.up()) {
            tracing::warn!(seconds = step.as_secs(), "the clock of this machine has been set");
            self.lock().clock_stepped(step);
        }
        now
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

    /// Tells jobs to look again.
    pub(crate) fn wake(&self, jobs: impl IntoIterator<Item = JobKey>) {
        let mut listeners = self.shared.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        for job in jobs {
            // Who listens no more is forgotten.
            listeners.retain(|listener| {
                let concerned =
                    listener.namespace.as_ref().is_none_or(|namespace| *namespace == job.namespace);
                !concerned || listener.wakes.unbounded_send(job.clone()).is_ok()
            });
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

/// Runs the watches until `shutdown` resolves, and allocator, sweeper and news from when `elected` does: before that
/// the fleet is only known, and nothing is written. Never fails: what goes wrong is tried again.
pub async fn run(
    fleet: FleetHandle,
    clients: Clients,
    elected: impl Future<Output = ()>,
    shutdown: impl Future<Output = ()>,
) {
    let claims = fleet.claims(&clients.request);
    let (notices, mut told) = mpsc::unbounded();
    let acting = async {
        news::pass_over(&mut told, elected).await;
        futures::join!(
            news::run(told, &fleet, &clients.recorder),
            allocator::run(&fleet, &claims),
            sweeper::run(&fleet, &claims, clients.request.clone()),
        );
    };
    let work = async {
        futures::join!(
            watch::nodes(&fleet, clients.watch.clone(), &notices),
            watch::claims(&fleet, clients.watch.clone()),
            watch::pods(&fleet, clients.watch.clone()),
            acting,
        );
    };
    futures::pin_mut!(work, shutdown);
    match select(work, shutdown).await {
        Either::Left(_) | Either::Right(_) => {}
    }
}
