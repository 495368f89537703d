//! What one pass wants done: a pure, total function of what was observed and of `now`.
//!
//! The order of a plan's changes is a rule: create what is claimed, record what was found in status, release, delete.
//! So every prefix leaves a legal world, and what cannot be seen twice is recorded before its evidence goes. The one
//! exception: once the engine has ended with 0 its GPU is released first, as the pod stays until its end is recorded.

mod claims;
mod draft;
mod ends;
mod estimate;
mod film;
mod finale;
mod needs;
mod present;
mod probe;
mod segment_pods;
pub mod segments;
mod settle;
mod silence;
mod single;
pub mod size;
mod starts;
pub mod status;
mod telling;
pub mod wait;
mod wanted;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::Pod;

use super::job::{Identity, Invalid, Job};
use super::memory::Memory;
use super::nodes::Trouble;
use super::pace::{Paces, Timing};
use super::pods::Release;
use super::seen::SeenPod;
use super::verdict::{GpuView, Verdict};
use crate::api::conditions::FailureReason;
use crate::api::profile::{FirstEnd, UpscaleProfileSpec, UpscaleProfileStatus};
use crate::api::video_upscale::VideoUpscaleStatus;
use crate::fleet::claim::Claim;
use crate::fleet::demand::{Demand, Outlook};
use draft::Draft;
pub use present::{Sight, needed};

/// Everything a plan is made from.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The object beside spec and status.
    pub identity: Identity,
    /// The spec, read.
    pub job: Result<Job, Invalid>,
    /// The status as it stands.
    pub status: VideoUpscaleStatus,
    /// The profile.
    pub profile: Profile,
    /// Own pods, by name: read before the object was, as it is now or no older than heard of.
    pub pods: Vec<SeenPod>,
    /// Claims of this job.
    pub claims: Vec<Claim>,
    /// What the fleet said last.
    pub outlook: Option<Outlook>,
    /// What agents say now of the GPUs that own pods are on, by UUID.
    pub views: BTreeMap<String, GpuView>,
    /// UIDs of the last pods on each of these, whatever job they were of.
    pub last_pods: BTreeMap<String, BTreeSet<String>>,
    /// Nodes of own pods that do not tell of them, by name.
    pub nodes: BTreeMap<String, Trouble>,
    /// How long engine runs of the profile have taken.
    pub paces: Arc<Paces>,
    /// What the fleet could offer to this job.
    pub fleet: Offer,
    /// The job's claims of volumes.
    pub volumes: Volumes,
    /// Name of the release that works in this namespace, if it is not ours.
    pub other_release: Option<String>,
    /// Identity of the cluster.
    pub cluster: String,
    /// Identity of this process, as it stands on claims.
    pub actor: String,
    /// UIDs of living jobs with the same destination claim.
    pub live_jobs: Vec<String>,
    /// What is remembered of the job.
    pub memory: Memory,
    /// What the release says of its pods.
    pub release: Release,
}

impl Observed {
    /// Whether that pod will never be told of again, as its node is gone.
    pub fn is_lost(&self, pod: &SeenPod) -> bool {
        let trouble = pod.node.as_ref().and_then(|node| self.nodes.get(node));
        !pod.ended() && trouble == Some(&Trouble::Lost)
    }
}

/// The profile of a job.
#[derive(Clone, Debug, PartialEq)]
pub enum Profile {
    /// As the job began with it, with what was learnt since.
    Frozen {
        /// The spec.
        spec: Box<UpscaleProfileSpec>,
        /// What was learnt of the profile of that name.
        learned: UpscaleProfileStatus,
    },
    /// Found; the job has not begun.
    Found {
        /// Its name.
        name: String,
        /// The spec.
        spec: Box<UpscaleProfileSpec>,
        /// What was learnt.
        learned: UpscaleProfileStatus,
    },
    /// Not there.
    Missing {
        /// What is wrong, for people.
        message: String,
    },
    /// There, but not usable.
    NotReady {
        /// What is wrong, for people.
        message: String,
    },
}

impl Profile {
    /// The spec in force, and what was learnt.
    pub fn usable(&self) -> Option<(&UpscaleProfileSpec, &UpscaleProfileStatus)> {
        match self {
            Self::Frozen { spec, learned } | Self::Found { spec, learned, .. } => Some((spec, learned)),
            Self::Missing { .. } | Self::NotReady { .. } => None,
        }
    }
}

/// What the fleet could offer to a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// GPUs that match `spec.gpu`, whoever uses them now.
    pub gpus: u32,
    /// Memory of the largest of them, bytes.
    pub largest_gpu: Option<u64>,
    /// Smallest matching node's allocatable memory divided by its GPUs, bytes.
    pub host_budget_bytes: Option<u64>,
    /// Largest matching node's allocatable memory, bytes.
    pub largest_host_bytes: Option<u64>,
}

/// The job's claims of volumes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Volumes {
    /// Claims that do not exist.
    pub missing: Vec<String>,
    /// Nodes that can mount all of them; `None`: all.
    pub nodes: Option<BTreeSet<String>>,
    /// Why not all nodes can, for people.
    pub why: String,
}

/// What one pass wants done.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What the fleet is asked for; `None`: nothing.
    pub demand: Option<Demand>,
    /// In order. At most one [`Change::RecordStatus`].
    pub changes: Vec<Change>,
    /// Told only when all changes went through.
    pub events: Vec<Event>,
    /// Verdicts that were reached, for the metrics.
    pub verdicts: Vec<Verdict>,
    /// How long engine runs took that have ended.
    pub timings: Vec<Timing>,
    /// Name of the profile that the job began with.
    pub profile: Option<String>,
    /// What was learnt of it, by [`crate::profile::digest()`] of its spec as the job began with it.
    pub lessons: Vec<Lesson>,
    /// That digest; empty without lessons.
    pub lessons_of: String,
    /// What is to be remembered.
    pub memory: Memory,
    /// When to look again; `None`: on the next change of the object.
    pub requeue: Option<Duration>,
}

/// One change of the world.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Keeps the profile as the job begins with it.
    FreezeProfile(Box<ControllerRevision>),
    /// Makes a pod.
    CreatePod {
        /// The pod.
        pod: Box<Pod>,
        /// The claim that it completes; given back if the pod is refused.
        claim: Option<Box<Claim>>,
    },
    /// Writes the status, if nobody wrote meanwhile.
    RecordStatus(Box<VideoUpscaleStatus>),
    /// Gives a GPU back.
    Release {
        /// The claim.
        claim: Box<Claim>,
        /// UID of the pod that held it.
        pod_uid: Option<String>,
        /// In which state.
        how: Freed,
    },
    /// Deletes a pod of ours.
    DeletePod {
        /// Its name.
        name: String,
        /// Its UID.
        uid: String,
    },
    /// Deletes the job: its time after the end is over.
    DeleteJob,
}

/// In which state a GPU is given back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Freed {
    /// Free.
    Free,
    /// Held until a report proves its memory back.
    Quarantined {
        /// Why.
        cause: String,
        /// The pod's end, by its node's clock where that is known: a report must be newer.
        at: Timestamp,
    },
    /// Out until its health or driver changes.
    Out {
        /// Why.
        cause: String,
    },
}

/// Something to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Whether it is a warning.
    pub warning: bool,
    /// One word.
    pub reason: &'static str,
    /// One line.
    pub note: String,
    /// What was done about it; events that share reason and action within minutes become one with the first note.
    pub action: String,
}

/// What an end taught about the profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lesson {
    /// A run has proved to need that much.
    Need {
        /// Product name of the GPU.
        model: String,
        /// Ladder step.
        step: u32,
        /// Padded `WxH@scale`.
        class: String,
        /// Bytes.
        bytes: u64,
        /// UUID of the one card that it binds; `None`: it binds the model.
        card: Option<String>,
        /// The end that shows it, if no other end is known to.
        only: Option<FirstEnd>,
    },
    /// A GPU model cannot run the engine.
    Incompatible {
        /// Product name of the GPU.
        model: String,
        /// What the engine said.
        reason: String,
    },
}

#[cfg(test)]
pub(crate) mod fixtures;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

/// Longest pause of an unfinished job: a deletion that falls into the gap of a new list makes no event.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(60);

/// Decides. The phases follow from the facts; nothing is remembered that decides them.
pub fn plan(observed: &Observed, now: Timestamp) -> Plan {
    let mut draft = Draft::begin(observed, now);
    if observed.identity.deleting {
        draft.stop_everything();
        draft.say_deleting();
        return draft.finish();
    }
    if let Some(release) = &observed.other_release {
        draft.leave_to_other_release(release);
        return draft.finish();
    }
    if observed.identity.paused {
        draft.pause();
        return draft.finish();
    }
    let job = match &observed.job {
        Ok(job) => job,
        Err(invalid) => {
            draft.stall(&invalid.to_string());
            return draft.finish();
        }
    };
    if draft.is_over() && !finale::reopen(&mut draft) {
        finale::rest(&mut draft, job);
        return draft.finish();
    }
    if let Some((reason, message)) = refusal(observed, job, now) {
        draft.stop_everything();
        draft.fail(reason, message);
        return draft.finish();
    }
    if job.suspend {
        draft.suspend();
        return draft.finish();
    }
    draft.resume();
    let Some((spec, learned)) = observed.profile.usable() else {
        // A profile may come a moment after the first job, so the refusal waits a little.
        draft.accept("Waits for its profile".to_owned());
        draft.look_again(Duration::from_secs(1));
        return draft.finish();
    };
    if !observed.volumes.missing.is_empty() {
        let names = observed.volumes.missing.join(", ");
        draft.stall(&format!(
            "There is no claim {names} in namespace {}; create it, or make a new VideoUpscale",
            observed.identity.key.namespace
        ));
        return draft.finish();
    }
    if observed.volumes.nodes.as_ref().is_some_and(std::collections::BTreeSet::is_empty) {
        draft.no_node_mounts();
        return draft.finish();
    }
    match film::Film::of(observed, job, spec, learned) {
        Err(film::NoFilm::NotProbed) => probe::plan(&mut draft, job, spec),
        Err(film::NoFilm::Refused(reason, message)) => {
            draft.stop_everything();
            draft.fail(reason, message);
        }
        Ok(film) => settle::plan(&mut draft, job, &film),
    }
    draft.finish()
}

/// Why the job has to fail whatever its pods do.
fn refusal(observed: &Observed, job: &Job, now: Timestamp) -> Option<(FailureReason, String)> {
    if let (Some(deadline), Some(start)) = (job.deadline, &observed.status.start_time)
        && super::memory::since(start.0, now) >= deadline
    {
        let message = format!("The job ran longer than activeDeadlineSeconds: {}", deadline.as_secs());
        return Some((FailureReason::DeadlineExceeded, message));
    }
    let young = super::memory::since(observed.identity.created, now) < Duration::from_secs(4);
    match &observed.profile {
        Profile::Missing { message } | Profile::NotReady { message } if !young => {
            Some((FailureReason::ProfileNotFound, message.clone()))
        }
        Profile::Found { name, spec, .. } => out_of_range(job, name, spec),
        Profile::Frozen { spec, .. } => {
            let name = observed.status.profile.as_ref().map_or("", |profile| profile.name.as_str());
            out_of_range(job, name, spec)
        }
        Profile::Missing { .. } | Profile::NotReady { .. } => None,
    }
}

/// Why the profile cannot do what the job asks for.
fn out_of_range(job: &Job, name: &str, spec: &UpscaleProfileSpec) -> Option<(FailureReason, String)> {
    let refused = film::steps(job, spec).err().or_else(|| film::check_scale(job, name, spec).err());
    refused.map(|message| (FailureReason::StepsOutOfRange, message))
}
