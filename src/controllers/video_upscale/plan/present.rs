//! How much of the world a plan needs to know as it is now, and not only as this process last heard of it.
//!
//! What has once been seen stays true: that a pod is there under its name, that its engine has ended, that an end is
//! recorded. What has *not* been seen may have come since: a pod that another controller made, an end, a record of it. So a
//! plan that makes an attempt, deletes a pod on an earlier record or is the last one for now is made again from the object as it is
//! now, and one that rests on what is not there, or has not ended, from all of it. The rest, most passes, needs neither.

use super::{Change, Observed, Plan, status};
use crate::api::conditions::ConditionType;
use crate::api::keys::Role;
use crate::api::video_upscale::VideoUpscaleStatus;

/// What is seen as it is now; the rest as this process has heard of it, its own writes among it.
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
    // It may have ended well before it was gone, if its node tells.
    let tells = |node: &Option<String>| node.as_ref().is_some_and(|node| !observed.nodes.contains_key(node));
    let going = observed.pods.iter().any(|pod| pod.deleting && !pod.ended() && tells(&pod.node));
    if vanished || lost || (going && !plan.changes.is_empty()) {
        return Sight::Everything;
    }
    // Nothing looks again by itself at what such a plan has overlooked.
    let least = if plan.requeue.is_none() { Sight::Object } else { Sight::Heard };
    // A record is refused if the object has changed since it was heard of, and nothing after it happens.
    let mut recorded = false;
    plan.changes.iter().fold(least, |most, change| {
        recorded |= matches!(change, Change::RecordStatus(_));
        most.max(needed_by(observed, change, recorded))
    })
}

fn needed_by(observed: &Observed, change: &Change, recorded: bool) -> Sight {
    let ended = |uid: &str| observed.pods.iter().any(|pod| pod.uid == uid && pod.ended());
    match change {
        // An attempt whose end is recorded has no pod any more. One that is there refuses a second of its name.
        Change::CreatePod { claim: Some(_), .. } => Sight::Object,
        Change::CreatePod { claim: None, .. } | Change::DeleteJob => Sight::Everything,
        // Somebody else may have made another pod of that name since.
        Change::Release { claim, .. } if claim.actor != observed.actor => Sight::Everything,
        Change::Release { claim, .. } if observed.pods.iter().any(|pod| pod.holds(claim)) => Sight::Heard,
        Change::Release { .. } => Sight::Everything,
        Change::DeletePod { uid, .. } if !ended(uid) => Sight::Everything,
        Change::DeletePod { .. } if recorded => Sight::Heard,
        Change::DeletePod { .. } => Sight::Object,
        Change::RecordStatus(status) if is_finished(status) && !is_finished(&observed.status) => {
            Sight::Everything
        }
        Change::RecordStatus(_) | Change::FreezeProfile(_) => Sight::Heard,
    }
}

fn is_finished(status: &VideoUpscaleStatus) -> bool {
    status::is_true(status, ConditionType::Finished)
}
