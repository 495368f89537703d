//! An API server in memory, for tests: objects by path with versions, uniqueness, preconditions, and answers that get
//! lost on demand. Collections can be listed; a watch is refused as too old, or never answered. It keeps a list of what
//! it was asked.

#![expect(clippy::arithmetic_side_effects, reason = "figures of tests")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::http;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

/// What happens to the next write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is done, and the answer is a 504.
    Lost,
    /// It is not done, and the answer is a 504.
    Failed,
    /// It is refused with this status.
    Refused(u16),
    /// It is done, and no answer comes.
    Silent,
}

/// The server. Clones share their state.
#[derive(Clone, Default)]
pub(crate) struct FakeApi {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
pub(crate) struct State {
    version: u64,
    /// Objects by path.
    pub(crate) objects: BTreeMap<String, Value>,
    /// Method and path of each request.
    pub(crate) asked: Vec<String>,
    /// Whether watches are never answered, instead of being refused.
    pub(crate) still: bool,
    /// What happens to the next write.
    pub(crate) fault: Option<Fault>,
}

/// Path of a Lease of the release.
pub(crate) fn lease_path(name: &str) -> String {
    format!("/apis/coordination.k8s.io/v1/namespaces/{}/leases/{name}", super::fixtures::RELEASE)
}

impl FakeApi {
    pub(crate) fn client(&self) -> Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let api = api.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect_bytes().await?;
                let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
                let watch = parts.uri.query().is_some_and(|query| query.contains("watch=true"));
                let method = if watch { "WATCH" } else { parts.method.as_str() };
                let answer = api.answer(method, parts.uri.path(), body);
                let Some((status, body)) = answer else { return std::future::pending().await };
                let response =
                    http::Response::builder().status(status).body(Body::from(body.to_string().into_bytes()));
                Ok::<_, tower::BoxError>(response?)
            }
        });
        Client::new(service, "default")
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Puts an object there, whatever was there before.
    pub(crate) fn put(&self, path: &str, mut object: Value) {
        let mut state = self.lock();
        state.version += 1;
        object["metadata"]["resourceVersion"] = state.version.to_string().into();
        state.objects.insert(path.to_owned(), object);
    }

    fn answer(&self, method: &str, path: &str, body: Value) -> Option<(u16, Value)> {
        let mut state = self.lock();
        state.asked.push(format!("{method} {path}"));
        if method == "WATCH" {
            return (!state.still).then(|| status(410));
        }
        if method == "GET" && path.ends_with("s") {
            let below = format!("{path}/");
            let items: Vec<&Value> = state
                .objects
                .iter()
                .filter(|(path, _)| path.starts_with(&below))
                .map(|(_, item)| item)
                .collect();
            return Some((
                200,
                json!({"metadata": {"resourceVersion": state.version.to_string()}, "items": items}),
            ));
        }
        if method == "GET" {
            return Some(state.objects.get(path).map_or_else(|| status(404), |object| (200, object.clone())));
        }
        let fault = state.fault.take();
        match fault {
            Some(Fault::Refused(code)) => return Some(status(code)),
            Some(Fault::Failed) => return Some(status(504)),
            Some(Fault::Lost | Fault::Silent) | None => {}
        }
        let done = state.write(method, path, body);
        match fault {
            Some(Fault::Lost) => Some(status(504)),
            Some(Fault::Silent) => None,
            _ => Some(done),
        }
    }
}

impl State {
    fn write(&mut self, method: &str, path: &str, mut body: Value) -> (u16, Value) {
        let path = match method {
            "POST" => format!("{path}/{}", body["metadata"]["name"].as_str().unwrap_or_default()),
            _ => path.to_owned(),
        };
        let before = self.objects.get(&path);
        let version = before.map(|object| object["metadata"]["resourceVersion"].clone());
        match (method, version) {
            ("POST", Some(_)) => return status(409),
            ("PUT" | "DELETE", None) => return status(404),
            ("PUT", Some(version)) if version != body["metadata"]["resourceVersion"] => return status(409),
            ("DELETE", Some(_)) => {
                let uid = before.map(|object| object["metadata"]["uid"].clone());
                if uid.as_ref() != Some(&body["preconditions"]["uid"]) {
                    return status(409);
                }
                self.objects.remove(&path);
                return (200, json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}));
            }
            _ => {}
        }
        self.version += 1;
        body["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.objects.insert(path, body.clone());
        (200, body)
    }
}

fn status(code: u16) -> (u16, Value) {
    let reason = match code {
        404 => "NotFound",
        409 => "Conflict",
        _ => "Other",
    };
    let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "no", "reason": reason,
                      "code": code});
    (code, body)
}
