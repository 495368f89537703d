//! A tenant of the bed for one test: a namespace of its own with a claim, a film, and the means to get in its own way.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{
    Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, ResourceQuota,
};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::wait::await_condition;
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use video_upscale::api::keys;
use video_upscale::api::profile::{UpscaleProfile, UpscaleProfileSpec};
use video_upscale::api::quantity::MIB;
use video_upscale::fleet::resource;

use crate::bed::{Bed, Grade, NOWHERE, OPERATOR_NAMESPACE, PAUSE_IMAGE, TENANT, TENANT_PREFIX};
use crate::job::{Job, manifest};

/// One test's namespace.
pub struct Tenant {
    /// Administrator's client.
    pub client: Client,
    /// Its namespace, gone with [`Tenant::leave`].
    pub namespace: String,
    volumes: PathBuf,
    grade: Grade,
    film: PathBuf,
}

impl Tenant {
    /// Makes the namespace, with the claim `media` and the film `film.mp4` on it.
    pub async fn arrive(bed: &Bed, client: Client, name: &str) -> Result<Self> {
        let namespace = format!("{TENANT_PREFIX}{name}");
        let tenant = Self {
            grade: bed.grade(),
            volumes: bed.volumes().join(&namespace),
            film: bed.checkout().join("tests/clips/big-buck-bunny.mp4"),
            client,
            namespace,
        };
        let labels = json!({TENANT: tenant.namespace});
        tenant
            .create::<Namespace>(None, json!({"metadata": {"name": tenant.namespace, "labels": labels}}))
            .await?;
        tenant.claim("media", "ReadWriteMany").await?;
        std::fs::copy(&tenant.film, tenant.volume().join("film.mp4")).context("copy the film")?;
        Ok(tenant)
    }

    /// Deletes the namespace and its volumes and waits until they are gone.
    pub async fn leave(bed: &Bed, client: &Client, name: &str) -> Result<()> {
        let namespace = format!("{TENANT_PREFIX}{name}");
        let api: Api<Namespace> = Api::all(client.clone());
        if let Some(object) = api.get_opt(&namespace).await? {
            let uid = object.uid().unwrap_or_default();
            api.delete(&namespace, &DeleteParams::background()).await?;
            let gone = await_condition(api, &namespace, kube::runtime::conditions::is_deleted(&uid));
            tokio::time::timeout(Duration::from_secs(90), gone)
                .await
                .context("wait for the namespace to go")??;
        }
        let volumes: Api<PersistentVolume> = Api::all(client.clone());
        let ours = ListParams::default().labels(&format!("{TENANT}={namespace}"));
        volumes.delete_collection(&DeleteParams::default(), &ours).await?;
        let profiles: Api<UpscaleProfile> = Api::all(client.clone());
        profiles.delete_collection(&DeleteParams::default(), &ours).await?;
        let folder = bed.volumes().join(&namespace);
        if folder.exists() {
            std::fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()))?;
        }
        Ok(())
    }

    /// The folder behind the claim `media`.
    pub fn volume(&self) -> PathBuf {
        self.volume_of("media")
    }

    /// The folder behind a claim.
    pub fn volume_of(&self, claim: &str) -> PathBuf {
        self.volumes.join(claim)
    }

    /// The film that tests use.
    pub fn film(&self) -> &Path {
        &self.film
    }

    /// Makes a claim over a folder that both nodes see.
    pub async fn claim(&self, name: &str, access: &str) -> Result<()> {
        let folder = self.volume_of(name);
        std::fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        self.grade.hand_over(&folder)?;
        let volume = format!("{}-{name}", self.namespace);
        let size = json!({"storage": "10Gi"});
        self.create::<PersistentVolume>(
            None,
            json!({"metadata": {"name": volume, "labels": {TENANT: self.namespace}}, "spec": {
                "capacity": size, "accessModes": [access], "storageClassName": "",
                "persistentVolumeReclaimPolicy": "Retain", "hostPath": {"path": folder},
            }}),
        )
        .await?;
        self.create::<PersistentVolumeClaim>(
            Some(&self.namespace),
            json!({"metadata": {"name": name}, "spec": {
                "accessModes": [access], "storageClassName": "", "volumeName": volume,
                "resources": {"requests": size},
            }}),
        )
        .await
    }

    /// Creates a job over the claim `media`; `extra` replaces fields of the spec.
    pub async fn job(&self, name: &str, source: &str, extra: Value) -> Result<Job> {
        Job::create(&self.client, &self.namespace, &manifest(name, "media", source, "out.mp4", extra)).await
    }

    /// A pod that does nothing but use a claim on a node; returns once it runs.
    pub async fn holder_pod(&self, name: &str, claim: &str, node: &str) -> Result<()> {
        let volume = json!([{"name": "claim", "persistentVolumeClaim": {"claimName": claim}}]);
        self.pod(name, node, json!({}), volume).await
    }

    /// A pod that requests nearly all the memory of a node; returns once it runs.
    pub async fn filler_pod(&self, name: &str, node: &str) -> Result<()> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let node_object = nodes.get(node).await?;
        let allocatable = node_object.status.and_then(|s| s.allocatable).unwrap_or_default();
        let memory = allocatable.get("memory").map(|q| q.0.clone()).context("read the node's memory")?;
        let allocatable = resource::whole(&memory).with_context(|| format!("read {memory}"))?;
        let pods: Api<Pod> = Api::all(self.client.clone());
        let there = pods.list(&ListParams::default().fields(&format!("spec.nodeName={node}"))).await?;
        let requested: u64 = there.items.iter().map(requested_bytes).sum();
        let rest = allocatable.saturating_sub(requested).saturating_sub(64 * MIB);
        let resources = json!({"requests": {"memory": rest.to_string()}});
        self.pod(name, node, resources, json!([])).await
    }

    async fn pod(&self, name: &str, node: &str, resources: Value, volumes: Value) -> Result<()> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        self.create::<Pod>(
            Some(&self.namespace),
            json!({"metadata": {"name": name}, "spec": {
                "nodeSelector": {"kubernetes.io/hostname": node},
                "automountServiceAccountToken": false,
                "terminationGracePeriodSeconds": 0,
                "containers": [{"name": "wait", "image": PAUSE_IMAGE, "resources": resources}],
                "volumes": volumes,
            }}),
        )
        .await?;
        let running = await_condition(api, name, kube::runtime::conditions::is_pod_running());
        tokio::time::timeout(Duration::from_secs(30), running).await.context("wait for the pod to run")??;
        Ok(())
    }

    /// Offers a profile that is the chart's default one, changed; it goes with the tenant.
    pub async fn profile(&self, name: &str, change: impl FnOnce(&mut UpscaleProfileSpec)) -> Result<()> {
        let api: Api<UpscaleProfile> = Api::all(self.client.clone());
        let mut spec = api.get("flashvsr").await.context("read the chart's profile")?.spec;
        change(&mut spec);
        let mut profile = UpscaleProfile::new(name, spec);
        profile.labels_mut().insert(TENANT.to_owned(), self.namespace.clone());
        api.create(&PostParams::default(), &profile)
            .await
            .with_context(|| format!("offer profile {name}"))?;
        Ok(())
    }

    /// A quota that admits no pod.
    pub async fn quota_without_pods(&self) -> Result<()> {
        let quota = json!({"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}});
        self.create::<ResourceQuota>(Some(&self.namespace), quota).await
    }

    /// Takes all agents and their reports away.
    pub async fn without_agents(&self) -> Result<()> {
        self.schedule_agents(json!({NOWHERE: "true"})).await?;
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), OPERATOR_NAMESPACE);
        let agents = ListParams::default().labels("app.kubernetes.io/component=agent");
        for pod in pods.list(&agents).await?.items {
            let (name, uid) = (pod.name_any(), pod.uid().unwrap_or_default());
            let gone = await_condition(pods.clone(), &name, kube::runtime::conditions::is_deleted(&uid));
            tokio::time::timeout(Duration::from_secs(60), gone)
                .await
                .context("wait for the agents to go")??;
        }
        let nodes: Api<Node> = Api::all(self.client.clone());
        let nothing = json!({"metadata": {"annotations": {keys::REPORT: null, keys::HEARTBEAT: null}}});
        for node in nodes.list(&ListParams::default()).await?.items {
            nodes.patch(&node.name_any(), &PatchParams::default(), &Patch::Merge(&nothing)).await?;
        }
        Ok(())
    }

    /// Brings the agents back and waits for their reports.
    pub async fn with_agents(&self) -> Result<()> {
        self.schedule_agents(json!({NOWHERE: null})).await?;
        self.reports().await
    }

    /// Waits until every node has a report.
    pub async fn reports(&self) -> Result<()> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        for name in ["node-a", "node-b"] {
            let reported =
                |node: Option<&Node>| node.is_some_and(|n| n.annotations().contains_key(keys::REPORT));
            let wait = await_condition(nodes.clone(), name, reported);
            tokio::time::timeout(Duration::from_secs(90), wait).await.context("wait for the reports")??;
        }
        Ok(())
    }

    async fn schedule_agents(&self, selector: Value) -> Result<()> {
        let sets: Api<DaemonSet> = Api::namespaced(self.client.clone(), OPERATOR_NAMESPACE);
        let agents = ListParams::default().labels("app.kubernetes.io/component=agent");
        for set in sets.list(&agents).await?.items {
            let patch = json!({"spec": {"template": {"spec": {"nodeSelector": selector}}}});
            sets.patch(&set.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await?;
        }
        Ok(())
    }

    async fn create<K>(&self, namespace: Option<&str>, object: Value) -> Result<()>
    where
        K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + Serialize + DeserializeOwned,
    {
        let mut object = object;
        if let Some(map) = object.as_object_mut() {
            map.insert("apiVersion".into(), K::api_version(&()).into());
            map.insert("kind".into(), K::kind(&()).into());
        }
        if let (Some(namespace), Some(metadata)) =
            (namespace, object.get_mut("metadata").and_then(Value::as_object_mut))
        {
            metadata.insert("namespace".into(), namespace.into());
        }
        let path = match namespace {
            Some(namespace) => K::url_path(&(), Some(namespace)),
            None => K::url_path(&(), None),
        };
        let request = kube::core::Request::new(path)
            .create(&PostParams::default(), serde_json::to_vec(&object)?)
            .context("build the request")?;
        let _: K = self.client.request(request).await.with_context(|| format!("create {}", K::kind(&())))?;
        Ok(())
    }
}

fn requested_bytes(pod: &Pod) -> u64 {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let requests = containers.filter_map(|c| c.resources.as_ref()?.requests.as_ref()?.get("memory"));
    requests.filter_map(|quantity| resource::whole(&quantity.0)).sum()
}
