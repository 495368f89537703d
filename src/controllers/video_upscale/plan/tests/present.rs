//! Which plans are made again from what is there now, and of what.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::super::fixtures::*;
use super::super::*;
use crate::api::conditions::ConditionType;
use crate::api::worker::Code;

/// What the plan of that world needs to see as it is now.
fn needs(observed: &Observed) -> Sight {
    needed(observed, &plan_of(observed))
}

fn plan_of(observed: &Observed) -> Plan {
    plan(observed, at(20))
}

/// A probed job with one claim, of segment 0, and a pod of that state on its GPU.
fn with_pod(status: &Value) -> Observed {
    let mut observed = probed(json!({}));
    let pod = segment(&observed, 0, 0, status);
    observed.memory.note_made(0, 0, Some(&pod.uid));
    observed.pods = vec![pod];
    observed.claims = vec![claim(&observed.identity.key, 0, 0, "GPU-1")];
    observed
}

#[test]
fn what_was_seen_stays_true() {
    assert_eq!(needs(&probed(json!({}))), Sight::Heard, "everything waits");
    let mut granted = probed(json!({}));
    granted.claims = vec![claim(&granted.identity.key, 3, 0, "GPU-1")];
    assert_eq!(kinds(&plan_of(&granted))[0], "create");
    assert_eq!(needs(&granted), Sight::Object, "a GPU is given and its pod is made");
    assert_eq!(needs(&with_pod(&working())), Sight::Heard, "it works");
    let ends = [
        ("free", engine_done()),
        ("free", succeeded()),
        ("record", prepare_failed(Code::GpuBusy)),
        ("record", engine_failed(&out_of_memory(4.0, 10.0, 0.0))),
    ];
    for (first, status) in ends {
        let observed = with_pod(&status);
        assert_eq!(kinds(&plan_of(&observed))[0], first, "{status}");
        assert_eq!(needs(&observed), Sight::Heard, "{status}");
    }
}

#[test]
fn what_was_not_seen_is_looked_for() {
    let mut vanished = with_pod(&working());
    vanished.pods.clear();
    assert_eq!(needs(&vanished), Sight::Everything, "a pod that was made is gone");
    let mut unclaimed = with_pod(&working());
    unclaimed.claims.clear();
    assert_eq!(kinds(&plan_of(&unclaimed)), ["record", "delete"]);
    assert_eq!(needs(&unclaimed), Sight::Everything, "a pod works on a GPU that is not its own any more");
    let mut unused = probed(json!({"suspend": true}));
    unused.claims = vec![claim(&unused.identity.key, 3, 0, "GPU-1")];
    assert!(kinds(&plan_of(&unused)).contains(&"free"));
    assert_eq!(needs(&unused), Sight::Everything, "a claim without a pod is undone");
    let mut anothers = with_pod(&engine_done());
    anothers.claims[0].actor = "another".into();
    assert_eq!(kinds(&plan_of(&anothers))[0], "free");
    assert_eq!(needs(&anothers), Sight::Everything, "another process may have made a pod of that name since");
    let mut going = probed(json!({"suspend": true}));
    going.pods = vec![segment(&going, 0, 0, &working())];
    going.pods[0].deleting = true;
    assert!(!kinds(&plan_of(&going)).contains(&"delete") && !plan_of(&going).changes.is_empty());
    assert_eq!(needs(&going), Sight::Everything, "a pod that is being deleted may have ended well");
    let mut lost = with_pod(&working());
    lost.nodes.insert("node-a".into(), Trouble::Lost);
    assert_eq!(needs(&lost), Sight::Everything, "a pod whose node is gone");
    assert_eq!(needs(&observed(json!({}))), Sight::Everything, "a probe is made");
    let mut done = probed(json!({}));
    done.status.done = "0-7".into();
    assert_eq!(needs(&done), Sight::Everything, "a merge is made");
    let mut failed = probed(json!({"activeDeadlineSeconds": 60}));
    failed.status.start_time = Some(Time(at(-100)));
    assert!(
        recorded(&plan_of(&failed))
            .is_some_and(|status| said(status, ConditionType::Failed).starts_with("True"))
    );
    assert_eq!(needs(&failed), Sight::Everything, "the job ends");
    let mut told = with_pod(&succeeded());
    told.status.done = "0".into();
    let before = plan_of(&told);
    step(&mut told, before);
    assert!(kinds(&plan_of(&told)).contains(&"delete"));
    assert_eq!(needs(&told), Sight::Object, "a pod goes whose end was recorded before");
    let mut over = probed(json!({}));
    let end = plan_of(&failed);
    step(&mut over, end);
    assert_eq!(plan_of(&over).requeue, None);
    assert_eq!(needs(&over), Sight::Object, "nobody looks again by himself");
}
