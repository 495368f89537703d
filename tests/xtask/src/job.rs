//! A `VideoUpscale` on the bed, for demo and tests: apply it, watch it, wait for it by condition.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::{StreamExt, TryStreamExt};
use kube::api::{Api, DeleteParams, PostParams};
use kube::runtime::conditions::is_deleted;
use kube::runtime::wait::await_condition;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use video_upscale::api::conditions::{ConditionType, find};
use video_upscale::api::video_upscale::{VideoUpscale, VideoUpscaleStatus};

/// One job on the bed.
#[derive(Clone)]
pub struct Job {
    api: Api<VideoUpscale>,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

/// The smallest manifest: source and destination on one claim, with `extra` merged into the spec.
pub fn manifest(name: &str, claim: &str, source: &str, destination: &str, extra: Value) -> Value {
    let mut spec = json!({
        "source": {"claim": {"name": claim}, "path": source},
        "destination": {"claim": {"name": claim}, "path": destination},
    });
    if let (Some(spec), Value::Object(extra)) = (spec.as_object_mut(), extra) {
        spec.extend(extra);
    }
    json!({
        "apiVersion": "upscale.video/v1alpha1",
        "kind": "VideoUpscale",
        "metadata": {"name": name},
        "spec": spec,
    })
}

impl Job {
    /// Creates the job; the API server's refusal is the error.
    pub async fn create(client: &Client, namespace: &str, manifest: &Value) -> Result<Self> {
        let api: Api<VideoUpscale> = Api::namespaced(client.clone(), namespace);
        let object: VideoUpscale = serde_json::from_value(manifest.clone()).context("read the manifest")?;
        let created = api.create(&PostParams::default(), &object).await.context("create the job")?;
        let (name, uid) = (created.name_any(), created.uid().unwrap_or_default());
        Ok(Self { api, namespace: namespace.to_owned(), name, uid })
    }

    /// Deletes the job.
    pub async fn delete(&self) -> Result<()> {
        self.api.delete(&self.name, &DeleteParams::background()).await.context("delete the job")?;
        Ok(())
    }

    /// The job as it is now.
    pub async fn get(&self) -> Result<VideoUpscale> {
        self.api.get(&self.name).await.with_context(|| format!("read job {}", self.name))
    }

    /// Every state of the job from now on.
    pub fn states(&self) -> impl futures::Stream<Item = Result<VideoUpscale>> + Unpin + use<> {
        let only = watcher::Config::default().fields(&format!("metadata.name={}", self.name));
        watcher(self.api.clone(), only).default_backoff().applied_objects().map_err(Into::into).boxed()
    }

    /// Waits until `wanted` holds; after `limit` it fails and says what the job said last.
    pub async fn wait_for(
        &self,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&VideoUpscaleStatus) -> bool,
    ) -> Result<VideoUpscale> {
        let mut states = self.states();
        let mut last = None;
        let found = tokio::time::timeout(limit, async {
            while let Some(state) = states.next().await {
                let Ok(state) = state else { continue };
                let holds = state.status.as_ref().is_some_and(&wanted);
                last = Some(state.clone());
                if holds {
                    return Some(state);
                }
            }
            None
        })
        .await;
        if let Ok(Some(state)) = found {
            return Ok(state);
        }
        let says = last.and_then(|job| job.status).map_or_else(|| "nothing".to_owned(), |s| summary(&s));
        bail!(
            "{}/{} did not come to {what} in {} s; it says: {says}",
            self.namespace,
            self.name,
            limit.as_secs()
        )
    }

    /// Waits for a condition's reason.
    pub async fn wait_for_reason(
        &self,
        kind: ConditionType,
        reason: &str,
        limit: Duration,
    ) -> Result<VideoUpscale> {
        self.wait_for(&format!("{}={reason}", kind.as_str()), limit, |status| {
            find(&status.conditions, kind).is_some_and(|c| c.reason == reason)
        })
        .await
    }

    /// Waits for either end.
    pub async fn wait_for_end(&self, limit: Duration) -> Result<VideoUpscale> {
        self.wait_for("an end", limit, finished).await
    }

    /// Waits until it is deleted.
    pub async fn wait_until_gone(&self, limit: Duration) -> Result<()> {
        let gone = await_condition(self.api.clone(), &self.name, is_deleted(&self.uid));
        let gone = tokio::time::timeout(limit, gone).await;
        let _deleted = gone.with_context(|| format!("{} is still there after {limit:?}", self.name))??;
        Ok(())
    }
}

/// Whether the job has ended, well or not.
pub fn finished(status: &VideoUpscaleStatus) -> bool {
    find(&status.conditions, ConditionType::Finished).is_some_and(|c| c.status == "True")
}

/// The conditions in one line, for an error message.
pub fn summary(status: &VideoUpscaleStatus) -> String {
    let words =
        status.conditions.iter().map(|c| format!("{}={} {} ({})", c.type_, c.status, c.reason, c.message));
    words.collect::<Vec<_>>().join("; ")
}
