//! What is really sent, and what follows from refusals: a recording API that answers as it is told.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use kube::client::Body;
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::reflector;
use serde_json::{Value, json};

use super::*;
use crate::controllers::video_upscale::context::Parts;
use crate::controllers::video_upscale::plan::fixtures::{at, claim, observed, probed, segment};
use crate::controllers::video_upscale::plan::{self, Observed};
use crate::fleet::{FleetConfig, FleetHandle};
use crate::telemetry::Telemetry;

type Answers = fn(&str, &str) -> Option<(u16, &'static str)>;

/// A context over an API server that keeps a log of `METHOD path` and refuses what `answers` says.
fn context(answers: Answers) -> (Context, Arc<Mutex<Vec<String>>>) {
    let log = Arc::new(Mutex::new(Vec::new()));
    let seen = log.clone();
    let api = tower::service_fn(move |request: axum::http::Request<Body>| {
        let seen = seen.clone();
        async move {
            let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
            seen.lock().unwrap().push(format!("{method} {path}"));
            let sent = request.into_body().collect_bytes().await.unwrap();
            let mut sent: Value = serde_json::from_slice(&sent).unwrap_or_else(|_| json!({}));
            if path.ends_with("/status") {
                sent["spec"] = json!({"source": {"claim": {"name": "m"}, "path": "a"},
                                      "destination": {"claim": {"name": "m"}, "path": "b"}});
            }
            let (code, body) = match answers(&method, &path) {
                Some((code, reason)) => (
                    code,
                    json!({"kind": "Status", "apiVersion": "v1", "metadata": {},
                    "status": "Failure", "reason": reason, "message": format!("{reason} by order"), "code": code}),
                ),
                None if method == "GET" && path.contains("upscaleprofiles") => (200, profile()),
                None if method == "GET" => (200, owned_pod("uid-of-the-job")),
                None => (200, sent),
            };
            let answer =
                axum::http::Response::builder().status(code).body(Body::from(body.to_string().into_bytes()));
            Ok::<_, std::convert::Infallible>(answer.unwrap())
        }
    });
    let client = kube::Client::new(api, "default");
    let config = FleetConfig { namespace: "ops".into(), actor: "a".into(), watch_namespaces: Vec::new() };
    let reporter = Reporter { controller: "test".into(), instance: None };
    let context = Context::new(Parts {
        fleet: FleetHandle::new(config),
        recorder: Recorder::new(client.clone(), reporter),
        client,
        telemetry: Telemetry::new(),
        release: observed(json!({})).release,
        cluster: "c".into(),
        clusterwide: true,
        jobs: Vec::new(),
        profiles: reflector::store().0,
    });
    (context, log)
}

fn owned_pod(uid: &str) -> Value {
    json!({"metadata": {"name": "x", "ownerReferences": [
        {"apiVersion": keys::API_VERSION, "kind": "VideoUpscale", "name": "holiday", "uid": uid, "controller": true}]},
        "spec": {"containers": []}})
}

fn profile() -> Value {
    let spec = crate::profile::testdata::flashvsr();
    let mut profile = crate::api::profile::UpscaleProfile::new("flashvsr", spec);
    profile.metadata.resource_version = Some("7".to_owned());
    serde_json::to_value(profile).unwrap()
}

/// A pass that records an end that has taught something.
fn taught(observed: &Observed) -> Plan {
    let mut plan = planned(observed, vec![record()]);
    plan.profile = Some("flashvsr".to_owned());
    plan.lessons_of = crate::profile::digest(&crate::profile::testdata::flashvsr());
    plan.lessons =
        vec![plan::Lesson::Incompatible { model: "L40S".into(), reason: "no kernel image".into() }];
    plan
}

fn job() -> Observed {
    let mut observed = observed(json!({}));
    observed.identity.key.uid = "uid-of-the-job".into();
    observed
}

fn planned(observed: &Observed, changes: Vec<Change>) -> Plan {
    let mut plan = plan::plan(observed, at(0));
    plan.changes = changes;
    plan
}

fn create(observed: &Observed) -> Change {
    let metadata = segment(observed, 3, 0, &json!({})).pod.meta.clone();
    let pod = Pod { metadata, ..Pod::default() };
    Change::CreatePod {
        pod: Box::new(pod),
        claim: Some(Box::new(claim(&observed.identity.key, 3, 0, "GPU-1"))),
    }
}

fn record() -> Change {
    Change::RecordStatus(Box::default())
}

const POD: &str = "/api/v1/namespaces/media/pods/";

/// A pod may be on its way though nobody has answered: its GPU must not go to anybody else meanwhile.
#[tokio::test]
async fn a_create_without_an_answer_leaves_a_doubt_and_its_gpu_claimed() {
    for (answers, doubted) in [
        ((|_, path: &str| path.ends_with("pods").then_some((504, "Timeout"))) as Answers, true),
        (|_, path| path.ends_with("status").then_some((500, "InternalError")), true),
        (|_, _| None, false),
    ] {
        let (ctx, _) = context(answers);
        let mut observed = job();
        let plan = planned(&observed, vec![create(&observed), record()]);
        assert_eq!(act(&observed.identity, plan, &ctx, at(0)).await.is_err(), doubted);
        observed.memory = ctx.memory_of(&observed.identity.key);
        observed.claims = vec![claim(&observed.identity.key, 3, 0, "GPU-1")];
        observed.job.as_mut().unwrap().suspend = true;
        let frees = |seconds: i64| {
            let changes = plan::plan(&observed, at(seconds)).changes;
            changes.iter().any(|change| matches!(change, Change::Release { .. }))
        };
        assert_eq!((frees(89), frees(91)), (!doubted, true));
    }
}

#[tokio::test]
async fn a_pod_that_is_there_already_and_ours_is_made() {
    let (ctx, log) = context(|method, path| {
        (method == "POST" && path.ends_with("pods")).then_some((409, "AlreadyExists"))
    });
    let observed = job();
    act(&observed.identity, planned(&observed, vec![create(&observed), record()]), &ctx, at(0))
        .await
        .unwrap();
    let log = log.lock().unwrap().clone();
    assert!(log.iter().any(|line| line.starts_with("PATCH") && line.ends_with("/holiday/status")), "{log:?}");
    assert_eq!(ctx.memory_of(&observed.identity.key).refused, None);
}

#[tokio::test]
async fn a_name_taken_by_another_gives_the_claim_back() {
    let (ctx, log) = context(|method, path| {
        (method == "POST" && path.ends_with("pods")).then_some((409, "AlreadyExists"))
    });
    let mut observed = job();
    observed.identity.key.uid = "another".into();
    act(&observed.identity, planned(&observed, vec![create(&observed)]), &ctx, at(0)).await.unwrap();
    assert!(log.lock().unwrap().iter().any(|line| line.contains("/leases")), "released");
    assert!(ctx.memory_of(&observed.identity.key).refused.unwrap().1.contains("not this job's"));
}

#[tokio::test]
async fn a_refused_pod_gives_the_claim_back_and_the_pass_goes_on() {
    for (code, reason) in [(403, "Forbidden"), (422, "Invalid")] {
        let answers: Answers = match code {
            403 => |method, path| (method == "POST" && path.ends_with("pods")).then_some((403, "Forbidden")),
            _ => |method, path| (method == "POST" && path.ends_with("pods")).then_some((422, "Invalid")),
        };
        let (ctx, log) = context(answers);
        let observed = job();
        act(&observed.identity, planned(&observed, vec![create(&observed), record()]), &ctx, at(0))
            .await
            .unwrap();
        let log = log.lock().unwrap().clone();
        let lease = log.iter().position(|line| line.contains("/leases")).unwrap();
        let status = log.iter().position(|line| line.ends_with("/status")).unwrap();
        assert!(lease < status, "{log:?}");
        let (until, message) = ctx.memory_of(&observed.identity.key).refused.unwrap();
        assert_eq!((until, message), (at(60), format!("{reason} by order")));
    }
}

#[tokio::test]
async fn a_pass_stops_at_the_first_change_that_did_not_go_through() {
    let (ctx, log) = context(|_, path| path.ends_with("/status").then_some((409, "Conflict")));
    let observed = job();
    let delete = Change::DeletePod { name: "p".into(), uid: "u".into() };
    let failed = act(&observed.identity, planned(&observed, vec![record(), delete]), &ctx, at(0)).await;
    assert!(failed.unwrap_err().is_conflict());
    assert!(!log.lock().unwrap().iter().any(|line| line.starts_with("DELETE")));
    assert_eq!(ctx.memory_of(&observed.identity.key), Memory::default(), "nothing is remembered of it");

    let (ctx, log) = context(|method, path| {
        (method == "POST" && path.ends_with("pods")).then_some((500, "InternalError"))
    });
    let failed =
        act(&observed.identity, planned(&observed, vec![create(&observed), record()]), &ctx, at(0)).await;
    assert!(!failed.unwrap_err().is_conflict());
    assert!(
        !log.lock().unwrap().iter().any(|line| line.ends_with("/status")),
        "uncertain: nothing is decided on it"
    );
}

#[tokio::test]
async fn a_status_that_is_refused_for_its_size_is_written_short_and_the_pass_goes_on() {
    let refuse: [Answers; 2] = [
        |method, path| {
            (method == "PATCH" && path.ends_with("/status")).then_some((413, "RequestEntityTooLarge"))
        },
        |method, path| (method == "PATCH" && path.ends_with("/status")).then_some((422, "Invalid")),
    ];
    for answers in refuse {
        let (ctx, log) = context(answers);
        let observed = job();
        let failed = act(&observed.identity, planned(&observed, vec![record()]), &ctx, at(0)).await;
        assert!(failed.is_err(), "the short one is refused too");
        let tries = log.lock().unwrap().iter().filter(|line| line.ends_with("/status")).count();
        assert_eq!(tries, 2, "a second one, and no more");
    }
    static REFUSED: AtomicBool = AtomicBool::new(false);
    let (ctx, log) = context(|method, path| {
        let first = method == "PATCH" && path.ends_with("/status") && !REFUSED.swap(true, Ordering::AcqRel);
        first.then_some((422, "Invalid"))
    });
    let observed = job();
    let delete = Change::DeletePod { name: "p".into(), uid: "u".into() };
    act(&observed.identity, planned(&observed, vec![record(), delete]), &ctx, at(0)).await.unwrap();
    assert!(ctx.memory_of(&observed.identity.key).short, "and from then on");
    assert!(log.lock().unwrap().iter().any(|line| line.starts_with("DELETE")));
}

#[tokio::test]
async fn what_is_gone_need_not_be_deleted() {
    let (ctx, log) = context(|method, _| (method == "DELETE").then_some((404, "NotFound")));
    let observed = job();
    let delete = Change::DeletePod { name: "p".into(), uid: "u".into() };
    act(&observed.identity, planned(&observed, vec![delete]), &ctx, at(0)).await.unwrap();
    assert_eq!(log.lock().unwrap()[0], format!("DELETE {POD}p"));
}

#[tokio::test]
async fn a_quarantine_begins_with_the_end_of_the_pod_and_not_when_it_is_written() {
    let (ctx, _) = context(|_, _| None);
    let mut observed = probed(json!({}));
    let end = json!({"terminated": {"exitCode": 137, "finishedAt": at(7).to_string()}});
    let status = json!({"phase": "Failed", "initContainerStatuses": [
        {"name": "upscale", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": end}]});
    for (tried, pods, expected) in [
        (vec!["3:1/0/2/1//LeakedMemory".to_owned()], vec![segment(&observed, 3, 0, &status)], at(7)),
        (Vec::new(), Vec::new(), at(100)),
    ] {
        observed.status.tried = tried;
        observed.pods = pods;
        observed.memory.made = [((3, 0), None)].into();
        observed.claims = vec![claim(&observed.identity.key, 3, 0, "GPU-1")];
        act(&observed.identity, plan::plan(&observed, at(100)), &ctx, at(100)).await.unwrap();
        let mark = ctx.fleet.claim_on("GPU-1").unwrap().quarantined.unwrap();
        assert_eq!(mark.at, expected, "{}", mark.cause);
    }
}

#[test]
fn the_log_says_what_a_change_is_about() {
    let observed = job();
    let about = About::of(&create(&observed));
    assert!(about.object.is_some_and(|name| name.ends_with("-00003-0000")));
    assert_eq!((about.segment, about.attempt), (Some(3), Some(0)));
    let claim = Box::new(claim(&observed.identity.key, 4, 1, "GPU-1"));
    let about = About::of(&Change::Release { claim, pod_uid: None, how: Freed::Free });
    assert_eq!(about, About { object: Some("GPU-1".into()), segment: Some(4), attempt: Some(1) });
    let delete = Change::DeletePod { name: "p".into(), uid: "u".into() };
    assert_eq!(About::of(&delete), About { object: Some("p".into()), ..About::default() });
    assert_eq!(About::of(&record()), About::default());
}

#[tokio::test]
async fn what_an_end_taught_is_kept_before_the_end_is_recorded() {
    let lines = |log: &Arc<Mutex<Vec<String>>>, end: &str| -> Vec<usize> {
        let log = log.lock().unwrap();
        log.iter().enumerate().filter(|(_, line)| line.ends_with(end)).map(|(at, _)| at).collect()
    };
    let observed = job();
    let (ctx, log) = context(|method, path| {
        (method == "PATCH" && path.ends_with("flashvsr/status")).then_some((403, "Forbidden"))
    });
    act(&observed.identity, taught(&observed), &ctx, at(0)).await.unwrap();
    let (lesson, status) = (lines(&log, "flashvsr/status"), lines(&log, "holiday/status"));
    assert!(lesson.len() == 1 && status.len() == 1 && lesson[0] < status[0], "{log:?}");

    let (ctx, log) = context(|method, path| {
        (method == "PATCH" && path.ends_with("flashvsr/status")).then_some((500, "InternalError"))
    });
    act(&observed.identity, taught(&observed), &ctx, at(0)).await.unwrap_err();
    assert_eq!(lines(&log, "holiday/status"), Vec::<usize>::new(), "it is judged, and learnt, again");

    let (ctx, log) = context(|method, path| {
        (method == "PATCH" && path.ends_with("flashvsr/status")).then_some((409, "Conflict"))
    });
    act(&observed.identity, taught(&observed), &ctx, at(0)).await.unwrap_err();
    assert_eq!(lines(&log, "flashvsr/status").len(), 5, "others may have written in between");
}
