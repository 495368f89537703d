//! A real API server, and what the tests need of it.

use std::ffi::OsString;
use std::future::Future;
use std::io::Write;
use std::time::Duration;

use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, GroupVersionKind, Request};
use kube::{Client, Config};
use serde_json::{Value, json};
use video_upscale::api::{crds, keys};

/// Names the kubeconfig of an administrator of a cluster for tests.
const VARIABLE: &str = "UPSCALE_TEST_KUBECONFIG";

/// A cluster for tests.
pub struct Server {
    /// Where its kubeconfig lies.
    pub path: OsString,
    kubeconfig: Kubeconfig,
    /// An administrator's client.
    pub client: Client,
    /// Its own name, in the names of everything that it makes.
    pub own: String,
}

/// The server that the variable names. `None`, said aloud, if there is none: such a run proves less.
pub async fn named() -> Option<Server> {
    #[expect(clippy::disallowed_methods, reason = "the edge of the tests")]
    let path = std::env::var_os(VARIABLE);
    let Some(path) = path else {
        let test = std::thread::current();
        // Not by `println!`, which a test keeps to itself unless it fails.
        let said = writeln!(
            std::io::stdout(),
            "SKIPPED: {}: {VARIABLE} names no kubeconfig; `cargo xtask test` does",
            test.name().unwrap_or_default()
        );
        said.unwrap();
        return None;
    };
    let kubeconfig = Kubeconfig::read_from(&path).unwrap();
    let client = client(kubeconfig.clone()).await;
    Some(Server { path, kubeconfig, client, own: format!("{:x}", rand::random::<u32>()) })
}

async fn client(kubeconfig: Kubeconfig) -> Client {
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

impl Server {
    /// Makes the server know our kinds.
    pub async fn serve_our_kinds(&self) {
        for crd in crds::all().unwrap() {
            self.apply(&crd.object).await;
        }
        let kinds = ["VideoUpscale", "UpscaleProfile"]
            .map(|kind| json!({"apiVersion": keys::API_VERSION, "kind": kind, "metadata": {"name": "none"}}));
        eventually("our kinds are served", async || {
            let [jobs, profiles] = &kinds;
            self.api(jobs).list(&ListParams::default().limit(1)).await.is_ok()
                && self.api(profiles).list(&ListParams::default().limit(1)).await.is_ok()
        })
        .await;
    }

    /// A client that has a token and nothing else.
    pub async fn with_token(&self, token: &str) -> Client {
        let mut kubeconfig = self.kubeconfig.clone();
        for user in &mut kubeconfig.auth_infos {
            user.auth_info = Some(serde_json::from_value(json!({ "token": token })).unwrap());
        }
        client(kubeconfig).await
    }

    /// Objects of the kind of this one, where it belongs.
    pub fn api(&self, object: &Value) -> Api<DynamicObject> {
        self.api_as(&self.client, object)
    }

    /// The same for somebody else.
    pub fn api_as(&self, client: &Client, object: &Value) -> Api<DynamicObject> {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let (group, version) = text("/apiVersion").split_once('/').unwrap_or(("", text("/apiVersion")));
        let kind = ApiResource::from_gvk_with_plural(
            &GroupVersionKind::gvk(group, version, text("/kind")),
            &plural(text("/kind")),
        );
        match text("/metadata/namespace") {
            "" => Api::all_with(client.clone(), &kind),
            namespace => Api::namespaced_with(client.clone(), namespace, &kind),
        }
    }

    /// Makes an object, or brings one to this state.
    pub async fn apply(&self, object: &Value) {
        let params = PatchParams::apply("admission-test").force();
        let patch = Patch::Apply(object);
        self.api(object).patch(name(object), &params, &patch).await.unwrap_or_else(|error| {
            panic!("apply {} {}: {error}", object["kind"], object["metadata"]["name"]);
        });
    }

    /// Removes an object; one that is gone is right.
    pub async fn remove(&self, object: &Value) {
        let removed = self.api(object).delete(name(object), &DeleteParams::default()).await;
        assert!(removed.is_ok() || matches!(removed, Err(kube::Error::Api(status)) if status.code == 404));
    }

    /// What the server says of a new object, with nothing left behind.
    pub async fn dry_run(&self, object: &Value) -> Result<DynamicObject, String> {
        self.dry_run_as(&self.client, object).await
    }

    /// The same, asked by somebody else.
    pub async fn dry_run_as(&self, client: &Client, object: &Value) -> Result<DynamicObject, String> {
        let params = PostParams { dry_run: true, field_manager: None };
        let url = Request::new(self.api(object).resource_url());
        let mut request = url.create(&params, serde_json::to_vec(object).unwrap()).unwrap();
        // As kubectl does: an unknown field is a mistake.
        *request.uri_mut() = format!("{}&fieldValidation=Strict", request.uri()).parse().unwrap();
        client.request(request).await.map_err(|error| said(&error))
    }
}

/// What the server said.
pub fn said(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => panic!("no answer of the server: {other}"),
    }
}

/// Name of an object.
pub fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap()
}

fn plural(kind: &str) -> String {
    let kind = kind.to_lowercase();
    match kind.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None if kind.ends_with('s') => format!("{kind}es"),
        None => format!("{kind}s"),
    }
}

/// Asks again and again, for at most 30 s, until the answer is yes.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut ask: impl FnMut() -> F) {
    for _ in 0..300 {
        if ask().await {
            return;
        }
        #[expect(clippy::disallowed_methods, reason = "a server is polled")]
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("not within 30 s: {what}");
}
