use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use video_upscale::api::keys;
use video_upscale::api::report::read;

use super::*;
use crate::report::tests::{gpu, report};

const GIB: u64 = 1 << 30;

/// What the fake server does with the next write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Answers with that status and changes nothing.
    Refuse(u16),
    /// Applies the patch and answers 500: the answer is lost.
    LoseAnswer,
}

/// One Node on a server.
#[derive(Clone, Default)]
struct FakeServer {
    annotations: Arc<Mutex<BTreeMap<String, String>>>,
    faults: Arc<Mutex<VecDeque<Fault>>>,
    patches: Arc<Mutex<Vec<Value>>>,
}

impl FakeServer {
    fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move { Ok::<_, Infallible>(server.answer(request).await) }
        });
        Client::new(service, "default")
    }

    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        assert_eq!(request.uri().path(), "/api/v1/nodes/node-a");
        let reads = request.method() == Method::GET;
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let fault = if reads { None } else { self.faults.lock().unwrap().pop_front() };
        if let Some(Fault::Refuse(code)) = fault {
            return status(code);
        }
        if !reads {
            let patch: Value = serde_json::from_slice(&body).unwrap();
            for (key, value) in patch["metadata"]["annotations"].as_object().unwrap() {
                self.set(key, value.as_str().unwrap());
            }
            self.patches.lock().unwrap().push(patch);
        }
        if fault == Some(Fault::LoseAnswer) {
            return status(500);
        }
        let annotations = self.annotations.lock().unwrap().clone();
        let meta = json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
                          "metadata": {"name": "node-a", "annotations": annotations}});
        respond(200, &meta)
    }

    fn set(&self, key: &str, value: &str) {
        self.annotations.lock().unwrap().insert(key.to_owned(), value.to_owned());
    }

    fn get(&self, key: &str) -> String {
        self.annotations.lock().unwrap()[key].clone()
    }

    fn read(&self) -> (Report, Heartbeat) {
        read(&self.get(keys::REPORT), &self.get(keys::HEARTBEAT)).unwrap()
    }

    fn publisher(&self) -> Publisher {
        let timing = Timing { heartbeat: Duration::from_secs(300), spread: Duration::ZERO };
        let node = NodeAnnotations::new(self.client(), "node-a".to_owned());
        let metrics = Published::register(&mut Registry::default());
        Publisher::new(node, timing, Clock::start(), metrics)
    }
}

fn status(code: u16) -> Response<Body> {
    respond(
        code,
        &json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
                          "message": "no", "reason": "no"}),
    )
}

fn respond(code: u16, body: &Value) -> Response<Body> {
    let body = Body::from(serde_json::to_vec(body).unwrap());
    Response::builder().status(StatusCode::from_u16(code).unwrap()).body(body).unwrap()
}

fn now_report(free: u64, clock: Now) -> Report {
    Report { at: crate::report::whole_second(clock.wall), ..report(vec![gpu(0, 48 * GIB, free)]) }
}

fn current(free: u64) -> Report {
    now_report(free, Clock::start().now())
}

#[tokio::test]
async fn the_first_write_brings_report_and_heartbeat_in_one_patch() {
    let server = FakeServer::default();
    let mut publisher = server.publisher();
    publisher.offer(&current(20 * GIB)).await;
    assert_eq!(publisher.standing(), &Standing::Published);
    let (report, heartbeat) = server.read();
    assert_eq!((report.seq, heartbeat.seq, report.gpus[0].free), (1, 1, Some(20 * GIB)));
    let patches = server.patches.lock().unwrap();
    let named: Vec<&str> =
        patches[0]["metadata"]["annotations"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!((patches.len(), named), (1, vec![keys::HEARTBEAT, keys::REPORT]));
}

#[tokio::test]
async fn whatever_is_refused_or_lost_the_newest_report_stands_in_the_end() {
    for seed in 0..200u64 {
        let server = FakeServer::default();
        let mut publisher = server.publisher();
        let faults = (0..seed % 5).map(|step| match (seed >> step) % 4 {
            0 => Fault::Refuse(500),
            1 => Fault::LoseAnswer,
            2 => Fault::Refuse(429),
            _ => Fault::Refuse(409),
        });
        server.faults.lock().unwrap().extend(faults);
        let mut free = 0;
        while publisher.standing() != &Standing::Published {
            free += GIB;
            publisher.write(&current(free), Cause::Material, true).await;
        }
        let (report, heartbeat) = server.read();
        assert_eq!((report.gpus[0].free, report.seq), (Some(free), heartbeat.seq), "seed {seed}");
        assert_eq!(publisher.published().unwrap().gpus[0].free, Some(free));
    }
}

#[tokio::test]
async fn a_lost_answer_is_not_taken_for_a_confirmation() {
    let server = FakeServer::default();
    server.faults.lock().unwrap().push_back(Fault::LoseAnswer);
    let mut publisher = server.publisher();
    publisher.write(&current(GIB), Cause::Material, true).await;
    assert_eq!(publisher.published(), None);
    assert!(matches!(publisher.standing(), Standing::Failing { .. }));
}

#[tokio::test]
async fn another_releases_live_report_is_never_overwritten() {
    for (age, state, taken) in [(0, State::Ok, false), (1_300, State::Ok, true), (0, State::Stopped, true)] {
        let server = FakeServer::default();
        let mut theirs = current(GIB);
        theirs.ns = "others".to_owned();
        theirs.at = jiff::Timestamp::from_second(theirs.at.as_second() - age).unwrap();
        theirs.state = state;
        let text = theirs.print().unwrap();
        server.set(keys::REPORT, &text);
        server.set(keys::HEARTBEAT, &heartbeat(&theirs, 1, digest(&text)).to_string());
        let mut publisher = server.publisher();
        publisher.offer(&current(20 * GIB)).await;
        assert_eq!(server.read().0.ns == "ops", taken, "{age} s, {state}");
        assert_eq!(matches!(publisher.standing(), Standing::Occupied { .. }), !taken);
    }
}

#[tokio::test]
async fn a_heartbeat_alone_leaves_the_report_and_one_beside_an_edited_report_mends_it() {
    let server = FakeServer::default();
    let mut publisher = server.publisher();
    publisher.write(&current(GIB), Cause::Heartbeat, true).await;
    publisher.write(&current(GIB), Cause::Heartbeat, false).await;
    assert_eq!(server.patches.lock().unwrap()[1]["metadata"]["annotations"].as_object().unwrap().len(), 1);
    server.set(keys::REPORT, "{}");
    publisher.write(&current(GIB), Cause::Heartbeat, false).await;
    assert_eq!(server.read().0.seq, 2);
}

#[tokio::test]
async fn a_stopping_agent_says_so_and_leaves_its_report() {
    let server = FakeServer::default();
    let mut publisher = server.publisher();
    publisher.offer(&current(GIB)).await;
    let last = Report { state: State::Stopped, ..current(GIB) };
    publisher.farewell(&last, Duration::from_secs(3)).await;
    let (report, heartbeat) = server.read();
    assert_eq!((report.state, heartbeat.state), (State::Ok, State::Stopped));
}

#[tokio::test]
async fn a_refused_size_makes_the_next_report_the_smallest() {
    let server = FakeServer::default();
    server.faults.lock().unwrap().push_back(Fault::Refuse(422));
    let mut publisher = server.publisher();
    let mut crowded = current(GIB);
    crowded.gpus[0].procs.get_or_insert_default().top = vec![crate::report::tests::process(7, Some(1))];
    publisher.write(&crowded, Cause::Material, true).await;
    publisher.write(&crowded, Cause::Material, true).await;
    assert_eq!(server.read().0.gpus[0].procs.as_ref().unwrap().top, []);
}
