//! One run: a world, a controller or several over proxies, their tricks, and what must be true of it all.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Child;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gpusim::journal;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, ListParams};
use tokio::task::JoinSet;
use video_upscale::api::conditions::ConditionType;
use video_upscale::api::video_upscale::VideoUpscale;

use crate::played::cluster::eventually;
use crate::played::controller;
use crate::proxy::{Kill, Proxy, Trick};
use crate::world::{CROWDED, SEGMENTS, TOO_LARGE, World};
use crate::{agent, kubelet};

/// Longest run: two lives of the controller, one verdict that waits for its report as long as it may, and slow machines.
const LIMIT: Duration = Duration::from_secs(240);
/// Until all claims are given back.
const RELEASED: Duration = Duration::from_secs(60);

/// What a run came to.
pub struct Figures {
    kinds: BTreeMap<String, u32>,
    /// The write at which the controller died.
    pub struck: Option<String>,
}

impl Figures {
    /// Writes in all.
    pub fn writes(&self) -> u32 {
        self.kinds.values().sum()
    }

    /// Writes by kind, for people.
    pub fn kinds(&self) -> String {
        let kinds: Vec<String> = self.kinds.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        kinds.join(", ")
    }
}

/// A controller with its way to the API server; killed when dropped. A dead one gets a successor.
struct Life {
    number: usize,
    process: Arc<Mutex<Option<Child>>>,
    proxy: Proxy,
}

impl Life {
    async fn begin(world: &World, number: usize, trick: Option<Trick>) -> Self {
        let process: Arc<Mutex<Option<Child>>> = Arc::default();
        let proxy = Proxy::open(world.client.clone(), trick, kill(Arc::clone(&process))).await;
        let life = Self { number, process, proxy };
        life.start(world);
        life
    }

    fn start(&self, world: &World) {
        let (release, jobs) = (world.release(), world.namespace());
        let name = self.number.to_string();
        let process = controller::start(
            world.folder(),
            &name,
            self.proxy.address,
            &release,
            &jobs,
            &["--leader-election=off"],
        );
        *self.process.lock().unwrap() = Some(process);
    }

    fn revive(&self, world: &World) {
        let dead = self.process.lock().unwrap().is_none();
        if dead {
            self.start(world);
        }
    }

    fn log(&self, world: &World) -> PathBuf {
        controller::log(world.folder(), &self.number.to_string())
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        kill(Arc::clone(&self.process))();
    }
}

fn kill(process: Arc<Mutex<Option<Child>>>) -> Kill {
    Arc::new(move || {
        if let Some(mut process) = process.lock().unwrap().take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    })
}

/// Runs a job under one controller for each trick, all at once, and says what was wrong.
pub async fn run(client: &Client, tricks: &[Option<Trick>]) -> Result<Figures, String> {
    let world = Arc::new(World::make(client.clone()).await);
    let mut lives = Vec::new();
    for (number, trick) in tricks.iter().enumerate() {
        lives.push(Life::begin(&world, number, *trick).await);
    }
    let mut players = JoinSet::new();
    players.spawn(kubelet::run(Arc::clone(&world)));
    for node in 0..world.nodes.len() {
        players.spawn(agent::report(Arc::clone(&world), node));
    }
    world.begin().await;
    let outcome = tokio::select! {
        outcome = to_the_end(&world, &lives) => outcome,
        player = players.join_next() => Err(format!("a player ended: {player:?}")),
    };
    let mut faults = std::mem::take(&mut *world.faults.lock().unwrap());
    faults.extend(outcome.err());
    faults.extend(faults_of_the_result(&world));
    players.shutdown().await;
    let figures = Figures {
        kinds: lives.iter().flat_map(|life| life.proxy.kinds()).fold(
            BTreeMap::new(),
            |mut all, (kind, count)| {
                *all.entry(kind).or_default() += count;
                all
            },
        ),
        struck: lives.iter().find_map(|life| life.proxy.struck()),
    };
    if faults.is_empty() {
        drop(lives);
        world.end().await;
        return Ok(figures);
    }
    let said: Vec<String> =
        lives.iter().map(|life| std::fs::read_to_string(life.log(&world)).unwrap_or_default()).collect();
    drop(lives);
    let state = format!("{:?}", world.ours::<VideoUpscale>().get("film").await.map(|job| job.status));
    world.end().await;
    Err(format!("{}\n{state}\n{}", faults.join("\n"), said.join("\n--- the other\n")))
}

/// Waits for the end of the job and of everything that it held; a dead controller gets its successor.
async fn to_the_end(world: &World, lives: &[Life]) -> Result<(), String> {
    let jobs: Api<VideoUpscale> = world.ours();
    eventually("the job is finished", LIMIT, async || {
        lives.iter().for_each(|life| life.revive(world));
        let job = jobs.get("film").await.unwrap();
        let conditions = job.status.map(|status| status.conditions).unwrap_or_default();
        conditions.iter().any(|c| c.type_ == ConditionType::Finished.as_str() && c.status == "True")
    })
    .await?;
    let leases: Api<Lease> = Api::namespaced(world.client.clone(), &world.release());
    eventually("every claim is given back", RELEASED, async || {
        lives.iter().for_each(|life| life.revive(world));
        let claims = leases.list(&ListParams::default()).await.unwrap();
        claims.iter().all(|claim| claim.spec.as_ref().is_none_or(|spec| spec.holder_identity.is_none()))
    })
    .await?;
    let job = jobs.get("film").await.unwrap();
    let conditions = job.status.map(|status| status.conditions).unwrap_or_default();
    if !conditions.iter().any(|c| c.type_ == ConditionType::Complete.as_str() && c.status == "True") {
        return Err("the job is finished, but not complete".to_owned());
    }
    // A create that was held back may make its pod after the end; it finds its part there, or is taken away.
    eventually("no pod runs any more", RELEASED, async || {
        let pods = world.ours::<Pod>().list(&ListParams::default()).await.unwrap();
        pods.iter().all(|pod| {
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            matches!(phase, Some("Succeeded" | "Failed"))
        })
    })
    .await
}

/// What the parts and the driver's log tell.
fn faults_of_the_result(world: &World) -> Vec<String> {
    let mut faults = Vec::new();
    let parts = world.parts.lock().unwrap();
    let first = world.first_step.lock().unwrap().unwrap_or(0);
    for segment in 0..SEGMENTS {
        match parts.get(&segment) {
            None => faults.push(format!("segment {segment} has no part")),
            Some(part) if segment == TOO_LARGE && part.step <= first => {
                faults.push(format!("segment {segment} came out of step {} that has no room", part.step));
            }
            Some(part) if segment == CROWDED && part.step != first => {
                faults.push(format!("a neighbour cost segment {segment} its step: {part:?}, first {first}"));
            }
            Some(_) => {}
        }
    }
    let owners = world.owners.lock().unwrap();
    for node in &world.nodes {
        let holds = journal::holds(&journal::read(&node.journal()).unwrap());
        let ours = |hold: &journal::Hold| owners.get(&hold.who.pid).is_some_and(|owner| owner.pod.is_some());
        for (one, other) in journal::overlaps(&holds, ours) {
            faults.push(format!("two engines of ours on {} at once: {one:?} {other:?}", one.uuid));
        }
    }
    faults
}
