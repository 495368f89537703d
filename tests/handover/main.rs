//! Two controllers of one release, as the controller's own program, on a real API server: one acts and the other stands
//! by, writing nothing; it acts at once when the first is asked to end, within 20 s when it is killed, and a leader
//! that nobody answers ends by itself.
//!
//! `UPSCALE_TEST_KUBECONFIG` names an administrator of a cluster for tests.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    reason = "a panic is a test's verdict, and a test is its own edge"
)]

#[allow(dead_code, reason = "other tests use the rest of it")]
#[path = "../played/mod.rs"]
mod played;

use std::net::SocketAddr;
use std::process::{Child, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Namespace;
use kube::Client;
use kube::api::{Api, DeleteParams};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tokio::task::JoinHandle;
use video_upscale::api::conditions::{ConditionType, State as Word};
use video_upscale::api::video_upscale::VideoUpscale;

use played::cluster::{self, eventually};
use played::controller;
use played::way;

/// The standby acts within that after the leader's death.
const MOST_AFTER_DEATH: Duration = Duration::from_secs(20);
/// It leaves alone what was renewed 10 s before the death at the most.
const LEAST_AFTER_DEATH: Duration = Duration::from_secs(5);
/// The same after an orderly end, from its request, on a machine that has other work.
const MOST_AFTER_END: Duration = Duration::from_secs(5);
/// A leader that nobody answers ends within that, on such a machine.
const MOST_ALONE: Duration = Duration::from_secs(15);
/// Longest time for anything else.
const LIMIT: Duration = Duration::from_secs(60);
/// The release's Lease.
const LEASE: &str = "video-upscale-controller";

/// A release of its own, without GPUs.
struct World {
    client: Client,
    name: String,
    folder: tempfile::TempDir,
}

impl World {
    /// `None` where there is no API server to try it on.
    async fn make(name: &str) -> Option<Self> {
        let client = cluster::administrator(&cluster::kubeconfig()?).await;
        cluster::serve_our_kinds(&client).await;
        let name = format!("handover-{name}-{:08x}", rand::random::<u32>());
        let namespaces: Api<Namespace> = Api::all(client.clone());
        cluster::apply(&namespaces, &json!({"metadata": {"name": name}})).await;
        cluster::profile(&client, &name).await;
        Some(Self { client, name, folder: tempfile::tempdir().unwrap() })
    }

    async fn start(&self, name: &'static str) -> Controller {
        let way = Way::open(self.client.clone()).await;
        let folder = self.folder.path();
        let process = controller::start(folder, name, way.address, &self.name, &self.name, &[]);
        Controller { name, process, way }
    }

    fn log(&self, controller: &Controller) -> String {
        std::fs::read_to_string(controller::log(self.folder.path(), controller.name)).unwrap()
    }

    async fn holder(&self) -> Option<String> {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), &self.name);
        leases.get_opt(LEASE).await.unwrap()?.spec?.holder_identity
    }

    async fn leads(&self, controller: &Controller) {
        let holder = format!("{}_", controller.name);
        let what = format!("{} leads", controller.name);
        let led = eventually(&what, LIMIT, async || {
            self.holder().await.is_some_and(|name| name.starts_with(&holder))
        });
        led.await.unwrap_or_else(|late| panic!("{late}\n{}", self.log(controller)));
    }

    async fn stands_by(&self, controller: &Controller) {
        let what = format!("{} stands by", controller.name);
        eventually(&what, LIMIT, async || self.log(controller).contains("stands by")).await.unwrap();
    }

    /// Gives the leader something to do, and waits until it is done.
    async fn is_acted_in(&self, job: &str) {
        let jobs: Api<VideoUpscale> = Api::namespaced(self.client.clone(), &self.name);
        let claim = json!({"name": "nowhere"});
        let object = json!({"metadata": {"name": job}, "spec": {
            "source": {"claim": claim, "path": "film.mp4"},
            "destination": {"claim": claim, "path": format!("{job}.mp4")},
            "profile": self.name,
        }});
        cluster::apply(&jobs, &object).await;
        eventually("the job is looked at", LIMIT, async || {
            let conditions = jobs.get(job).await.unwrap().status.map(|status| status.conditions);
            conditions.is_some_and(|conditions| {
                conditions.iter().any(|c| {
                    c.type_ == ConditionType::Complete.as_str() && c.reason != Word::Pending.as_str()
                })
            })
        })
        .await
        .unwrap();
    }

    async fn end(self) {
        let profiles: Api<video_upscale::api::profile::UpscaleProfile> = Api::all(self.client.clone());
        profiles.delete(&self.name, &DeleteParams::default()).await.unwrap();
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        namespaces.delete(&self.name, &DeleteParams::default()).await.unwrap();
    }
}

/// A controller and its way to the API server; killed when dropped.
struct Controller {
    name: &'static str,
    process: Child,
    way: Way,
}

impl Controller {
    /// Asks it to end, as a kubelet does.
    fn ask_to_end(&self) {
        kill_process(Pid::from_child(&self.process), Signal::TERM).unwrap();
    }

    async fn ends(&mut self, limit: Duration) -> ExitStatus {
        let what = format!("{} ends", self.name);
        let mut status = None;
        eventually(&what, limit, async || {
            status = self.process.try_wait().unwrap();
            status.is_some()
        })
        .await
        .unwrap();
        status.unwrap()
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _gone = self.process.kill();
        let _gone = self.process.wait();
    }
}

/// A way to the API server that counts the writes, and can be cut.
struct Way {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

struct Shared {
    client: Client,
    writes: AtomicU32,
    cut: AtomicBool,
}

impl Way {
    async fn open(client: Client) -> Self {
        let shared = Arc::new(Shared { client, writes: AtomicU32::new(0), cut: AtomicBool::new(false) });
        let router = Router::new().fallback(pass).with_state(Arc::clone(&shared));
        let (address, server) = way::open(router).await;
        Self { address, shared, server }
    }

    fn writes(&self) -> u32 {
        self.shared.writes.load(Ordering::Acquire)
    }

    fn cut(&self) {
        self.shared.cut.store(true, Ordering::Release);
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn pass(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    if way::kind(&request).is_some() {
        shared.writes.fetch_add(1, Ordering::AcqRel);
    }
    if shared.cut.load(Ordering::Acquire) {
        return StatusCode::BAD_GATEWAY.into_response();
    }
    way::forward(&shared.client, request).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orderly_end_hands_over_at_once() {
    let Some(world) = World::make("end").await else { return };
    let mut first = world.start("first").await;
    world.leads(&first).await;
    world.is_acted_in("one").await;
    let second = world.start("second").await;
    world.stands_by(&second).await;
    assert_eq!(second.way.writes(), 0, "a standby writes nothing");
    let asked = Instant::now();
    first.ask_to_end();
    world.leads(&second).await;
    let took = asked.elapsed();
    assert!(first.ends(LIMIT).await.success(), "{}", world.log(&first));
    println!("from the leader's SIGTERM to the standby's lead: {took:.2?}");
    assert!(took < MOST_AFTER_END, "{took:?}\n{}\n{}", world.log(&first), world.log(&second));
    world.is_acted_in("two").await;
    println!("from the leader's SIGTERM to the standby's first job: {:.2?}", asked.elapsed());
    drop(second);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_standby_acts_within_twenty_seconds_of_the_leaders_death() {
    let Some(world) = World::make("death").await else { return };
    let mut first = world.start("first").await;
    world.leads(&first).await;
    let second = world.start("second").await;
    world.stands_by(&second).await;
    first.process.kill().unwrap();
    let killed = Instant::now();
    world.leads(&second).await;
    let took = killed.elapsed();
    assert!(took > LEAST_AFTER_DEATH, "{took:?}: a leader that lives could not have renewed");
    world.is_acted_in("after").await;
    println!(
        "from the leader's death to the standby's lead: {took:.2?}, to its first job: {:.2?}",
        killed.elapsed()
    );
    assert!(killed.elapsed() < MOST_AFTER_DEATH, "{:?}\n{}", killed.elapsed(), world.log(&second));
    drop(second);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_nobody_answers_ends() {
    let Some(world) = World::make("alone").await else { return };
    let mut first = world.start("first").await;
    world.leads(&first).await;
    first.way.cut();
    let cut = Instant::now();
    let status = first.ends(MOST_ALONE).await;
    println!("from the cut to the leader's end: {:.2?}", cut.elapsed());
    assert_eq!(status.code(), Some(1));
    let log = world.log(&first);
    assert!(log.contains("it was not renewed within 10 s"), "{log}");
    world.end().await;
}
