//! The one task that gives GPUs away: waits for a change, freezes the fleet, places, writes each claim by
//! compare-and-swap, wakes the job. A claim that is refused is forgotten; what the refusal taught counts in the next
//! pass.

use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;

use super::claims::{Claims, Outcome};
use super::handle::{FleetHandle, now};
use super::place::{Pass, Placement, place};

/// Longest pause between two passes: reports grow old without a sound.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Claims that are written at the same time.
const WRITES: usize = 32;

/// Runs for ever; decides nothing until everything has been listed once.
pub(super) async fn run(fleet: &FleetHandle, claims: &Claims) {
    while !fleet.is_ready() {
        fleet.changed().await;
    }
    loop {
        let begun = now();
        let pass = decide(fleet, begun);
        let pause = pause(pass.next, begun);
        act(fleet, claims, pass.placements).await;
        // Either way it is time to look again: something changed, or time has passed.
        let _woken = tokio::time::timeout(pause, fleet.changed()).await;
    }
}

/// One pass over the fleet as it is now.
pub(super) fn decide(fleet: &FleetHandle, now: Timestamp) -> Pass {
    let snapshot = fleet.lock().snapshot(now);
    let pass = place(&snapshot, now);
    let told = {
        let mut fleet = fleet.lock();
        for placement in &pass.placements {
            fleet.serve(placement);
        }
        fleet.record_pass(&pass)
    };
    fleet.wake(told);
    pass
}

fn pause(next: Option<Timestamp>, now: Timestamp) -> Duration {
    let next = next.and_then(|next| Duration::try_from(next.duration_since(now)).ok());
    next.map_or(HEARTBEAT, |next| next.clamp(Duration::from_millis(100), HEARTBEAT))
}

/// Writes the claims, several at a time.
pub(super) async fn act(fleet: &FleetHandle, claims: &Claims, placements: Vec<Placement>) {
    let writes = placements.into_iter().map(|placement| claim(fleet, claims, placement));
    futures::stream::iter(writes).buffer_unordered(WRITES).collect::<()>().await;
}

async fn claim(fleet: &FleetHandle, claims: &Claims, placement: Placement) {
    let before = fleet.claim_on(&placement.grant.gpu);
    let holder = placement.attempt.clone();
    match claims.take(holder, placement.grant.clone(), before.as_ref()).await {
        Ok(Outcome::Done(_)) => {
            tracing::info!(
                gpu = placement.grant.gpu,
                node = placement.grant.node,
                step = placement.grant.step,
                pod = placement.attempt.pod_name(),
                "claimed"
            );
        }
        Ok(Outcome::Lost(_)) => {
            fleet.lock().unserve(&placement);
            fleet.touch();
        }
        // It may have happened: the attempt counts as served until its job asks again.
        Err(error) => tracing::warn!(gpu = placement.grant.gpu, "{error}"),
    }
    fleet.wake([placement.attempt.job]);
}
