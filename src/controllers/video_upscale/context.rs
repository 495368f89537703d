//! What every pass shares: the client, the fleet, stores of jobs and profiles, and the memory of jobs.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use kube::core::DeserializeGuard;
use kube::runtime::events::Recorder;
use kube::runtime::reflector::Store;
use kube::{Client, ResourceExt};

use super::error::Error;
use super::job::Identity;
use super::memory::{Memory, after, since};
use super::pace::{Paces, Timing};
use super::plan::{Lesson, Offer, Volumes};
use super::pods::Release;
use crate::api::profile::{UpscaleProfile, UpscaleProfileSpec};
use crate::api::video_upscale::VideoUpscale;
use crate::controllers::attempts::Attempts;
use crate::controllers::profiles;
use crate::fleet::claim::{AttemptId, JobKey};
use crate::fleet::demand::GpuRequirements;
use crate::fleet::{Claims, FleetHandle, Version};
use crate::telemetry::Telemetry;

/// Jobs remembered at most; the oldest answer is then asked for again.
const MOST_JOBS: usize = 10_000;
/// Profiles whose times are remembered at most; beyond that all start afresh.
const MOST_PROFILES: usize = 256;
/// How long an answer about what the fleet could offer is believed.
const OFFER_BELIEVED: Duration = Duration::from_secs(5);
/// Such answers kept at most.
const MOST_OFFERS: usize = 64;
/// Answers about namespaces and claims kept at most; beyond that they are asked for again.
const MOST_KNOWN: usize = 10_000;

/// What every pass shares.
pub struct Context {
    /// Client for requests: no retries of its own, a deadline on each.
    pub client: Client,
    /// The fleet loop.
    pub fleet: FleetHandle,
    /// Writes claims.
    pub claims: Claims,
    /// Tells events.
    pub recorder: Recorder,
    /// Metrics and probes.
    pub telemetry: Telemetry,
    /// What the release says of its pods.
    pub release: Release,
    /// Identity of the cluster: UID of the namespace `kube-system`.
    pub cluster: String,
    /// Whether all namespaces are served.
    pub clusterwide: bool,
    /// Failures in a row.
    pub attempts: Attempts,
    stores: Vec<Store<DeserializeGuard<VideoUpscale>>>,
    profiles: Store<DeserializeGuard<UpscaleProfile>>,
    remembered: Mutex<HashMap<String, Remembered>>,
    offers: Mutex<Vec<Offered>>,
    /// By namespace and names of claims.
    known: Mutex<HashMap<(String, BTreeSet<String>), Known>>,
    paces: Mutex<BTreeMap<String, Arc<Paces>>>,
}

/// What the fleet could offer at an instant.
#[derive(Clone, Debug)]
struct Offered {
    gpu: GpuRequirements,
    at: Timestamp,
    offer: Offer,
}

/// What the process knows of a job beside the API server; all of it can be asked for again.
#[derive(Debug)]
struct Remembered {
    key: JobKey,
    memory: Memory,
    frozen: Option<UpscaleProfileSpec>,
    /// The object as this process has written or read it last.
    known: Version,
    /// Whether a write has shown that the object is another than was heard of.
    outdated: bool,
}

impl Remembered {
    /// A version of the object that was written or read.
    fn knows(&mut self, version: Option<&str>) {
        self.known = self.known.max(Version::read(version).unwrap_or_default());
    }
}

/// Answers about a job's surroundings that are believed for a while, by all jobs of that namespace on the same claims.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Its claims of volumes.
    pub volumes: Volumes,
    /// The release of its namespace, if not ours.
    pub other_release: Option<String>,
    /// When it was asked, and until when it is believed.
    pub span: Option<(Timestamp, Timestamp)>,
}

/// What a context is made of.
pub struct Parts {
    /// As [`Context::client`].
    pub client: Client,
    /// As [`Context::fleet`].
    pub fleet: FleetHandle,
    /// As [`Context::recorder`].
    pub recorder: Recorder,
    /// As [`Context::telemetry`].
    pub telemetry: Telemetry,
    /// As [`Context::release`].
    pub release: Release,
    /// As [`Context::cluster`].
    pub cluster: String,
    /// As [`Context::clusterwide`].
    pub clusterwide: bool,
    /// Jobs as watched, one store per namespace served.
    pub jobs: Vec<Store<DeserializeGuard<VideoUpscale>>>,
    /// Profiles as watched.
    pub profiles: Store<DeserializeGuard<UpscaleProfile>>,
}

impl Context {
    /// Puts a context together.
    pub fn new(parts: Parts) -> Self {
        let Parts { client, fleet, recorder, telemetry, release, cluster, clusterwide, jobs, profiles } =
            parts;
        Self {
            claims: fleet.claims(&client),
            client,
            fleet,
            recorder,
            telemetry,
            release,
            cluster,
            clusterwide,
            attempts: Attempts::default(),
            stores: jobs,
            profiles,
            remembered: Mutex::default(),
            offers: Mutex::default(),
            known: Mutex::default(),
            paces: Mutex::default(),
        }
    }

    /// Shows the jobs as watched, each in turn; for hints only.
    pub fn for_each_job(&self, mut show: impl FnMut(&VideoUpscale)) {
        for guard in self.stores.iter().flat_map(Store::state) {
            if let Ok(job) = &guard.0 {
                show(job);
            }
        }
    }

    /// The profiles as watched, by name.
    pub fn all_profiles(&self) -> BTreeMap<String, UpscaleProfile> {
        let all = self.profiles.state();
        all.iter()
            .filter_map(|guard| guard.0.as_ref().ok())
            .map(|profile| (profile.name_any(), profile.clone()))
            .collect()
    }

    /// One profile as watched.
    pub fn profile(&self, name: &str) -> Option<UpscaleProfile> {
        let found = self.profiles.find(|guard| guard.name_any() == name)?;
        found.0.as_ref().ok().cloned()
    }

    /// What the fleet could offer, or could a moment ago: the answer looks at every GPU there is, and is much the same
    /// for all jobs of a cluster.
    pub fn offer(&self, gpu: &GpuRequirements, now: Timestamp) -> Offer {
        let mut offers = self.offers.lock().unwrap_or_else(PoisonError::into_inner);
        offers.retain(|known| since(known.at, now) < OFFER_BELIEVED);
        let matches = |known: &&Offered| known.gpu == *gpu && known.at <= now;
        if let Some(known) = offers.iter().find(matches) {
            return known.offer;
        }
        let matching = self.fleet.matching_gpus(gpu);
        let offer = Offer {
            gpus: matching.gpus,
            largest_gpu: matching.largest_bytes,
            host_budget_bytes: matching.host_bytes,
            largest_host_bytes: matching.largest_host_bytes,
        };
        if offers.len() < MOST_OFFERS && offer.gpus > 0 {
            offers.push(Offered { gpu: gpu.clone(), at: now, offer });
        }
        offer
    }

    /// The memory of a job.
    pub fn memory_of(&self, key: &JobKey) -> Memory {
        self.with(key, |remembered| remembered.memory.clone())
    }

    /// Keeps the memory of a job.
    pub fn remember(&self, key: &JobKey, memory: Memory) {
        self.with(key, |remembered| remembered.memory = memory);
    }

    /// Remembers that the pod of an attempt may be on its way until then, whatever comes of the pass that makes it.
    pub fn doubt(&self, key: &JobKey, attempt: &AttemptId, until: Timestamp) {
        self.with(key, |remembered| remembered.memory.doubt(attempt.segment, attempt.attempt, until));
    }

    /// Notes the version of a job's object that this process has written.
    pub fn has_written(&self, key: &JobKey, version: Option<&str>) {
        self.with(key, |remembered| remembered.knows(version));
    }

    /// Notes the version of a job's object that this process has read as it is now.
    pub fn has_read(&self, key: &JobKey, version: Option<&str>) {
        self.with(key, |remembered| {
            remembered.knows(version);
            remembered.outdated = false;
        });
    }

    /// Notes that a write was refused because somebody else wrote first: what was heard of lags.
    pub fn note_conflict(&self, key: &JobKey) {
        self.with(key, |remembered| remembered.outdated = true);
    }

    /// Whether an object of that version is no older than what this process knows of it.
    pub fn is_heard(&self, key: &JobKey, version: Option<&str>) -> bool {
        self.with(key, |remembered| !remembered.outdated && Version::read(version) >= Some(remembered.known))
    }

    /// What is known of the namespace of a job and of claims in it, if it is still believed. Whoever labels a namespace or
    /// makes a claim and then the job wants it to be seen: only what was asked since then will do.
    pub fn known(&self, job: &Identity, claims: &BTreeSet<String>, now: Timestamp) -> Option<Known> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.get(&(job.key.namespace.clone(), claims.clone()))?;
        // Told in whole seconds, rounded down.
        let since = after(job.created, Duration::from_secs(1));
        known.span.filter(|(asked, until)| *asked >= since && *until > now).map(|_| known.clone())
    }

    /// Keeps what is known of a namespace and of claims in it.
    pub fn keep_known(&self, namespace: &str, claims: BTreeSet<String>, known: Known, now: Timestamp) {
        let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MOST_KNOWN {
            all.retain(|_, known| known.span.is_some_and(|(_, until)| until > now));
        }
        if all.len() < MOST_KNOWN {
            all.insert((namespace.to_owned(), claims), known);
        }
    }

    /// The profile as a job began with it, if it was read before; it never changes.
    pub fn frozen(&self, key: &JobKey) -> Option<UpscaleProfileSpec> {
        self.with(key, |remembered| remembered.frozen.clone())
    }

    /// Keeps the profile as a job began with it.
    pub fn keep_frozen(&self, key: &JobKey, spec: UpscaleProfileSpec) {
        self.with(key, |remembered| remembered.frozen = Some(spec));
    }

    /// How long engine runs of a profile have taken.
    pub fn paces(&self, profile: &str) -> Arc<Paces> {
        let all = self.paces.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(profile).cloned().unwrap_or_default()
    }

    /// Takes in how long engine runs of a profile took.
    pub fn note_paces(&self, profile: &str, timings: Vec<Timing>) {
        let mut all = self.paces.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MOST_PROFILES && !all.contains_key(profile) {
            all.clear();
        }
        let paces = Arc::make_mut(all.entry(profile.to_owned()).or_default());
        for timing in timings {
            paces.add(timing);
        }
    }

    /// Forgets a job that is gone: its memory, failures and demand.
    pub fn forget(&self, namespace: &str, name: &str) {
        let mut all = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        let gone = |key: &JobKey| key.namespace == namespace && key.name == name;
        let keys: Vec<JobKey> = all.values().map(|r| r.key.clone()).filter(gone).collect();
        for key in keys {
            all.remove(&key.uid);
            self.attempts.succeeded(&key.uid);
            self.fleet.forget(&key);
        }
    }

    /// Takes over what was learnt of a profile whose spec has that digest. A refusal is only logged: no job waits for a right that is missing.
    ///
    /// # Errors
    /// If the profile could not be read or written, which time may heal.
    pub async fn learn(
        &self,
        profile: &str,
        of: &str,
        lessons: &[Lesson],
        now: Timestamp,
    ) -> Result<(), Error> {
        match profiles::learn(&self.client, profile, of, lessons, now).await {
            Err(source) if source.is_refusal() => {
                tracing::warn!(profile, error = %source, "lesson not kept");
                Ok(())
            }
            other => other.map_err(|source| Error::Learn { profile: profile.to_owned(), source }),
        }
    }

    fn with<T>(&self, key: &JobKey, change: impl FnOnce(&mut Remembered) -> T) -> T {
        let mut all = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MOST_JOBS && !all.contains_key(&key.uid) {
            all.clear();
        }
        let fresh = || Remembered {
            key: key.clone(),
            memory: Memory::default(),
            frozen: None,
            known: Version::default(),
            outdated: false,
        };
        change(all.entry(key.uid.clone()).or_insert_with(fresh))
    }
}

/// A context as reconcilers get it.
pub type Shared = Arc<Context>;
