//! Whether a node may be used by a job at all.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Taint, Toleration};

use crate::api::conditions::ScheduledReason;
use crate::fleet::demand::{Cause, Demand};
use crate::fleet::snapshot::Spot;

/// Why no GPU of a node is given, if so: the first cause, its room aside.
pub(super) fn node_cause(demand: &Demand, spot: &Spot, now: Timestamp) -> Option<Cause> {
    let facts = &spot.facts;
    let cooling = demand.cooling_nodes.get(&facts.name).filter(|(until, _)| *until > now);
    let cooling = cooling.map(|(_, reason)| match reason {
        ScheduledReason::ImagePull => Cause::ImagePull,
        ScheduledReason::NodeFull => Cause::NodeFull,
        ScheduledReason::VolumeNotHere => Cause::VolumeNotHere,
        ScheduledReason::NodeUnschedulable => Cause::NodeUnschedulable,
        _ => Cause::CoolingDown,
    });
    let repelled = facts.taints.iter().any(|taint| !demand.tolerations.iter().any(|t| tolerates(t, taint)));
    let elsewhere = demand.nodes.as_ref().is_some_and(|nodes| !nodes.contains(&facts.name));
    let tests = [
        (!demand.gpu.admits_node(&facts.labels), Cause::NotMatching),
        (repelled, Cause::NodeUnschedulable),
        (elsewhere, Cause::VolumeNotHere),
    ];
    let tests = tests.into_iter().filter(|(applies, _)| *applies).map(|(_, cause)| cause);
    tests.chain(cooling).min()
}

/// The scheduler's rule.
fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration.effect.as_deref().unwrap_or_default();
    let key = toleration.key.as_deref().unwrap_or_default();
    let exists = toleration.operator.as_deref() == Some("Exists");
    let value = toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default();
    (effect.is_empty() || effect == taint.effect)
        && if key.is_empty() { exists } else { key == taint.key && (exists || value) }
}
