//! Which pods are bound to the node: each gets a life.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use tokio::sync::watch;

use crate::config::Config;
use crate::life::{Host, live};
use crate::node;

/// How long a pod may take to end that says nothing of it.
const GRACE: Duration = Duration::from_secs(30);

/// Lives by the UID of their pods; gone ones stay, so that none begins twice.
type Lives = BTreeMap<String, watch::Sender<Option<Duration>>>;

/// Plays the node until the process ends.
///
/// # Errors
/// When the API server cannot be reached or refuses the node.
pub async fn run(config: Config) -> Result<Infallible> {
    std::fs::create_dir_all(&config.folder).with_context(|| format!("create {}", config.folder.display()))?;
    let kubeconfig = Kubeconfig::read_from(&config.kubeconfig).context("read the node's kubeconfig")?;
    let way = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    let client = Client::try_from(way.context("understand the node's kubeconfig")?)?;
    node::register(&client, &config).await?;
    tokio::spawn(node::stay(client.clone(), config.node.clone()));
    let mine = watcher::Config::default().fields(&format!("spec.nodeName={}", config.node));
    let pods: Api<Pod> = Api::all(client.clone());
    let path = std::env::var("PATH").unwrap_or_default();
    let host = Arc::new(Host { client, config, path, next: AtomicU8::new(2) });
    let mut events = watcher(pods, mine).default_backoff().boxed();
    let mut lives = Lives::new();
    let mut listed = BTreeSet::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Init) => listed.clear(),
            Ok(watcher::Event::InitApply(pod)) => {
                listed.insert(pod.uid().unwrap_or_default());
                see(&host, &mut lives, pod);
            }
            Ok(watcher::Event::InitDone) => {
                for (_, life) in lives.iter().filter(|(uid, _)| !listed.contains(*uid)) {
                    end(life, Duration::ZERO);
                }
            }
            Ok(watcher::Event::Apply(pod)) => see(&host, &mut lives, pod),
            Ok(watcher::Event::Delete(pod)) => {
                if let Some(life) = lives.get(&pod.uid().unwrap_or_default()) {
                    end(life, Duration::ZERO);
                }
            }
            Err(error) => eprintln!("watch pods: {error}"),
        }
    }
    bail!("the watch of pods has ended")
}

fn see(host: &Arc<Host>, lives: &mut Lives, pod: Pod) {
    let uid = pod.uid().unwrap_or_default();
    let leaves = pod.metadata.deletion_timestamp.is_some();
    let grace = pod.metadata.deletion_grace_period_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    let life = lives.entry(uid).or_insert_with(|| {
        let (tell, told) = watch::channel(None);
        tokio::spawn(live(Arc::clone(host), pod, told));
        tell
    });
    if leaves {
        end(life, grace.map_or(GRACE, Duration::from_secs));
    }
}

/// Tells a life to end; the first word counts.
fn end(life: &watch::Sender<Option<Duration>>, grace: Duration) {
    life.send_if_modified(|told| {
        let first = told.is_none();
        told.get_or_insert(grace);
        first
    });
}
