//! The first phases: the profile, the probe, what is wrong with the input or around the job, and what it waits for.

use serde_json::{Value, json};

use super::super::fixtures::*;
use super::super::*;
use crate::api::conditions::{ConditionType, find};
use crate::api::keys::Role;
use crate::api::quantity::GIB;
use crate::api::worker::Code;
use crate::fleet::demand::{Cause, Wait};
use crate::profile::testdata::flashvsr;

#[test]
fn the_first_pass_freezes_the_profile_makes_the_probe_and_says_so() {
    let observed = observed(json!({}));
    let plan = plan(&observed, at(0));
    assert_eq!(kinds(&plan), ["freeze", "create", "record"]);
    let status = recorded(&plan).unwrap();
    assert_eq!(said(status, ConditionType::Complete), "False/Probing");
    assert_eq!(said(status, ConditionType::Failed), "False/NoFinalFailure");
    assert_eq!(said(status, ConditionType::Finished), "False/Probing");
    assert_eq!(said(status, ConditionType::Scheduled), "Unknown/NotPlanned");
    assert_eq!(status.profile.as_ref().unwrap().revision, "holiday-9b1deb-profile");
    assert!(plan.requeue.is_some() && plan.demand.is_none());
}

#[test]
fn a_second_pass_over_an_unchanged_world_writes_nothing() {
    let mut observed = observed(json!({}));
    let first = plan(&observed, at(0));
    step(&mut observed, first);
    observed.profile =
        Profile::Frozen { spec: Box::new(flashvsr()), learned: UpscaleProfileStatus::default() };
    let running =
        json!({"phase": "Running", "containerStatuses": [container("probe", &json!({"running": {}}))]});
    observed.pods = vec![single(&observed, Role::Probe, 0, &running)];
    assert_eq!(kinds(&plan(&observed, at(3))), Vec::<&str>::new());
}

#[test]
fn the_probes_figures_become_status_before_its_pod_goes() {
    let observed = probed(json!({}));
    assert_eq!(observed.status.progress.as_deref(), Some("0/8"));
    assert_eq!(observed.status.video.as_ref().unwrap().duration, "20s");
    let plan = plan(&observed, at(2));
    let demand = plan.demand.unwrap();
    assert_eq!(demand.wanted.len(), 8);
    assert_eq!((demand.wanted[0].segment, demand.wanted[0].attempt), (0, 0));
    assert_eq!(demand.steps[0].step, 2);
    assert!(demand.requests.memory_bytes > GIB);
}

#[test]
fn bad_input_ends_with_its_word_and_its_message() {
    let broken = |code: Code, message: &str| {
        json!({"phase": "Failed", "containerStatuses": [
            container("probe", &terminated(i32::from(code.exit_code()), &end(code, message)))]})
    };
    for (code, word) in [
        (Code::SourceNotFound, "SourceNotFound"),
        (Code::InvalidSource, "InvalidSource"),
        (Code::UnsupportedSource, "UnsupportedSource"),
        (Code::DestinationExists, "DestinationExists"),
        (Code::DestinationNotWritable, "DestinationNotWritable"),
    ] {
        let mut observed = observed(json!({}));
        let first = plan(&observed, at(0));
        step(&mut observed, first);
        observed.pods = vec![single(&observed, Role::Probe, 0, &broken(code, "in/a.mp4 is so"))];
        let second = plan(&observed, at(1));
        let status = recorded(&second).unwrap();
        for kind in [ConditionType::Failed, ConditionType::Finished, ConditionType::Stalled] {
            assert_eq!(said(status, kind), format!("True/{word}"), "{code:?}");
        }
        assert_eq!(said(status, ConditionType::Complete), format!("False/{word}"));
        assert!(find(&status.conditions, ConditionType::Failed).unwrap().message.contains("in/a.mp4 is so"));
        assert_eq!(second.events.len(), 1);
        step(&mut observed, second);
        assert_eq!(kinds(&plan(&observed, at(2))), Vec::<&str>::new(), "never a loop: {code:?}");
    }
}

#[test]
fn what_is_wrong_around_the_job_is_said() {
    let mut no_profile = observed(json!({"profile": "fast"}));
    no_profile.profile = Profile::Missing { message: "profile \"fast\" is not offered".into() };
    let failed = plan(&no_profile, at(0));
    assert_eq!(said(recorded(&failed).unwrap(), ConditionType::Failed), "True/ProfileNotFound");

    let steps = plan(&observed(json!({"steps": {"first": 12, "last": 14}})), at(0));
    assert_eq!(said(recorded(&steps).unwrap(), ConditionType::Failed), "True/StepsOutOfRange");

    let mut no_claim = observed(json!({}));
    no_claim.volumes.missing = vec!["media".into()];
    let stalled = plan(&no_claim, at(0));
    let status = recorded(&stalled).unwrap();
    assert_eq!(said(status, ConditionType::Stalled), "True/NeedsUser");
    assert_eq!(said(status, ConditionType::Failed), "False/NoFinalFailure");
    assert!(find(&status.conditions, ConditionType::Stalled).unwrap().message.contains("media"));
    step(&mut no_claim, stalled);
    no_claim.volumes.missing.clear();
    let mended = plan(&no_claim, at(5));
    assert_eq!(said(recorded(&mended).unwrap(), ConditionType::Stalled), "", "goes on by itself");

    let mut elsewhere = observed(json!({}));
    elsewhere.other_release = Some("other".into());
    let left = plan(&elsewhere, at(0));
    assert_eq!(kinds(&left), ["record"]);
    assert_eq!(said(recorded(&left).unwrap(), ConditionType::Scheduled), "False/OtherRelease");
}

#[test]
fn a_scale_that_the_profile_does_not_offer_fails_before_any_probe() {
    let offers = |wanted: Value| {
        let mut observed = observed(wanted);
        let mut spec = flashvsr();
        spec.scales = vec![2, 4];
        observed.profile = Profile::Found {
            name: "flashvsr".into(),
            spec: Box::new(spec),
            learned: UpscaleProfileStatus::default(),
        };
        observed
    };
    let refused = plan(&offers(json!({"scale": 3})), at(0));
    assert_eq!(kinds(&refused), ["record"]);
    let status = recorded(&refused).unwrap();
    assert_eq!(said(status, ConditionType::Failed), "True/StepsOutOfRange");
    assert_eq!(
        find(&status.conditions, ConditionType::Failed).unwrap().message,
        "scale 3 is not offered by profile flashvsr; offered: 2, 4"
    );
    for wanted in [json!({}), json!({"scale": 4})] {
        assert_eq!(kinds(&plan(&offers(wanted), at(0))), ["freeze", "create", "record"]);
    }
}

#[test]
fn a_job_that_its_own_release_has_touched_is_left_to_it() {
    let mut theirs = probed(json!({}));
    theirs.other_release = Some("other".into());
    theirs.claims = vec![claim(&theirs.identity.key, 3, 0, "GPU-1")];
    let left = plan(&theirs, at(2));
    assert_eq!(kinds(&left), ["free"], "no word about it, and nothing held for it");
    assert!(left.demand.is_none());

    let mut fresh = observed(json!({}));
    fresh.other_release = Some("other".into());
    let told = plan(&fresh, at(0));
    step(&mut fresh, told);
    assert_eq!(kinds(&plan(&fresh, at(60))), Vec::<&str>::new(), "told once");
    fresh.other_release = None;
    let taken = plan(&fresh, at(61));
    assert_eq!(said(recorded(&taken).unwrap(), ConditionType::Complete), "False/Probing");
    step(&mut fresh, taken);
    fresh.other_release = Some("other".into());
    assert_eq!(kinds(&plan(&fresh, at(62))), Vec::<&str>::new());
}

#[test]
fn a_probe_is_judged_whatever_the_clocks_say() {
    let mut observed = observed(json!({}));
    // The API server's clock, which dates the pod, is an hour behind ours, which dates the conditions.
    let first = plan(&observed, at(3600));
    step(&mut observed, first);
    let gone = json!({"phase": "Failed", "containerStatuses": [
        container("probe", &terminated(i32::from(Code::SourceNotFound.exit_code()), &end(Code::SourceNotFound, "no")))]});
    observed.pods = vec![single(&observed, Role::Probe, 0, &gone)];
    let failed = plan(&observed, at(3601));
    assert_eq!(said(recorded(&failed).unwrap(), ConditionType::Failed), "True/SourceNotFound");
    step(&mut observed, failed);
    observed.identity.retry_failed = Some("1".into());
    let cleared = plan(&observed, at(3700));
    assert_eq!(kinds(&cleared)[0], "delete", "the old end goes first");
    assert!(recorded(&cleared).is_none() && cleared.requeue.unwrap() <= Duration::from_secs(1));
    step(&mut observed, cleared);
    observed.pods.clear();
    let again = plan(&observed, at(3701));
    assert_eq!(said(recorded(&again).unwrap(), ConditionType::Failed), "False/NoFinalFailure");
    assert!(kinds(&again).contains(&"create"));
}

#[test]
fn waits_are_told_with_numbers_and_not_again_while_nothing_changes() {
    for (causes, reason) in [
        (&[][..], "ReportMissing"),
        (&[(Cause::TooSmall, 4)], "NotEnoughFreeMemory"),
        (&[(Cause::NodeUnschedulable, 4)], "NodeUnschedulable"),
        (&[(Cause::NodeFull, 4)], "NodeFull"),
        (&[(Cause::VolumeNotHere, 4)], "VolumeNotHere"),
    ] {
        let mut observed = probed(json!({}));
        observed.outlook = Some(Outlook {
            unplaced: 8,
            wait: Wait {
                looked_at: causes.iter().map(|c| c.1).sum(),
                causes: causes.iter().copied().collect(),
                ..Wait::default()
            },
            ..Outlook::default()
        });
        let told = plan(&observed, at(2));
        let status = recorded(&told).unwrap();
        assert_eq!(said(status, ConditionType::Scheduled), format!("False/{reason}"));
        assert_eq!(said(status, ConditionType::Complete), "False/WaitingForGpu");
        let message = |kind| find(&status.conditions, kind).map(|told| told.message.as_str());
        assert_eq!(
            message(ConditionType::Complete),
            message(ConditionType::Scheduled),
            "one wait, told once"
        );
        assert_eq!(told.events.len(), 1);
        step(&mut observed, told);
        observed.outlook.as_mut().unwrap().wait.need_bytes = 5;
        let again = plan(&observed, at(90));
        assert_eq!(
            (kinds(&again), again.events.len()),
            (vec![], 0),
            "{reason}: figures that moved rewrite nothing"
        );
    }
}

#[test]
fn the_first_gpu_is_told_of_once_be_it_seen_as_a_claim_or_as_a_pod() {
    let started = |plan: &Plan| plan.events.iter().filter(|event| event.reason == "Started").count();
    let mut observed = probed(json!({}));
    observed.claims = vec![claim(&observed.identity.key, 0, 0, "GPU-1")];
    let claimed = plan(&observed, at(2));
    assert_eq!((started(&claimed), claimed.events[0].note.as_str()), (1, "First segment on node-a #0"));
    step(&mut observed, claimed);
    observed.pods = vec![segment(&observed, 0, 0, &working())];
    let runs = plan(&observed, at(3));
    assert_eq!(started(&runs), 0);
    let mut observed = probed(json!({}));
    observed.pods = vec![segment(&observed, 0, 0, &working())];
    observed.claims = vec![claim(&observed.identity.key, 0, 0, "GPU-1")];
    assert_eq!(started(&plan(&observed, at(2))), 1);
}
