//! What ends of memory lead to: whose step falls, and whose does not.

use serde_json::json;

use super::super::fixtures::*;
use super::super::*;
use crate::api::conditions::ConditionType;
use crate::api::quantity::GIB;

/// An attempt of that segment on that card, with its claim.
fn add(observed: &mut Observed, number: u32, attempt: u32, gpu: &str, text: &str) {
    let mut pod = segment(observed, number, attempt, &engine_failed(text));
    pod.gpu = Some(gpu.to_owned());
    observed.pods.push(pod);
    observed.claims.push(claim(&observed.identity.key.clone(), number, attempt, gpu));
}

/// A job that runs at step 2.
fn running(spec: serde_json::Value) -> Observed {
    let mut observed = probed(spec);
    observed.fleet.largest_gpu = Some(12 * GIB);
    observed.outlook = Some(Outlook { effective_step: Some(2), ..Outlook::default() });
    let told = plan(&observed, at(2));
    step(&mut observed, told);
    observed
}

#[test]
fn a_neighbours_fault_keeps_its_step_although_another_card_is_misjudged_in_the_same_instant() {
    let mut observed = running(json!({}));
    add(&mut observed, 0, 0, "GPU-1", &out_of_memory(9.0, 10.0, 0.0));
    add(&mut observed, 1, 0, "GPU-2", &out_of_memory(2.0, 2.0, 9.5));
    observed.views.insert("GPU-2".into(), crowded(9));
    let judged = plan(&observed, at(20));
    assert_eq!(judged.verdicts, [Verdict::OwnDemand, Verdict::ForeignProcess]);
    assert_eq!(recorded(&judged).unwrap().tried, ["0:1/1/3/1//OwnDemand", "1:1/0/2/1//ForeignProcess"]);
    let demand = judged.demand.clone().unwrap();
    let best = &demand.steps[0];
    assert_eq!(
        (best.step, best.on("L40S"), best.on_card("L40S", "gpu-2")),
        (2, best.need_bytes, best.need_bytes)
    );
    assert_eq!(best.on_card("L40S", "GPU-1"), 19 * GIB);
    let due: Vec<_> = demand.wanted.iter().take(2).map(|w| (w.segment, w.first_step, w.keep)).collect();
    assert_eq!(due, [(0, 3, None), (1, 2, Some(2))]);
    assert_eq!(judged.lessons.len(), 1, "4 GiB are less than the estimate: {:?}", judged.lessons);
    step(&mut observed, judged);
    observed.pods.clear();
    observed.claims.clear();
    let later = plan(&observed, at(81)).demand.unwrap();
    assert_eq!(later.wanted[1].keep, None, "its step is waited for as long as patience lasts");
}

#[test]
fn never_tries_the_largest_card_once_more_and_no_segment_falls() {
    let mut observed = running(json!({"degradation": {"policy": "Never"}}));
    assert_eq!(plan(&observed, at(3)).demand.unwrap().steps.iter().map(|s| s.step).collect::<Vec<_>>(), [2]);
    add(&mut observed, 0, 0, "GPU-1", &out_of_memory(9.0, 10.0, 0.0));
    let first = plan(&observed, at(20));
    let demand = first.demand.clone().unwrap();
    assert!(demand.wanted[0].largest_only && demand.patience.is_none());
    assert_eq!(demand.steps.len(), 1);
    assert!(demand.steps[0].on_card("L40S", "GPU-1") <= 11 * GIB, "an empty card of 12 GiB is worth a try");
    step(&mut observed, first);
    observed.pods.clear();
    observed.claims.clear();
    add(&mut observed, 0, 1, "GPU-2", &out_of_memory(9.0, 10.0, 0.0));
    let second = plan(&observed, at(40));
    assert_eq!(said(recorded(&second).unwrap(), ConditionType::Failed), "True/OutOfGpuMemory");
}

#[test]
fn uniform_does_not_wait_for_a_need_that_no_card_has() {
    let mut observed = running(json!({"degradation": {"consistency": "Uniform"}}));
    let Profile::Frozen { learned, .. } = &mut observed.profile else { panic!("not begun") };
    learned.learned.push(crate::api::profile::Learned {
        gpu_model: "L40S".into(),
        step: 2,
        picture_class: "648x368@2".into(),
        need_bytes: 40_i64 << 30,
        gpu: None,
        first: None,
        samples: 3,
        last_seen: status::whole_seconds(at(0)),
    });
    let demand = plan(&observed, at(5)).demand.unwrap();
    assert_eq!(demand.steps.len(), 1);
    assert_eq!(demand.steps[0].on("L40S"), 11 * GIB, "its own demand lowers it, and nothing else does");
    let Profile::Frozen { learned, .. } = &mut observed.profile else { panic!("not begun") };
    learned.learned_of = Some("of another engine".into());
    let demand = plan(&observed, at(5)).demand.unwrap();
    assert_eq!(demand.steps[0].on("L40S"), demand.steps[0].need_bytes);
}

#[test]
fn what_another_job_of_ours_held_just_before_is_no_neighbour() {
    let mut observed = running(json!({}));
    add(&mut observed, 0, 0, "GPU-1", "CUDA error: out of memory");
    let mut view = crowded(0);
    let before = json!({"k": "pod", "u": "of-another-job", "p": 78, "b": 0, "pk": 9 * GIB, "t": "CE"});
    view.gpu.procs.as_mut().unwrap().top = vec![serde_json::from_value(before).unwrap()];
    observed.views.insert("GPU-1".into(), view);
    assert_eq!(plan(&observed, at(20)).verdicts, [Verdict::ForeignProcess]);
    observed.last_pods.insert("GPU-1".into(), ["of-another-job".to_owned()].into());
    assert_ne!(plan(&observed, at(20)).verdicts, [Verdict::ForeignProcess]);
}

#[test]
fn a_larger_host_limit_is_tried_where_a_node_has_it() {
    for (largest, tried) in [(Some(96), "m"), (Some(95), ""), (None, "")] {
        let mut observed = running(json!({}));
        add(&mut observed, 0, 0, "GPU-1", "");
        let pod = Arc::make_mut(&mut observed.pods[0].pod);
        pod.requests.memory_bytes = 64 * GIB;
        let engine = &mut pod.status.init_container_statuses.as_mut().unwrap()[1];
        engine.state.as_mut().unwrap().terminated.as_mut().unwrap().reason = Some("OOMKilled".into());
        observed.fleet.largest_host_bytes = largest.map(|gib: u64| gib * GIB);
        let judged = plan(&observed, at(20));
        assert_eq!(judged.verdicts, [Verdict::HostMemory]);
        assert_eq!(
            recorded(&judged).unwrap().tried,
            [format!("0:1/1/2/2/{tried}/HostMemory")],
            "{largest:?}"
        );
    }
}

#[test]
fn a_segment_below_the_steps_that_are_left_comes_back_to_the_lowest_of_them() {
    let mut observed = running(json!({"steps": {"first": 2, "last": 4}}));
    observed.status.tried = vec!["0:1/1/6/1//OwnDemand".into(), "1:1/1/3/1//OwnDemand".into()];
    let later = plan(&observed, at(20));
    let due: Vec<_> =
        later.demand.unwrap().wanted.iter().take(2).map(|w| (w.segment, w.first_step)).collect();
    assert_eq!(due, [(0, 4), (1, 3)]);

    // Automatic until now, and from now on nothing below the step that was begun with.
    let mut observed = running(json!({"degradation": {"policy": "Never"}}));
    observed.status.tried = vec!["0:1/1/6/1//OwnDemand".into()];
    let wanted = plan(&observed, at(20)).demand.unwrap().wanted;
    assert_eq!((wanted[0].segment, wanted[0].first_step), (0, 2));

    // All have one step: the lowest that is left, once and not in each pass.
    let mut observed = running(json!({"steps": {"last": 4}, "degradation": {"consistency": "Uniform"}}));
    observed.status.tried = vec!["0:1/1/6/1//OwnDemand".into()];
    let lower = plan(&observed, at(20));
    step(&mut observed, lower);
    assert_eq!((observed.status.round, observed.status.effective.as_ref().unwrap().step), (Some(1), 4));
    let after = plan(&observed, at(40));
    step(&mut observed, after);
    assert_eq!(observed.status.round, Some(1));
}
