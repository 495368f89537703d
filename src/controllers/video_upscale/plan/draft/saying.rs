//! What a plan says of its job: the state word, conditions, and the events that go with them.

use std::time::Duration;

use super::Draft;
use crate::api::conditions::{
    ConditionType, FailureReason, OtherReason, ScheduledReason, State, Status, find,
};
use crate::controllers::video_upscale::memory::since;
use crate::controllers::video_upscale::plan::HEARTBEAT;
use crate::controllers::video_upscale::plan::status::{self, Said};

impl Draft<'_> {
    /// Says the state word and its message.
    pub fn state(&mut self, state: State, message: String) {
        self.set(Said::complete(Status::False, state, message));
    }

    /// Says why due segments have no GPU, or that they have.
    pub fn scheduled(&mut self, status: Status, reason: ScheduledReason, message: String) {
        self.set(Said { kind: ConditionType::Scheduled, status, reason: reason.as_str(), message });
    }

    /// Accepts the job, nothing started.
    pub fn accept(&mut self, message: String) {
        self.unset(ConditionType::Stalled);
        self.state(State::Accepted, message);
    }

    /// Says that the API server refuses our pods, if it does.
    pub fn say_refused(&mut self) -> bool {
        let Some((until, message)) = self.memory.refused.clone().filter(|(until, _)| *until > self.now)
        else {
            return false;
        };
        let message = format!("{message}; tried again each minute");
        self.scheduled(Status::False, ScheduledReason::PodsForbidden, message);
        self.look_again_at(until);
        true
    }

    /// The deletion mark is there.
    pub fn say_deleting(&mut self) {
        self.state(State::Deleting, "Being deleted".to_owned());
        self.look_again(HEARTBEAT);
    }

    /// Another release works in this namespace. That is told only while it has never touched the job: from then on
    /// the status is its own.
    pub fn leave_to_other_release(&mut self, release: &str) {
        self.free_idle();
        self.look_again(HEARTBEAT);
        let before = &self.observed.status;
        let told = find(&before.conditions, ConditionType::Scheduled).map(|told| told.reason.as_str());
        let untouched = status::word(before).is_none_or(|word| word == State::Pending.as_str())
            && told.is_none_or(|told| told == ScheduledReason::OtherRelease.as_str());
        if untouched {
            let message = format!("Namespace belongs to release {release} (label upscale.video/release)");
            self.scheduled(Status::False, ScheduledReason::OtherRelease, message);
        } else {
            self.mute = true;
        }
    }

    /// The annotation says that nobody touches the job; GPUs that it does not use are not kept from others.
    pub fn pause(&mut self) {
        self.free_idle();
        self.state(State::Paused, "Not reconciled: annotation upscale.video/paused".to_owned());
        self.look_again(HEARTBEAT);
    }

    /// Somebody must act; it goes on by itself afterwards.
    pub fn stall(&mut self, message: &str) {
        self.set(Said {
            kind: ConditionType::Stalled,
            status: Status::True,
            reason: OtherReason::NeedsUser.as_str(),
            message: message.to_owned(),
        });
        self.unset(ConditionType::Reconciling);
        self.state(State::Accepted, message.to_owned());
        self.look_again(Duration::from_secs(5));
    }

    /// No node can mount all volumes at once; it goes on by itself once one can.
    pub fn no_node_mounts(&mut self) {
        let message = format!("No node can mount all claims: {}", self.observed.volumes.why);
        self.scheduled(Status::False, ScheduledReason::VolumeNotHere, message.clone());
        self.state(State::WaitingForGpu, message);
        self.look_again(Duration::from_secs(5));
    }

    /// The tenant stopped the job.
    pub fn suspend(&mut self) {
        self.stop_everything();
        if !status::is_true(&self.status, ConditionType::Suspended) {
            self.tell(false, "Suspended", "Stopped by spec.suspend".to_owned());
        }
        let message = "Stopped by spec.suspend; finished segments are kept".to_owned();
        self.set(Said {
            kind: ConditionType::Suspended,
            status: Status::True,
            reason: OtherReason::Requested.as_str(),
            message: message.clone(),
        });
        self.scheduled(Status::Unknown, ScheduledReason::NotPlanned, "Suspended".to_owned());
        self.state(State::Suspended, message);
        self.look_again(HEARTBEAT);
    }

    /// The tenant did not stop the job, or not any more.
    pub fn resume(&mut self) {
        if status::is_true(&self.status, ConditionType::Suspended) {
            self.set(Said {
                kind: ConditionType::Suspended,
                status: Status::False,
                reason: OtherReason::Resumed.as_str(),
                message: "Goes on".to_owned(),
            });
            self.state(State::Accepted, "Goes on".to_owned());
            self.tell(false, "Resumed", "Goes on".to_owned());
        }
    }

    /// Something ran with other parameters than wanted.
    pub fn degraded(&mut self, reason: OtherReason, message: String) {
        self.set(Said {
            kind: ConditionType::Degraded,
            status: Status::True,
            reason: reason.as_str(),
            message,
        });
    }

    /// The job has failed for good.
    pub fn fail(&mut self, reason: FailureReason, message: String) {
        self.tell(true, reason.as_str(), message.clone());
        for (kind, status) in [
            (ConditionType::Complete, Status::False),
            (ConditionType::Failed, Status::True),
            (ConditionType::Finished, Status::True),
            (ConditionType::Stalled, Status::True),
        ] {
            self.set(Said { kind, status, reason: reason.as_str(), message: message.clone() });
        }
        self.unset(ConditionType::Reconciling);
        self.end_time();
    }

    /// The film is there.
    pub fn succeed(&mut self, message: String) {
        self.tell(false, State::Succeeded.as_str(), message.clone());
        for kind in [ConditionType::Complete, ConditionType::Finished] {
            let reason = State::Succeeded.as_str();
            self.set(Said { kind, status: Status::True, reason, message: message.clone() });
        }
        self.unset(ConditionType::Reconciling);
        self.unset(ConditionType::Stalled);
        self.end_time();
    }

    fn end_time(&mut self) {
        let now = status::whole_seconds(self.now);
        if let Some(start) = &self.status.start_time {
            self.status.duration = Some(status::duration(since(start.0, self.now)));
        }
        self.status.completion_time = Some(now);
        self.status.estimated_completion_time = None;
    }
}
