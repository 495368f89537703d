//! The cluster that is played on.

use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use video_upscale::api::crds;
use video_upscale::api::profile::UpscaleProfile;
use video_upscale::api::video_upscale::VideoUpscale;

/// Label of the nodes that tests play.
pub const PLAYED: &str = "tests.upscale.video/played";
/// How often a question is asked again.
pub const AGAIN: Duration = Duration::from_millis(50);
/// Names an administrator's kubeconfig.
const KUBECONFIG: &str = "UPSCALE_TEST_KUBECONFIG";
/// Whose fields they are that tests write.
const MANAGER: &str = "played";

/// The kubeconfig of an administrator that the environment names. `None`, said aloud, if it names none: such a run proves
/// less.
pub fn kubeconfig() -> Option<OsString> {
    let named = std::env::var_os(KUBECONFIG);
    if named.is_none() {
        // Not by `println!`, which a test keeps to itself unless it fails.
        let said =
            writeln!(std::io::stdout(), "SKIPPED: {KUBECONFIG} names no kubeconfig; `cargo xtask test` does");
        said.unwrap();
    }
    named
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
        let params = PatchParams::apply(MANAGER).force();
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

/// Makes an object what is given.
pub async fn apply<K>(api: &Api<K>, object: &Value)
where
    K: Resource<DynamicType = ()> + Clone + Serialize + DeserializeOwned + std::fmt::Debug,
{
    let mut object = object.clone();
    object["apiVersion"] = K::api_version(&()).into();
    object["kind"] = K::kind(&()).into();
    let name = object["metadata"]["name"].as_str().unwrap().to_owned();
    let params = PatchParams::apply(MANAGER).force();
    api.patch(&name, &params, &Patch::Apply(&object)).await.unwrap_or_else(|e| panic!("{name}: {e}"));
}

/// Makes a volume that nobody ever opens, of that name, and its claim `media` in a namespace.
pub async fn volume(client: &Client, name: &str, namespace: &str) {
    let size = json!({"storage": "1Gi"});
    let modes = json!(["ReadWriteMany"]);
    apply::<PersistentVolume>(
        &Api::all(client.clone()),
        &json!({"metadata": {"name": name}, "spec": {
            "capacity": size, "accessModes": modes, "storageClassName": "",
            "persistentVolumeReclaimPolicy": "Retain", "hostPath": {"path": "/nowhere"},
        }}),
    )
    .await;
    apply::<PersistentVolumeClaim>(
        &Api::namespaced(client.clone(), namespace),
        &json!({"metadata": {"name": "media"}, "spec": {
            "accessModes": modes, "storageClassName": "", "volumeName": name, "resources": {"requests": size},
        }}),
    )
    .await;
}

/// Makes the profile of FlashVSR, under that name.
pub async fn profile(client: &Client, name: &str) {
    let mut profile: Value =
        serde_saphyr::from_str(include_str!("../../src/profile/testdata/flashvsr.yaml")).unwrap();
    profile["metadata"] = json!({"name": name});
    apply::<UpscaleProfile>(&Api::all(client.clone()), &profile).await;
}

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

/// `metadata.uid`, which every object of a server has.
pub fn uid(object: &impl Resource) -> String {
    object.meta().uid.clone().unwrap()
}
