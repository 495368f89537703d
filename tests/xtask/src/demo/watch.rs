//! What happens to a job, as it happens: a line per change of its state, per pod that got or left a GPU, per event.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use anyhow::Result;
use futures::StreamExt;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::events::v1::Event;
use kube::api::Api;
use kube::runtime::watcher;
use kube::{Client, ResourceExt};
use tokio::task::JoinSet;
use video_upscale::api::conditions::{ConditionType, find};
use video_upscale::api::keys;
use video_upscale::api::video_upscale::VideoUpscaleStatus;

use super::attempts::Attempts;
use crate::bed::OPERATOR_NAMESPACE;
use crate::job::{Job, finished};

/// Follows a job until dropped.
pub struct Watch {
    attempts: Arc<Mutex<Attempts>>,
    tasks: JoinSet<()>,
    began: Instant,
}

impl Watch {
    /// Starts following; `gpus` names the cards for people, by UUID.
    pub fn start(client: &Client, job: &Job, gpus: &BTreeMap<String, String>) -> Self {
        let began = Instant::now();
        let attempts = Arc::new(Mutex::new(Attempts::default()));
        let mut tasks = JoinSet::new();
        tasks.spawn(follow_pods(client.clone(), job.clone(), gpus.clone(), attempts.clone(), began));
        tasks.spawn(follow_claims(client.clone(), attempts.clone()));
        tasks.spawn(follow_events(client.clone(), job.clone(), began));
        Self { attempts, tasks, began }
    }

    /// Prints the job's changes until it has ended; returns the attempts seen.
    pub async fn until_finished(mut self, job: &Job) -> Result<Attempts> {
        let mut states = job.states();
        let mut last = String::new();
        while let Some(state) = states.next().await {
            let Ok(state) = state else { continue };
            let Some(status) = state.status else { continue };
            lock(&self.attempts).see_status(&status);
            let line = row(&status);
            if line != last {
                say(self.began, &line);
                last = line;
            }
            if finished(&status) {
                break;
            }
        }
        self.tasks.shutdown().await;
        Ok(std::mem::take(&mut *lock(&self.attempts)))
    }
}

fn lock(attempts: &Mutex<Attempts>) -> std::sync::MutexGuard<'_, Attempts> {
    attempts.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The columns of `kubectl get vu`.
fn row(status: &VideoUpscaleStatus) -> String {
    let complete = find(&status.conditions, ConditionType::Complete);
    let running = status.segments.as_ref().map_or(0, |s| s.running);
    let ooms = status.out_of_memory.as_ref().map_or(0, |o| o.count);
    format!(
        "{:<15} {:>6}  {running} running  {ooms} out of memory  {}",
        complete.map_or("", |c| c.reason.as_str()),
        status.progress.as_deref().unwrap_or("-"),
        complete.map_or("", |c| c.message.as_str()),
    )
}

fn say(began: Instant, line: &str) {
    println!("  {:>5.1}s  {line}", began.elapsed().as_secs_f32());
}

async fn follow_pods(
    client: Client,
    job: Job,
    gpus: BTreeMap<String, String>,
    attempts: Arc<Mutex<Attempts>>,
    began: Instant,
) {
    let api: Api<Pod> = Api::namespaced(client, &job.namespace);
    let ours = watcher::Config::default().labels(&format!("{}={}", keys::JOB, job.name));
    let mut events = watcher(api, ours).boxed();
    let mut told = BTreeMap::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Apply(pod) | watcher::Event::InitApply(pod)) => {
                lock(&attempts).see_pod(&pod);
                if told.insert(pod.name_any(), ()).is_none()
                    && let Some(line) = placed(&pod, &gpus)
                {
                    say(began, &line);
                }
            }
            Ok(watcher::Event::Delete(pod)) => lock(&attempts).pod_gone(&pod),
            Ok(watcher::Event::Init) => lock(&attempts).safety.pods_anew(),
            Ok(watcher::Event::InitDone) | Err(_) => {}
        }
    }
}

async fn follow_claims(client: Client, attempts: Arc<Mutex<Attempts>>) {
    let api: Api<Lease> = Api::namespaced(client, OPERATOR_NAMESPACE);
    let mut events = watcher(api, watcher::Config::default()).boxed();
    while let Some(event) = events.next().await {
        let safety = &mut lock(&attempts).safety;
        match event {
            Ok(watcher::Event::Apply(lease) | watcher::Event::InitApply(lease)) => safety.see_claim(&lease),
            Ok(watcher::Event::Delete(lease)) => safety.claim_gone(&lease),
            Ok(watcher::Event::Init) => safety.claims_anew(),
            Ok(watcher::Event::InitDone) | Err(_) => {}
        }
    }
}

/// Why a pod went where it went.
fn placed(pod: &Pod, gpus: &BTreeMap<String, String>) -> Option<String> {
    let mut attempts = Attempts::default();
    attempts.see_pod(pod);
    let attempt = attempts.all().next()?;
    Some(format!(
        "segment {} attempt {} -> {}: step {} needs {}, {} were available",
        attempt.segment,
        attempt.attempt,
        gpus.get(&attempt.gpu).unwrap_or(&attempt.gpu),
        attempt.step,
        video_upscale::api::quantity::display(attempt.need_bytes),
        video_upscale::api::quantity::display(attempt.available_bytes),
    ))
}

async fn follow_events(client: Client, job: Job, began: Instant) {
    let api: Api<Event> = Api::namespaced(client, &job.namespace);
    let mut events = watcher(api, watcher::Config::default()).boxed();
    while let Some(event) = events.next().await {
        let Ok(watcher::Event::Apply(event) | watcher::Event::InitApply(event)) = event else { continue };
        let about_us = event.regarding.as_ref().is_some_and(|r| r.uid.as_deref() == Some(job.uid.as_str()));
        if about_us && let (Some(reason), Some(note)) = (&event.reason, &event.note) {
            say(began, &format!("event {}: {note}", reason));
        }
    }
}
