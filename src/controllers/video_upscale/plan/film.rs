//! The film as the probe found it, with the profile as the job began with it: all that segments are made from.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use super::Observed;
use crate::api::conditions::FailureReason;
use crate::api::profile::{Learned, UpscaleProfileSpec, UpscaleProfileStatus};
use crate::api::worker::JobRef;
use crate::controllers::video_upscale::job::Job;
use crate::controllers::video_upscale::pods::JobFacts;
use crate::profile::{self, Lengths, Picture};

/// The film, probed.
#[derive(Clone, Debug)]
pub struct Film<'a> {
    /// The profile.
    pub spec: &'a UpscaleProfileSpec,
    /// Its picture.
    pub picture: Picture,
    /// How long its segments are.
    pub lengths: Lengths,
    /// Number of segments.
    pub total: u32,
    /// Steps that the job may use.
    pub steps: RangeInclusive<u32>,
    /// Steps that are offered and allowed, best first, and what the profile estimates for each, bytes.
    pub estimates: Vec<(u32, u64)>,
    /// What was learnt of the profile for this picture.
    facts: Vec<Learned>,
    /// GPU models that cannot run the engine.
    pub incompatible: BTreeSet<String>,
}

/// Why there is no film.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoFilm {
    /// The probe has not been there.
    NotProbed,
    /// It can never be done.
    Refused(FailureReason, String),
}

/// The steps that the job may use.
///
/// # Errors
/// What is wrong, for people.
pub fn steps(job: &Job, spec: &UpscaleProfileSpec) -> Result<RangeInclusive<u32>, String> {
    let number = |step: Option<u32>| step.map(|step| i32::try_from(step).unwrap_or(i32::MAX));
    profile::steps_allowed(spec, number(job.first_step), number(job.last_step)).map_err(|e| e.to_string())
}

/// Whether the profile `name` offers the scale that the job asks for; one that is not said is chosen by the probe.
///
/// # Errors
/// What is wrong, for people.
pub fn check_scale(job: &Job, name: &str, spec: &UpscaleProfileSpec) -> Result<(), String> {
    let offered = |scale: u32| spec.scales.iter().any(|known| u32::try_from(*known) == Ok(scale));
    match job.scale {
        Some(scale) if !offered(scale) => {
            let offered: Vec<String> = spec.scales.iter().map(i32::to_string).collect();
            Err(format!("scale {scale} is not offered by profile {name}; offered: {}", offered.join(", ")))
        }
        _ => Ok(()),
    }
}

impl<'a> Film<'a> {
    /// Takes the film from status and profile.
    ///
    /// # Errors
    /// If it has not been probed, or no step that is allowed is offered for it.
    pub fn of(
        observed: &Observed,
        job: &Job,
        spec: &'a UpscaleProfileSpec,
        learned: &UpscaleProfileStatus,
    ) -> Result<Self, NoFilm> {
        let (Some(video), Some(counts)) = (&observed.status.video, &observed.status.segments) else {
            return Err(NoFilm::NotProbed);
        };
        let number = |value: i32| u32::try_from(value).unwrap_or(0);
        let picture = Picture::of(spec, number(video.width), number(video.height), number(video.scale));
        let refuse = |message| NoFilm::Refused(FailureReason::StepsOutOfRange, message);
        let steps = steps(job, spec).map_err(refuse)?;
        let read = number(video.longest_read);
        // Jobs that were probed before this was told: no segment owns more than it reads.
        let owned = Some(number(video.longest_owned)).filter(|owned| *owned > 0).unwrap_or(read);
        let lengths = Lengths { read, owned };
        let class = picture.class();
        let estimates: Vec<(u32, u64)> = profile::steps_offered(spec, &picture)
            .into_iter()
            .filter(|step| steps.contains(step))
            .filter_map(|step| Some((step, profile::need_bytes(spec, step, &picture, lengths.read)?)))
            .collect();
        if estimates.is_empty() {
            return Err(refuse(format!(
                "No step from {} to {} is offered at scale {} for {}x{}; widen spec.steps or name another scale",
                steps.start(),
                steps.end(),
                video.scale,
                video.width,
                video.height
            )));
        }
        // What was learnt of another engine or ladder under this name is not about the one that the job began with.
        let ours = learned.learned_of.as_ref().is_none_or(|of| *of == profile::digest(spec));
        let models = learned.incompatible.iter().filter(|_| ours);
        let mut incompatible: BTreeSet<String> = models.map(|model| model.gpu_model.clone()).collect();
        incompatible.extend(observed.memory.models.iter().cloned());
        let facts = learned.learned.iter().filter(|fact| ours && fact.picture_class == class);
        let facts = facts.cloned().collect();
        let total = number(counts.total);
        Ok(Self { spec, picture, lengths, total, steps, estimates, facts, incompatible })
    }

    /// The best step that is offered and allowed.
    pub fn first_step(&self) -> u32 {
        self.estimates.first().map_or(*self.steps.start(), |(step, _)| *step)
    }

    /// Fixed seconds per engine run, as the profile guesses.
    pub fn start_seconds(&self) -> u32 {
        u32::try_from(self.spec.time.start_seconds).unwrap_or(0)
    }

    /// Whether a step is offered and allowed.
    pub fn offers(&self, step: u32) -> bool {
        self.estimate(step).is_some()
    }

    /// What the profile estimates for a step, bytes; `None` if it is not offered and allowed.
    pub fn estimate(&self, step: u32) -> Option<u64> {
        self.estimates.iter().find(|(known, _)| *known == step).map(|(_, bytes)| *bytes)
    }

    /// What was learnt of a step for this picture.
    pub fn facts_of(&self, step: u32) -> impl Iterator<Item = &Learned> {
        self.facts.iter().filter(move |fact| u32::try_from(fact.step) == Ok(step))
    }

    /// `step 5, long-768 384/48`, for people.
    pub fn step_label(&self, step: u32) -> String {
        format!("step {step}, {}", self.label(step))
    }

    /// `long-768 384/48`.
    pub fn label(&self, step: u32) -> String {
        profile::label(self.spec, step, &self.picture)
    }
}

/// Whose work it is, for the worker.
pub fn job_ref(observed: &Observed) -> JobRef {
    let key = &observed.identity.key;
    JobRef {
        cluster: observed.cluster.clone(),
        namespace: key.namespace.clone(),
        name: key.name.clone(),
        uid: key.uid.clone(),
    }
}

/// What pods need to know of the job.
pub fn job_facts(observed: &Observed, job: &Job) -> JobFacts {
    JobFacts {
        key: observed.identity.key.clone(),
        source_claim: job.source_claim.clone(),
        destination_claim: job.destination_claim.clone(),
    }
}
