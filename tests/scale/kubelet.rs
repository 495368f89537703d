//! The kubelet of the played nodes: probes answer at once; segments that have their node run until they are told to end.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use video_upscale::api::keys::{self, Role};
use video_upscale::api::quantity::GIB;
use video_upscale::api::worker::{Code, End, FinishFigures, PrepareFigures};

use crate::played::cluster::uid;
use crate::played::containers::{self, container, end, ended, message, seconds};

/// Pictures of a segment.
const PICTURES: u32 = 48;
/// How long the last container takes, which needs no GPU.
const FINISH: Duration = Duration::from_secs(1);

/// The kubelet; gone when dropped.
pub struct Kubelet {
    pods: Api<Pod>,
    /// Segments' pods that have a node and have not ended, the oldest first.
    running: Arc<Mutex<VecDeque<Pod>>>,
    watching: JoinHandle<()>,
}

impl Kubelet {
    /// Runs the pods of a namespace. A probe finds a film of so many segments.
    pub fn open(client: &Client, namespace: &str, segments: u32) -> Self {
        let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
        let running: Arc<Mutex<VecDeque<Pod>>> = Arc::default();
        let watching = tokio::spawn(watch(pods.clone(), Arc::clone(&running), segments));
        Self { pods, running, watching }
    }

    /// How many segments run.
    pub fn ready(&self) -> usize {
        self.running.lock().unwrap().len()
    }

    /// Ends the engine that has run longest, well, and its pod a moment later; false if none runs.
    pub fn end_one(&self) -> bool {
        let Some(pod) = self.running.lock().unwrap().pop_front() else { return false };
        let pods = self.pods.clone();
        tokio::spawn(async move {
            let engine = engine_ended();
            let working = container("finish", json!({"running": {"startedAt": seconds(Timestamp::now())}}));
            let status =
                json!({"phase": "Running", "initContainerStatuses": engine, "containerStatuses": [working]});
            containers::tell(&pods, &pod, status).await.unwrap();
            tokio::time::sleep(FINISH).await;
            let figures = FinishFigures { frames: PICTURES, ..FinishFigures::default() };
            let said = message(&End { finish: Some(figures), ..end(Code::Done) });
            let done = ended("finish", Timestamp::now(), 0, &said);
            let status =
                json!({"phase": "Succeeded", "initContainerStatuses": engine, "containerStatuses": [done]});
            containers::tell(&pods, &pod, status).await.unwrap();
        });
        true
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

async fn watch(api: Api<Pod>, running: Arc<Mutex<VecDeque<Pod>>>, segments: u32) {
    let mut pods =
        watcher(api.clone(), watcher::Config::default()).default_backoff().applied_objects().boxed();
    let mut begun = BTreeSet::new();
    while let Some(pod) = pods.next().await {
        let Ok(pod) = pod else { continue };
        let scheduled = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
        if !scheduled || pod.metadata.deletion_timestamp.is_some() || !begun.insert(uid(&pod)) {
            continue;
        }
        match pod.labels().get(keys::ROLE).and_then(|role| Role::parse(role)) {
            Some(Role::Segment) => running.lock().unwrap().push_back(pod),
            Some(Role::Probe) => {
                containers::tell(&api, &pod, containers::probed(segments, PICTURES)).await.unwrap();
            }
            Some(Role::Merge) | None => {}
        }
    }
}

/// The first containers of a segment's pod when the engine has ended well.
fn engine_ended() -> Value {
    let now = Timestamp::now();
    let prepared =
        PrepareFigures { free_bytes: Some(24 * GIB), need_bytes: GIB, ..PrepareFigures::default() };
    let prepared = message(&End { prepare: Some(prepared), ..end(Code::Done) });
    json!([ended("prepare", now, 0, &prepared), ended("upscale", now, 0, "")])
}
