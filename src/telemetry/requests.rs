//! Counts the requests to the API server: a layer around a client.

use std::task::{Context, Poll};

use axum::http::{Method, Request, Response, Uri};
use futures::FutureExt;
use futures::future::BoxFuture;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use tower::{Layer, Service};

use super::metrics::Request as Labels;

/// Code of a request that got no answer.
const NONE: &str = "none";

/// Wraps a service so that its requests are counted.
#[derive(Clone, Debug)]
pub struct CountRequests {
    /// Where.
    pub into: Family<Labels, Counter>,
}

impl<S> Layer<S> for CountRequests {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Counted { inner, into: self.into.clone() }
    }
}

/// A service whose requests are counted.
#[derive(Clone, Debug)]
pub struct Counted<S> {
    inner: S,
    into: Family<Labels, Counter>,
}

impl<S, B, R> Service<Request<B>> for Counted<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (verb, resource) = asked(request.method(), request.uri());
        let into = self.into.clone();
        let answer = self.inner.call(request);
        async move {
            let answer = answer.await;
            let code = answer.as_ref().map_or(NONE.to_owned(), |answer| answer.status().as_u16().to_string());
            into.get_or_create(&[("verb", verb.to_owned()), ("resource", resource), ("code", code)]).inc();
            answer
        }
        .boxed()
    }
}

/// Verb and resource of a request, as RBAC names them: `patch` and `videoupscales/status`.
fn asked(method: &Method, uri: &Uri) -> (&'static str, String) {
    let mut parts = uri.path().trim_matches('/').split('/');
    let version = if parts.next() == Some("apis") { 2 } else { 1 };
    let mut parts: Vec<&str> = parts.skip(version).collect();
    if parts.first() == Some(&"namespaces") && parts.len() > 2 {
        parts.drain(..2);
    }
    let resource = match (parts.first(), parts.get(2)) {
        (Some(kind), Some(part)) => format!("{kind}/{part}"),
        (Some(kind), None) => (*kind).to_owned(),
        (None, _) => String::new(),
    };
    let watches = uri.query().is_some_and(|query| query.contains("watch=true"));
    let verb = match method.as_str() {
        "GET" if watches => "watch",
        "GET" if parts.len() < 2 => "list",
        "GET" => "get",
        "POST" => "create",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" => "delete",
        _ => "other",
    };
    (verb, resource)
}

#[cfg(test)]
mod tests {
    use tower::ServiceExt;

    use super::*;

    #[test]
    fn requests_are_named_as_rights_are() {
        for (method, uri, verb, resource) in [
            (Method::GET, "/api/v1/nodes?watch=true&resourceVersion=1", "watch", "nodes"),
            (Method::GET, "/api/v1/nodes?limit=500", "list", "nodes"),
            (Method::GET, "/api/v1/namespaces/kube-system", "get", "namespaces"),
            (Method::GET, "/api/v1/namespaces/media/pods", "list", "pods"),
            (Method::GET, "/api/v1/namespaces/media/pods/a", "get", "pods"),
            (Method::POST, "/api/v1/namespaces/media/pods?", "create", "pods"),
            (Method::DELETE, "/api/v1/namespaces/media/pods/a", "delete", "pods"),
            (
                Method::PATCH,
                "/apis/upscale.video/v1alpha1/namespaces/media/videoupscales/a/status?force=true",
                "patch",
                "videoupscales/status",
            ),
            (Method::PUT, "/apis/coordination.k8s.io/v1/namespaces/ops/leases/gpu-1", "update", "leases"),
            (Method::GET, "/apis/upscale.video/v1alpha1/upscaleprofiles", "list", "upscaleprofiles"),
            (Method::GET, "/", "list", ""),
        ] {
            let named = asked(&method, &uri.parse().unwrap());
            assert_eq!(named, (verb, resource.to_owned()), "{method} {uri}");
        }
    }

    #[tokio::test]
    async fn answers_and_their_absence_are_counted() {
        let into: Family<Labels, Counter> = Family::default();
        let served = tower::service_fn(|request: Request<()>| async move {
            if request.uri().path().ends_with("/gone") {
                return Err("no route");
            }
            Ok(Response::builder().status(409).body(()).unwrap())
        });
        let served = CountRequests { into: into.clone() }.layer(served);
        for (path, times) in [("/api/v1/namespaces/m/pods/a", 2), ("/api/v1/namespaces/m/pods/gone", 1)] {
            for _ in 0..times {
                let request = Request::get(path).body(()).unwrap();
                let answered = served.clone().oneshot(request).await;
                assert_eq!(answered.is_ok(), times == 2);
            }
        }
        let count = |code: &str| {
            let labels = [("verb", "get".into()), ("resource", "pods".into()), ("code", code.into())];
            into.get_or_create(&labels).get()
        };
        assert_eq!((count("409"), count("none")), (2, 1));
    }
}
