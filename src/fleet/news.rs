//! What is told of a node when the words of its agent change: an event on the Node and a line in the log.

use futures::channel::mpsc;
use futures::future::select;
use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder};

use super::handle::FleetHandle;
use super::node::{Inventory, NodeFacts};
use crate::api::report::{Gpu, Health, State};

/// Events of one change that are told at most.
const MOST: usize = 8;
/// Longest note of an event, characters; the API server admits 1 KiB.
const MAX_NOTE: usize = 500;

/// Something of a node that its administrator should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Notice {
    node: String,
    reason: &'static str,
    note: String,
}

/// What is worth telling of a node that was `before` like that and is like this now. `release`: the namespace whose
/// agents are ours; a report that cannot be used may be anybody's.
pub(super) fn of(before: Option<&NodeFacts>, now: &NodeFacts, release: &str) -> Vec<Notice> {
    let notice = |reason, note| Notice { node: now.name.clone(), reason, note };
    match &now.inventory {
        Inventory::Missing => Vec::new(),
        Inventory::Invalid(error) => {
            let known = before.is_some_and(|before| before.inventory == now.inventory);
            let note = || notice("ReportInvalid", format!("GPUs of this node are not used: {error}"));
            (!known).then(note).into_iter().collect()
        }
        Inventory::Known { report, .. } if report.ns != release => Vec::new(),
        Inventory::Known { report, state, .. } => {
            let known = before.and_then(|before| match &before.inventory {
                Inventory::Known { report, state, .. } => Some((report, *state)),
                Inventory::Missing | Inventory::Invalid(_) => None,
            });
            let words = known.map(|(report, _)| report.gpus.iter().flat_map(signs).collect());
            let words: Vec<(&str, Sign)> = words.unwrap_or_default();
            let changed = *state == State::DriverMismatch && known.is_none_or(|(_, before)| before != *state);
            let mismatch = "the driver changed under the agent, which starts anew".to_owned();
            let mismatch = changed.then(|| notice("DriverMismatch", mismatch));
            let fresh = report.gpus.iter().flat_map(|gpu| signs(gpu).map(move |sign| (gpu, sign)));
            let fresh = fresh.filter(|(_, sign)| !words.contains(sign));
            let told = fresh.map(|(gpu, (_, sign))| match sign {
                Sign::Ill(health) => notice("GpuUnhealthy", ill(gpu, health)),
                Sign::Leak => {
                    notice("MemoryWithoutProcess", format!("{} holds memory without a process", named(gpu)))
                }
            });
            mismatch.into_iter().chain(told).take(MOST).collect()
        }
    }
}

/// A sign of trouble of one GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sign {
    Ill(Health),
    Leak,
}

fn signs(gpu: &Gpu) -> impl Iterator<Item = (&str, Sign)> {
    let ill = Some(Sign::Ill(gpu.h)).filter(|_| !matches!(gpu.h, Health::Ok | Health::Unsupported));
    let leak = gpu.leak.then_some(Sign::Leak);
    ill.into_iter().chain(leak).map(|sign| (gpu.id.as_str(), sign))
}

fn ill(gpu: &Gpu, health: Health) -> String {
    match gpu.xid {
        Some(xid) => format!("{} is {} (Xid {xid})", named(gpu), health.as_str()),
        None => format!("{} is {}", named(gpu), health.as_str()),
    }
}

fn named(gpu: &Gpu) -> String {
    format!("GPU #{} ({:?})", gpu.i, gpu.id)
}

/// Forgets what comes until `elected` resolves: it is another's to tell.
pub(super) async fn pass_over(
    notices: &mut mpsc::UnboundedReceiver<Notice>,
    elected: impl Future<Output = ()>,
) {
    let forgotten = notices.for_each(|_| std::future::ready(()));
    futures::pin_mut!(elected);
    // The watch of nodes does not end before this does.
    let _either = select(forgotten, elected).await;
}

/// Tells what stands, and then what changes, for ever. An event that the API server does not take is only logged:
/// nothing rests on it.
pub(super) async fn run(notices: mpsc::UnboundedReceiver<Notice>, fleet: &FleetHandle, recorder: &Recorder) {
    let standing: Vec<Notice> =
        fleet.lock().nodes().flat_map(|node| of(None, node, &fleet.config().namespace)).collect();
    let mut notices = stream::iter(standing).chain(notices);
    while let Some(Notice { node, reason, note }) = notices.next().await {
        tracing::warn!(node, reason, "{note}");
        // As the kubelet does: `kubectl describe node` looks for the name in place of the UID.
        let about = ObjectReference {
            kind: Some("Node".to_owned()),
            uid: Some(node.clone()),
            name: Some(node.clone()),
            ..ObjectReference::default()
        };
        let event = Event {
            type_: EventType::Warning,
            reason: reason.to_owned(),
            note: Some(note.chars().take(MAX_NOTE).collect()),
            action: "Observing".to_owned(),
            secondary: None,
        };
        if let Err(error) = recorder.publish(&event, &about).await {
            tracing::warn!(node, reason, %error, "event not published");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::fleet::fixtures::{RELEASE, at, gpu, gpu_with, node, node_of, report};

    fn facts(change: impl Fn(&mut Value)) -> NodeFacts {
        let mut report = report(&[gpu(0, "GPU-A", 24)], at(0));
        change(&mut report);
        NodeFacts::of(&node_of("node-a", &report, json!({}))).unwrap()
    }

    fn told(before: Option<&NodeFacts>, now: &NodeFacts) -> Vec<(&'static str, String)> {
        of(before, now, RELEASE).into_iter().map(|notice| (notice.reason, notice.note)).collect()
    }

    #[test]
    fn each_trouble_is_told_once_and_again_when_it_is_another() {
        let well = node("node-a", &[gpu(0, "GPU-A", 24)]);
        let card = |fields: Value| node("node-a", &[gpu_with(0, "GPU-A", 24, fields)]);
        for (trouble, reason, note) in [
            (facts(|r| r["v"] = 2.into()), "ReportInvalid", "schema version 2; this reader knows 1"),
            (facts(|r| r["state"] = "driver-mismatch".into()), "DriverMismatch", "driver changed"),
            (card(json!({"h": "lost", "xid": 79})), "GpuUnhealthy", "GPU #0 (\"GPU-A\") is lost (Xid 79)"),
            (card(json!({"leak": true})), "MemoryWithoutProcess", "GPU #0"),
        ] {
            for before in [None, Some(&well)] {
                let told = told(before, &trouble);
                assert_eq!(told.iter().map(|(reason, _)| *reason).collect::<Vec<_>>(), [reason]);
                assert!(told[0].1.contains(note), "{told:?}");
            }
            assert_eq!(told(Some(&trouble), &trouble), [], "told already");
            assert_eq!(told(Some(&trouble), &well), [], "good news is no event");
        }
        let (ill, worse) = (card(json!({"h": "suspect"})), card(json!({"h": "bad"})));
        assert_eq!(told(Some(&ill), &worse).len(), 1);
        let (second, third) = (facts(|r| r["v"] = 2.into()), facts(|r| r["v"] = 3.into()));
        assert_eq!(told(Some(&second), &third).len(), 1);
    }

    #[test]
    fn what_another_release_says_is_not_ours_to_tell() {
        let other = facts(|report| {
            report["ns"] = "else".into();
            report["gpus"][0]["h"] = "bad".into();
        });
        assert_eq!(told(None, &other), []);
    }
}
