//! What a claim needs of the sweeper, as far as memory can tell.

use std::time::Duration;

use jiff::Timestamp;

use crate::api::quantity::GIB;
use crate::api::report::{Attribution, State};
use crate::fleet::claim::Claim;
use crate::fleet::claims::condition_of;
use crate::fleet::handle::{FleetHandle, GpuView};
use crate::fleet::index::{Freshness, live_pods};
use crate::fleet::pod::PodStage;

/// How long another process's claim may stand without a pod: longer than a request of its may take.
const ABANDONED: Duration = Duration::from_secs(30);
/// Memory that may be missing, or unexplained, when it counts as back, bytes.
const TOLERANCE: u64 = GIB;

/// What a claim needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Case {
    /// Nothing.
    Fine,
    /// Held: its job has to be looked for. `abandoned`: and, though it lives, the pod too.
    Held {
        /// Another process's claim has stood for long without a pod.
        abandoned: bool,
    },
    /// Quarantined, and the memory is back.
    Proved,
    /// Out, and health or driver have changed.
    Changed,
}

/// For how long a claim has stood as it is, as far as this process has seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stood {
    /// Since when, by the wall clock.
    pub(super) since: Timestamp,
    /// How long, whatever the wall clock was set to.
    pub(super) length: Duration,
}

/// Judges a claim that has stood as it is for so long.
pub(super) fn judge(claim: &Claim, fleet: &FleetHandle, stood: Stood, now: Timestamp) -> Case {
    let view = fleet
        .node_view(&claim.gpu)
        .filter(|view| fleet.lock().freshness(&view.node, now) == Some(Freshness::Fresh));
    if claim.quarantined.is_some() {
        let in_use = fleet.lock().is_in_use(&claim.gpu);
        let proved = !in_use && view.is_some_and(|view| is_back(claim, &view, stood.since));
        return if proved { Case::Proved } else { Case::Fine };
    }
    if let Some(out) = &claim.out {
        let changed = view.is_some_and(|view| !out.cause.ends_with(&condition_of(Some(&view))));
        return if changed && claim.holder.is_none() { Case::Changed } else { Case::Fine };
    }
    let Some(holder) = &claim.holder else { return Case::Fine };
    let node = claim.grant.as_ref().map_or("", |grant| grant.node.as_str());
    let stage = fleet.lock().pod_of(holder, node).map(|pod| pod.stage);
    if stage == Some(PodStage::MayUseGpu) {
        // Whether its job has gone or not, the GPU is in use until the pod has gone, too.
        return Case::Fine;
    }
    let others = claim.actor != fleet.config().actor;
    Case::Held { abandoned: others && stage.is_none() && stood.length > ABANDONED }
}

/// Whether a report sampled after the end shows none of the pod's processes, and its memory back.
fn is_back(claim: &Claim, view: &GpuView, since: Timestamp) -> bool {
    let Some(mark) = &claim.quarantined else { return false };
    // A Lease that cannot be understood has no end to compare with: a report after we first saw it will do.
    let end = if claim.is_unreadable() { since } else { mark.at };
    if view.at <= end || view.state != State::Ok || view.attribution == Attribution::None {
        return false;
    }
    let Some(free) = view.gpu.free else { return false };
    let holds = live_pods(&view.gpu).any(|uid| claim.last_pod_uid.as_deref() == Some(uid));
    let as_before =
        claim.grant.as_ref().is_some_and(|grant| free.saturating_add(TOLERANCE) >= grant.seen.available);
    let explained = view.gpu.una.is_some_and(|una| una <= TOLERANCE);
    !holds && (as_before || explained)
}
