//! What the API server says: who the agent is to it, what it may do, and who writes to the Node.

use std::time::Duration;

use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::Client;
use kube::api::{Api, PostParams};
use video_upscale::api::report::Report;

use super::{Check, Cluster};
use crate::clock::Clock;
use crate::publish::{NodeAnnotations, occupant};

/// Where the API server says which node a token's pod runs on.
const NODE_CLAIM: &str = "authentication.kubernetes.io/node-name";
/// Longest wait for one answer.
const LIMIT: Duration = Duration::from_secs(10);

/// The checks.
pub async fn checks(cluster: Cluster<'_>, report: &Report) -> Vec<Check> {
    let node = cluster.node;
    let client = match cluster.client {
        Ok(client) => client,
        Err(why) => return vec![Check::fail("api", why)],
    };
    let mut checks = Vec::new();
    for verb in ["get", "patch"] {
        checks.push(right(verb, node, may(&client, verb, node).await));
    }
    checks.push(token(node, claimed(&client).await));
    checks.push(annotations(client, node, report).await);
    checks
}

async fn may(client: &Client, verb: &str, node: &str) -> Result<bool, String> {
    let attributes = ResourceAttributes {
        resource: Some("nodes".to_owned()),
        name: Some(node.to_owned()),
        verb: Some(verb.to_owned()),
        ..ResourceAttributes::default()
    };
    let spec = SelfSubjectAccessReviewSpec {
        resource_attributes: Some(attributes),
        ..SelfSubjectAccessReviewSpec::default()
    };
    let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
    let api: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let answer = within(api.create(&PostParams::default(), &review)).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

async fn claimed(client: &Client) -> Result<Option<String>, String> {
    let api: Api<SelfSubjectReview> = Api::all(client.clone());
    let answer = within(api.create(&PostParams::default(), &SelfSubjectReview::default())).await?;
    let extra = answer.status.and_then(|status| status.user_info?.extra).unwrap_or_default();
    Ok(extra.get(NODE_CLAIM).and_then(|values| values.first().cloned()))
}

async fn within<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, String> {
    match tokio::time::timeout(LIMIT, call).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {} s", LIMIT.as_secs())),
    }
}

fn right(verb: &'static str, node: &str, allowed: Result<bool, String>) -> Check {
    let name = if verb == "get" { "right to read" } else { "right to write" };
    match allowed {
        Ok(true) => Check::ok(name, format!("may {verb} node {node}")),
        Ok(false) => {
            Check::fail(name, format!("may not {verb} node {node}: is the chart's ClusterRole bound?"))
        }
        Err(why) => Check::fail(name, format!("cannot be asked: {why}")),
    }
}

fn token(node: &str, claimed: Result<Option<String>, String>) -> Check {
    const NAME: &str = "token";
    match claimed {
        Ok(Some(claimed)) if claimed == node => Check::ok(NAME, format!("names node {node}")),
        Ok(Some(claimed)) => Check::fail(
            NAME,
            format!("names node {claimed}, not {node}: the admission policy refuses every write"),
        ),
        Ok(None) => Check::warn(
            NAME,
            "names no node: the admission policy refuses every write; use the token mounted into the agent's own pod",
        ),
        Err(why) => Check::fail(NAME, format!("cannot be asked: {why}")),
    }
}

async fn annotations(client: Client, node: &str, report: &Report) -> Check {
    const NAME: &str = "node";
    match NodeAnnotations::new(client, node.to_owned()).read(true).await {
        Err(error) => Check::fail(NAME, error.to_string()),
        Ok(standing) => match occupant(&standing, report, Clock::start().now()) {
            Some(by) => Check::warn(NAME, format!("the agent of the release in namespace {by} reports it")),
            None if standing.report.is_some() => Check::ok(NAME, "has a report"),
            None => Check::ok(NAME, "has no report yet"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_token_of_another_node_fails_and_one_without_a_node_warns() {
        let verdict = |claimed| token("node-a", claimed).verdict;
        assert_eq!(verdict(Ok(Some("node-a".to_owned()))), Verdict::Ok);
        assert_eq!(verdict(Ok(Some("node-b".to_owned()))), Verdict::Fail);
        assert_eq!(verdict(Ok(None)), Verdict::Warn);
        assert_eq!(verdict(Err("away".to_owned())), Verdict::Fail);
        assert_eq!(right("patch", "node-a", Ok(false)).verdict, Verdict::Fail);
    }
}
