//! What a run has for itself: two namespaces, two nodes with a simulated driver each, a profile, a volume, and notes of
//! what was found wrong.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use gpusim::config::NodeConfig;
use gpusim::control::{Control, GpuState};
use gpusim::driver::SOCKET;
use k8s_openapi::api::core::v1::{Namespace, Node, PersistentVolume, PersistentVolumeClaim};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::NamespaceResourceScope;
use kube::{Client, Config, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::process::Child;
use video_upscale::api::profile::UpscaleProfile;
use video_upscale::api::report::Kind;
use video_upscale::api::video_upscale::VideoUpscale;
use video_upscale::api::{crds, keys};

/// Label of the nodes that tests play.
const PLAYED: &str = "tests.upscale.video/played";
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
            world
                .apply::<Namespace>(Api::all(world.client.clone()), &json!({"metadata": {"name": namespace}}))
                .await;
        }
        for node in &world.nodes {
            world.join(&node.name).await;
        }
        world.volume().await;
        let mut profile: Value =
            serde_saphyr::from_str(include_str!("../../src/profile/testdata/flashvsr.yaml")).unwrap();
        profile["metadata"] = json!({"name": world.name});
        world.apply::<UpscaleProfile>(Api::all(world.client.clone()), &profile).await;
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

    /// A file of its own.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
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
        self.apply(self.ours::<VideoUpscale>(), &job).await;
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
        self.apply(nodes.clone(), &json!({"metadata": {"name": name, "labels": labels}})).await;
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

    async fn volume(&self) {
        let size = json!({"storage": "1Gi"});
        let modes = json!(["ReadWriteMany"]);
        self.apply::<PersistentVolume>(
            Api::all(self.client.clone()),
            &json!({"metadata": {"name": self.name}, "spec": {
                "capacity": size, "accessModes": modes, "storageClassName": "",
                "persistentVolumeReclaimPolicy": "Retain", "hostPath": {"path": "/nowhere"},
            }}),
        )
        .await;
        let claim = json!({"metadata": {"name": "media"}, "spec": {
            "accessModes": modes, "storageClassName": "", "volumeName": self.name, "resources": {"requests": size},
        }});
        self.apply(self.ours::<PersistentVolumeClaim>(), &claim).await;
    }

    async fn apply<K>(&self, api: Api<K>, object: &Value)
    where
        K: Resource<DynamicType = ()> + Clone + Serialize + DeserializeOwned + std::fmt::Debug,
    {
        let mut object = object.clone();
        object["apiVersion"] = K::api_version(&()).into();
        object["kind"] = K::kind(&()).into();
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let params = PatchParams::apply("crash-test").force();
        api.patch(&name, &params, &Patch::Apply(&object)).await.unwrap_or_else(|e| panic!("{name}: {e}"));
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

/// A client with all rights.
pub async fn administrator(kubeconfig: &OsStr) -> Client {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

/// Makes the server know our kinds.
pub async fn serve_our_kinds(client: &Client) {
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for crd in crds::all().unwrap() {
        let name = crd.object["metadata"]["name"].as_str().unwrap();
        let params = PatchParams::apply("crash-test").force();
        api.patch(name, &params, &Patch::Apply(&crd.object)).await.unwrap();
    }
    let jobs: Api<VideoUpscale> = Api::all(client.clone());
    let profiles: Api<UpscaleProfile> = Api::all(client.clone());
    let first = ListParams::default().limit(1);
    eventually("our kinds are served", Duration::from_secs(30), async || {
        jobs.list(&first).await.is_ok() && profiles.list(&first).await.is_ok()
    })
    .await
    .unwrap();
}

/// A real kubelet would run the pods that are to be played.
pub async fn nodes_of_others_are_cordoned(client: &Client) {
    let nodes: Api<Node> = Api::all(client.clone());
    for node in nodes.list(&ListParams::default()).await.unwrap() {
        let cordoned = node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false);
        if node.labels().contains_key(PLAYED) {
            // Left by a run that was interrupted.
            nodes.delete(&node.name_any(), &DeleteParams::default()).await.unwrap();
        } else {
            assert!(
                cordoned,
                "node {} has to be cordoned: kubectl cordon {}",
                node.name_any(),
                node.name_any()
            );
        }
    }
}

/// How often a question is asked again.
pub const AGAIN: Duration = Duration::from_millis(50);

/// Asks until the answer is yes.
pub async fn eventually(
    what: &str,
    limit: Duration,
    mut ask: impl AsyncFnMut() -> bool,
) -> Result<(), String> {
    let asked = async {
        while !ask().await {
            tokio::time::sleep(AGAIN).await;
        }
    };
    tokio::time::timeout(limit, asked).await.map_err(|_| format!("not within {limit:?}: {what}"))
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

/// `metadata.uid`, which every object of a server has.
pub fn uid(object: &impl Resource) -> String {
    object.meta().uid.clone().unwrap()
}

/// A label or annotation that counts something.
pub fn number(map: &BTreeMap<String, String>, key: &str) -> u32 {
    map.get(key).and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("no {key} in {map:?}"))
}

/// Bytes that an attempt needs, as the pod says.
pub fn need(map: &BTreeMap<String, String>) -> u64 {
    map.get(keys::NEED).and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("no need in {map:?}"))
}
