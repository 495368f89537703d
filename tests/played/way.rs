//! A way to the API server on which a controller's requests can be seen.

use std::net::SocketAddr;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::serve::ListenerExt;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Largest request that is passed on, bytes.
const LARGEST: usize = 4 << 20;

/// Opens a way: where it begins, and its task. Each part of an answer goes out at once: an answer is a few small ones, and the
/// second would wait 40 ms until the other side had told of the first.
pub async fn open(router: Router) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let listener = listener.tap_io(|stream| stream.set_nodelay(true).unwrap());
    (address, tokio::spawn(async move { axum::serve(listener, router).await.unwrap() }))
}

/// What a write is: verb and resource; `None` for reads.
pub fn kind(request: &Request) -> Option<String> {
    (*request.method() != Method::GET).then(|| what(request))
}

/// What a request is: verb and resource.
pub fn what(request: &Request) -> String {
    let verb = match *request.method() {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "read",
    };
    let path: Vec<&str> = request.uri().path().split('/').filter(|part| !part.is_empty()).collect();
    let from = path.iter().position(|part| *part == "namespaces").map_or(path.len().min(3), |at| at + 2);
    let resource = path.get(from).copied().unwrap_or_default();
    let part = path.get(from + 2).map(|sub| format!("/{sub}")).unwrap_or_default();
    format!("{verb} {resource}{part}")
}

/// The pod that a request of that kind makes, if it makes one, and the request as it was.
pub async fn created_pod(kind: Option<&str>, request: Request) -> (Option<Pod>, Request) {
    if kind != Some("create pods") {
        return (None, request);
    }
    let (parts, body) = request.into_parts();
    let bytes = axum::body::to_bytes(body, LARGEST).await.unwrap();
    let pod: Pod = serde_json::from_slice(&bytes).unwrap();
    (Some(pod), Request::from_parts(parts, Body::from(bytes)))
}

/// Passes a request on, and its answer back.
pub async fn forward(client: &Client, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, LARGEST).await.unwrap();
    let uri = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut onward = axum::http::Request::builder().method(parts.method).uri(uri);
    for name in ["content-type", "accept"] {
        if let Some(value) = parts.headers.get(name) {
            onward = onward.header(name, value);
        }
    }
    let onward = onward.body(kube::client::Body::from(body.to_vec())).unwrap();
    match client.send(onward).await {
        Ok(answer) => answer.map(Body::new),
        Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    }
}
