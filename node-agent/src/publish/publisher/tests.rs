//! A server that refuses, and one that loses its answers.

#![expect(clippy::arithmetic_side_effects, reason = "figures of tests")]

mod lost_patches;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use prometheus_client::registry::Registry;
use rand::SeedableRng;
use serde_json::{Value, json};
use video_upscale::api::keys;
use video_upscale::api::report::{Gpu, Health};

use super::*;
use crate::report::tests::{gpu, report};

const GIB: u64 = 1 << 30;
/// Shortest time until a server is asked again that said what only a person can change.
const HOPELESS: Duration = Duration::from_secs(300);

/// What the fake server does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Answers with that status and changes nothing.
    Refuse(u16),
    /// Answers 429 as a server that sheds load does: plain text, the seconds in the header alone.
    Shed(u64),
    /// The connection ends before anything happened.
    ResetBefore,
    /// Nobody answers.
    Silence,
    /// Applies the patch and answers 500: the answer is lost.
    LoseAnswer,
    /// Applies the patch, then the connection ends.
    ResetAfter,
}

impl Fault {
    const fn commits(self) -> bool {
        matches!(self, Self::LoseAnswer | Self::ResetAfter)
    }
}

/// Decides over the next request; is told whether it is a write.
type Plague = Box<dyn FnMut(bool) -> Option<Fault> + Send>;

/// One Node on a server.
#[derive(Clone)]
pub struct FakeServer {
    pub clock: Clock,
    annotations: Arc<Mutex<BTreeMap<String, String>>>,
    faults: Arc<Mutex<Plague>>,
    pub patches: Arc<Mutex<Vec<(Duration, Value)>>>,
    shut_until: Arc<Mutex<Duration>>,
    version: Arc<Mutex<u64>>,
}

impl Default for FakeServer {
    fn default() -> Self {
        Self {
            clock: Clock::start(),
            annotations: Arc::default(),
            faults: Arc::new(Mutex::new(Box::new(|_| None))),
            patches: Arc::default(),
            shut_until: Arc::default(),
            version: Arc::default(),
        }
    }
}

impl FakeServer {
    /// From now on every request is judged by `faults`.
    pub fn plague(&self, faults: impl FnMut(bool) -> Option<Fault> + Send + 'static) {
        *self.faults.lock().unwrap() = Box::new(faults);
    }

    /// Writes meet these faults, one each; reads meet none.
    fn plague_writes(&self, faults: impl IntoIterator<Item = Fault>) {
        let mut faults = faults.into_iter().collect::<VecDeque<_>>();
        self.plague(move |writes| if writes { faults.pop_front() } else { None });
    }

    fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move { server.answer(request).await }
        });
        Client::new(service, "default")
    }

    async fn answer(&self, request: Request<Body>) -> std::io::Result<Response<Body>> {
        assert_eq!(request.uri().path(), "/api/v1/nodes/node-a");
        let now = self.clock.now().up;
        assert!(
            now >= *self.shut_until.lock().unwrap(),
            "a request before the time that the server had asked for"
        );
        let writes = request.method() != Method::GET;
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let mut fault = (self.faults.lock().unwrap())(writes);
        if writes {
            let patch: Value = serde_json::from_slice(&body).unwrap();
            let wanted = patch["metadata"]["resourceVersion"].as_str();
            if fault.is_none_or(Fault::commits) && wanted.is_some_and(|wanted| wanted != self.version()) {
                fault = Some(Fault::Refuse(409));
            }
            if fault.is_none_or(Fault::commits) {
                for (key, value) in patch["metadata"]["annotations"].as_object().unwrap() {
                    self.set(key, value.as_str().unwrap());
                }
            }
            self.patches.lock().unwrap().push((now, patch));
        }
        match fault {
            None => {}
            Some(Fault::Refuse(code)) => {
                if matches!(code, 401 | 403 | 404) {
                    *self.shut_until.lock().unwrap() = now + HOPELESS;
                }
                return Ok(status(code));
            }
            Some(Fault::LoseAnswer) => return Ok(status(500)),
            Some(Fault::Shed(seconds)) => {
                *self.shut_until.lock().unwrap() = now + Duration::from_secs(seconds);
                let text = Body::from(b"Too many requests, please try again later.\n".to_vec());
                return Ok(Response::builder()
                    .status(429)
                    .header("Retry-After", seconds)
                    .body(text)
                    .unwrap());
            }
            Some(Fault::ResetBefore | Fault::ResetAfter) => {
                return Err(std::io::ErrorKind::ConnectionReset.into());
            }
            Some(Fault::Silence) => std::future::pending().await,
        }
        let annotations = self.annotations.lock().unwrap().clone();
        let meta = json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
                          "metadata": {"name": "node-a", "annotations": annotations,
                                   "resourceVersion": self.version()}});
        Ok(respond(200, &meta))
    }

    fn version(&self) -> String {
        self.version.lock().unwrap().to_string()
    }

    fn set(&self, key: &str, value: &str) {
        *self.version.lock().unwrap() += 1;
        self.annotations.lock().unwrap().insert(key.to_owned(), value.to_owned());
    }

    fn get(&self, key: &str) -> String {
        self.annotations.lock().unwrap()[key].clone()
    }

    pub fn read(&self) -> (Report, Heartbeat) {
        read(&self.get(keys::REPORT), &self.get(keys::HEARTBEAT)).unwrap()
    }

    /// What an agent of this release has left on the Node.
    fn leave(&self, report: &Report) {
        let text = report.print().unwrap();
        self.set(keys::REPORT, &text);
        self.set(keys::HEARTBEAT, &heartbeat(report, report.seq, digest(&text)).to_string());
    }

    pub fn publisher(&self, seed: u64) -> Publisher {
        let timing = Timing { heartbeat: Duration::from_secs(300), spread: Duration::ZERO };
        let node = NodeAnnotations::new(self.client(), "node-a".to_owned());
        let metrics = Published::register(&mut Registry::default());
        Publisher::new(node, timing, self.clock, metrics, StdRng::seed_from_u64(seed))
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
    let mut publisher = server.publisher(0);
    publisher.offer(&current(20 * GIB)).await;
    assert_eq!(publisher.standing(), &Standing::Published);
    let (report, heartbeat) = server.read();
    assert_eq!((report.seq, heartbeat.seq, report.gpus[0].free), (1, 1, Some(20 * GIB)));
    let patches = server.patches.lock().unwrap();
    let named: Vec<&str> =
        patches[0].1["metadata"]["annotations"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!((patches.len(), named), (1, vec![keys::HEARTBEAT, keys::REPORT]));
}

#[tokio::test]
async fn a_lost_answer_is_not_taken_for_a_confirmation() {
    let server = FakeServer::default();
    server.plague_writes([Fault::LoseAnswer]);
    let mut publisher = server.publisher(0);
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
        server.leave(&theirs);
        let mut publisher = server.publisher(0);
        publisher.offer(&current(20 * GIB)).await;
        assert_eq!(server.read().0.ns == "ops", taken, "{age} s, {state}");
        assert_eq!(matches!(publisher.standing(), Standing::Occupied { .. }), !taken);
    }
}

#[tokio::test]
async fn a_report_that_comes_in_between_makes_the_second_writer_look_again() {
    let server = FakeServer::default();
    let theirs = Report { ns: "others".to_owned(), ..current(GIB) };
    let (other, mut comes) = (server.clone(), Some(theirs));
    server.plague(move |writes| {
        if writes && let Some(theirs) = comes.take() {
            other.leave(&theirs);
        }
        None
    });
    let mut publisher = server.publisher(0);
    publisher.write(&current(20 * GIB), Cause::Heartbeat, true).await;
    assert!(matches!(publisher.standing(), Standing::Failing { .. }), "{:?}", publisher.standing());
    publisher.write(&current(20 * GIB), Cause::Heartbeat, true).await;
    assert_eq!(publisher.standing(), &Standing::Occupied { by: "others".to_owned() });
    assert_eq!((server.read().0.ns.as_str(), server.patches.lock().unwrap().len()), ("others", 1));
}

#[tokio::test]
async fn beside_its_own_report_an_agent_minds_no_other_change_of_the_node() {
    let server = FakeServer::default();
    let mut publisher = server.publisher(0);
    publisher.write(&current(GIB), Cause::Heartbeat, true).await;
    let other = server.clone();
    server.plague(move |writes| {
        if writes {
            other.set("theirs", "1");
        }
        None
    });
    publisher.write(&current(2 * GIB), Cause::Material, true).await;
    assert_eq!((publisher.standing(), server.read().0.seq), (&Standing::Published, 2));
}

#[tokio::test]
async fn a_heartbeat_alone_leaves_the_report_and_one_beside_an_edited_report_mends_it() {
    let server = FakeServer::default();
    let mut publisher = server.publisher(0);
    publisher.write(&current(GIB), Cause::Heartbeat, true).await;
    publisher.write(&current(GIB), Cause::Heartbeat, false).await;
    assert_eq!(server.patches.lock().unwrap()[1].1["metadata"]["annotations"].as_object().unwrap().len(), 1);
    server.set(keys::REPORT, "{}");
    publisher.write(&current(GIB), Cause::Heartbeat, false).await;
    assert_eq!(server.read().0.seq, 2);
}

#[tokio::test]
async fn a_stopping_agent_says_so_and_leaves_its_report() {
    let server = FakeServer::default();
    let mut publisher = server.publisher(0);
    publisher.offer(&current(GIB)).await;
    let last = Report { state: State::Stopped, ..current(GIB) };
    publisher.farewell(&last, Duration::from_secs(3)).await;
    let (report, heartbeat) = server.read();
    assert_eq!((report.state, heartbeat.state), (State::Ok, State::Stopped));
}

#[tokio::test(start_paused = true)]
async fn the_last_words_are_tried_again_as_long_as_there_is_time() {
    let limit = Duration::from_secs(3);
    let table: [(&str, &[Fault], bool); 6] = [
        ("a lost connection and a bad moment", &[Fault::ResetBefore, Fault::Refuse(503)], true),
        ("a conflict", &[Fault::Refuse(409)], true),
        ("a server that wants a second", &[Fault::Shed(1)], true),
        ("a server that does not answer at first", &[Fault::Silence], true),
        ("a server that wants a minute", &[Fault::Shed(60)], false),
        ("no right", &[Fault::Refuse(403)], false),
    ];
    for (what, faults, told) in table {
        let server = FakeServer::default();
        let mut publisher = server.publisher(0);
        publisher.offer(&current(GIB)).await;
        server.plague_writes(faults.iter().copied());
        let began = server.clock.now().up;
        let last = Report { state: State::DriverMismatch, ..current(GIB) };
        publisher.farewell(&last, limit).await;
        assert_eq!(server.read().1.state == State::DriverMismatch, told, "{what}");
        assert!(server.clock.now().up - began <= limit + Duration::from_millis(10), "{what}");
    }
}

#[tokio::test]
async fn a_refused_size_makes_the_next_report_the_smallest() {
    let server = FakeServer::default();
    server.plague_writes([Fault::Refuse(422)]);
    let mut publisher = server.publisher(0);
    let mut crowded = current(GIB);
    crowded.gpus[0].procs.get_or_insert_default().top = vec![crate::report::tests::process(7, Some(1))];
    publisher.write(&crowded, Cause::Material, true).await;
    publisher.write(&crowded, Cause::Material, true).await;
    assert_eq!(server.read().0.gpus[0].procs.as_ref().unwrap().top, []);
}

#[tokio::test(start_paused = true)]
async fn an_hour_after_a_refused_size_the_whole_report_is_tried_again() {
    let server = FakeServer::default();
    server.plague_writes([Fault::Refuse(422), Fault::Refuse(413)]);
    let mut publisher = server.publisher(1);
    let mut crowded = current(GIB);
    crowded.gpus[0].procs.get_or_insert_default().top = vec![crate::report::tests::process(7, Some(1))];
    let listed = || server.read().0.gpus[0].procs.as_ref().map(|processes| processes.top.len());
    while publisher.standing() != &Standing::Published {
        pass(&mut publisher, &crowded, &server).await;
    }
    assert_eq!(listed(), Some(0));
    while server.clock.now().up < SMALLEST_FOR + Duration::from_secs(400) {
        pass(&mut publisher, &crowded, &server).await;
    }
    assert_eq!(listed(), Some(1), "though nothing has changed on the GPUs");
}

/// Offers the report, then lets the time pass until the publisher wants to be asked again.
async fn pass(publisher: &mut Publisher, report: &Report, server: &FakeServer) {
    let due = publisher.offer(report).await;
    tokio::time::advance(due.saturating_sub(server.clock.now().up)).await;
}

#[tokio::test]
async fn a_bad_card_stays_bad_when_the_agent_starts_anew() {
    let server = FakeServer::default();
    let bad = Gpu { h: Health::Bad, xid: Some(79), ..gpu(0, 48 * GIB, GIB) };
    server.leave(&Report { gpus: vec![bad], seq: 7, ..current(GIB) });
    let mut publisher = server.publisher(0);
    publisher.offer(&current(20 * GIB)).await;
    let (report, _) = server.read();
    assert_eq!((report.gpus[0].h, report.gpus[0].xid, report.seq), (Health::Bad, Some(79), 1));
    assert_eq!(report.gpus[0].free, Some(20 * GIB), "what is measured is told all the same");
    assert_eq!(publisher.verdicts().bad().count(), 1);
    let reloaded = Report { life: "bbbbbbbb".to_owned(), ..current(20 * GIB) };
    publisher.write(&reloaded, Cause::Material, true).await;
    assert_eq!(server.read().0.gpus[0].h, Health::Ok, "the driver's next life");
}
