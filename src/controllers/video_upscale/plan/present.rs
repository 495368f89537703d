//! Which plans need to know how pods are now, and not only how they were when this process last heard of them.
//!
//! What has once been seen of a pod stays true: that it is there under its name, that its engine has ended. What has *not*
//! been seen may have come since: a pod that another controller made, an end. So a plan that rests on what is not there,
//! or on what has not ended, is made again from what is there now. The rest, nearly every pass, needs no such read.

use super::{Change, Observed, Plan, status};
use crate::api::conditions::ConditionType;
use crate::api::keys::Role;
use crate::api::video_upscale::VideoUpscaleStatus;

/// Whether a plan would be wrong if there were a pod that was not seen, or one were further than it was seen.
pub fn rests_on_the_present(observed: &Observed, plan: &Plan) -> bool {
    let seen = |attempt: &(u32, u32)| {
        let mut segments = observed.pods.iter().filter(|pod| pod.role == Role::Segment);
        segments.any(|pod| (pod.segment, pod.attempt) == *attempt)
    };
    let vanished = observed.memory.made.keys().any(|attempt| !seen(attempt));
    let lost = observed.pods.iter().any(|pod| observed.is_lost(pod));
    vanished || lost || plan.changes.iter().any(|change| rests(observed, change))
}

fn rests(observed: &Observed, change: &Change) -> bool {
    match change {
        // The name of an attempt's pod is its own: one that is there already refuses the second.
        Change::CreatePod { claim, .. } => claim.is_none(),
        Change::Release { claim, .. } => !observed.pods.iter().any(|pod| pod.holds(claim)),
        Change::DeletePod { uid, .. } => observed.pods.iter().any(|pod| pod.uid == *uid && !pod.ended()),
        Change::RecordStatus(status) => is_finished(status) && !is_finished(&observed.status),
        Change::DeleteJob => true,
        Change::FreezeProfile(_) => false,
    }
}

fn is_finished(status: &VideoUpscaleStatus) -> bool {
    status::is_true(status, ConditionType::Finished)
}
