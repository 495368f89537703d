//! One pod, from its first container to its deletion.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Client, ResourceExt};
use serde_json::json;
use tokio::sync::{Mutex, watch};

use crate::account;
use crate::command::{Surroundings, Words, words};
use crate::config::Config;
use crate::process::{Files, Process, last_words};
use crate::readiness::Readiness;
use crate::status::{End, Shown, State};
use crate::volumes::{Maker, mounts};

/// Pause before something is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// Between two questions whether a container answers.
const ASK: Duration = Duration::from_secs(1);
/// Where a container's last words go if it does not say.
const MESSAGE: &str = "/dev/termination-log";
/// Exit code of a container that could not be started.
const NOT_STARTED: i32 = 128;
/// First and last of the numbers that pods' addresses end with.
const ADDRESSES: (u8, u8) = (2, 254);

/// Tells a pod to end, and how long it may take.
pub type Stop = watch::Receiver<Option<Duration>>;

/// What the lives of all pods share.
pub struct Host {
    /// The node's client.
    pub client: Client,
    /// What the runner was told.
    pub config: Config,
    /// PATH of the machine.
    pub path: String,
    /// The last number of the next pod's address.
    pub next: AtomicU8,
}

impl Host {
    fn address(&self) -> String {
        let (first, last) = ADDRESSES;
        let after = |number: u8| if number >= last { first } else { number.saturating_add(1) };
        let number = self.next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |it| Some(after(it)));
        format!("{}.{}", self.config.pods, number.unwrap_or(first))
    }
}

/// Runs a pod and, once it is told to end, takes it away.
pub async fn live(host: Arc<Host>, pod: Pod, mut stop: Stop) {
    let uid = pod.uid().unwrap_or_default();
    let address = host.address();
    let shown = Shown::new(&pod, &address, &host.config.address, Timestamp::now());
    let life = Life {
        pods: Api::namespaced(host.client.clone(), &pod.namespace().unwrap_or_default()),
        folder: host.config.folder.join(&uid),
        shown: Mutex::new(shown),
        address,
        uid,
        pod,
        host,
    };
    life.change(|_| {}).await;
    life.work(stop.clone()).await;
    life.remove(&life.folder);
    if stop.wait_for(Option::is_some).await.is_ok() {
        let only = Preconditions { uid: Some(life.uid.clone()), resource_version: None };
        let now = DeleteParams { preconditions: Some(only), ..DeleteParams::default().grace_period(0) };
        // Gone already is as good.
        let _gone = life.pods.delete(&life.pod.name_any(), &now).await;
    }
}

struct Life {
    host: Arc<Host>,
    pod: Pod,
    uid: String,
    address: String,
    folder: PathBuf,
    pods: Api<Pod>,
    shown: Mutex<Shown>,
}

impl Life {
    async fn work(&self, mut stop: Stop) {
        let spec = self.pod.spec.clone().unwrap_or_default();
        let again = spec.restart_policy.as_deref() == Some("Always");
        let maker = Maker {
            client: &self.host.client,
            config: &self.host.config,
            pod: &self.pod,
            address: &self.address,
            folder: &self.folder,
        };
        let volumes = loop {
            match maker.all().await {
                Ok(volumes) => break volumes,
                Err(error) => eprintln!("pod {}: {error:#}", self.pod.name_any()),
            }
            if told(&mut stop, AGAIN).await {
                return;
            }
        };
        self.change(|shown| shown.volumes = true).await;
        for container in spec.init_containers.iter().flatten() {
            loop {
                match self.container(container, &volumes, stop.clone()).await {
                    Some(0) => break,
                    Some(_) if again => {}
                    _ => return,
                }
                if told(&mut stop, AGAIN).await {
                    return;
                }
            }
        }
        let mains = spec.containers.iter().map(|container| {
            let (mut stop, volumes) = (stop.clone(), &volumes);
            async move {
                while self.container(container, volumes, stop.clone()).await.is_some() && again {
                    if told(&mut stop, AGAIN).await {
                        return;
                    }
                    self.change(|shown| {
                        if let Some(shown) = shown.container(&container.name) {
                            shown.restarts = shown.restarts.saturating_add(1);
                        }
                    })
                    .await;
                }
            }
        });
        join_all(mains).await;
    }

    /// Runs a container once; its exit code, or none if it was not begun because the pod ends.
    async fn container(
        &self,
        container: &Container,
        volumes: &BTreeMap<String, PathBuf>,
        mut stop: Stop,
    ) -> Option<i32> {
        let files = self.files(container);
        let words = loop {
            if stop.borrow().is_some() {
                return None;
            }
            match self.words(container, volumes, &files) {
                Ok(words) => break words,
                Err((reason, error)) => {
                    let message = format!("{error:#}");
                    self.state(&container.name, State::Waits { reason, message }).await;
                }
            }
            told(&mut stop, AGAIN).await;
        };
        let began = Timestamp::now();
        let name = format!("{}/{}", self.uid, container.name);
        let (code, message) = match Process::start(&words, &self.host.config.every, &name, &files) {
            Ok(process) => {
                self.state(&container.name, State::Runs { since: began }).await;
                let code = self.until_ended(container, process, &mut stop).await;
                let log = container.termination_message_policy.as_deref() == Some("FallbackToLogsOnError");
                (code, last_words(&files, log && code != 0))
            }
            Err(error) => (NOT_STARTED, format!("{error:#}")),
        };
        let end = End { code, message, began, ended: Timestamp::now() };
        self.state(&container.name, State::Ended(end)).await;
        Some(code)
    }

    async fn until_ended(&self, container: &Container, mut process: Process, stop: &mut Stop) -> i32 {
        let probe = Readiness::of(container, &self.address);
        let mut ready = probe.is_none();
        if ready {
            self.ready(&container.name, true).await;
        }
        let mut turns = tokio::time::interval(ASK);
        loop {
            tokio::select! {
                biased;
                grace = stopped(stop) => return process.end(grace).await,
                code = process.ended() => return code,
                _ = turns.tick(), if probe.is_some() => {
                    let now = match &probe {
                        Some(probe) => probe.answers().await,
                        None => true,
                    };
                    if now != ready {
                        ready = now;
                        self.ready(&container.name, now).await;
                    }
                }
            }
        }
    }

    fn files(&self, container: &Container) -> Files {
        let folder = self.folder.join("containers").join(&container.name);
        let pod = format!("{}_{}", self.pod.namespace().unwrap_or_default(), self.pod.name_any());
        Files {
            log: self.host.config.logs.join(pod).join(format!("{}.log", container.name)),
            message: folder.join("termination-log"),
            folder,
        }
    }

    /// The container as a process; a kubelet's word for what it lacks, and why.
    fn words(
        &self,
        container: &Container,
        volumes: &BTreeMap<String, PathBuf>,
        files: &Files,
    ) -> Result<Words, (&'static str, anyhow::Error)> {
        let config = &self.host.config;
        let name = container.image.clone().unwrap_or_default();
        let image = config.image(&name).map_err(|error| ("ImageInspectError", error))?;
        let image =
            image.ok_or_else(|| ("ImagePullBackOff", anyhow::anyhow!("there is no image {name} here")))?;
        let wrong = |error| ("CreateContainerConfigError", error);
        let mut mounts = mounts(container, volumes).map_err(wrong)?;
        let message = container.termination_message_path.clone().unwrap_or_else(|| MESSAGE.to_owned());
        mounts.insert(message, files.message.clone());
        let around = Surroundings {
            pod: &self.pod,
            address: &self.address,
            node: &config.address,
            image: &image,
            mounts: &mounts,
            driver: &config.driver,
            path: &self.host.path,
        };
        let mut words = words(container, &around).map_err(wrong)?;
        if let Some(mount) = mounts.get(account::MOUNT) {
            let namespace = self.pod.namespace().unwrap_or_default();
            let file = account::kubeconfig(&config.server, mount, &namespace).map_err(wrong)?;
            words.env.insert("KUBECONFIG".to_owned(), file.to_string_lossy().into_owned());
        }
        Ok(words)
    }

    async fn ready(&self, name: &str, ready: bool) {
        self.change(|shown| {
            if let Some(container) = shown.container(name) {
                container.ready = ready;
            }
        })
        .await;
    }

    async fn state(&self, name: &str, state: State) {
        self.change(|shown| {
            if let Some(container) = shown.container(name) {
                container.ready = false;
                container.state = state;
            }
        })
        .await;
    }

    /// Changes what the API server is told, and tells it; a pod that is gone needs no telling.
    async fn change(&self, how: impl FnOnce(&mut Shown)) {
        let mut shown = self.shown.lock().await;
        how(&mut shown);
        let patch = json!({"metadata": {"uid": self.uid}, "status": shown.status(Timestamp::now())});
        let mut turns = tokio::time::interval(AGAIN);
        loop {
            turns.tick().await;
            let name = self.pod.name_any();
            match self.pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(&patch)).await {
                Ok(_) => return,
                Err(kube::Error::Api(refusal)) if matches!(refusal.code, 404 | 409) => return,
                Err(kube::Error::Api(refusal)) if refusal.code < 500 && refusal.code != 429 => {
                    eprintln!("status of pod {name}: {refusal}");
                    return;
                }
                Err(error) => eprintln!("status of pod {name}: {error}"),
            }
        }
    }

    fn remove(&self, folder: &std::path::Path) {
        match fs::remove_dir_all(folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                eprintln!("remove {}: {error}", folder.display());
            }
            _ => {}
        }
    }
}

/// Waits so long; whether the pod was told to end meanwhile.
async fn told(stop: &mut Stop, pause: Duration) -> bool {
    tokio::time::timeout(pause, stopped(stop)).await.is_ok()
}

/// Waits until the pod is told to end; how long that may take.
async fn stopped(stop: &mut Stop) -> Duration {
    match stop.wait_for(Option::is_some).await {
        Ok(grace) => grace.unwrap_or_default(),
        Err(_) => Duration::ZERO,
    }
}
