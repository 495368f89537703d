//! What a run has for itself: two namespaces, two nodes with a simulated driver each, a profile, a volume, and notes of
//! what was found wrong.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use gpusim::config::NodeConfig;
use gpusim::control::{Control, GpuState};
use gpusim::driver::SOCKET;
use k8s_openapi::api::core::v1::{Namespace, Node, PersistentVolume};
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::{Client, Resource};
use serde_json::json;
use tokio::process::Child;
use video_upscale::api::keys;
use video_upscale::api::profile::UpscaleProfile;
use video_upscale::api::report::Kind;
use video_upscale::api::video_upscale::VideoUpscale;

use crate::played::cluster::{self, AGAIN, PLAYED};

/// Memory of every card, MiB.
const CARD_MIB: u64 = 24 * 1024;
/// Segments of the film.
pub const SEGMENTS: u32 = 4;
/// The one whose tiles are too large at the first step.
pub const TOO_LARGE: u32 = 1;
/// The one that meets a neighbour.
pub const CROWDED: u32 = 2;

/// A part of the film that `finish` has published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Attempt that made it.
    pub attempt: u32,
    /// Its step.
    pub step: u32,
}

/// What a pod stands for as long as it may use its GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alive {
    /// Its segment.
    pub segment: u32,
    /// UUID of its GPU.
    pub gpu: String,
}

/// Whose a process is.
#[derive(Clone, Debug)]
pub struct Owner {
    /// Kind of owner.
    pub kind: Kind,
    /// UID of its pod.
    pub pod: Option<String>,
}

/// A node that is played.
pub struct PlayedNode {
    /// Its name.
    pub name: String,
    folder: PathBuf,
}

impl PlayedNode {
    /// The driver's socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.join(SOCKET)
    }

    /// The driver's log.
    pub fn journal(&self) -> PathBuf {
        self.folder.join("journal")
    }

    /// What the driver knows of its cards.
    pub fn cards(&self) -> Vec<GpuState> {
        Control::dial(&self.folder.join("control")).unwrap().list().unwrap()
    }
}

/// All that a run has for itself.
pub struct World {
    /// An administrator's client.
    pub client: Client,
    /// Its own name.
    pub name: String,
    /// Its nodes.
    pub nodes: Vec<PlayedNode>,
    /// Whose the processes on the cards are, by process id.
    pub owners: Mutex<BTreeMap<u32, Owner>>,
    /// The parts of the film, by segment.
    pub parts: Mutex<BTreeMap<u32, Part>>,
    /// Segments' pods that are made and whose engine may still run or begin, by UID.
    pub alive: Mutex<BTreeMap<String, Alive>>,
    /// The best step that an attempt had.
    pub first_step: Mutex<Option<u32>>,
    /// The neighbour of the crowded segment, once it came.
    pub neighbour: Mutex<Option<Child>>,
    /// What was found wrong.
    pub faults: Mutex<Vec<String>>,
    folder: tempfile::TempDir,
}

impl World {
    /// Makes everything that the controller finds when it begins.
    pub async fn make(client: Client) -> Self {
        let name = format!("crash-{:08x}", rand::random::<u32>());
        let folder = tempfile::tempdir().unwrap();
        let nodes = ["a", "b"].map(|letter| drive(&folder, &format!("{name}-{letter}"))).into();
        let world = Self {
            client,
            nodes,
            owners: Mutex::default(),
            parts: Mutex::default(),
            alive: Mutex::default(),
            first_step: Mutex::default(),
            neighbour: Mutex::default(),
            faults: Mutex::default(),
            folder,
            name,
        };
        for namespace in [world.release(), world.namespace()] {
            let namespaces: Api<Namespace> = Api::all(world.client.clone());
            cluster::apply(&namespaces, &json!({"metadata": {"name": namespace}})).await;
        }
        for node in &world.nodes {
            world.join(&node.name).await;
        }
        cluster::volume(&world.client, &world.name, &world.namespace()).await;
        cluster::profile(&world.client, &world.name).await;
        world
    }

    /// Namespace of the release: where the claims lie.
    pub fn release(&self) -> String {
        format!("{}-release", self.name)
    }

    /// Namespace of the job.
    pub fn namespace(&self) -> String {
        format!("{}-job", self.name)
    }

    /// Where its files lie.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Objects in the job's namespace.
    pub fn ours<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.namespace())
    }

    /// Takes in that a segment's pod was made: no other of its segment or on its GPU may be alive.
    pub fn made(&self, pod: &str, what: Alive) {
        let mut alive = self.alive.lock().unwrap();
        for (other, its) in alive.iter().filter(|(_, its)| its.segment == what.segment || its.gpu == what.gpu)
        {
            self.fault(format!("pod {pod} {what:?} was made although {other} {its:?} is alive"));
        }
        alive.insert(pod.to_owned(), what);
    }

    /// Takes in that a pod uses its GPU no more.
    pub fn done(&self, pod: &str) {
        self.alive.lock().unwrap().remove(pod);
    }

    /// Notes what is wrong.
    pub fn fault(&self, what: String) {
        self.faults.lock().unwrap().push(what);
    }

    /// The job is made; all else follows.
    pub async fn begin(&self) {
        let claim = json!({"name": "media"});
        let job = json!({"metadata": {"name": "film"}, "spec": {
            "source": {"claim": claim, "path": "film.mp4"}, "destination": {"claim": claim, "path": "large.mp4"},
            "profile": self.name, "parallelism": 3,
        }});
        cluster::apply(&self.ours::<VideoUpscale>(), &job).await;
    }

    /// Takes everything away. What was only ever played ends at once.
    pub async fn end(&self) {
        for node in &self.nodes {
            let nodes: Api<Node> = Api::all(self.client.clone());
            nodes.delete(&node.name, &DeleteParams::default()).await.unwrap();
        }
        let profiles: Api<UpscaleProfile> = Api::all(self.client.clone());
        profiles.delete(&self.name, &DeleteParams::default()).await.unwrap();
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        for namespace in [self.namespace(), self.release()] {
            namespaces.delete(&namespace, &DeleteParams::background()).await.unwrap();
        }
        let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
        volumes.delete(&self.name, &DeleteParams::default()).await.unwrap();
    }

    async fn join(&self, name: &str) {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let labels = json!({PLAYED: "true", "kubernetes.io/hostname": name});
        cluster::apply(&nodes, &json!({"metadata": {"name": name, "labels": labels}})).await;
        let room = json!({"cpu": "64", "memory": "256Gi", "ephemeral-storage": "1Ti", "pods": "250"});
        let status = json!({"status": {"capacity": room, "allocatable": room}});
        nodes.patch_status(name, &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
        self.beat(name).await;
    }

    /// Says that a node is alive, as its kubelet has to again and again.
    pub async fn beat(&self, name: &str) {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let status = json!({"status": {"conditions": [{
            "type": "Ready", "status": "True", "reason": "Played", "message": "",
            "lastHeartbeatTime": jiff::Timestamp::now(),
        }]}});
        nodes.patch_status(name, &PatchParams::default(), &Patch::Strategic(&status)).await.unwrap();
    }
}

/// The driver of a node, in a thread that lives as long as the test.
fn drive(folder: &tempfile::TempDir, name: &str) -> PlayedNode {
    let folder = folder.path().join(name);
    std::fs::create_dir_all(&folder).unwrap();
    let card = json!({"model": "NVIDIA GeForce RTX 3090", "total_mib": CARD_MIB, "reserved_mib": 300});
    // UUIDs are Leases' names, which other runs must not share.
    let config = json!({"node": name, "seed": rand::random::<u32>(), "cards": [card, card]});
    let config = NodeConfig::parse(&config.to_string()).unwrap();
    let node = PlayedNode { name: name.to_owned(), folder: folder.clone() };
    std::thread::spawn(move || {
        gpusim::daemon::serve(&config, &folder, &folder.join("control"), &folder.join("journal")).unwrap();
    });
    while Control::dial(&node.folder.join("control")).is_err() {
        std::thread::yield_now();
    }
    node
}

/// Looks until it is so.
pub async fn until(what: &str, limit: Duration, mut look: impl FnMut() -> bool) -> Result<(), String> {
    let seen = async {
        while !look() {
            tokio::time::sleep(AGAIN).await;
        }
    };
    tokio::time::timeout(limit, seen).await.map_err(|_| format!("not within {limit:?}: {what}"))
}

/// A label or annotation that counts something.
pub fn number(map: &BTreeMap<String, String>, key: &str) -> u32 {
    map.get(key).and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("no {key} in {map:?}"))
}

/// Bytes that an attempt needs, as the pod says.
pub fn need(map: &BTreeMap<String, String>) -> u64 {
    map.get(keys::NEED).and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("no need in {map:?}"))
}
