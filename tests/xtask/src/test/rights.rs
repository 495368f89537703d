//! Rights by what was asked for: over all the tests on the bed, each verb that the chart grants was used, and nothing was
//! asked for that it does not grant.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject,
};
use kube::Client;
use kube::api::{Api, ListParams};

use crate::bed::{Bed, OPERATOR_NAMESPACE, Since};

/// An apply that makes an object needs the first verb, and stands in the log as the second.
const BY_APPLY: (&str, &str, &str) = ("upscale.video/upscaleprofiles", "create", "patch");

/// What only accidents ask for that are not part of the usual run: whether the node of a lost pod is gone
/// (`faults::a_lost_nodes_pod_comes_back_elsewhere`), and what came of a pod's creation that was not answered
/// (`tests/crash`, which speaks to the API server as somebody else).
const RARE: [(&str, &str); 2] = [("/nodes", "get"), ("/pods", "get")];

/// Account, `group/resource` and verb.
type Right = (String, String, String);

/// Holds what was asked since then against what is granted now.
pub async fn all_are_used_and_no_other_is_wanted(bed: &Bed, client: &Client, since: Since) -> Result<()> {
    let granted = granted(client).await?;
    ensure!(!granted.is_empty(), "no right is granted to any account in {OPERATOR_NAMESPACE}");
    let asked = bed.asked(since)?;
    let refused: Vec<_> = asked.iter().filter(|asked| !asked.allowed).collect();
    ensure!(refused.is_empty(), "asked for without a right to it: {refused:?}");
    let mut used: BTreeSet<Right> =
        asked.into_iter().map(|asked| (asked.account, asked.resource, asked.verb)).collect();
    let (resource, create, patch) = BY_APPLY;
    let applied = used.iter().filter(|(_, what, verb)| what == resource && verb == patch);
    let makers: Vec<String> = applied.map(|(account, ..)| account.clone()).collect();
    used.extend(makers.into_iter().map(|account| (account, resource.to_owned(), create.to_owned())));
    let is_rare = |(_, resource, verb): &&Right| RARE.contains(&(resource.as_str(), verb.as_str()));
    let (rare, unused): (Vec<_>, Vec<_>) = granted.difference(&used).partition(is_rare);
    println!(
        "    {} rights granted; not used this time, as no accident asked for them: {rare:?}",
        granted.len()
    );
    ensure!(unused.is_empty(), "granted but never used: {unused:?}");
    Ok(())
}

/// All that the accounts of the release are granted, wherever.
async fn granted(client: &Client) -> Result<BTreeSet<Right>> {
    let all = ListParams::default();
    let cluster: Api<ClusterRoleBinding> = Api::all(client.clone());
    let cluster = cluster.list(&all).await.context("list the bindings of the cluster")?.items;
    let bindings: Api<RoleBinding> = Api::all(client.clone());
    let bindings = bindings.list(&all).await.context("list the bindings of namespaces")?.items;
    let cluster = cluster.into_iter().map(|binding| (binding.subjects, binding.role_ref, None));
    let bindings = bindings.into_iter().map(|it| (it.subjects, it.role_ref, it.metadata.namespace));
    let mut rights = BTreeSet::new();
    for (subjects, role, namespace) in cluster.chain(bindings) {
        let accounts = accounts(subjects.as_deref());
        if !accounts.is_empty() {
            add(&mut rights, &accounts, rules_of(client, &role, namespace.as_deref()).await?);
        }
    }
    Ok(rights)
}

/// The accounts of the release among the subjects.
fn accounts(subjects: Option<&[Subject]>) -> Vec<String> {
    let ours = |subject: &&Subject| {
        subject.kind == "ServiceAccount" && subject.namespace.as_deref() == Some(OPERATOR_NAMESPACE)
    };
    subjects.unwrap_or_default().iter().filter(ours).map(|subject| subject.name.clone()).collect()
}

async fn rules_of(client: &Client, role: &RoleRef, namespace: Option<&str>) -> Result<Vec<PolicyRule>> {
    let what = || format!("read {} {}", role.kind, role.name);
    let rules = match namespace.filter(|_| role.kind == "Role") {
        Some(namespace) => {
            let roles: Api<Role> = Api::namespaced(client.clone(), namespace);
            roles.get(&role.name).await.with_context(what)?.rules
        }
        None => {
            let roles: Api<ClusterRole> = Api::all(client.clone());
            roles.get(&role.name).await.with_context(what)?.rules
        }
    };
    Ok(rules.unwrap_or_default())
}

fn add(rights: &mut BTreeSet<Right>, accounts: &[String], rules: Vec<PolicyRule>) {
    for rule in rules {
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                for verb in &rule.verbs {
                    let right =
                        |account: &String| (account.clone(), format!("{group}/{resource}"), verb.clone());
                    rights.extend(accounts.iter().map(right));
                }
            }
        }
    }
}
