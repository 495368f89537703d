//! Pods of which nothing is heard any more: why the job waits for them, and what would end that.

use std::time::Duration;

use super::draft::Draft;
use crate::api::conditions::ScheduledReason;
use crate::controllers::video_upscale::memory::since;
use crate::controllers::video_upscale::nodes::Trouble;
use crate::controllers::video_upscale::seen::SeenPod;

/// How long a pod may still be there after the time that it was given to end.
const OVERDUE: Duration = Duration::from_secs(60);

/// Why some of these pods, of which none has ended, are not heard of; `None` if all are.
pub fn explain(draft: &mut Draft<'_>, pods: &[&SeenPod]) -> Option<(ScheduledReason, String)> {
    let observed = draft.observed;
    let is_silent = |node: &str| observed.nodes.get(node) == Some(&Trouble::Silent);
    draft.memory.silent.retain(|node, _| is_silent(node));
    let mut on_silent = pods.iter().filter_map(|pod| Some((*pod, pod.node.as_ref()?)));
    if let Some((first, node)) = on_silent.find(|(_, node)| is_silent(node)) {
        let begun = *draft.memory.silent.entry(node.clone()).or_insert(draft.now);
        let there = pods.iter().filter(|pod| pod.node.as_ref() == Some(node)).count();
        let message = format!(
            "Node {node} has not been ready since {begun:.0}: {there} segments there, among them {}, and their GPUs wait \
             until it is back, is deleted, or has the taint node.kubernetes.io/out-of-service",
            first.segment
        );
        return Some((ScheduledReason::NodeUnschedulable, message));
    }
    pods.iter().find_map(|pod| {
        let due = pod.pod.meta.deletion_timestamp.as_ref()?.0;
        let message = format!(
            "Pod {} on {} should have ended by {due:.0}, and its node does not tell of its end; it keeps its GPU",
            pod.name,
            pod.node.as_deref().unwrap_or("no node")
        );
        (since(due, draft.now) >= OVERDUE).then_some((ScheduledReason::NodeUnschedulable, message))
    })
}
