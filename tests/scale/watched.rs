//! The way of the measured controller to the API server, with the times of what goes by: an engine's end is delivered, a
//! claim is written, a pod is made.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::Method;
use axum::response::Response;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::core::WatchEvent;
use kube::{Client, ResourceExt};
use tokio::task::JoinHandle;
use video_upscale::api::keys;

use crate::played::cluster::uid;
use crate::played::way::{self, created_pod, forward};

/// The way; closed when dropped.
pub struct Watched {
    /// Where it begins.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

struct Shared {
    client: Client,
    seen: Mutex<Seen>,
}

struct Seen {
    writes: BTreeMap<String, u32>,
    /// How long the API server took to answer reads of each kind.
    reads: BTreeMap<String, Vec<Duration>>,
    last: Instant,
    first_claim: Option<Instant>,
    /// Pods of which it was delivered that their engine has ended, by UID.
    ended: BTreeSet<String>,
    /// When that was, by the GPU, until its next pod is made.
    freed: BTreeMap<String, Instant>,
    /// How long each took.
    waits: Vec<Duration>,
    /// How long the API server took to answer each write.
    answers: Vec<Duration>,
}

impl Watched {
    /// Opens it.
    pub async fn open(client: Client) -> Self {
        let seen = Seen {
            writes: BTreeMap::new(),
            reads: BTreeMap::new(),
            last: Instant::now(),
            first_claim: None,
            ended: BTreeSet::new(),
            freed: BTreeMap::new(),
            waits: Vec::new(),
            answers: Vec::new(),
        };
        let shared = Arc::new(Shared { client, seen: Mutex::new(seen) });
        let router = Router::new().fallback(pass).with_state(Arc::clone(&shared));
        let (address, server) = way::open(router).await;
        Self { address, shared, server }
    }

    /// Counts from now on.
    pub fn forget(&self) {
        let mut seen = self.shared.seen.lock().unwrap();
        seen.writes.clear();
        seen.reads.clear();
        seen.first_claim = None;
        seen.waits.clear();
        seen.answers.clear();
    }

    /// Writes of each kind.
    pub fn kinds(&self) -> BTreeMap<String, u32> {
        self.shared.seen.lock().unwrap().writes.clone()
    }

    /// How long the API server took to answer reads of each kind, and to begin watches.
    pub fn reads(&self) -> BTreeMap<String, Vec<Duration>> {
        self.shared.seen.lock().unwrap().reads.clone()
    }

    /// How long ago the last write was.
    pub fn quiet_for(&self) -> Duration {
        self.shared.seen.lock().unwrap().last.elapsed()
    }

    /// When the first claim was written.
    pub fn first_claim(&self) -> Option<Instant> {
        self.shared.seen.lock().unwrap().first_claim
    }

    /// From a delivered end to the request that makes the GPU's next pod.
    pub fn waits(&self) -> Vec<Duration> {
        self.shared.seen.lock().unwrap().waits.clone()
    }

    /// How long the API server took to answer each write.
    pub fn answers(&self) -> Vec<Duration> {
        self.shared.seen.lock().unwrap().answers.clone()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn pass(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let kind = way::kind(&request);
    let (pod, request) = created_pod(kind.as_deref(), request).await;
    if let Some(kind) = kind {
        shared.written(kind, pod.as_ref());
        let asked = Instant::now();
        let answer = forward(&shared.client, request).await;
        shared.seen.lock().unwrap().answers.push(asked.elapsed());
        return answer;
    }
    let uri = request.uri();
    let query = uri.query().unwrap_or_default();
    let watches = query.contains("watch=");
    let of_pods = watches && *request.method() == Method::GET && uri.path().ends_with("/pods");
    let what = format!("{}{}", way::what(&request), if watches { ", watch" } else { "" });
    let asked = Instant::now();
    let answer = forward(&shared.client, request).await;
    shared.seen.lock().unwrap().reads.entry(what).or_default().push(asked.elapsed());
    if of_pods { answer.map(|body| looked_at(shared, body)) } else { answer }
}

/// The same body, of which each whole line was looked at before it is delivered.
fn looked_at(shared: Arc<Shared>, body: Body) -> Body {
    let mut rest = Vec::new();
    let chunks = body.into_data_stream().map(move |chunk| {
        if let Ok(chunk) = &chunk {
            shared.deliver(&mut rest, chunk);
        }
        chunk
    });
    Body::from_stream(chunks)
}

impl Shared {
    fn written(&self, kind: String, pod: Option<&Pod>) {
        let now = Instant::now();
        let mut seen = self.seen.lock().unwrap();
        seen.last = now;
        if kind.ends_with(" leases") {
            seen.first_claim.get_or_insert(now);
        }
        *seen.writes.entry(kind).or_default() += 1;
        let gpu = pod.and_then(|pod| pod.annotations().get(keys::GPU_UUID));
        if let Some(freed) = gpu.and_then(|gpu| seen.freed.remove(gpu)) {
            seen.waits.push(now.duration_since(freed));
        }
    }

    fn deliver(&self, rest: &mut Vec<u8>, chunk: &Bytes) {
        rest.extend_from_slice(chunk);
        let Some(whole) = rest.iter().rposition(|byte| *byte == b'\n') else { return };
        let lines: Vec<u8> = rest.drain(..=whole).collect();
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            if let Ok(WatchEvent::Modified(pod)) = serde_json::from_slice::<WatchEvent<Pod>>(line) {
                self.told(&pod);
            }
        }
    }

    fn told(&self, pod: &Pod) {
        let inits = pod.status.iter().flat_map(|status| status.init_container_statuses.iter().flatten());
        let mut engines = inits.filter(|container| container.name == "upscale");
        let ended =
            engines.any(|engine| engine.state.as_ref().is_some_and(|state| state.terminated.is_some()));
        let Some(gpu) = pod.annotations().get(keys::GPU_UUID).filter(|_| ended) else { return };
        let now = Instant::now();
        let mut seen = self.seen.lock().unwrap();
        if seen.ended.insert(uid(pod)) {
            seen.freed.insert(gpu.clone(), now);
        }
    }
}
