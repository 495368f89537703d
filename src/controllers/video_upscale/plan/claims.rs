//! Claims of the job that have no pod: each is completed or undone, those of other processes only completed.
//!
//! Absence is proved by the order of reading, pods first and the job's status after: whatever an attempt recorded
//! before its pod went away is in the status that this pass has.

use super::draft::Draft;
use super::film::Film;
use super::settle::Held;
use super::{Change, segment_pods, starts, wanted};
use crate::api::keys::Role;
use crate::controllers::video_upscale::job::Job;
use crate::controllers::video_upscale::seen::Lack;
use crate::fleet::claim::Claim;

/// Completes or undoes; answers which segments are held afterwards, by a live pod or a claim.
pub fn plan(draft: &mut Draft<'_>, job: &Job, film: &Film<'_>) -> Held {
    let observed = draft.observed;
    let mut held: Held = observed
        .pods
        .iter()
        .filter(|pod| pod.role == Role::Segment && blocks(draft, film, pod))
        .map(|pod| pod.segment)
        .collect();
    for claim in observed.claims.iter().filter(|claim| claim.quarantined.is_none()) {
        let (Some(holder), Some(grant)) = (&claim.holder, &claim.grant) else { continue };
        let (segment, attempt) = (holder.segment, holder.attempt);
        if observed.pods.iter().any(|pod| pod.holds(claim)) {
            continue;
        }
        let history = draft.history(segment, film.first_step());
        let unsettled =
            segment < film.total && !draft.done.contains(segment) && !draft.failed.contains(segment);
        let open = unsettled && attempt >= history.made;
        let due = open && !held.contains(&segment) && wanted::offers(draft, job, film, grant.step);
        let completed = due && !draft.is_refused() && complete(draft, job, film, claim);
        let undone = !completed && draft.may_undo(claim);
        if undone {
            // What was known of its attempt is recorded: it has no pod.
            draft.free_now(claim, None);
        }
        // Also of an attempt that counts no more: its pod may still be on its way.
        if unsettled && !undone {
            held.insert(segment);
        }
    }
    held
}

/// Whether a pod keeps its segment from another attempt: it lives, or its end has not been judged.
fn blocks(
    draft: &Draft<'_>,
    film: &Film<'_>,
    pod: &crate::controllers::video_upscale::seen::SeenPod,
) -> bool {
    let settled = draft.done.contains(pod.segment)
        || draft.failed.contains(pod.segment)
        || pod.attempt < draft.history(pod.segment, film.first_step()).made;
    !(pod.ended() || draft.observed.is_lost(pod)) || !settled
}

fn complete(draft: &mut Draft<'_>, job: &Job, film: &Film<'_>, claim: &Claim) -> bool {
    let (Some(holder), Some(grant)) = (&claim.holder, &claim.grant) else { return false };
    let history = draft.history(holder.segment, film.first_step());
    let Some(pod) = segment_pods::build(draft, job, film, holder, grant, &history) else { return false };
    draft.memory.note_made(holder.segment, holder.attempt, None);
    // Nothing may become of it that anybody tells of.
    draft.look_again(starts::limit(Lack::Node));
    draft.change(Change::CreatePod { pod: Box::new(pod), claim: Some(Box::new(claim.clone())) });
    true
}
