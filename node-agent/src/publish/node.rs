//! Reading and writing our two annotations of our own Node. Metadata only: a Node can be large, and its status is
//! nobody's business here.

use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kube::api::{GetParams, Patch, PatchParams};
use kube::client::Body;
use kube::core::response::StatusDetails;
use kube::core::{PartialObjectMeta, Request, Status};
use kube::{Client, Resource, ResourceExt};
use serde_json::json;
use thiserror::Error;
use video_upscale::api::keys;

/// Longest wait for one answer.
pub const CALL_DEADLINE: Duration = Duration::from_secs(10);

/// Characters of an answer in plain text that are repeated in the log.
const MAX_TOLD: usize = 200;

/// What stands on the Node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Annotations {
    /// The report's text.
    pub report: Option<String>,
    /// The heartbeat's text.
    pub heartbeat: Option<String>,
    /// Version of the Node in which they stand so.
    pub version: Option<String>,
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

    /// Whether the Node had changed since it was read.
    pub fn is_conflict(&self) -> bool {
        let (Self::Read { source, .. } | Self::Write { source, .. }) = self else { return false };
        matches!(source.as_ref(), kube::Error::Api(status) if status.code == 409)
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
    client: Client,
    node: String,
}

impl NodeAnnotations {
    /// Those of `node`.
    pub const fn new(client: Client, node: String) -> Self {
        Self { client, node }
    }

    /// Reads them, from the server's cache: they are our own, and a reader that is late is put right by the next.
    /// `fresh` asks past the cache, after a write that the server refused since the Node had changed.
    pub async fn read(&self, fresh: bool) -> Result<Annotations, PublishError> {
        let params = GetParams { resource_version: (!fresh).then(|| "0".to_owned()) };
        let request = requests().get_metadata(&self.node, &params);
        let read = async {
            let body = self.ask(request.map_err(kube::Error::BuildRequest)?).await?;
            serde_json::from_slice::<PartialObjectMeta<Node>>(body.as_ref()).map_err(kube::Error::SerdeError)
        };
        let meta = self
            .within(read)
            .await?
            .map_err(|source| PublishError::Read { node: self.node.clone(), source: Box::new(source) })?;
        let of = |key: &str| meta.annotations().get(key).cloned();
        let (report, heartbeat) = (of(keys::REPORT), of(keys::HEARTBEAT));
        Ok(Annotations { report, heartbeat, version: meta.resource_version() })
    }

    /// Writes the heartbeat, and the report if one is given, in one patch that names no other key. The server refuses
    /// it if the Node is no longer of the version `unless_changed`, where that is given.
    pub async fn write(
        &self,
        report: Option<&str>,
        heartbeat: &str,
        unless_changed: Option<&str>,
    ) -> Result<(), PublishError> {
        let mut annotations = json!({ keys::HEARTBEAT: heartbeat });
        if let (Some(report), Some(annotations)) = (report, annotations.as_object_mut()) {
            annotations.insert(keys::REPORT.to_owned(), report.into());
        }
        let mut metadata = json!({ "annotations": annotations });
        if let (Some(version), Some(metadata)) = (unless_changed, metadata.as_object_mut()) {
            metadata.insert("resourceVersion".to_owned(), version.into());
        }
        let patch = Patch::Merge(json!({ "metadata": metadata }));
        let params = PatchParams::apply(keys::FIELD_MANAGER_AGENT);
        let request = requests().patch_metadata(&self.node, &params, &patch);
        let written = async { self.ask(request.map_err(kube::Error::BuildRequest)?).await.map(drop) };
        self.within(written)
            .await?
            .map_err(|source| PublishError::Write { node: self.node.clone(), source: Box::new(source) })
    }

    /// One request, one answer. Unlike the client's own calls it keeps `Retry-After`, which a server that sheds load
    /// says in the header alone (API priority and fairness answers 429 with a plain text).
    async fn ask(&self, request: http::Request<Vec<u8>>) -> Result<impl AsRef<[u8]> + use<>, kube::Error> {
        let (head, body) = self.client.send(request.map(Body::from)).await?.into_parts();
        let body = body.collect_bytes().await?;
        if head.status.is_success() {
            return Ok(body);
        }
        let mut status = serde_json::from_slice(&body).unwrap_or_else(|_| {
            let text: String = String::from_utf8_lossy(&body).trim().chars().take(MAX_TOLD).collect();
            Status::failure(&text, "NoStatus")
        });
        status.code = head.status.as_u16();
        let after =
            head.headers.get(http::header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        if let Some(seconds) = after {
            let details = status.details.get_or_insert_with(|| StatusDetails {
                name: self.node.clone(),
                group: String::new(),
                kind: "nodes".to_owned(),
                uid: String::new(),
                causes: Vec::new(),
                retry_after_seconds: 0,
            });
            details.retry_after_seconds = details.retry_after_seconds.max(seconds);
        }
        Err(kube::Error::Api(status.boxed()))
    }

    async fn within<T>(&self, call: impl Future<Output = T>) -> Result<T, PublishError> {
        tokio::time::timeout(CALL_DEADLINE, call)
            .await
            .map_err(|_| PublishError::Deadline { node: self.node.clone() })
    }
}

fn requests() -> Request {
    Request::new(Node::url_path(&(), None))
}
