//! Who may not create pods may not have them created: the optional policy about authors, with and without its binding.

use kube::Client;
use serde_json::{Value, json};

use super::cases::{self, Base};
use super::release::{Release, row};
use super::server::eventually;

fn rules(more: &[Value]) -> Value {
    let jobs = json!({"apiGroups": ["upscale.video"], "resources": ["videoupscales"], "verbs": ["create", "patch", "get"]});
    Value::from([&[jobs][..], more].concat())
}

fn job(release: &Release) -> Value {
    let mut job = cases::base(Base::Job);
    job["metadata"]["namespace"] = json!(release.tenants);
    job
}

async fn patched(release: &Release, client: &Client, change: Value) -> Result<(), String> {
    let job = job(release);
    let params = kube::api::PatchParams { dry_run: true, ..Default::default() };
    let api = release.server.api_as(client, &job);
    let patch = kube::api::Patch::Merge(change);
    api.patch("holiday", &params, &patch).await.map(drop).map_err(|error| super::server::said(&error))
}

#[tokio::test]
async fn an_author_without_pods_makes_no_job_and_the_policy_is_why() {
    let on = ["--set", "admissionPolicies.authorsMustBeAbleToCreatePods=true"];
    let Some(mut release) = Release::install(&on).await else { return };
    let pods = json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["create"]});
    let maker = release.tenant("maker", rules(&[pods])).await;
    let writer = release.tenant("writer", rules(&[])).await;
    let job = job(&release);
    let refused = "may not create pods in namespace";
    eventually("rights and policy are in force", async || {
        release.server.dry_run_as(&maker, &job).await.is_ok()
            && release.server.dry_run_as(&writer, &job).await.is_err_and(|said| said.contains(refused))
    })
    .await;

    release.server.dry_run_as(&maker, &job).await.expect("who makes pods makes jobs");
    release.server.apply(&job).await;
    assert_eq!(patched(&release, &maker, json!({"spec": {"parallelism": 9}})).await, Ok(()));
    for (about, change) in [
        ("a changed spec", json!({"spec": {"parallelism": 9}})),
        ("resumed", json!({"spec": {"suspend": true}})),
        ("a retry", json!({"metadata": {"annotations": {"upscale.video/retry-failed": "1"}}})),
        ("a pause", json!({"metadata": {"annotations": {"upscale.video/paused": "1"}}})),
    ] {
        let outcome = patched(&release, &writer, change).await;
        row("writer", about, &outcome);
        assert!(outcome.expect_err(about).contains(refused), "{about}");
    }
    // What makes no pods is left to RBAC: collectors of garbage change owners and finalizers.
    let label = json!({"metadata": {"labels": {"a": "b"}}});
    assert_eq!(patched(&release, &writer, label).await, Ok(()));
    let outcome = release.server.dry_run_as(&writer, &job).await.map(drop);
    row("writer", "a new job", &outcome);
    assert!(outcome.unwrap_err().contains(refused));

    release.server.remove(&job).await;
    release.unbind("author").await;
    eventually("without the policy the same author makes the job", async || {
        release.server.dry_run_as(&writer, &job).await.is_ok()
    })
    .await;
    release.remove().await;
}
