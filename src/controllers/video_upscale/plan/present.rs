//! How much of the world a plan needs to know as it is now, and not only as this process last heard of it.
//!
//! What has once been seen stays true: that a pod is there under its name, that its engine has ended, that an end is
//! recorded. What has *not* been seen may have come since: a pod that another controller made, an end, a record of it. So a
//! plan that makes an attempt is made again from the object as it is now, and one that rests on what is not there, or has not
//! ended, from all of it. The rest, most passes, needs neither.

use super::{Change, Observed, Plan, status};
use crate::api::conditions::ConditionType;
use crate::api::keys::Role;
use crate::api::video_upscale::VideoUpscaleStatus;

/// What is seen as it is now; the rest no older than what this process has heard of, its own writes among it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sight {
    /// Nothing.
    Heard,
    /// The object.
    Object,
    /// The object and its pods.
    Everything,
}

/// What a plan would be wrong without.
pub fn needed(observed: &Observed, plan: &Plan) -> Sight {
    let seen = |attempt: &(u32, u32)| {
        let mut segments = observed.pods.iter().filter(|pod| pod.role == Role::Segment);
        segments.any(|pod| (pod.segment, pod.attempt) == *attempt)
    };
    let vanished = observed.memory.made.keys().any(|attempt| !seen(attempt));
    let lost = observed.pods.iter().any(|pod| observed.is_lost(pod));
    if vanished || lost {
        return Sight::Everything;
    }
    plan.changes.iter().map(|change| needed_by(observed, change)).max().unwrap_or(Sight::Heard)
}

fn needed_by(observed: &Observed, change: &Change) -> Sight {
    let everything = match change {
        // An attempt whose end is recorded has no pod any more. One that is there refuses a second of its name.
        Change::CreatePod { claim: Some(_), .. } => return Sight::Object,
        Change::CreatePod { claim: None, .. } | Change::DeleteJob => true,
        Change::Release { claim, .. } => !observed.pods.iter().any(|pod| pod.holds(claim)),
        Change::DeletePod { uid, .. } => observed.pods.iter().any(|pod| pod.uid == *uid && !pod.ended()),
        // It is refused if the object has changed since it was heard of.
        Change::RecordStatus(status) => is_finished(status) && !is_finished(&observed.status),
        Change::FreezeProfile(_) => false,
    };
    if everything { Sight::Everything } else { Sight::Heard }
}

fn is_finished(status: &VideoUpscaleStatus) -> bool {
    status::is_true(status, ConditionType::Finished)
}
