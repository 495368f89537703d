//! Pods that do not start or are not heard of any more, nodes that are out.

use serde_json::{Value, json};

use super::super::fixtures::*;
use super::super::*;
use crate::api::conditions::{ConditionType, ScheduledReason, find};
use crate::api::keys::Role;
use crate::api::worker::Code;
use crate::controllers::video_upscale::nodes::Trouble;

/// A job one segment of which has that pod on `GPU-1`.
fn with_pod(status: &Value) -> Observed {
    let mut observed = probed(json!({}));
    observed.claims = vec![claim(&observed.identity.key, 3, 0, "GPU-1")];
    observed.pods = vec![segment(&observed, 3, 0, status)];
    observed
}

/// On a node; its first container waits with that word. `ready`: whether volumes and sandbox are there.
fn waiting(word: &str, ready: bool) -> Value {
    let ready = if ready { "True" } else { "False" };
    json!({"phase": "Pending",
           "conditions": [{"type": "PodReadyToStartContainers", "status": ready}],
           "initContainerStatuses": [container("prepare", &json!({"waiting": {"reason": word}}))]})
}

fn message(status: &VideoUpscaleStatus, kind: ConditionType) -> String {
    find(&status.conditions, kind).map(|told| told.message.clone()).unwrap_or_default()
}

#[test]
fn a_pod_that_does_not_start_frees_its_gpu_in_the_time_that_its_lack_allows() {
    for (word, ready, limit, reason) in [
        ("PodInitializing", false, 300, ScheduledReason::VolumeNotHere),
        ("PodInitializing", true, 1800, ScheduledReason::ImagePull),
        ("ImagePullBackOff", true, 60, ScheduledReason::ImagePull),
        ("InvalidImageName", true, 60, ScheduledReason::ImagePull),
        ("CreateContainerConfigError", true, 300, ScheduledReason::NodeUnschedulable),
    ] {
        let mut observed = with_pod(&waiting(word, ready));
        let early = plan(&observed, at(limit - 1));
        assert!(!kinds(&early).contains(&"delete"), "{word} {ready}");
        let told = said(recorded(&early).unwrap(), ConditionType::Scheduled);
        assert_eq!(told, format!("False/{reason}"), "{word} {ready}: told long before");
        step(&mut observed, early);
        let late = plan(&observed, at(limit));
        assert_eq!(kinds(&late), ["record", "delete"], "{word} {ready}");
        let (cool_down, why) = late.memory.nodes["node-a"];
        assert_eq!((cool_down.length.as_secs(), why), (60, reason), "{word} {ready}: cools down once");
        let retried = late.events.iter().find(|event| event.reason == "SegmentRetried").unwrap();
        assert!(retried.note.contains(&format!("{limit} s")), "{}", retried.note);
    }
}

#[test]
fn a_start_that_takes_its_time_is_not_told_at_once() {
    let observed = with_pod(&waiting("PodInitializing", false));
    let told = plan(&observed, at(20));
    assert_ne!(said(recorded(&told).unwrap(), ConditionType::Scheduled), "False/VolumeNotHere");
}

#[test]
fn an_engine_whose_image_cannot_be_had_frees_its_gpu_too() {
    let done = json!({"terminated": {"exitCode": 0, "finishedAt": at(100).to_string()}});
    let mut status = waiting("PodInitializing", true);
    status["initContainerStatuses"] = json!([
        container("prepare", &done),
        container("upscale", &json!({"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}})),
    ]);
    let observed = with_pod(&status);
    assert!(!kinds(&plan(&observed, at(159))).contains(&"delete"), "counted from the end of prepare");
    let late = plan(&observed, at(160));
    assert!(kinds(&late).contains(&"delete"));
    assert!(message(recorded(&late).unwrap(), ConditionType::Complete).contains("0 of 8"));
}

#[test]
fn a_silent_node_is_told_once_and_a_lost_one_frees_the_segment() {
    let mut observed = with_pod(&working());
    let running = plan(&observed, at(20));
    step(&mut observed, running);
    observed.nodes.insert("node-a".into(), Trouble::Silent);
    let silent = plan(&observed, at(60));
    assert_eq!(kinds(&silent), ["record"]);
    let status = recorded(&silent).unwrap();
    assert_eq!(said(status, ConditionType::Scheduled), "False/NodeUnschedulable");
    let text = message(status, ConditionType::Scheduled);
    assert!(text.contains("node-a") && text.contains("1 segments") && text.contains("2027-"), "{text}");
    step(&mut observed, silent);
    let later = plan(&observed, at(600));
    assert_eq!(kinds(&later), Vec::<&str>::new(), "nothing is told that only grew older");
    assert!(later.demand.as_ref().unwrap().wanted.iter().all(|wanted| wanted.segment != 3));
    step(&mut observed, later);

    observed.nodes.insert("node-a".into(), Trouble::Lost);
    let lost = plan(&observed, at(700));
    assert_eq!(kinds(&lost), ["record", "quarantine", "delete"]);
    assert_eq!(recorded(&lost).unwrap().tried, ["3:1/0/2/1//Disrupted"]);
    let wanted = &lost.demand.as_ref().unwrap().wanted[0];
    assert_eq!((wanted.segment, wanted.attempt), (3, 1), "though the pod will be there for a while");
    step(&mut observed, lost);
    observed.claims[0].quarantined =
        Some(crate::fleet::claim::Mark { cause: "Disrupted".into(), at: at(700) });
    observed.pods[0].deleting = true;
    assert_eq!(kinds(&plan(&observed, at(701))), Vec::<&str>::new());
}

#[test]
fn a_pod_whose_end_is_overdue_is_told() {
    let mut observed = with_pod(&working());
    let running = plan(&observed, at(20));
    step(&mut observed, running);
    observed.pods[0].deleting = true;
    let pod = Arc::make_mut(&mut observed.pods[0].pod);
    pod.meta.deletion_timestamp = Some(status::whole_seconds(at(100)));
    assert_eq!(kinds(&plan(&observed, at(159))), Vec::<&str>::new());
    let told = plan(&observed, at(160));
    let text = message(recorded(&told).unwrap(), ConditionType::Scheduled);
    assert!(text.contains("holiday-9b1deb-00003-0000 on node-a should have ended by"), "{text}");
}

#[test]
fn a_probe_on_a_lost_node_is_made_anew() {
    let mut observed = observed(json!({}));
    let first = plan(&observed, at(0));
    step(&mut observed, first);
    observed.pods = vec![single(&observed, Role::Probe, 0, &json!({"phase": "Running"}))];
    assert!(!kinds(&plan(&observed, at(5))).contains(&"create"));
    observed.nodes.insert("node-a".into(), Trouble::Lost);
    let again = plan(&observed, at(6));
    assert!(kinds(&again).contains(&"create") && kinds(&again).contains(&"delete"), "{:?}", kinds(&again));
}

#[test]
fn nodes_that_ignore_the_pin_are_out_and_three_stall_the_job_once() {
    let mut observed = probed(json!({}));
    for (number, node) in [(0, "node-a"), (1, "node-b"), (2, "node-c")] {
        let mut pod = segment(&observed, number, 0, &prepare_failed(Code::PinIgnored));
        pod.node = Some(node.into());
        pod.gpu = Some(format!("GPU-{number}"));
        observed.pods.push(pod);
        observed.claims.push(claim(&observed.identity.key, number, 0, &format!("GPU-{number}")));
    }
    let judged = plan(&observed, at(20));
    assert_eq!(said(recorded(&judged).unwrap(), ConditionType::Stalled), "True/NeedsUser");
    let demand = judged.demand.clone().unwrap();
    assert_eq!(demand.cooling_nodes.keys().collect::<Vec<_>>(), ["node-a", "node-b", "node-c"]);
    assert!(demand.cooling_nodes.values().all(|(until, _)| *until >= at(3600)), "out, not cooling");
    step(&mut observed, judged);
    observed.pods.clear();
    observed.claims.clear();
    let unchanged = plan(&observed, at(40));
    assert_eq!(kinds(&unchanged), Vec::<&str>::new(), "it stalls since the first time");
    step(&mut observed, unchanged);
    let tried = plan(&observed, at(3700));
    assert_eq!(said(recorded(&tried).unwrap(), ConditionType::Stalled), "", "it goes on by itself");
    assert!(tried.demand.unwrap().cooling_nodes.is_empty());
}
