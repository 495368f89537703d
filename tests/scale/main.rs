//! The controller's own program against a real API server and its scheduler, at the size of a large cluster: how soon it
//! decides after a cold start, how soon a freed GPU has its next pod, what it writes for a segment, and that it writes
//! nothing while everybody waits. Nodes, agents and kubelets are played.
//!
//! `UPSCALE_TEST_KUBECONFIG` names an administrator of a cluster for tests on whose nodes no pod is placed: they have
//! to be cordoned. `UPSCALE_TEST_FULL=1` measures the whole size, else a small one, whose code is not optimised either, so
//! that the times of its ends are only told. Fails when a figure is beyond its limit. Other work on the machine counts
//! against the times.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    reason = "a panic is a test's verdict, and a test is its own edge"
)]

mod ends;
mod fleet;
mod kubelet;
#[path = "../played/mod.rs"]
mod played;
mod watched;

use std::process::{Child, ExitCode};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Namespace;
use kube::Client;
use kube::api::{Api, DeleteParams, ListParams};
use serde_json::json;
use video_upscale::api::conditions::{ConditionType, ScheduledReason};
use video_upscale::api::profile::UpscaleProfile;
use video_upscale::api::video_upscale::VideoUpscale;

use fleet::Nodes;
use kubelet::Kubelet;
use played::cluster::{self, eventually};
use played::controller;
use watched::Watched;

/// A cold start may take so long to its first decision.
const MOST_START: Duration = Duration::from_secs(10);
/// Nothing is written for so long before the rest counts.
const QUIET: Duration = Duration::from_secs(3);
/// Longest time in which everything of a phase happens.
const LIMIT: Duration = Duration::from_secs(300);

/// How large it all is.
#[derive(Clone, Copy, Debug)]
struct Size {
    nodes: u32,
    jobs: u32,
    /// GPUs that a job may hold.
    parallelism: u32,
    segments: u32,
    /// GPUs that are not full.
    usable: u32,
    /// Ends a second; the next one only where the API server is too slow for that many.
    ends_per_second: &'static [u32],
    /// How long they come.
    load: Duration,
    rest: Duration,
    /// Writes for a segment, on average. Of a short run's ends fewer are told in one status.
    most_writes: f64,
    /// Whether the times of the ends count.
    strict: bool,
}

const WHOLE: Size = Size {
    nodes: 1250,
    jobs: 100,
    parallelism: 8,
    segments: 120,
    usable: 256,
    ends_per_second: &[50, 25, 12, 6],
    load: Duration::from_secs(60),
    rest: Duration::from_secs(600),
    most_writes: 4.0,
    strict: true,
};

const SMALL: Size = Size {
    nodes: 40,
    jobs: 24,
    parallelism: 4,
    segments: 40,
    usable: 48,
    ends_per_second: &[20],
    load: Duration::from_secs(5),
    rest: Duration::from_secs(8),
    most_writes: 6.0,
    strict: false,
};

fn main() -> ExitCode {
    const NAME: &str = "figures_of_a_large_cluster_are_kept";
    let only = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    if only.is_some_and(|only| !NAME.contains(only.as_str())) {
        println!("test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 1 filtered out");
        return ExitCode::SUCCESS;
    }
    let Some(kubeconfig) = cluster::kubeconfig() else {
        println!("test result: ok. 0 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out");
        return ExitCode::SUCCESS;
    };
    let size = if std::env::var_os("UPSCALE_TEST_FULL").is_some() { WHOLE } else { SMALL };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let outcome = runtime.block_on(async {
        let client = cluster::administrator(&kubeconfig).await;
        cluster::serve_our_kinds(&client).await;
        cluster::nodes_of_others_are_cordoned(&client).await;
        let world = World::make(client, size).await;
        let outcome = tokio::select! {
            outcome = world.measure() => outcome,
            why = world.nodes.live() => Err(why),
        };
        let log =
            std::fs::read_to_string(controller::log(world.folder.path(), CONTROLLER)).unwrap_or_default();
        world.end().await;
        outcome.map_err(|why| format!("{why}\n{}", complaints(&log)))
    });
    match outcome {
        Ok(()) => println!("test {NAME} ... ok\ntest result: ok. 1 passed; 0 failed; 0 ignored"),
        Err(ref why) => {
            println!("test {NAME} ... FAILED\n    {why}\ntest result: FAILED. 0 passed; 1 failed; 0 ignored");
        }
    }
    if outcome.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Name of the controller's files.
const CONTROLLER: &str = "measured";

/// The last of what it complained of.
fn complaints(log: &str) -> String {
    let lines: Vec<&str> = log.lines().filter(|line| !line.contains("\"level\":\"INFO\"")).collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

/// A controller; killed when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself, which its log tells.
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}

struct World {
    client: Client,
    name: String,
    size: Size,
    nodes: Nodes,
    folder: tempfile::TempDir,
}

impl World {
    async fn make(client: Client, size: Size) -> Self {
        let name = format!("scale-{:08x}", rand::random::<u32>());
        let world = Self {
            nodes: Nodes::new(client.clone(), &name, size.nodes),
            folder: tempfile::tempdir().unwrap(),
            client,
            name,
            size,
        };
        let namespaces: Api<Namespace> = Api::all(world.client.clone());
        for namespace in [world.release(), world.namespace()] {
            cluster::apply(&namespaces, &json!({"metadata": {"name": namespace}})).await;
        }
        cluster::volume(&world.client, &world.name, &world.namespace()).await;
        cluster::profile(&world.client, &world.name).await;
        let began = Instant::now();
        world.nodes.join(&world.release()).await;
        println!("  {} nodes of 8 GPUs after {:.1} s", size.nodes, began.elapsed().as_secs_f32());
        let jobs: Api<VideoUpscale> = Api::namespaced(world.client.clone(), &world.namespace());
        for number in 0..size.jobs {
            let claim = json!({"name": "media"});
            let job = json!({"metadata": {"name": format!("film-{number}")}, "spec": {
                "source": {"claim": claim, "path": "film.mp4"},
                "destination": {"claim": claim, "path": format!("large-{number}.mp4")},
                "profile": world.name, "parallelism": size.parallelism,
            }});
            cluster::apply(&jobs, &job).await;
        }
        world
    }

    fn release(&self) -> String {
        format!("{}-release", self.name)
    }

    fn namespace(&self) -> String {
        format!("{}-jobs", self.name)
    }

    fn start(&self, way: &Watched) -> Running {
        let (release, jobs) = (self.release(), self.namespace());
        let folder = self.folder.path();
        Running(controller::start(
            folder,
            CONTROLLER,
            way.address,
            &release,
            &jobs,
            &["--leader-election=off"],
        ))
    }

    async fn measure(&self) -> Result<(), String> {
        let way = Watched::open(self.client.clone()).await;
        let kubelet = Kubelet::open(&self.client, &self.namespace(), self.size.segments);
        let mut faults = Vec::new();
        // Their number is told with every wait, so it has to stand.
        eventually("all nodes take pods", LIMIT, async || self.nodes.are_open().await).await?;
        {
            let _first = self.start(&way);
            eventually("every job waits for memory", LIMIT, async || self.all_wait().await).await?;
            faults.extend(self.rest(&way).await?);
        }
        self.nodes.offer(&self.release(), self.size.usable).await;
        way.forget();
        let began = Instant::now();
        let running = self.start(&way);
        eventually("the first decision", LIMIT, async || way.first_claim().is_some()).await?;
        let took = way.first_claim().map_or(LIMIT, |at| at.duration_since(began));
        println!("  cold start to the first decision: {took:.2?}");
        faults.extend(beyond("cold start to the first decision", took, MOST_START));
        let usable = usize::try_from(self.size.usable).unwrap();
        eventually("every GPU has its pod", LIMIT, async || kubelet.ready() >= usable).await?;
        println!("  {usable} GPUs have their pods after {:.1?}", began.elapsed());
        faults.extend(ends::measure(self, &way, &kubelet).await?);
        println!("  resident memory of the controller at most: {} MiB", most_resident(running.0.id()));
        if faults.is_empty() { Ok(()) } else { Err(faults.join("\n    ")) }
    }

    async fn all_wait(&self) -> bool {
        let jobs: Api<VideoUpscale> = Api::namespaced(self.client.clone(), &self.namespace());
        let jobs = jobs.list(&ListParams::default()).await.unwrap();
        jobs.iter().all(|job| {
            let conditions = job.status.iter().flat_map(|status| &status.conditions);
            let mut told = conditions.filter(|c| c.type_ == ConditionType::Scheduled.as_str());
            told.any(|c| c.reason == ScheduledReason::NotEnoughFreeMemory.as_str())
        })
    }

    /// Everybody waits, and reports move within their cause: nothing is written.
    async fn rest(&self, way: &Watched) -> Result<Option<String>, String> {
        eventually("nothing is written any more", LIMIT, async || way.quiet_for() >= QUIET).await?;
        way.forget();
        let before = self.nodes.reports();
        let began = Instant::now();
        let moved = || self.nodes.reports() - before;
        let enough = u64::from(self.size.nodes) / 8;
        eventually("enough reports move", self.size.rest + LIMIT, async || {
            began.elapsed() >= self.size.rest && moved() >= enough
        })
        .await?;
        let writes = way.kinds();
        println!("  {:.1?} at rest, in which {} reports moved: writes {writes:?}", began.elapsed(), moved());
        Ok((!writes.is_empty()).then(|| format!("written at rest: {writes:?}")))
    }

    /// Segments of all jobs that are done.
    async fn succeeded(&self) -> u32 {
        let jobs: Api<VideoUpscale> = Api::namespaced(self.client.clone(), &self.namespace());
        let jobs = jobs.list(&ListParams::default()).await.unwrap();
        let counts = jobs.iter().filter_map(|job| job.status.as_ref()?.segments.as_ref());
        counts.map(|counts| u32::try_from(counts.succeeded).unwrap()).sum()
    }

    /// Takes everything away. What was only ever played ends at once.
    async fn end(&self) {
        self.nodes.leave().await;
        let profiles: Api<UpscaleProfile> = Api::all(self.client.clone());
        profiles.delete(&self.name, &DeleteParams::default()).await.unwrap();
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        for namespace in [self.namespace(), self.release()] {
            namespaces.delete(&namespace, &DeleteParams::background()).await.unwrap();
        }
        let volumes: Api<k8s_openapi::api::core::v1::PersistentVolume> = Api::all(self.client.clone());
        volumes.delete(&self.name, &DeleteParams::default()).await.unwrap();
    }
}

fn beyond(what: &str, took: Duration, most: Duration) -> Option<String> {
    (took > most).then(|| format!("{what}: {took:.2?}, more than {most:.2?}"))
}

/// MiB that a process had resident at most.
fn most_resident(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}
