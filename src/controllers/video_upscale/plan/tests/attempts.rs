//! Claims and pods: what is made, ended, freed and recorded, and in which order.

use serde_json::json;

use super::super::fixtures::*;
use super::super::*;
use crate::api::conditions::ConditionType;
use crate::api::worker::Code;

#[test]
fn a_claim_without_a_pod_is_completed_and_one_of_a_settled_attempt_is_undone() {
    let mut observed = probed(json!({}));
    let key = observed.identity.key.clone();
    observed.claims = vec![claim(&key, 0, 0, "GPU-1")];
    let plan1 = plan(&observed, at(2));
    let Change::CreatePod { pod, .. } = &plan1.changes[0] else { panic!("{:?}", kinds(&plan1)) };
    assert_eq!(pod.metadata.name.as_deref(), Some("holiday-9b1deb-00000-0000"));
    assert_eq!(plan1.demand.unwrap().wanted[0].segment, 1);

    observed.status.done = "0".into();
    assert!(kinds(&plan(&observed, at(2))).contains(&"free"), "segment 0 is done");
    observed.status.done = String::new();
    observed.status.tried = vec!["0:1/0/2/1//GpuBusy".into()];
    assert!(kinds(&plan(&observed, at(2))).contains(&"free"), "attempt 0 has been judged");
    observed.claims = vec![claim(&key, 0, 1, "GPU-1")];
    assert!(kinds(&plan(&observed, at(2))).contains(&"create"));
}

#[test]
fn the_gpu_is_free_once_the_engine_ended_well_and_the_pod_goes_once_recorded() {
    let mut observed = probed(json!({}));
    let key = observed.identity.key.clone();
    observed.claims = vec![claim(&key, 3, 0, "GPU-1")];
    observed.pods = vec![segment(&observed, 3, 0, &engine_done())];
    let freed = plan(&observed, at(20));
    assert_eq!(kinds(&freed)[0], "free");
    step(&mut observed, freed);
    observed.claims.clear();
    observed.pods = vec![segment(&observed, 3, 0, &succeeded())];
    let soon = plan(&observed, at(40));
    assert_eq!(kinds(&soon), Vec::<&str>::new(), "ends are told in batches, and nothing goes before");
    assert!(soon.verdicts.is_empty() && soon.requeue.unwrap() <= Duration::from_secs(10));
    step(&mut observed, soon);
    observed.pods.push(segment(&observed, 4, 0, &succeeded()));
    let done = plan(&observed, at(50));
    assert_eq!(kinds(&done), ["record", "delete", "delete"]);
    assert_eq!(recorded(&done).unwrap().done, "3-4");
    assert_eq!(done.verdicts, [Verdict::Succeeded; 2], "each is counted once");
}

#[test]
fn a_pod_that_is_first_seen_after_its_good_end_frees_its_gpu_at_once() {
    for status in [succeeded(), prepare_failed(Code::AlreadyDone)] {
        let mut observed = probed(json!({}));
        observed.claims = vec![claim(&observed.identity.key, 3, 0, "GPU-1")];
        observed.pods = vec![segment(&observed, 3, 0, &working())];
        let running = plan(&observed, at(20));
        step(&mut observed, running);
        observed.pods = vec![segment(&observed, 3, 0, &status)];
        assert_eq!(kinds(&plan(&observed, at(40))), ["free"], "its end is told with others");
    }
}

#[test]
fn a_busy_gpu_costs_no_attempt_and_cools_down() {
    let mut observed = probed(json!({}));
    let key = observed.identity.key.clone();
    observed.claims = vec![claim(&key, 3, 0, "GPU-1")];
    observed.pods = vec![segment(&observed, 3, 0, &prepare_failed(Code::GpuBusy))];
    let judged = plan(&observed, at(20));
    assert_eq!(kinds(&judged), ["record", "free"], "a failed pod is kept for its log");
    assert_eq!(recorded(&judged).unwrap().tried, ["3:1/0/2/1//GpuBusy"]);
    assert_eq!(judged.verdicts, [Verdict::GpuBusy]);
    step(&mut observed, judged);
    observed.claims.clear();
    let next = plan(&observed, at(21)).demand.unwrap();
    assert_eq!((next.wanted[0].segment, next.wanted[0].attempt), (3, 1), "tried segments come first");
    assert!(next.cooling_gpus.contains_key("GPU-1"));
}

#[test]
fn a_pod_that_no_claim_names_is_deleted_while_it_may_use_a_gpu() {
    let mut observed = probed(json!({}));
    observed.pods = vec![segment(&observed, 3, 0, &working())];
    let ended = plan(&observed, at(20));
    assert_eq!(kinds(&ended), ["record", "delete"]);
    observed.claims = vec![claim(&observed.identity.key, 3, 0, "GPU-1")];
    assert!(!kinds(&plan(&observed, at(20))).contains(&"delete"));
}

#[test]
fn a_pod_that_no_node_takes_frees_its_gpu_once_it_is_gone() {
    let mut observed = probed(json!({}));
    let key = observed.identity.key.clone();
    observed.claims = vec![claim(&key, 3, 0, "GPU-1")];
    let mut waiting = segment(&observed, 3, 0, &json!({"phase": "Pending"}));
    waiting.progress = crate::controllers::video_upscale::seen::Progress::Unscheduled(
        crate::controllers::video_upscale::seen::Hold {
            reason: Some(crate::api::conditions::ScheduledReason::NodeFull),
            message: "Insufficient memory".into(),
            lacks: crate::controllers::video_upscale::seen::Lack::Node,
        },
    );
    observed.pods = vec![waiting];
    let early = plan(&observed, at(10));
    assert_eq!(said(recorded(&early).unwrap(), ConditionType::Scheduled), "False/NodeFull");
    let late = plan(&observed, at(31));
    assert_eq!(kinds(&late), ["record", "delete"]);
    assert_eq!(recorded(&late).unwrap().tried, ["3:1/0/2/1//NotStarted"]);
    step(&mut observed, late);
    observed.pods.clear();
    let gone = plan(&observed, at(33));
    assert!(kinds(&gone).contains(&"free"), "{:?}", kinds(&gone));
    assert!(gone.demand.unwrap().cooling_nodes.contains_key("node-a"));
}

#[test]
fn a_node_that_refuses_a_pod_is_left_alone_for_a_while() {
    let mut observed = probed(json!({}));
    observed.claims = vec![claim(&observed.identity.key, 3, 0, "GPU-1")];
    let status = json!({"phase": "Failed", "reason": "TopologyAffinityError", "message": "Resources cannot be aligned"});
    observed.pods = vec![segment(&observed, 3, 0, &status)];
    let judged = plan(&observed, at(20));
    assert_eq!(recorded(&judged).unwrap().tried, ["3:1/0/2/1//Disrupted"]);
    let demand = judged.demand.clone().unwrap();
    assert_eq!(demand.cooling_nodes["node-a"].0, at(80));
    assert!(demand.wanted[0].avoid_nodes.contains("node-a"));
}

#[test]
fn a_vanished_pod_quarantines_its_gpu() {
    let mut observed = probed(json!({}));
    observed.claims = vec![claim(&observed.identity.key, 3, 0, "GPU-1")];
    observed.pods = vec![segment(&observed, 3, 0, &working())];
    let running = plan(&observed, at(20));
    step(&mut observed, running);
    observed.pods.clear();
    let gone = plan(&observed, at(40));
    assert_eq!(kinds(&gone), ["record", "quarantine"]);
    assert_eq!(recorded(&gone).unwrap().tried, ["3:1/0/2/1//Disrupted"]);
}

/// Another controller may be about to make the pod of a claim that this one has no use for.
#[test]
fn what_another_process_has_claimed_is_completed_and_never_undone() {
    type Scene = (&'static str, bool, fn(&mut Observed));
    let scenes: [Scene; 7] = [
        ("it is due", true, |_| ()),
        ("pods are refused", false, |observed| {
            observed.memory.refused = Some((at(60), "exceeded quota gpu-pods".into()));
        }),
        ("its step is not offered", false, |observed| observed.job.as_mut().unwrap().last_step = Some(1)),
        ("its segment is done", false, |observed| observed.status.done = "0".into()),
        ("the job is suspended", false, |observed| observed.job.as_mut().unwrap().suspend = true),
        ("the job is deleted", false, |observed| observed.identity.deleting = true),
        ("the job is paused", false, |observed| observed.identity.paused = true),
    ];
    for (name, due, set) in scenes {
        for (actor, undone) in [("a", !due), ("b", false)] {
            let mut observed = probed(json!({}));
            observed.claims =
                vec![Claim { actor: actor.into(), ..claim(&observed.identity.key, 0, 0, "GPU-1") }];
            set(&mut observed);
            let planned = plan(&observed, at(10));
            let kinds = kinds(&planned);
            assert_eq!(
                (kinds.contains(&"free"), kinds.contains(&"create")),
                (undone, due),
                "{name}: {actor}"
            );
            let mut asked = planned.demand.iter().flat_map(|demand| demand.wanted.iter());
            let again = asked.any(|wanted| wanted.segment == 0);
            assert!(undone || !again, "{name}: {actor}: no second GPU meanwhile");
        }
    }
}

#[test]
fn a_refused_pod_is_told_and_nothing_is_asked_for_meanwhile() {
    let mut observed = probed(json!({}));
    observed.memory.refused = Some((at(60), "exceeded quota gpu-pods".into()));
    let refused = plan(&observed, at(10));
    let status = recorded(&refused).unwrap();
    assert_eq!(said(status, ConditionType::Scheduled), "False/PodsForbidden");
    assert!(refused.demand.unwrap().wanted.is_empty());
    assert!(!plan(&observed, at(61)).demand.unwrap().wanted.is_empty());
}
