//! The job's claims of volumes: whether they exist, and on which nodes they can be mounted.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::api::ListParams;
use kube::{Api, Client};

use super::Context;
use super::error::Error;
use super::plan::Volumes;

/// Looks at the claims of those names.
///
/// # Errors
/// If the API server does not answer; that a claim is missing is an answer.
pub async fn observe(ctx: &Context, namespace: &str, names: &BTreeSet<String>) -> Result<Volumes, Error> {
    let client = &ctx.client;
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    let mut volumes = Volumes::default();
    let mut found = Vec::new();
    for name in names {
        let failed = |source| Error::Get { kind: "PersistentVolumeClaim", name: name.clone(), source };
        match claims.get_opt(name).await.map_err(failed)? {
            Some(claim) => found.push(claim),
            None => volumes.missing.push(name.clone()),
        }
    }
    for claim in &found {
        let name = claim.metadata.name.as_deref().unwrap_or_default();
        if is_single_node(claim) {
            let users = nodes_of_users(client, namespace, name).await?;
            if !users.is_empty() {
                let list = users.iter().cloned().collect::<Vec<_>>().join(", ");
                narrow(&mut volumes, users, format!("claim {name} is ReadWriteOnce and in use on {list}"));
            }
        }
        if let Some(nodes) = nodes_of_volume(ctx, claim).await? {
            narrow(&mut volumes, nodes, format!("the volume of claim {name} is bound to nodes"));
        }
    }
    Ok(volumes)
}

fn narrow(volumes: &mut Volumes, nodes: BTreeSet<String>, why: String) {
    volumes.nodes = Some(match volumes.nodes.take() {
        Some(before) => before.intersection(&nodes).cloned().collect(),
        None => nodes,
    });
    volumes.why = why;
}

/// Whether only one node at a time may mount it.
fn is_single_node(claim: &PersistentVolumeClaim) -> bool {
    let modes = claim.spec.as_ref().and_then(|spec| spec.access_modes.as_ref());
    modes.is_some_and(|modes| {
        !modes.iter().any(|mode| matches!(mode.as_str(), "ReadWriteMany" | "ReadOnlyMany"))
    })
}

/// Nodes with a pod that uses the claim and has not ended.
async fn nodes_of_users(client: &Client, namespace: &str, claim: &str) -> Result<BTreeSet<String>, Error> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let alive = ListParams::default().fields("status.phase!=Succeeded,status.phase!=Failed");
    let failed = |source| Error::ListPods { name: format!("claim {namespace}/{claim}"), source };
    let pods = pods.list(&alive).await.map_err(failed)?;
    Ok(pods
        .items
        .iter()
        .filter(|pod| uses(pod, claim))
        .filter_map(|pod| pod.spec.as_ref()?.node_name.clone())
        .collect())
}

fn uses(pod: &Pod, claim: &str) -> bool {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes
        .filter_map(|volume| volume.persistent_volume_claim.as_ref())
        .any(|source| source.claim_name == claim)
}

/// Nodes that the bound volume's affinity admits; `None`: all.
async fn nodes_of_volume(
    ctx: &Context,
    claim: &PersistentVolumeClaim,
) -> Result<Option<BTreeSet<String>>, Error> {
    let Some(name) = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_ref()) else { return Ok(None) };
    let volumes: Api<PersistentVolume> = Api::all(ctx.client.clone());
    let failed = |source| Error::Get { kind: "PersistentVolume", name: name.clone(), source };
    let Some(volume) = allowed(volumes.get_opt(name).await).map_err(failed)?.flatten() else {
        return Ok(None);
    };
    let affinity = volume.spec.and_then(|spec| spec.node_affinity).and_then(|affinity| affinity.required);
    let Some(required) = affinity else { return Ok(None) };
    let terms = &required.node_selector_terms;
    Ok(Some(ctx.fleet.nodes_where(|node| {
        terms.iter().any(|term| admits(term.match_expressions.as_deref().unwrap_or_default(), &node.labels))
    })))
}

/// An answer, or `None` where a release of few namespaces may not ask: then the scheduler has the last word.
fn allowed<T>(answer: Result<T, kube::Error>) -> Result<Option<T>, kube::Error> {
    match answer {
        Err(kube::Error::Api(status)) if status.is_forbidden() => Ok(None),
        other => other.map(Some),
    }
}

/// Whether labels meet all requirements of a node selector's term. Operators that volumes do not use (`Gt`, `Lt`)
/// count as met: then the scheduler has the last word.
fn admits(
    requirements: &[k8s_openapi::api::core::v1::NodeSelectorRequirement],
    labels: &BTreeMap<String, String>,
) -> bool {
    requirements.iter().all(|requirement| {
        let value = labels.get(&requirement.key);
        let listed = |value: &String| requirement.values.iter().flatten().any(|known| known == value);
        match requirement.operator.as_str() {
            "In" => value.is_some_and(listed),
            "NotIn" => !value.is_some_and(listed),
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            _ => true,
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::controllers::video_upscale::observe::tests::context;
    use crate::fleet::fake_api::FakeApi;

    #[tokio::test]
    async fn nodes_of_a_volume_are_taken_from_what_is_known_of_nodes() {
        let api = FakeApi::default();
        api.put(
            "/api/v1/namespaces/media/persistentvolumeclaims/m",
            json!({"metadata": {"name": "m"}, "spec": {"volumeName": "pv-1", "accessModes": ["ReadWriteMany"]}}),
        );
        let term = json!({"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]});
        api.put(
            "/api/v1/persistentvolumes/pv-1",
            json!({"metadata": {"name": "pv-1"},
                   "spec": {"nodeAffinity": {"required": {"nodeSelectorTerms": [term]}}}}),
        );
        let found = observe(&context(&api, true), "media", &["m".to_owned()].into()).await.unwrap();
        assert_eq!(found.nodes, Some(BTreeSet::new()), "no node is known");
        assert!(!api.lock().asked.iter().any(|asked| asked.ends_with("/nodes")), "{:?}", api.lock().asked);
    }

    #[test]
    fn only_single_node_modes_bind_a_claim_to_the_node_of_its_users() {
        for (modes, single) in [
            (json!(["ReadWriteOnce"]), true),
            (json!(["ReadWriteOncePod"]), true),
            (json!(["ReadWriteOnce", "ReadWriteMany"]), false),
            (json!(["ReadOnlyMany"]), false),
        ] {
            let claim =
                serde_json::from_value(json!({"metadata": {}, "spec": {"accessModes": modes}})).unwrap();
            assert_eq!(is_single_node(&claim), single, "{modes}");
        }
    }

    #[test]
    fn node_selectors_of_volumes_are_read_as_kubernetes_reads_them() {
        let labels = BTreeMap::from([("kubernetes.io/hostname".to_owned(), "node-a".to_owned())]);
        for (requirement, met) in [
            (json!({"key": "kubernetes.io/hostname", "operator": "In", "values": ["node-a"]}), true),
            (json!({"key": "kubernetes.io/hostname", "operator": "In", "values": ["node-b"]}), false),
            (json!({"key": "kubernetes.io/hostname", "operator": "NotIn", "values": ["node-a"]}), false),
            (json!({"key": "zone", "operator": "Exists"}), false),
            (json!({"key": "zone", "operator": "DoesNotExist"}), true),
        ] {
            let requirements = [serde_json::from_value(requirement.clone()).unwrap()];
            assert_eq!(admits(&requirements, &labels), met, "{requirement}");
        }
    }
}
