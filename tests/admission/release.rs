//! A release of the chart on a real API server, without its workloads: accounts, rights, policies and their parameters.

use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Client;
use kube::api::{Api, PostParams};
use serde_json::{Value, json};

use super::rendered;
use super::server::{self, Server, eventually};

/// A release, and what it put on the server.
pub struct Release {
    /// The server.
    pub server: Server,
    /// Its name, also that of its namespace, of its runtime class and of the tenant's role.
    pub name: String,
    /// A namespace with jobs.
    pub tenants: String,
    objects: Vec<Value>,
}

impl Release {
    /// Installs the chart with the worker's image as the golden pods have it. `None` without a server.
    pub async fn install(more: &[&str]) -> Option<Self> {
        let server = server::named().await?;
        server.serve_our_kinds().await;
        let name = format!("attack-{}", server.own);
        let tenants = format!("{name}-tenants");
        let runtime = format!("gpu.runtimeClassName={name}");
        let given = [
            &["--set", "crds.enabled=false", "--set-string", "worker.image.tag=1"],
            &["--set", "worker.image.repository=registry.example/worker", "--set", runtime.as_str()][..],
            more,
        ]
        .concat();
        let rendered = rendered::template(&name, &name, &given).unwrap();
        let mut objects: Vec<Value> = [&name, &tenants]
            .map(|name| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}))
            .into();
        objects.push(json!({
            "apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass",
            "metadata": {"name": name}, "handler": "nvidia",
        }));
        let workload = |object: &Value| object["kind"] == "Deployment" || object["kind"] == "DaemonSet";
        objects.extend(rendered.into_iter().filter(|object| !workload(object)));
        for object in &objects {
            server.apply(object).await;
        }
        // Pods are refused before the namespace has its account.
        for namespace in [&name, &tenants] {
            let accounts: Api<ServiceAccount> = Api::namespaced(server.client.clone(), namespace);
            eventually("the namespace has its account", async || accounts.get("default").await.is_ok()).await;
        }
        Some(Self { server, name, tenants, objects })
    }

    /// Puts something more on the server, to be removed with the release.
    pub async fn add(&mut self, object: Value) {
        self.server.apply(&object).await;
        self.objects.push(object);
    }

    /// A client with a token of an account, bound to a node or to nothing.
    pub async fn token(&self, namespace: &str, account: &str, node: Option<&str>) -> Client {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.server.client.clone(), namespace);
        let bound = node.map(|name| json!({"kind": "Node", "apiVersion": "v1", "name": name}));
        let request: TokenRequest = serde_json::from_value(json!({
            "spec": {"audiences": [], "expirationSeconds": 600, "boundObjectRef": bound},
        }))
        .unwrap();
        let answer = accounts.create_token_request(account, &PostParams::default(), &request).await.unwrap();
        self.server.with_token(&answer.status.unwrap().token.unwrap()).await
    }

    /// A client of the release's own account of that part.
    pub async fn part(&self, part: &str, node: Option<&str>) -> Client {
        self.token(&self.name, &format!("{}-{part}", self.name), node).await
    }

    /// A person of the tenants' namespace with these rights there.
    pub async fn tenant(&mut self, name: &str, rules: Value) -> Client {
        let namespace = self.tenants.clone();
        let meta = json!({"name": name, "namespace": namespace});
        let rbac = "rbac.authorization.k8s.io";
        self.add(json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta})).await;
        self.add(
            json!({"apiVersion": format!("{rbac}/v1"), "kind": "Role", "metadata": meta, "rules": rules}),
        )
        .await;
        self.add(json!({
            "apiVersion": format!("{rbac}/v1"), "kind": "RoleBinding", "metadata": meta,
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
        }))
        .await;
        self.token(&namespace, name, None).await
    }

    /// Puts a policy out of force by removing its binding.
    pub async fn unbind(&self, part: &str) {
        let name = format!("{}-{part}.{}.upscale.video", self.name, self.name);
        let bound = |object: &&Value| {
            object["kind"] == "ValidatingAdmissionPolicyBinding"
                && object["metadata"]["name"] == name.as_str()
        };
        self.server.remove(self.objects.iter().find(bound).unwrap()).await;
    }

    /// Removes everything.
    pub async fn remove(self) {
        for object in self.objects.iter().rev() {
            self.server.remove(object).await;
        }
    }
}

/// What one attempt to do something forbidden came to, as a line of a table.
pub fn row(who: &str, about: &str, outcome: &Result<(), String>) {
    let said =
        outcome.as_ref().map_or_else(|said| said.rsplit("denied request: ").next().unwrap(), |()| "done");
    println!("{who:<10} | {about:<52} | {}", said.chars().take(110).collect::<String>());
}
