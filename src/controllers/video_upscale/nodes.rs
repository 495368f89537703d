//! The nodes of own pods: whether what they say of a pod can still be waited for.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Node;
use kube::Api;

use super::Context;
use super::error::Error;
use super::seen::SeenPod;
use crate::fleet::node::NodeFacts;

/// An administrator puts this taint on a node that is known to be off; Kubernetes then takes its pods away.
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// A node that does not tell of its pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Not ready: its pods may run on.
    Silent,
    /// Gone, or out of service by an administrator's word: it will never tell.
    Lost,
}

/// Nodes in trouble among those of pods that have not ended, by name. That a node is gone is read live.
///
/// # Errors
/// If the API server does not answer.
pub async fn observe(ctx: &Context, pods: &[SeenPod]) -> Result<BTreeMap<String, Trouble>, Error> {
    let mut found = BTreeMap::new();
    for name in pods.iter().filter(|pod| !pod.ended()).filter_map(|pod| pod.node.as_ref()) {
        if found.contains_key(name) {
            continue;
        }
        let trouble = match ctx.fleet.node_facts(name) {
            Some(facts) => trouble(&facts),
            None => live(ctx, name).await?,
        };
        found.extend(trouble.map(|trouble| (name.clone(), trouble)));
    }
    Ok(found)
}

async fn live(ctx: &Context, name: &str) -> Result<Option<Trouble>, Error> {
    let api: Api<Node> = Api::all(ctx.client.clone());
    match api.get_opt(name).await {
        Ok(None) => Ok(Some(Trouble::Lost)),
        Ok(Some(node)) => Ok(NodeFacts::of(&node).as_ref().and_then(trouble)),
        Err(kube::Error::Api(status)) if status.is_forbidden() => Ok(None),
        Err(source) => Err(Error::Get { kind: "Node", name: name.to_owned(), source }),
    }
}

fn trouble(facts: &NodeFacts) -> Option<Trouble> {
    if facts.ready {
        None
    } else if facts.taints.iter().any(|taint| taint.key == OUT_OF_SERVICE) {
        Some(Trouble::Lost)
    } else {
        Some(Trouble::Silent)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::controllers::video_upscale::observe::tests::context;
    use crate::controllers::video_upscale::plan::fixtures::{observed, segment, succeeded, working};
    use crate::fleet::fake_api::FakeApi;

    #[tokio::test]
    async fn only_a_node_that_is_gone_or_out_of_service_is_lost() {
        let ready = |status: &str| json!([{"type": "Ready", "status": status}]);
        let taint = json!([{"key": OUT_OF_SERVICE, "effect": "NoExecute", "value": "nodeshutdown"}]);
        let observed = observed(json!({}));
        for (node, expected) in [
            (Some(json!({"status": {"conditions": ready("True")}})), None),
            (Some(json!({"status": {"conditions": ready("Unknown")}})), Some(Trouble::Silent)),
            (
                Some(json!({"spec": {"taints": taint}, "status": {"conditions": ready("Unknown")}})),
                Some(Trouble::Lost),
            ),
            // Whoever forgets to take the taint away has a node that tells of its pods.
            (Some(json!({"spec": {"taints": taint}, "status": {"conditions": ready("True")}})), None),
            (None, Some(Trouble::Lost)),
        ] {
            let api = FakeApi::default();
            if let Some(mut node) = node.clone() {
                node["metadata"] = json!({"name": "node-a"});
                api.put("/api/v1/nodes/node-a", node);
            }
            let ctx = context(&api, true);
            let running = [segment(&observed, 0, 0, &working())];
            let found = super::observe(&ctx, &running).await.unwrap();
            assert_eq!(found.get("node-a").copied(), expected, "{node:?}");
            let ended = [segment(&observed, 0, 0, &succeeded())];
            assert!(super::observe(&ctx, &ended).await.unwrap().is_empty());
        }
    }
}
