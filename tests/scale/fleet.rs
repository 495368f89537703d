//! The played nodes with eight GPUs each, on which somebody else sits; and what keeps them alive.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::{StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use kube::Client;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use video_upscale::api::keys;
use video_upscale::api::quantity::GIB;
use video_upscale::api::report::{Heartbeat, State, digest};

use crate::played::cluster::PLAYED;

/// GPUs of a node.
const CARDS: u32 = 8;
/// Usable GPUs of a node that has some.
const USABLE: u32 = 4;
/// Requests under way at once.
const ABREAST: usize = 16;
/// In this time every node renews its lease once, so that its controller does not give it up.
const ROUND: Duration = Duration::from_secs(24);
/// In so many rounds every report moves once: with 1,250 nodes 17 a second, as often as agents write under a mixed load
/// (`cargo bench -p upscale-agent --bench agent`).
const ROUNDS_OF_REPORT: u64 = 3;
/// Label of all that a run has made.
const RUN: &str = "tests.upscale.video/run";
/// Namespace of the leases of nodes.
const LEASES: &str = "kube-node-lease";

/// The nodes.
pub struct Nodes {
    client: Client,
    run: String,
    count: u32,
    /// Reports that were written.
    reports: AtomicU64,
    /// Nodes with usable GPUs; their reports rest.
    offered: AtomicU64,
    /// Leases that were renewed.
    renewals: AtomicU64,
}

impl Nodes {
    /// So many nodes of a run, none of which is there yet.
    pub fn new(client: Client, run: &str, count: u32) -> Self {
        Self {
            client,
            run: run.to_owned(),
            count,
            reports: AtomicU64::new(1),
            offered: AtomicU64::new(0),
            renewals: AtomicU64::new(0),
        }
    }

    /// Makes them, with agents of that release.
    pub async fn join(&self, release: &str) {
        stream::iter(0..self.count).for_each_concurrent(ABREAST, |node| self.join_one(node, release)).await;
    }

    /// Whether the cluster gives pods to all of them.
    pub async fn are_open(&self) -> bool {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let nodes = nodes.list(&self.ours()).await.unwrap();
        nodes.iter().all(|node| node.spec.as_ref().is_none_or(|spec| spec.taints.is_none()))
    }

    async fn join_one(&self, number: u32, release: &str) {
        let name = self.name(number);
        let labels = json!({PLAYED: "true", RUN: self.run, "kubernetes.io/hostname": name});
        let notes = self.notes(number, release, 0);
        let node = json!({"metadata": {"name": name, "labels": labels, "annotations": notes}});
        let nodes: Api<Node> = Api::all(self.client.clone());
        nodes.create(&PostParams::default(), &serde_json::from_value(node).unwrap()).await.unwrap();
        let lease = json!({"metadata": {"name": name, "labels": {RUN: self.run}},
            "spec": {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": micros()}});
        self.leases().create(&PostParams::default(), &serde_json::from_value(lease).unwrap()).await.unwrap();
        let room = json!({"cpu": "64", "memory": "512Gi", "ephemeral-storage": "4Ti", "pods": "250"});
        let status = json!({"status": {"capacity": room, "allocatable": room, "conditions": [{
            "type": "Ready", "status": "True", "reason": "Played", "message": "",
            "lastHeartbeatTime": Timestamp::now(),
        }]}});
        nodes.patch_status(&name, &PatchParams::default(), &Patch::Strategic(&status)).await.unwrap();
    }

    /// Keeps them alive, and lets reports move within their cause. Ends only with what went wrong.
    pub async fn live(&self) -> String {
        let release = format!("{}-release", self.run);
        let mut turns = tokio::time::interval(ROUND / self.count);
        let turns = stream::unfold(&mut turns, async |turns| {
            turns.tick().await;
            Some(((), turns))
        });
        let turns = turns.zip(stream::iter((0..self.count).cycle()));
        let mut done = turns
            .map(|((), node)| self.live_one(node, &release))
            .buffer_unordered(ABREAST)
            .filter_map(async |done: Result<(), kube::Error>| done.err())
            .boxed_local();
        done.next().await.map_or_else(String::new, |error| format!("a node is not kept alive: {error}"))
    }

    async fn live_one(&self, number: u32, release: &str) -> Result<(), kube::Error> {
        let name = self.name(number);
        let renewal = json!({"spec": {"renewTime": micros()}});
        self.leases().patch(&name, &PatchParams::default(), &Patch::Merge(&renewal)).await?;
        let round = self.renewals.fetch_add(1, Ordering::Relaxed) / u64::from(self.count);
        let its_turn = (round + u64::from(number)).is_multiple_of(ROUNDS_OF_REPORT);
        if !its_turn || u64::from(number) < self.offered.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.report(number, release, 0).await
    }

    /// Frees that many GPUs, four on a node.
    pub async fn offer(&self, release: &str, usable: u32) {
        let nodes = usable.div_ceil(USABLE);
        self.offered.store(u64::from(nodes), Ordering::Relaxed);
        let reports = stream::iter(0..nodes);
        reports
            .for_each_concurrent(ABREAST, async |node| {
                self.report(node, release, USABLE.min(usable - node * USABLE)).await.unwrap();
            })
            .await;
    }

    /// Takes them away.
    pub async fn leave(&self) {
        let nodes: Api<Node> = Api::all(self.client.clone());
        nodes.delete_collection(&DeleteParams::default(), &self.ours()).await.unwrap();
        self.leases().delete_collection(&DeleteParams::default(), &self.ours()).await.unwrap();
    }

    fn ours(&self) -> ListParams {
        ListParams::default().labels(&format!("{RUN}={}", self.run))
    }

    /// How many reports were written.
    pub fn reports(&self) -> u64 {
        self.reports.load(Ordering::Relaxed)
    }

    fn name(&self, number: u32) -> String {
        format!("{}-{number:04}", self.run)
    }

    fn leases(&self) -> Api<Lease> {
        Api::namespaced(self.client.clone(), LEASES)
    }

    async fn report(&self, number: u32, release: &str, usable: u32) -> Result<(), kube::Error> {
        let notes = json!({"metadata": {"annotations": self.notes(number, release, usable)}});
        let nodes: Api<Node> = Api::all(self.client.clone());
        nodes.patch(&self.name(number), &PatchParams::default(), &Patch::Merge(&notes)).await.map(drop)
    }

    /// The agent's words: `usable` GPUs are empty, on the others somebody leaves a little more or less than 1 GiB.
    fn notes(&self, number: u32, release: &str, usable: u32) -> Value {
        let seq = self.reports.fetch_add(1, Ordering::Relaxed);
        let gpu = |index: u32| {
            let taken = if index < usable { 0 } else { 23 * GIB - (seq % 64) * (GIB / 128) };
            let top: Vec<Value> =
                (taken > 0).then(|| json!({"k": "host", "p": 9, "b": taken, "t": "C"})).into_iter().collect();
            json!({"i": index, "id": format!("GPU-{}-{number:04}-{index}", self.run), "n": "NVIDIA L4",
                "tot": 24 * GIB, "rsv": 0, "free": 24 * GIB - taken, "una": 0, "h": "ok",
                "procs": {"n": top.len(), "b": taken, "top": top}})
        };
        let at = Timestamp::from_second(Timestamp::now().as_second()).unwrap();
        let inst = "c0ffee00".to_owned();
        let text =
            json!({"v": 1, "ns": release, "seq": seq, "inst": inst, "at": at, "hb": 300, "drv": "580.95.05",
            "state": "ok", "attr": "full", "gpus": (0..CARDS).map(gpu).collect::<Vec<_>>()})
            .to_string();
        let beat = Heartbeat { seq, inst, at, state: State::Ok, sha: digest(&text) };
        json!({keys::REPORT: text, keys::HEARTBEAT: beat.to_string()})
    }
}

/// Now, as leases write it.
fn micros() -> String {
    format!("{:.6}", Timestamp::now())
}
