//! Reading and writing our two annotations of our own Node. Metadata only: a Node can be large, and its status is
//! nobody's business here.

use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, GetParams, Patch, PatchParams};
use kube::{Client, ResourceExt};
use serde_json::json;
use thiserror::Error;
use video_upscale::api::keys;

/// Longest wait for one answer.
pub const CALL_DEADLINE: Duration = Duration::from_secs(10);

/// What stands on the Node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Annotations {
    /// The report's text.
    pub report: Option<String>,
    /// The heartbeat's text.
    pub heartbeat: Option<String>,
}

/// A call on the Node that did not succeed.
#[derive(Debug, Error)]
pub enum PublishError {
    /// Reading failed.
    #[error("read annotations of node {node}: {source}")]
    Read {
        /// The node.
        node: String,
        /// What the client says.
        source: Box<kube::Error>,
    },
    /// Writing failed, or its answer was lost.
    #[error("write annotations of node {node}: {source}")]
    Write {
        /// The node.
        node: String,
        /// What the client says.
        source: Box<kube::Error>,
    },
    /// No answer in time; a write may have taken effect.
    #[error("no answer about node {node} within {} s", CALL_DEADLINE.as_secs())]
    Deadline {
        /// The node.
        node: String,
    },
}

/// What is to be done about a failed call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Not allowed, or no such Node: only a person can change that.
    Hopeless,
    /// The object is too large: list less.
    TooLarge,
    /// Try again, at the earliest after that time.
    Again(Option<Duration>),
}

impl PublishError {
    /// How to go on.
    pub fn refusal(&self) -> Refusal {
        let (Self::Read { source, .. } | Self::Write { source, .. }) = self else {
            return Refusal::Again(None);
        };
        let kube::Error::Api(status) = source.as_ref() else { return Refusal::Again(None) };
        let after = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
        match status.code {
            401 | 403 | 404 => Refusal::Hopeless,
            413 | 422 => Refusal::TooLarge,
            _ => Refusal::Again((after > 0).then(|| Duration::from_secs(after.into()))),
        }
    }

    /// Word for the metric.
    pub fn result(&self) -> &'static str {
        let (Self::Read { source, .. } | Self::Write { source, .. }) = self else { return "deadline" };
        match source.as_ref() {
            kube::Error::Api(status) => match status.code {
                409 => "conflict",
                401 | 403 => "forbidden",
                404 => "gone",
                429 => "throttled",
                413 | 422 => "too-large",
                _ => "error",
            },
            _ => "error",
        }
    }
}

/// The annotations of one Node.
#[derive(Clone)]
pub struct NodeAnnotations {
    api: Api<Node>,
    node: String,
}

impl NodeAnnotations {
    /// Those of `node`.
    pub fn new(client: Client, node: String) -> Self {
        Self { api: Api::all(client), node }
    }

    /// Reads them, from the server's cache: they are our own, and a reader that is late is put right by the next.
    pub async fn read(&self) -> Result<Annotations, PublishError> {
        let params = GetParams { resource_version: Some("0".to_owned()) };
        let call = self.api.get_metadata_with(&self.node, &params);
        let meta = within(self.node.clone(), call)
            .await?
            .map_err(|source| PublishError::Read { node: self.node.clone(), source: Box::new(source) })?;
        let of = |key: &str| meta.annotations().get(key).cloned();
        Ok(Annotations { report: of(keys::REPORT), heartbeat: of(keys::HEARTBEAT) })
    }

    /// Writes the heartbeat, and the report if one is given, in one patch that names no other key.
    pub async fn write(&self, report: Option<&str>, heartbeat: &str) -> Result<(), PublishError> {
        let mut annotations = json!({ keys::HEARTBEAT: heartbeat });
        if let (Some(report), Some(annotations)) = (report, annotations.as_object_mut()) {
            annotations.insert(keys::REPORT.to_owned(), report.into());
        }
        let patch = Patch::Merge(json!({ "metadata": { "annotations": annotations } }));
        let params = PatchParams::apply(keys::FIELD_MANAGER_AGENT);
        let call = self.api.patch_metadata(&self.node, &params, &patch);
        within(self.node.clone(), call)
            .await?
            .map(drop)
            .map_err(|source| PublishError::Write { node: self.node.clone(), source: Box::new(source) })
    }
}

async fn within<T>(node: String, call: impl Future<Output = T>) -> Result<T, PublishError> {
    tokio::time::timeout(CALL_DEADLINE, call).await.map_err(|_| PublishError::Deadline { node })
}
