//! The one task that gives GPUs away: waits for a change, brings the board up to date, places, writes each claim by
//! compare-and-swap, wakes the job. It decides on while claims are being written: what is promised counts as held. A
//! claim that is refused is forgotten; what the refusal taught counts in the next pass.

use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Semaphore;

use super::claims::{Claims, Outcome};
use super::handle::FleetHandle;
use super::place::Placement;

/// Longest pause between two passes.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Claims that are written at the same time.
const WRITES: usize = 32;
/// Jobs are told of what changes for all of them at most this often.
const TELL: SignedDuration = SignedDuration::from_millis(250);

/// Runs for ever; decides nothing until everything has been listed once.
pub(super) async fn run(fleet: &FleetHandle, claims: &Claims) {
    while !fleet.is_ready() {
        fleet.changed().await;
    }
    let slots = Semaphore::new(WRITES);
    let mut writes = FuturesUnordered::new();
    let mut told = Timestamp::UNIX_EPOCH;
    loop {
        let begun = fleet.now();
        let placements = decide(fleet, begun);
        let since = begun.duration_since(told);
        let all = since >= TELL || since.is_negative();
        tell(fleet, all, begun);
        if all {
            told = begun;
        }
        writes.extend(placements.into_iter().map(|placement| claim(fleet, claims, &slots, placement)));
        // What came in since the last telling is told when its time has come, whatever happens until then.
        let again = if all { None } else { told.checked_add(TELL).ok() };
        let next = fleet.lock().next_change(begun).into_iter().chain(again).min();
        let changed = tokio::time::timeout(pause(next, begun), fleet.changed());
        futures::pin_mut!(changed);
        loop {
            // Either way it is time to look again: something changed, or time has passed.
            tokio::select! {
                _woken = &mut changed => break,
                Some(()) = writes.next(), if !writes.is_empty() => {}
            }
        }
    }
}

/// One pass over the fleet as it is now.
pub(super) fn decide(fleet: &FleetHandle, now: Timestamp) -> Vec<Placement> {
    let mut fleet = fleet.lock();
    let mut placements = fleet.undelivered();
    placements.extend(fleet.decide(now));
    placements
}

/// Wakes the jobs that have to look again after a pass.
fn tell(fleet: &FleetHandle, all: bool, now: Timestamp) {
    let woken = fleet.lock().tell(all, now);
    fleet.wake(woken);
}

fn pause(next: Option<Timestamp>, now: Timestamp) -> Duration {
    let next = next.and_then(|next| Duration::try_from(next.duration_since(now)).ok());
    next.map_or(HEARTBEAT, |next| next.clamp(Duration::from_millis(100), HEARTBEAT))
}

/// Writes the claim of a placement when there is a slot.
pub(super) async fn claim(fleet: &FleetHandle, claims: &Claims, slots: &Semaphore, placement: Placement) {
    // An error means that the slots were closed, which nobody does.
    let _slot = slots.acquire().await;
    let before = fleet.claim_on(&placement.grant.gpu);
    let holder = placement.attempt.clone();
    let lost = match claims.take(holder, placement.grant.clone(), before.as_ref()).await {
        Ok(Outcome::Done(_)) => {
            tracing::info!(
                gpu = placement.grant.gpu,
                node = placement.grant.node,
                step = placement.grant.step,
                pod = placement.attempt.pod_name(),
                "claimed"
            );
            false
        }
        Ok(Outcome::Lost(_)) => true,
        // It may have happened: the attempt counts as served until its job asks again.
        Err(error) => {
            tracing::warn!(gpu = placement.grant.gpu, "{error}");
            false
        }
    };
    fleet.lock().settled(&placement, lost);
    if lost {
        fleet.touch();
    }
    fleet.wake([placement.attempt.job]);
}
