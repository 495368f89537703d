//! What a stolen agent token can do: write two annotations of its own node. Tried with real tokens against the chart's
//! policy, and tried again without it to see that it was the policy that held.

use k8s_openapi::api::core::v1::{Node, Pod, Secret};
use kube::Client;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::release::{Release, row};
use super::server::{eventually, said};

const REPORT: &str = "agent.upscale.video/report";
const HEARTBEAT: &str = "agent.upscale.video/heartbeat";
const OTHER_KEYS: &str =
    "an agent may write the annotations agent.upscale.video/report and agent.upscale.video/heartbeat only";
const META: &str = "an agent may not change labels, finalizers or owners of its node";
const SPEC: &str = "an agent may not change taints or anything else of its node's spec";
const RBAC: &str = "cannot";

/// A release with two nodes.
struct Scene {
    release: Release,
    own: String,
    other: String,
}

impl Scene {
    async fn set() -> Option<Self> {
        let mut release = Release::install(&[]).await?;
        let (own, other) = (format!("{}-own", release.name), format!("{}-other", release.name));
        for node in [&own, &other] {
            release
                .add(json!({
                    "apiVersion": "v1", "kind": "Node",
                    "metadata": {"name": node, "labels": {"zone": "a"}, "annotations": {"theirs": "kept"}},
                }))
                .await;
        }
        Some(Self { release, own, other })
    }
}

async fn merge(client: &Client, node: &str, change: Value) -> Result<(), String> {
    patched(client, node, change, &PatchParams::default()).await
}

/// What the server says of a change, with nothing changed.
async fn try_merge(client: &Client, node: &str, change: Value) -> Result<(), String> {
    patched(client, node, change, &PatchParams { dry_run: true, ..PatchParams::default() }).await
}

async fn patched(client: &Client, node: &str, change: Value, params: &PatchParams) -> Result<(), String> {
    let nodes: Api<Node> = Api::all(client.clone());
    let answer = nodes.patch(node, params, &Patch::Merge(change)).await;
    answer.map(drop).map_err(|error| said(&error))
}

fn annotation(key: &str, value: Value) -> Value {
    json!({"metadata": {"annotations": {key: value}}})
}

/// What is tried, with whose token, on which node, and words of the policy's refusal.
type Attack<'a> = (&'static str, &'a Client, &'a str, Value, &'a str);

/// Changes of nodes that RBAC allows and the policy refuses. `agent` has the token of the agent's pod, `unbound` one of its
/// service account but of no pod; `another` is what the policy says of another node.
fn attacks<'a>(
    scene: &'a Scene,
    agent: &'a Client,
    unbound: &'a Client,
    another: &'a str,
) -> Vec<Attack<'a>> {
    let own_report = annotation(REPORT, json!("{}"));
    let label = json!({"metadata": {"labels": {"stolen": "yes"}}});
    let finalizer = json!({"metadata": {"finalizers": ["a.example/b"]}});
    vec![
        ("another node's finalizer", agent, &scene.other, finalizer.clone(), another),
        ("another node's report", agent, &scene.other, own_report.clone(), another),
        ("another node's label", agent, &scene.other, label.clone(), another),
        ("a token without a node", unbound, &scene.own, own_report.clone(), "the token names no node"),
        ("a token without a node, a label", unbound, &scene.own, label.clone(), "the token names no node"),
        ("a new label", agent, &scene.own, label.clone(), META),
        ("a changed label", agent, &scene.own, json!({"metadata": {"labels": {"zone": "b"}}}), META),
        ("a removed label", agent, &scene.own, json!({"metadata": {"labels": {"zone": null}}}), META),
        ("a finalizer", agent, &scene.own, finalizer, META),
        (
            "an owner",
            agent,
            &scene.own,
            json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "x", "uid": "x"}]}}),
            META,
        ),
        (
            "a taint",
            agent,
            &scene.own,
            json!({"spec": {"taints": [{"key": "a", "effect": "NoExecute"}]}}),
            SPEC,
        ),
        ("cordon", agent, &scene.own, json!({"spec": {"unschedulable": true}}), SPEC),
        (
            "a pod range",
            agent,
            &scene.own,
            json!({"spec": {"podCIDR": "10.0.0.0/24", "podCIDRs": ["10.0.0.0/24"]}}),
            SPEC,
        ),
        ("a provider", agent, &scene.own, json!({"spec": {"providerID": "stolen://"}}), SPEC),
        ("a foreign annotation", agent, &scene.own, annotation("mine", json!("1")), OTHER_KEYS),
        ("a changed foreign annotation", agent, &scene.own, annotation("theirs", json!("1")), OTHER_KEYS),
        ("a removed foreign annotation", agent, &scene.own, annotation("theirs", Value::Null), OTHER_KEYS),
        ("all annotations", agent, &scene.own, json!({"metadata": {"annotations": null}}), OTHER_KEYS),
        (
            "the administrator's exclusion",
            agent,
            &scene.own,
            annotation("upscale.video/exclude-gpus", json!("all")),
            OTHER_KEYS,
        ),
        (
            "a key like ours",
            agent,
            &scene.own,
            annotation("agent.upscale.video/reports", json!("1")),
            OTHER_KEYS,
        ),
        (
            "a report with a taint",
            agent,
            &scene.own,
            json!({"metadata": {"annotations": {REPORT: "{}"}}, "spec": {"unschedulable": true}}),
            SPEC,
        ),
        (
            "too long a report",
            agent,
            &scene.own,
            annotation(REPORT, json!("x".repeat(16_385))),
            "at most 16384",
        ),
    ]
}

#[tokio::test]
async fn an_agent_writes_its_two_annotations_and_nothing_else_and_the_policy_is_why() {
    let Some(scene) = Scene::set().await else { return };
    let agent = scene.release.part("agent", Some(&scene.own)).await;
    let unbound = scene.release.part("agent", None).await;
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
    let attacks = attacks(&scene, &agent, &unbound, &another);
    for (about, client, node, change, words) in &attacks {
        let outcome = merge(client, node, change.clone()).await;
        row("agent", about, &outcome);
        let refused = outcome.expect_err(about);
        assert!(refused.contains(words), "{about}: {refused}");
    }
    refused_by_rights(&scene, &agent, "agent").await;

    let node: Node = Api::all(scene.release.server.client.clone()).get(&scene.own).await.unwrap();
    assert_eq!(node.metadata.labels.unwrap().get("stolen"), None);

    scene.release.unbind("agent").await;
    eventually("without the policy the same token labels any node", async || {
        merge(&agent, &scene.other, label.clone()).await.is_ok()
    })
    .await;
    // It was the policy that held each of them off, and nothing else. Only asked for: a finalizer would stay.
    for (about, client, node, change, _) in attacks {
        let outcome = try_merge(client, node, change).await;
        row("no policy", about, &outcome);
        assert_eq!(outcome, Ok(()), "{about}: without the policy nothing refuses it");
    }
    refused_by_rights(&scene, &agent, "no policy").await;
    scene.release.remove().await;
}

/// What no policy need look at, as RBAC gives the agent no right to it: refused with the policy and without.
async fn refused_by_rights(scene: &Scene, agent: &Client, who: &str) {
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
        let outcome = answer.map_err(|error| said(&error));
        row(who, &format!("{about} (no right to it)"), &outcome);
        let refused = outcome.expect_err(about);
        assert!(refused.contains(RBAC), "{about}: {refused}");
    }
}

fn named(name: &str) -> Node {
    serde_json::from_value(json!({"metadata": {"name": name}})).unwrap()
}
