//! A plan in the making: the status as it will stand, and the changes by their place in the order.

mod saying;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod};

use super::segments::Segments;
use super::size;
use super::status::{self, Said};
use super::{Change, Event, Freed, Lesson, Observed, Plan};
use crate::api::conditions::{self, ConditionType, FailureReason, ScheduledReason, State, Status};
use crate::api::keys::Role;
use crate::api::video_upscale::VideoUpscaleStatus;
use crate::controllers::video_upscale::ladder::History;
use crate::controllers::video_upscale::memory::{Memory, since};
use crate::controllers::video_upscale::pace::Timing;
use crate::controllers::video_upscale::seen::{Progress, SeenPod};
use crate::controllers::video_upscale::verdict::Verdict;
use crate::fleet::claim::Claim;
use crate::fleet::demand::Demand;

/// Counts are told that long after the first of them changed.
const BATCH: Duration = Duration::from_secs(10);
/// Failed pods of a job that are kept for their logs.
const KEPT: usize = 3;

/// A plan in the making.
#[derive(Debug)]
pub struct Draft<'a> {
    /// What was observed.
    pub observed: &'a Observed,
    /// The instant of the pass.
    pub now: Timestamp,
    /// The status as it will stand.
    pub status: VideoUpscaleStatus,
    /// What will be remembered.
    pub memory: Memory,
    /// Segments done.
    pub done: Segments,
    /// Segments given up.
    pub failed: Segments,
    /// Segments tried and not done.
    pub tried: BTreeMap<u32, History>,
    /// To be told.
    pub events: Vec<Event>,
    /// Verdicts reached in this pass.
    pub verdicts: Vec<Verdict>,
    /// What was learnt in this pass.
    pub lessons: Vec<Lesson>,
    /// How long engine runs took whose end is recorded in this pass.
    pub timings: Vec<Timing>,
    /// What the fleet is asked for.
    pub demand: Option<Demand>,
    /// Whether the status is somebody else's, and not to be written.
    mute: bool,
    first: Vec<Change>,
    after_record: Vec<Change>,
    requeue: Option<Duration>,
}

impl<'a> Draft<'a> {
    /// Starts from the status as it stands.
    pub fn begin(observed: &'a Observed, now: Timestamp) -> Self {
        let status = observed.status.clone();
        let tried = status.tried.iter().filter_map(|entry| entry.parse::<History>().ok());
        let mut memory = observed.memory.clone();
        memory.first_seen.get_or_insert(now);
        let mut draft = Self {
            observed,
            now,
            done: Segments::parse(&status.done),
            failed: Segments::parse(&status.failed),
            tried: tried.map(|history| (history.segment, history)).collect(),
            memory,
            events: Vec::new(),
            verdicts: Vec::new(),
            lessons: Vec::new(),
            timings: Vec::new(),
            demand: None,
            mute: false,
            first: Vec::new(),
            after_record: Vec::new(),
            requeue: None,
            status,
        };
        if status::word(&draft.status).is_none() {
            draft.set(Said::complete(Status::Unknown, State::Pending, "Not looked at yet"));
            draft.scheduled(Status::Unknown, ScheduledReason::NotPlanned, "Nothing planned yet".to_owned());
        }
        draft
    }

    /// Sets a condition.
    pub fn set(&mut self, said: Said) {
        conditions::set(
            &mut self.status.conditions,
            said.into_desired(),
            self.observed.identity.generation,
            self.now,
        );
    }

    /// Takes a condition away.
    pub fn unset(&mut self, kind: ConditionType) {
        conditions::remove(&mut self.status.conditions, kind);
    }

    /// Looks again after at most that long.
    pub fn look_again(&mut self, within: Duration) {
        self.requeue = Some(self.requeue.map_or(within, |before| before.min(within)));
    }

    /// Looks again at that instant.
    pub fn look_again_at(&mut self, at: Timestamp) {
        self.look_again(since(self.now, at).max(Duration::from_secs(1)));
    }

    /// A change that needs nothing recorded before it.
    pub fn change(&mut self, change: Change) {
        self.first.push(change);
    }

    /// Gives a GPU back before anything is recorded.
    pub fn free_now(&mut self, claim: &Claim, pod: Option<&SeenPod>) {
        if !self.is_released(claim) {
            self.first.push(release(claim, pod.map(|pod| pod.uid.clone()), Freed::Free));
        }
    }

    /// Whether the claim, which has no pod, may be undone: this process wrote it, and none of its creates is on its way.
    /// Another process may be about to make the pod, and would put it on a GPU that is somebody else's by then: the
    /// sweeper undoes such a claim once it has stood for long, with proof.
    pub fn may_undo(&mut self, claim: &Claim) -> bool {
        if claim.actor != self.observed.actor {
            return false;
        }
        let Some(holder) = &claim.holder else { return true };
        let until = self.memory.doubted_until(holder.segment, holder.attempt, self.now);
        until.inspect(|until| self.look_again_at(*until)).is_none()
    }

    /// Gives a GPU back once what is known of the attempt is recorded.
    pub fn free(&mut self, claim: &Claim, pod: Option<&SeenPod>, how: Freed) {
        self.free_gone(claim, pod.map(|pod| pod.uid.clone()), how);
    }

    /// Gives back the GPU of an attempt whose pod is gone, once that is recorded.
    pub fn free_gone(&mut self, claim: &Claim, pod_uid: Option<String>, how: Freed) {
        if !self.is_released(claim) {
            self.after_record.push(release(claim, pod_uid, how));
        }
    }

    /// Whether the plan gives that GPU back already; the first reason found is the strongest.
    fn is_released(&self, claim: &Claim) -> bool {
        self.first.iter().chain(&self.after_record).any(
            |change| matches!(change, Change::Release { claim: released, .. } if released.gpu == claim.gpu),
        )
    }

    /// Makes a pod without a GPU, on nodes that can mount the job's volumes. There is none if the profile's figures
    /// overflow for the film, which no retry heals.
    pub fn create_single(&mut self, pod: Option<Pod>) {
        let Some(mut pod) = pod else {
            let message = "The profile's memory figures overflow for this film".to_owned();
            self.fail(FailureReason::EngineError, message);
            return;
        };
        if let Some(nodes) = &self.observed.volumes.nodes {
            on_nodes(&mut pod, nodes);
        }
        self.first.push(Change::CreatePod { pod: Box::new(pod), claim: None });
    }

    /// Whether the API server refused a pod of ours a moment ago.
    pub fn is_refused(&self) -> bool {
        self.memory.refused.as_ref().is_some_and(|(until, _)| *until > self.now)
    }

    /// Deletes a pod once what is known of it is recorded.
    pub fn delete(&mut self, pod: &SeenPod) {
        if !pod.deleting {
            self.after_record.push(delete(pod));
        }
    }

    /// Deletes a pod of which nothing is left to be recorded.
    pub fn delete_now(&mut self, pod: &SeenPod) {
        if !pod.deleting {
            self.first.push(delete(pod));
        }
    }

    /// Something to tell.
    pub fn tell(&mut self, warning: bool, reason: &'static str, note: String) {
        self.tell_of(warning, reason, reason.to_owned(), note);
    }

    /// Something to tell of one attempt; such events are kept apart from each other.
    pub fn tell_of(&mut self, warning: bool, reason: &'static str, action: String, note: String) {
        self.events.push(Event { warning, reason, note, action });
    }

    /// The history of a segment; a fresh one if it was never tried. Numbers go on from round to round, since parts
    /// and pods of an earlier one may still be about.
    pub fn history(&self, segment: u32, first_step: u32) -> History {
        self.tried.get(&segment).cloned().unwrap_or_else(|| {
            let round = u32::try_from(self.status.round.unwrap_or(0)).unwrap_or(0);
            History { made: round.saturating_mul(200), ..History::fresh(segment, first_step) }
        })
    }

    /// The claim that names this pod's attempt.
    pub fn claim_of(&self, pod: &SeenPod) -> Option<&'a Claim> {
        self.observed.claims.iter().find(|claim| pod.holds(claim))
    }

    /// Whether the job has ended.
    pub fn is_over(&self) -> bool {
        status::is_true(&self.status, ConditionType::Failed)
            || status::is_true(&self.status, ConditionType::Complete)
    }

    /// Ends all pods, gives all claims back, asks for nothing. What was tried stays tried.
    pub fn stop_everything(&mut self) {
        let observed = self.observed;
        for pod in observed.pods.iter().filter(|pod| !pod.ended()) {
            self.end_early(pod);
        }
        self.free_unused();
    }

    /// Deletes a running pod; its attempt number is used up, and nothing counts.
    pub fn end_early(&mut self, pod: &SeenPod) {
        if pod.role == Role::Segment && !self.done.contains(pod.segment) && !self.failed.contains(pod.segment)
        {
            let history = self.history(pod.segment, pod.step);
            let made = history.made.max(pod.attempt.saturating_add(1));
            let verdict = history.verdict.or(Some(Verdict::Disrupted));
            self.tried.insert(pod.segment, History { made, verdict, ..history });
        }
        self.delete(pod);
    }

    /// Gives back this process's claims without a pod, and those whose pod needs the GPU no more.
    pub fn free_unused(&mut self) {
        let observed = self.observed;
        for claim in &observed.claims {
            if claim.holder.is_none() {
                continue;
            }
            let pod = observed.pods.iter().find(|pod| pod.holds(claim));
            let unused = pod.map_or_else(|| self.may_undo(claim), |pod| !pod.may_use_gpu());
            if unused && claim.quarantined.is_none() {
                self.free(claim, pod, Freed::Free);
            }
        }
    }

    /// Gives back GPUs that are held for nothing, of a job that is left alone otherwise: claims whose pod was never made,
    /// and those whose engine has ended well. A pod that vanished may still run, so its GPU is held until a report
    /// proves its memory back.
    pub fn free_idle(&mut self) {
        let observed = self.observed;
        for claim in observed.claims.iter().filter(|claim| claim.quarantined.is_none()) {
            let Some(holder) = &claim.holder else { continue };
            match observed.pods.iter().find(|pod| pod.holds(claim)) {
                Some(pod) if pod.progress == Progress::Finishing => self.free_now(claim, Some(pod)),
                Some(_) => {}
                None => match self.memory.made.get(&(holder.segment, holder.attempt)).cloned() {
                    Some(uid) => {
                        let cause = Verdict::Disrupted.to_string();
                        self.free_gone(claim, uid, Freed::Quarantined { cause, at: self.now });
                    }
                    None if self.may_undo(claim) => self.free_now(claim, None),
                    None => {}
                },
            }
        }
    }

    /// Deletes ended pods that have been told of, except the last failed ones.
    pub fn tidy(&mut self, pods: &[&SeenPod]) {
        let failed = |pod: &&&SeenPod| pod.pod.status.phase.as_deref() == Some("Failed");
        let mut kept: Vec<&SeenPod> = pods.iter().filter(failed).copied().collect();
        kept.sort_by(|a, b| (b.created, &b.name).cmp(&(a.created, &a.name)));
        kept.truncate(KEPT);
        for pod in pods.iter().filter(|pod| !kept.iter().any(|kept| kept.uid == pod.uid)) {
            self.delete(pod);
        }
    }

    /// The plan.
    pub fn finish(mut self) -> Plan {
        self.write_sets();
        status::base(&mut self.status, self.observed.identity.generation, self.now);
        if self.memory.short {
            self.status = size::short(&self.status);
        }
        size::fit(&mut self.status, &self.failed);
        let profile = self.status.profile.as_ref().map(|profile| profile.name.clone());
        let spec = self.observed.profile.usable().filter(|_| !self.lessons.is_empty());
        let lessons_of = spec.map(|(spec, _)| crate::profile::digest(spec)).unwrap_or_default();
        let difference = if self.mute {
            status::Difference::None
        } else {
            status::difference(&self.observed.status, &self.status)
        };
        if let Some(wait) = self.batch(difference) {
            self.look_again(wait.max(Duration::from_millis(100)));
            // Nothing that rests on the record may happen before it, and what is judged again is counted then.
            self.after_record.clear();
            self.verdicts.clear();
            self.lessons.clear();
            self.timings.clear();
        } else if difference != status::Difference::None {
            self.first.push(Change::RecordStatus(Box::new(self.status)));
        }
        let mut changes = self.first;
        changes.extend(self.after_record);
        Plan {
            demand: self.demand,
            changes,
            events: self.events,
            verdicts: self.verdicts,
            timings: self.timings,
            profile,
            lessons: self.lessons,
            lessons_of,
            memory: self.memory,
            requeue: self.requeue,
        }
    }

    /// How long what differs may wait for more, so that an end and the start that follows it are one write.
    fn batch(&mut self, difference: status::Difference) -> Option<Duration> {
        if difference != status::Difference::Counts || !self.events.is_empty() {
            self.memory.unwritten = None;
            return None;
        }
        let first = *self.memory.unwritten.get_or_insert(self.now);
        let wait = BATCH.saturating_sub(since(first, self.now));
        if wait.is_zero() {
            self.memory.unwritten = None;
        }
        Some(wait).filter(|wait| !wait.is_zero())
    }

    fn write_sets(&mut self) {
        self.status.done = self.done.to_string();
        self.status.failed = self.failed.to_string();
        self.status.tried = size::tried(&self.tried, &self.failed);
        self.status.observed_generation = self.observed.identity.generation;
    }
}

/// Binds a pod to nodes of those names.
fn on_nodes(pod: &mut Pod, nodes: &BTreeSet<String>) {
    let Some(spec) = pod.spec.as_mut() else { return };
    let names = NodeSelectorRequirement {
        key: "metadata.name".to_owned(),
        operator: "In".to_owned(),
        values: Some(nodes.iter().cloned().collect()),
    };
    let term = NodeSelectorTerm { match_fields: Some(vec![names]), ..NodeSelectorTerm::default() };
    spec.affinity
        .get_or_insert_default()
        .node_affinity
        .get_or_insert_default()
        .required_during_scheduling_ignored_during_execution =
        Some(NodeSelector { node_selector_terms: vec![term] });
}

fn delete(pod: &SeenPod) -> Change {
    Change::DeletePod { name: pod.name.clone(), uid: pod.uid.clone() }
}

fn release(claim: &Claim, pod_uid: Option<String>, how: Freed) -> Change {
    Change::Release { claim: Box::new(claim.clone()), pod_uid, how }
}
