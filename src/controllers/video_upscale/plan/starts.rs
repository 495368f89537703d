//! Pods that do not start: how long each is waited for, and what is said of it meanwhile.

use std::time::Duration;

use jiff::Timestamp;

use crate::api::conditions::ScheduledReason;
use crate::controllers::video_upscale::memory::since;
use crate::controllers::video_upscale::seen::{Hold, Lack, Progress, SeenPod};

/// What the cluster says of a start is told after that long.
pub const EXPLAIN_AFTER: Duration = Duration::from_secs(2);
/// A start of which the cluster says nothing is told after that long; mounts and pulls take their time.
const SLOW: Duration = Duration::from_secs(30);

/// How long a segment's pod may lack that, before its GPU is given back.
pub const fn limit(lacks: Lack) -> Duration {
    Duration::from_secs(match lacks {
        Lack::Node => 30,
        // The kubelet tries again at growing distances; another node may have the image.
        Lack::Image => 60,
        Lack::Volumes | Lack::Container => 300,
        // Engines are tens of gigabytes.
        Lack::Pull => 1800,
    })
}

/// The word for the wait when that lack has lasted too long.
pub const fn reason(hold: &Hold) -> ScheduledReason {
    match (hold.reason, hold.lacks) {
        (Some(reason), _) => reason,
        (None, Lack::Volumes) => ScheduledReason::VolumeNotHere,
        (None, Lack::Pull | Lack::Image) => ScheduledReason::ImagePull,
        (None, Lack::Node | Lack::Container) => ScheduledReason::NodeUnschedulable,
    }
}

/// What a pod that has not started waits for, and since when.
pub fn hold(pod: &SeenPod) -> Option<(&Hold, Timestamp)> {
    match &pod.progress {
        Progress::Unscheduled(hold) => Some((hold, pod.created)),
        Progress::Starting { since, hold } => Some((hold, *since)),
        Progress::Working | Progress::Finishing | Progress::Ended => None,
    }
}

/// Why a pod does not start; `None` if it has, or if that is not worth a word yet.
pub fn explanation(pod: &SeenPod, now: Timestamp) -> Option<(ScheduledReason, String)> {
    let (hold, begun) = hold(pod)?;
    let told_after = if hold.reason.is_some() { EXPLAIN_AFTER } else { SLOW };
    (since(begun, now) >= told_after).then(|| (reason(hold), told(pod, hold)))
}

/// When to look again at a pod that has not started, so that it is explained in time.
pub fn look_again(pod: &SeenPod, now: Timestamp) -> Option<Duration> {
    let (_, begun) = hold(pod)?;
    let age = since(begun, now);
    let left = [EXPLAIN_AFTER, SLOW].into_iter().map(|told_after| told_after.saturating_sub(age));
    left.filter(|left| !left.is_zero()).min()
}

fn told(pod: &SeenPod, hold: &Hold) -> String {
    let node = pod.node.as_deref().map(|node| format!(" on {node}")).unwrap_or_default();
    format!("{} pod {}{node} does not start: {}", pod.role.as_str(), pod.name, what(hold))
}

/// What a pod waits for, for people.
pub fn what(hold: &Hold) -> String {
    let lack = match hold.lacks {
        Lack::Node => "no node has taken it",
        Lack::Volumes => "its volumes are not mounted, or its sandbox is not made",
        Lack::Pull => "an image is being pulled",
        Lack::Image => "an image cannot be had",
        Lack::Container => "a container cannot be made",
    };
    if hold.message.is_empty() || matches!(hold.lacks, Lack::Volumes | Lack::Pull) {
        lack.to_owned()
    } else {
        format!("{lack}: {}", hold.message)
    }
}
