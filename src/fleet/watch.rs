//! The watches that feed the index, guarded against what watches are known to do: an object that does not decode is
//! set aside; a start that is refused again and again, and a silence, end in a new list; lists come at growing
//! distances. (A start that is never answered ends by the watch client's read timeout.)

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::channel::mpsc::UnboundedSender;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::core::DeserializeGuard;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use super::claim::{Claim, JobKey};
use super::handle::{FleetHandle, Part};
use super::news::{self, Notice};
use super::node::NodeFacts;
use super::pod::{PodFacts, PodStage, job_of};
use crate::api::keys;

/// Without any event for so long, everything is listed anew.
const SILENCE: Duration = Duration::from_secs(600);
/// Failures in a row after which a watch is thrown away.
const MOST_FAILURES: u32 = 3;
/// Shortest and longest pause before a new list.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Watches all nodes; what their administrators should know goes to `notices`.
pub(super) async fn nodes(fleet: &FleetHandle, client: Client, notices: &UnboundedSender<Notice>) {
    let mut listed: BTreeMap<String, ()> = BTreeMap::new();
    follow::<Node>(Api::all(client), watcher::Config::default(), |event| {
        match event {
            Event::Init => listed.clear(),
            Event::InitApply(node) | Event::Apply(node) => {
                listed.insert(node.name_any(), ());
                let jobs = match node.0.ok().as_ref().and_then(NodeFacts::of) {
                    Some(facts) => {
                        let before = fleet.node_facts(&facts.name);
                        for notice in news::of(before.as_deref(), &facts, &fleet.config().namespace) {
                            // An error means that the fleet loop has ended.
                            let _ended = notices.unbounded_send(notice);
                        }
                        let now = fleet.now();
                        fleet.lock().apply_node(facts, now)
                    }
                    None => return,
                };
                fleet.wake(jobs);
            }
            Event::Delete(node) => {
                let jobs = fleet.lock().remove_node(&node.name_any());
                fleet.wake(jobs);
            }
            Event::InitDone => {
                let gone: Vec<String> = {
                    let fleet = fleet.lock();
                    let names = fleet.nodes().map(|node| node.name.clone());
                    names.filter(|name| !listed.contains_key(name)).collect()
                };
                for name in gone {
                    let jobs = fleet.lock().remove_node(&name);
                    fleet.wake(jobs);
                }
                fleet.fill(Part::Nodes);
            }
        }
        fleet.touch();
    })
    .await;
}

/// Watches the claims of the release.
pub(super) async fn claims(fleet: &FleetHandle, client: Client) {
    let api = Api::namespaced(client, &fleet.config().namespace);
    // Claims known when a list began: of these, what the list does not have is gone. Later ones are newer than it.
    let mut known: BTreeMap<String, Claim> = BTreeMap::new();
    follow::<Lease>(api, ours(), |event| {
        let jobs = match event {
            Event::Init => {
                let fleet = fleet.lock();
                known = fleet
                    .claims()
                    .map(|claim| (claim.gpu.to_ascii_lowercase(), Claim::clone(claim)))
                    .collect();
                return;
            }
            Event::InitApply(lease) | Event::Apply(lease) => {
                let claim = read_claim(&lease);
                known.remove(&claim.gpu.to_ascii_lowercase());
                fleet.lock().apply_claim(claim)
            }
            Event::Delete(lease) => fleet.lock().remove_claim(&read_claim(&lease)),
            Event::InitDone => {
                let jobs = {
                    let mut fleet = fleet.lock();
                    std::mem::take(&mut known).values().flat_map(|gone| fleet.remove_claim(gone)).collect()
                };
                fleet.fill(Part::Claims);
                jobs
            }
        };
        fleet.wake(jobs);
        fleet.touch();
    })
    .await;
}

/// A Lease that does not even decode as one is held by somebody unknown.
fn read_claim(lease: &DeserializeGuard<Lease>) -> Claim {
    match &lease.0 {
        Ok(lease) => Claim::of_lease(lease),
        Err(broken) => {
            let mut lease = Lease { metadata: broken.metadata.clone(), ..Lease::default() };
            lease.spec.get_or_insert_default().holder_identity = Some("a broken Lease".to_owned());
            Claim::of_lease(&lease)
        }
    }
}

/// Watches our own pods, in all namespaces or in those that are given, and wakes their jobs.
pub(super) async fn pods(fleet: &FleetHandle, client: Client) {
    let namespaces = &fleet.config().watch_namespaces;
    let places: Vec<Option<&String>> =
        if namespaces.is_empty() { vec![None] } else { namespaces.iter().map(Some).collect() };
    let waiting = std::sync::atomic::AtomicUsize::new(places.len());
    let watches = places.into_iter().map(|namespace| {
        let api = match namespace {
            Some(namespace) => Api::namespaced(client.clone(), namespace),
            None => Api::all(client.clone()),
        };
        pods_of(fleet, api, namespace, &waiting)
    });
    futures::future::join_all(watches).await;
}

async fn pods_of(
    fleet: &FleetHandle,
    api: Api<DeserializeGuard<Pod>>,
    namespace: Option<&String>,
    waiting: &std::sync::atomic::AtomicUsize,
) {
    let mut listed: BTreeSet<String> = BTreeSet::new();
    // As far as it was known when a list began; what has come since is newer than it.
    let mut known = BTreeSet::new();
    let mut first = true;
    let here = namespace.map(String::as_str);
    follow::<Pod>(api, ours(), |event| {
        match event {
            Event::Init => {
                listed.clear();
                known = fleet.heard_pods().known(here);
            }
            Event::InitApply(pod) | Event::Apply(pod) => {
                listed.extend(pod.uid());
                let job = job_of(pod.meta());
                let Ok(pod) = pod.0 else {
                    fleet.wake(job);
                    return;
                };
                if let Some(facts) = PodFacts::of(&pod) {
                    fleet.lock().apply_pod(facts);
                }
                let news = fleet.heard_pods().hear_of(pod);
                fleet.wake(job.filter(|_| news));
            }
            Event::Delete(pod) => {
                fleet.heard_pods().lose(pod.meta());
                let before = fleet.lock().remove_pod(&pod.uid().unwrap_or_default());
                fleet.wake(job_of(pod.meta()).filter(|_| is_news(before.as_deref())));
            }
            Event::InitDone => {
                for (job, uid) in std::mem::take(&mut known) {
                    if !listed.contains(&uid) {
                        fleet.heard_pods().miss(&job, &uid);
                    }
                }
                let jobs: Vec<JobKey> = {
                    let mut fleet = fleet.lock();
                    let pods = fleet.pods().filter(|pod| here.is_none_or(|here| pod.namespace == here));
                    let gone = pods.filter(|pod| !listed.contains(&pod.uid)).cloned();
                    let gone: Vec<Arc<PodFacts>> = gone.collect();
                    for pod in &gone {
                        fleet.remove_pod(&pod.uid);
                    }
                    gone.iter().filter(|pod| is_news(Some(pod))).filter_map(|pod| pod.job.clone()).collect()
                };
                fleet.wake(jobs);
                if std::mem::take(&mut first)
                    && waiting.fetch_sub(1, std::sync::atomic::Ordering::AcqRel) == 1
                {
                    fleet.fill(Part::Pods);
                }
            }
        }
        fleet.touch();
    })
    .await;
}

/// Whether it tells a job anything that a pod is gone which was last heard of like that: of an end it has heard before.
fn is_news(before: Option<&PodFacts>) -> bool {
    before.is_none_or(|pod| pod.stage != PodStage::Ended)
}

fn ours() -> watcher::Config {
    watcher::Config::default().labels(&format!("app.kubernetes.io/managed-by={}", keys::MANAGED_BY))
}

/// Hands every event of a kind to `apply`, for ever.
async fn follow<K>(
    api: Api<DeserializeGuard<K>>,
    config: watcher::Config,
    mut apply: impl FnMut(Event<DeserializeGuard<K>>),
) where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let kind = K::kind(&()).into_owned();
    let mut pause = PAUSES.0;
    loop {
        let mut stream = watcher::watcher(api.clone(), config.clone()).default_backoff().boxed();
        let mut failures = 0_u32;
        while failures < MOST_FAILURES {
            match tokio::time::timeout(SILENCE, stream.try_next()).await {
                Ok(Ok(Some(event))) => {
                    failures = 0;
                    if matches!(event, Event::Apply(_) | Event::Delete(_)) {
                        pause = PAUSES.0;
                    }
                    if let Event::InitApply(object) | Event::Apply(object) = &event
                        && let Err(broken) = &object.0
                    {
                        tracing::warn!(kind, object = object.name_any(), "cannot be read: {}", broken.error);
                    }
                    apply(event);
                }
                Ok(Ok(None)) => break,
                Ok(Err(error)) => {
                    failures = failures.saturating_add(1);
                    tracing::warn!(kind, failures, "watch: {error}");
                }
                Err(_silence) => {
                    pause = PAUSES.0;
                    break;
                }
            }
        }
        drop(stream);
        rest(pause).await;
        pause = pause.saturating_mul(2).min(PAUSES.1);
    }
}

#[expect(clippy::disallowed_methods, reason = "the pause between two lists; there is nothing to wait for")]
async fn rest(pause: Duration) {
    tokio::time::sleep(pause).await;
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fleet::fake_api::FakeApi;
    use crate::fleet::fixtures::{RELEASE, at, gpu, node_of, report};
    use crate::fleet::handle::FleetConfig;

    fn handle() -> FleetHandle {
        let config =
            FleetConfig { namespace: RELEASE.into(), actor: "me".into(), watch_namespaces: Vec::new() };
        FleetHandle::new(config)
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_is_refused_again_and_again_ends_in_a_new_list() {
        let api = FakeApi::default();
        let node = node_of("node-a", &report(&[gpu(0, "GPU-A", 24)], at(0)), json!({}));
        api.put("/api/v1/nodes/node-a", serde_json::to_value(node).unwrap());
        let fleet = handle();
        let (notices, _told) = futures::channel::mpsc::unbounded();
        let _elapsed =
            tokio::time::timeout(Duration::from_secs(60), nodes(&fleet, api.client(), &notices)).await;
        let lists = api.lock().asked.iter().filter(|asked| *asked == "GET /api/v1/nodes").count();
        assert!((2..20).contains(&lists), "{lists} lists in a minute");
        assert!(fleet.node_facts("node-a").is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn jobs_look_again_when_their_pods_come_or_go_unless_that_says_nothing_new() {
        let api = FakeApi::default();
        let fleet = handle();
        let mut wakes = fleet.wakes(None);
        let mut woken = async || {
            let _elapsed = tokio::time::timeout(Duration::from_secs(60), pods(&fleet, api.client())).await;
            let mut all = Vec::new();
            while let Ok(job) = wakes.try_recv() {
                all.push(job.name);
            }
            all.sort();
            all.dedup();
            all
        };
        let heard = fleet.heard_pods();
        heard.listed("j", heard.asking("j", fleet.up()), None, Vec::new());
        for (name, phase) in [("works", "Running"), ("ended", "Succeeded"), ("made", "Pending")] {
            let owner = json!({"apiVersion": keys::API_VERSION, "kind": "VideoUpscale", "name": format!("job-{name}"),
                "uid": "j", "controller": true});
            api.put(
                &format!("/api/v1/pods/{name}"),
                json!({"metadata": {"name": name, "namespace": "media", "uid": name, "ownerReferences": [owner],
                    "labels": {keys::ROLE: "segment"}}, "spec": {"containers": []}, "status": {"phase": phase}}),
            );
        }
        let made: Pod = serde_json::from_value(api.lock().objects["/api/v1/pods/made"].clone()).unwrap();
        assert!(fleet.heard_pods().hear_of(made.clone()));
        assert_eq!(woken().await, ["job-ended", "job-works"], "this process has made the third itself");
        assert!(woken().await.is_empty(), "a new list of the same tells nothing");
        let mut goes_on = made;
        goes_on.metadata.labels.get_or_insert_default().insert("a".into(), "b".into());
        api.put("/api/v1/pods/made", serde_json::to_value(goes_on).unwrap());
        assert_eq!(woken().await, ["job-made"]);
        assert_eq!(fleet.heard_pods().known(None).len(), 3);
        api.lock().objects.clear();
        assert_eq!(woken().await, ["job-made", "job-works"], "that an ended pod is gone says nothing");
        assert!(fleet.heard_pods().known(None).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn an_object_that_does_not_decode_harms_no_other_and_what_is_gone_is_forgotten() {
        let api = FakeApi::default();
        let lease = |name: &str, spec: serde_json::Value| {
            api.put(
                &crate::fleet::fake_api::lease_path(name),
                json!({"metadata": {"name": name}, "spec": spec}),
            );
        };
        lease("gpu-a", json!({"holderIdentity": 7}));
        lease("gpu-b", json!({}));
        let fleet = handle();
        fleet.lock().apply_claim(Claim { resource_version: "1".into(), ..Claim::unclaimed("gpu-c") });
        let watching = claims(&fleet, api.client());
        let _elapsed = tokio::time::timeout(Duration::from_secs(5), watching).await;
        assert!(fleet.claim_on("GPU-A").unwrap().is_unreadable());
        assert!(fleet.claim_on("GPU-B").unwrap().is_free());
        assert_eq!(fleet.claim_on("GPU-C"), None);
    }
}
