//! What a stolen agent token can do: write two annotations of its own node. Tried with real tokens against the chart's
//! policy, and tried again without it to see that it was the policy that held.

use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{Node, Pod, Secret, ServiceAccount};
use kube::Client;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::rendered;
use super::server::{self, Server, eventually, said};

const REPORT: &str = "agent.upscale.video/report";
const HEARTBEAT: &str = "agent.upscale.video/heartbeat";
const OTHER_KEYS: &str =
    "an agent may write the annotations agent.upscale.video/report and agent.upscale.video/heartbeat only";
const META: &str = "an agent may not change labels, finalizers or owners of its node";
const SPEC: &str = "an agent may not change taints or anything else of its node's spec";
const RBAC: &str = "cannot";

/// The chart's agent on a server: its account, its rights, its policy, and two nodes.
struct Scene {
    server: Server,
    namespace: Value,
    release: String,
    objects: Vec<Value>,
    own: String,
    other: String,
}

impl Scene {
    async fn set() -> Option<Self> {
        let server = server::named().await?;
        let release = format!("attack-{}", server.own);
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": release}});
        server.apply(&namespace).await;
        let objects: Vec<Value> = rendered::template(&release, &release, &["--set", "crds.enabled=false"])
            .unwrap()
            .into_iter()
            .filter(|object| {
                server::name(object).starts_with(&format!("{release}-agent")) && object["kind"] != "DaemonSet"
            })
            .collect();
        assert_eq!(objects.len(), 5, "account, role, binding, policy, binding: {objects:?}");
        for object in &objects {
            server.apply(object).await;
        }
        let (own, other) = (format!("{release}-own"), format!("{release}-other"));
        for node in [&own, &other] {
            server
                .apply(&json!({
                    "apiVersion": "v1", "kind": "Node",
                    "metadata": {"name": node, "labels": {"zone": "a"}, "annotations": {"theirs": "kept"}},
                }))
                .await;
        }
        Some(Self { server, namespace, release, objects, own, other })
    }

    /// A token of the agent's account, bound to a node or to nothing.
    async fn token(&self, node: Option<&str>) -> Client {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.server.client.clone(), &self.release);
        let bound = node.map(|name| json!({"kind": "Node", "apiVersion": "v1", "name": name}));
        let request: TokenRequest = serde_json::from_value(json!({
            "spec": {"audiences": [], "expirationSeconds": 600, "boundObjectRef": bound},
        }))
        .unwrap();
        let account = format!("{}-agent", self.release);
        let answer = accounts.create_token_request(&account, &PostParams::default(), &request).await.unwrap();
        self.server.with_token(&answer.status.unwrap().token.unwrap()).await
    }

    async fn strike(self) {
        for object in self.objects.iter().rev().chain([&self.namespace]) {
            self.server.remove(object).await;
        }
        for node in [&self.own, &self.other] {
            self.server
                .remove(&json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}}))
                .await;
        }
    }
}

async fn merge(client: &Client, node: &str, change: Value) -> Result<(), String> {
    let nodes: Api<Node> = Api::all(client.clone());
    let answer = nodes.patch(node, &PatchParams::default(), &Patch::Merge(change)).await;
    answer.map(drop).map_err(|error| said(&error))
}

fn annotation(key: &str, value: Value) -> Value {
    json!({"metadata": {"annotations": {key: value}}})
}

#[tokio::test]
async fn an_agent_writes_its_two_annotations_and_nothing_else_and_the_policy_is_why() {
    let Some(scene) = Scene::set().await else { return };
    let (agent, unbound) = (scene.token(Some(&scene.own)).await, scene.token(None).await);
    let label = json!({"metadata": {"labels": {"stolen": "yes"}}});
    eventually("the policy is in force", async || {
        merge(&unbound, &scene.own, annotation(HEARTBEAT, json!("0"))).await.is_err()
    })
    .await;

    for (about, change) in [
        ("a report", annotation(REPORT, json!("{}"))),
        ("both", json!({"metadata": {"annotations": {REPORT: "{\"v\":1}", HEARTBEAT: "1"}}})),
        ("a longest report", annotation(REPORT, json!("x".repeat(16_384)))),
        ("no report", annotation(REPORT, Value::Null)),
    ] {
        assert_eq!(merge(&agent, &scene.own, change).await, Ok(()), "{about}");
    }

    let another = format!("the agent of node {} may not write to node {}", scene.own, scene.other);
    let own_report = annotation(REPORT, json!("{}"));
    for (about, client, node, change, words) in [
        ("another node's report", &agent, &scene.other, own_report.clone(), another.as_str()),
        ("another node's label", &agent, &scene.other, label.clone(), &another),
        ("a token without a node", &unbound, &scene.own, own_report.clone(), "the token names no node"),
        ("a token without a node, a label", &unbound, &scene.own, label.clone(), "the token names no node"),
        ("a new label", &agent, &scene.own, label.clone(), META),
        ("a changed label", &agent, &scene.own, json!({"metadata": {"labels": {"zone": "b"}}}), META),
        ("a removed label", &agent, &scene.own, json!({"metadata": {"labels": {"zone": null}}}), META),
        ("a finalizer", &agent, &scene.own, json!({"metadata": {"finalizers": ["a.example/b"]}}), META),
        (
            "an owner",
            &agent,
            &scene.own,
            json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "x", "uid": "x"}]}}),
            META,
        ),
        (
            "a taint",
            &agent,
            &scene.own,
            json!({"spec": {"taints": [{"key": "a", "effect": "NoExecute"}]}}),
            SPEC,
        ),
        ("cordon", &agent, &scene.own, json!({"spec": {"unschedulable": true}}), SPEC),
        (
            "a pod range",
            &agent,
            &scene.own,
            json!({"spec": {"podCIDR": "10.0.0.0/24", "podCIDRs": ["10.0.0.0/24"]}}),
            SPEC,
        ),
        ("a provider", &agent, &scene.own, json!({"spec": {"providerID": "stolen://"}}), SPEC),
        ("a foreign annotation", &agent, &scene.own, annotation("mine", json!("1")), OTHER_KEYS),
        ("a changed foreign annotation", &agent, &scene.own, annotation("theirs", json!("1")), OTHER_KEYS),
        ("a removed foreign annotation", &agent, &scene.own, annotation("theirs", Value::Null), OTHER_KEYS),
        ("all annotations", &agent, &scene.own, json!({"metadata": {"annotations": null}}), OTHER_KEYS),
        (
            "the administrator's exclusion",
            &agent,
            &scene.own,
            annotation("upscale.video/exclude-gpus", json!("all")),
            OTHER_KEYS,
        ),
        (
            "a key like ours",
            &agent,
            &scene.own,
            annotation("agent.upscale.video/reports", json!("1")),
            OTHER_KEYS,
        ),
        (
            "a report with a taint",
            &agent,
            &scene.own,
            json!({"metadata": {"annotations": {REPORT: "{}"}}, "spec": {"unschedulable": true}}),
            SPEC,
        ),
        (
            "too long a report",
            &agent,
            &scene.own,
            annotation(REPORT, json!("x".repeat(16_385))),
            "at most 16384",
        ),
    ] {
        let refused = merge(client, node, change).await.expect_err(about);
        assert!(refused.contains(words), "{about}: {refused}");
    }
    refused_by_rights(&scene, &agent).await;

    let node: Node = Api::all(scene.server.client.clone()).get(&scene.own).await.unwrap();
    assert_eq!(node.metadata.labels.unwrap().get("stolen"), None);

    let binding =
        scene.objects.iter().find(|object| object["kind"] == "ValidatingAdmissionPolicyBinding").unwrap();
    scene.server.remove(binding).await;
    eventually("without the policy the same token labels any node", async || {
        merge(&agent, &scene.other, label.clone()).await.is_ok()
    })
    .await;
    scene.strike().await;
}

/// What no policy need look at, as the agent has no right to it.
async fn refused_by_rights(scene: &Scene, agent: &Client) {
    let nodes: Api<Node> = Api::all(agent.clone());
    let own = nodes.get(&scene.own).await.expect("an agent reads its node");
    let status = Patch::Merge(json!({"status": {"capacity": {"nvidia.com/gpu": "8"}}}));
    let defaults = ListParams::default();
    let answers = [
        ("status", nodes.patch_status(&scene.own, &PatchParams::default(), &status).await.map(drop)),
        ("replace", nodes.replace(&scene.own, &PostParams::default(), &own).await.map(drop)),
        ("create", nodes.create(&PostParams::default(), &named("made")).await.map(drop)),
        ("delete", nodes.delete(&scene.other, &DeleteParams::default()).await.map(drop)),
        ("list", nodes.list(&defaults).await.map(drop)),
        ("pods", Api::<Pod>::all(agent.clone()).list(&defaults).await.map(drop)),
        ("secrets", Api::<Secret>::all(agent.clone()).list(&defaults).await.map(drop)),
    ];
    for (about, answer) in answers {
        let refused = said(&answer.expect_err(about));
        assert!(refused.contains(RBAC), "{about}: {refused}");
    }
}

fn named(name: &str) -> Node {
    serde_json::from_value(json!({"metadata": {"name": name}})).unwrap()
}
