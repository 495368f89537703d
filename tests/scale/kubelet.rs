//! The kubelet of the played nodes: probes answer at once; segments that have their node run until they are told to end.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};

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
use crate::played::containers::{self, end, ended, message};

/// Pictures of a segment.
const PICTURES: u32 = 48;

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

    /// Ends the segment that has run longest, well; false if none runs.
    pub fn end_one(&self) -> bool {
        let Some(pod) = self.running.lock().unwrap().pop_front() else { return false };
        let pods = self.pods.clone();
        tokio::spawn(async move { containers::tell(&pods, &pod, done()).await.unwrap() });
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

/// Status of a segment's pod that went well.
fn done() -> Value {
    let now = Timestamp::now();
    let prepared =
        PrepareFigures { free_bytes: Some(24 * GIB), need_bytes: GIB, ..PrepareFigures::default() };
    let prepared = message(&End { prepare: Some(prepared), ..end(Code::Done) });
    let finished = FinishFigures { frames: PICTURES, ..FinishFigures::default() };
    let finished = message(&End { finish: Some(finished), ..end(Code::Done) });
    json!({
        "phase": "Succeeded",
        "initContainerStatuses": [ended("prepare", now, 0, &prepared), ended("upscale", now, 0, "")],
        "containerStatuses": [ended("finish", now, 0, &finished)],
    })
}
