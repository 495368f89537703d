//! What a stolen controller token can do: make the pods that the controller makes, delete them, and read. Each attack
//! is tried with a real token, and those that only a policy stops are tried again without it.

use kube::Client;
use kube::api::{Api, DeleteParams, EvictParams, Patch, PatchParams, PostParams};
use kube::core::{DynamicObject, Request};
use serde_json::{Value, json};

use super::cases::{self, Base};
use super::controller_attacks::{Attack, ON_SEGMENT};
use super::release::{Release, row};
use super::server::{eventually, said};

/// The pods as the controller makes them, at home in this release.
fn golden(release: &Release, role: &str) -> Value {
    let file = format!("src/controllers/video_upscale/pods/testdata/{role}.json");
    let text = std::fs::read_to_string(super::rendered::repository().join(file)).unwrap();
    let mut pod: Value = serde_json::from_str(&text).unwrap();
    pod["metadata"]["namespace"] = json!(release.tenants);
    pod["metadata"]["labels"]["app.kubernetes.io/instance"] = json!(release.name);
    if pod["spec"]["runtimeClassName"].is_string() {
        pod["spec"]["runtimeClassName"] = json!(release.name);
    }
    pod
}

fn changed(pod: &Value, (_, changes, _): &Attack) -> Value {
    let mut pod = pod.clone();
    for (pointer, value) in *changes {
        cases::put(&mut pod, pointer, Some(value));
    }
    pod
}

#[tokio::test]
async fn a_controller_token_makes_our_pods_and_no_others_and_the_policy_is_why() {
    let Some(mut release) = Release::install(&[]).await else { return };
    let robot = json!({"name": "robot", "namespace": release.tenants});
    release.add(json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": robot})).await;
    let controller = release.part("controller", None).await;
    let segment = golden(&release, "segment");
    let create = async |pod: &Value| release.server.dry_run_as(&controller, pod).await.map(drop);
    eventually("right and policy are in force", async || {
        create(&changed(&segment, &ON_SEGMENT[0])).await.is_err_and(|said| said.contains(ON_SEGMENT[0].2))
    })
    .await;

    for role in ["segment", "probe", "merge"] {
        assert_eq!(create(&golden(&release, role)).await, Ok(()), "the controller's own {role}");
    }
    let mut by_cdi = segment.clone();
    for container in by_cdi["spec"]["initContainers"].as_array_mut().unwrap() {
        for entry in container["env"].as_array_mut().unwrap() {
            if entry["name"] == "NVIDIA_VISIBLE_DEVICES" {
                entry["value"] = json!(format!("nvidia.com/gpu={}", entry["value"].as_str().unwrap()));
            }
        }
    }
    assert_eq!(create(&by_cdi).await, Ok(()), "a GPU by its CDI name");

    let mut wrong = Vec::new();
    for attack in ON_SEGMENT {
        let outcome = create(&changed(&segment, attack)).await;
        row("controller", attack.0, &outcome);
        if !outcome.as_ref().is_err_and(|said| said.contains(attack.2)) {
            wrong.push(format!("{}: {outcome:?}", attack.0));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let mut elsewhere = segment.clone();
    elsewhere["metadata"]["namespace"] = json!("kube-system");
    let outcome = create(&elsewhere).await;
    row("controller", "our pod in kube-system", &outcome);
    assert!(outcome.unwrap_err().contains("is not served by release"));

    release.unbind("controller-create").await;
    eventually("without the policy a pod without owner is made", async || {
        create(&changed(&segment, &ON_SEGMENT[0])).await.is_ok()
    })
    .await;
    let mut now_done = 0;
    for attack in ON_SEGMENT {
        match create(&changed(&segment, attack)).await {
            Ok(()) => now_done += 1,
            // What the API server itself refuses never was a matter of the policy.
            Err(said) => println!("controller | still refused: {:<37} | {said}", attack.0),
        }
    }
    println!("{} of {} attacks succeed without the policy", now_done, ON_SEGMENT.len());
    assert_eq!(now_done, ON_SEGMENT.len(), "something else than the policy stopped the rest");
    release.remove().await;
}

#[tokio::test]
async fn served_namespaces_are_those_that_values_and_labels_say() {
    let only = "controller.watchNamespaces={some-other}";
    let Some(release) = Release::install(&["--set", "admissionPolicies.labelledNamespacesOnly=true"]).await
    else {
        return;
    };
    let controller = release.part("controller", None).await;
    let probe = golden(&release, "probe");
    let refused = async || {
        let outcome = release.server.dry_run_as(&controller, &probe).await;
        outcome.is_err_and(|said| said.contains("is not served by release"))
    };
    eventually("a namespace without the label is not served", refused).await;
    let label = async |value: &str| {
        release
            .server
            .apply(&json!({
                "apiVersion": "v1", "kind": "Namespace",
                "metadata": {"name": release.tenants, "labels": {"upscale.video/release": value}},
            }))
            .await;
    };
    label(&release.name).await;
    eventually("with it, it is", async || release.server.dry_run_as(&controller, &probe).await.is_ok()).await;
    label("another").await;
    eventually("another release's is not", refused).await;
    release.remove().await;

    // A controller that watches few namespaces has no right in others, and the policy says the same.
    let Some(release) = Release::install(&["--set", only, "--set", "rbac.create=false"]).await else {
        return;
    };
    let rules = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["create"]}]);
    let everywhere = grant(&release, rules);
    for object in &everywhere {
        release.server.apply(object).await;
    }
    let controller = release.part("controller", None).await;
    let probe = golden(&release, "probe");
    eventually("a namespace that is not watched is refused by policy", async || {
        let outcome = release.server.dry_run_as(&controller, &probe).await;
        outcome.is_err_and(|said| said.contains("is not served by release"))
    })
    .await;
    for object in &everywhere {
        release.server.remove(object).await;
    }
    release.remove().await;
}

/// A role of the whole cluster for the controller's account: what a careless administrator may add.
fn grant(release: &Release, rules: Value) -> [Value; 2] {
    let group = "rbac.authorization.k8s.io";
    let name = format!("{}-careless", release.name);
    let role = json!({"apiVersion": format!("{group}/v1"), "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules});
    let binding = json!({
        "apiVersion": format!("{group}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": name},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": format!("{}-controller", release.name), "namespace": release.name}],
    });
    [role, binding]
}

#[tokio::test]
async fn a_controller_token_deletes_its_own_and_touches_nothing_else_even_with_too_many_rights() {
    let Some(mut release) = Release::install(&[]).await else { return };
    let every = json!([{"apiGroups": ["", "upscale.video"], "resources": ["pods", "pods/status", "pods/exec", "pods/eviction", "videoupscales"], "verbs": ["*"]}]);
    for object in grant(&release, every) {
        release.add(object).await;
    }
    let stranger = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "stranger", "namespace": release.tenants},
        "spec": {"containers": [{"name": "a", "image": "a.example/a"}], "nodeName": "nowhere"},
    });
    release.add(stranger.clone()).await;
    let mut finished = cases::base(Base::Job);
    finished["metadata"]["namespace"] = json!(release.tenants);
    release.add(finished.clone()).await;
    let controller = release.part("controller", None).await;
    let pods = release.server.api_as(&controller, &stranger);
    let jobs = release.server.api_as(&controller, &finished);
    let dry = DeleteParams { dry_run: true, ..DeleteParams::default() };
    // A right that has not arrived yet refuses, too, in other words.
    let denied =
        |answer: Result<(), kube::Error>| answer.is_err_and(|error| said(&error).contains("denied request"));
    eventually("rights and policies are in force", async || {
        denied(pods.delete("stranger", &dry).await.map(drop))
            && denied(jobs.delete("holiday", &dry).await.map(drop))
            && denied(exec(&controller, &release.tenants).await)
            && denied(evict(&controller, &release.tenants).await)
    })
    .await;

    let label = Patch::Merge(json!({"metadata": {"labels": {"a": "b"}}}));
    let deadline = Patch::Merge(json!({"spec": {"activeDeadlineSeconds": 1}}));
    let params = PatchParams { dry_run: true, ..PatchParams::default() };
    let (only_ours, nothing_else) = ("deletes pods of VideoUpscales only", "does nothing else to them");
    let only_ttl = "only once it has finished, and if it has ttlSecondsAfterFinished";
    for (about, answer, words) in [
        ("delete a foreign pod", pods.delete("stranger", &dry).await.map(drop), only_ours),
        ("label a foreign pod", pods.patch("stranger", &params, &label).await.map(drop), nothing_else),
        ("an end for it", pods.patch("stranger", &params, &deadline).await.map(drop), nothing_else),
        ("its status", pods.patch_status("stranger", &params, &label).await.map(drop), nothing_else),
        ("evict it", evict(&controller, &release.tenants).await, nothing_else),
        ("a command in it", exec(&controller, &release.tenants).await, nothing_else),
        ("delete a job", jobs.delete("holiday", &dry).await.map(drop), only_ttl),
        ("change a job", jobs.patch("holiday", &params, &label).await.map(drop), only_ttl),
    ] {
        let outcome = answer.map_err(|error| said(&error));
        row("controller", about, &outcome);
        assert!(outcome.expect_err(about).contains(words), "{about}");
    }

    let api = release.server.api(&finished);
    let ttl = Patch::Merge(json!({"spec": {"ttlSecondsAfterFinished": 0}}));
    api.patch("holiday", &PatchParams::default(), &ttl).await.unwrap();
    assert!(jobs.delete("holiday", &dry).await.is_err(), "it has not finished");
    let done = Patch::Merge(json!({"status": {"conditions": [
        {"type": "Finished", "status": "True", "reason": "Succeeded", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"},
    ]}}));
    api.patch_status("holiday", &PatchParams::default(), &done).await.unwrap();
    jobs.delete("holiday", &dry).await.expect("a job whose time is over");

    for part in ["controller-delete", "controller-jobs"] {
        release.unbind(part).await;
    }
    eventually("without the policies the same token deletes a foreign pod and changes a job", async || {
        pods.delete("stranger", &dry).await.is_ok() && jobs.patch("holiday", &params, &label).await.is_ok()
    })
    .await;
    let now = DeleteParams::default().grace_period(0);
    release.server.api(&stranger).delete("stranger", &now).await.unwrap();
    release.remove().await;
}

async fn evict(client: &Client, namespace: &str) -> Result<(), kube::Error> {
    let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::namespaced(client.clone(), namespace);
    let params = EvictParams {
        post_options: PostParams { dry_run: true, ..PostParams::default() },
        ..EvictParams::default()
    };
    pods.evict("stranger", &params).await.map(drop)
}

async fn exec(client: &Client, namespace: &str) -> Result<(), kube::Error> {
    let pods = Request::new(format!("/api/v1/namespaces/{namespace}/pods"));
    let mut request = pods.get_subresource("exec", "stranger").unwrap();
    *request.uri_mut() = format!("{}?command=id&stdout=true", request.uri().path()).parse().unwrap();
    client.request_text(request).await.map(drop)
}

/// What the token has no right to, whatever the policies say.
#[tokio::test]
async fn a_controller_token_has_no_other_right() {
    let Some(release) = Release::install(&[]).await else { return };
    let controller = release.part("controller", None).await;
    let (name, tenants) = (&release.name, &release.tenants);
    let meta = |namespace: &str| json!({"name": "x", "namespace": namespace});
    let anywhere = json!({"name": "x"});
    let object = |version: &str, kind: &str, meta: &Value| json!({"apiVersion": version, "kind": kind, "metadata": meta});
    let (here, there, system) = (meta(name), meta(tenants), meta("kube-system"));
    let rbac = "rbac.authorization.k8s.io/v1";
    let admission = "admissionregistration.k8s.io/v1";
    let targets = [
        object("v1", "Secret", &there),
        object("v1", "Secret", &here),
        object("v1", "Secret", &system),
        object("v1", "ConfigMap", &here),
        object("v1", "ConfigMap", &there),
        object("v1", "ServiceAccount", &here),
        object("v1", "Service", &there),
        object("v1", "PersistentVolume", &anywhere),
        object("v1", "PersistentVolumeClaim", &there),
        object("v1", "Node", &anywhere),
        object("v1", "Namespace", &anywhere),
        object("apps/v1", "Deployment", &here),
        object("apps/v1", "DaemonSet", &here),
        object("batch/v1", "Job", &there),
        object("batch/v1", "CronJob", &there),
        object("coordination.k8s.io/v1", "Lease", &system),
        object("coordination.k8s.io/v1", "Lease", &there),
        object(rbac, "Role", &there),
        object(rbac, "RoleBinding", &there),
        object(rbac, "ClusterRole", &anywhere),
        object(rbac, "ClusterRoleBinding", &anywhere),
        object("apiextensions.k8s.io/v1", "CustomResourceDefinition", &anywhere),
        object(admission, "ValidatingAdmissionPolicy", &anywhere),
        object(admission, "ValidatingAdmissionPolicyBinding", &anywhere),
        object(admission, "MutatingWebhookConfiguration", &anywhere),
        object(admission, "ValidatingWebhookConfiguration", &anywhere),
        object("upscale.video/v1alpha1", "VideoUpscale", &there),
    ];
    let dry = DeleteParams { dry_run: true, ..DeleteParams::default() };
    let params = PatchParams { dry_run: true, ..PatchParams::default() };
    let mut tried = 0;
    for target in &targets {
        let api: Api<DynamicObject> = release.server.api_as(&controller, target);
        let label = Patch::Merge(json!({"metadata": {"labels": {"a": "b"}}}));
        let mut answers = vec![
            ("create", release.server.dry_run_as(&controller, target).await.map(drop)),
            ("change", api.patch("x", &params, &label).await.map(drop).map_err(|error| said(&error))),
        ];
        let reads = ["Node", "Namespace", "VideoUpscale", "PersistentVolume", "PersistentVolumeClaim"];
        if !reads.contains(&target["kind"].as_str().unwrap()) {
            answers.push(("read", api.get("x").await.map(drop).map_err(|error| said(&error))));
        }
        if target["kind"] != "VideoUpscale" {
            answers.push(("delete", api.delete("x", &dry).await.map(drop).map_err(|error| said(&error))));
        }
        for (verb, outcome) in answers {
            let about =
                format!("{verb} {} in {}", target["kind"].as_str().unwrap(), target["metadata"]["namespace"]);
            row("controller", &about, &outcome);
            assert!(outcome.expect_err(&about).contains("cannot"), "{about}");
            tried += 1;
        }
    }
    for (subresource, verb) in [
        ("exec", "create"),
        ("log", "get"),
        ("eviction", "create"),
        ("ephemeralcontainers", "patch"),
        ("binding", "create"),
        ("attach", "create"),
        ("portforward", "create"),
    ] {
        let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "metadata": {}, "spec": {
            "resourceAttributes": {"namespace": tenants, "resource": "pods", "subresource": subresource, "verb": verb},
        }});
        let answer = release
            .server
            .api_as(&controller, &review)
            .create(&PostParams::default(), &serde_json::from_value(review.clone()).unwrap())
            .await
            .unwrap();
        assert_eq!(answer.data["status"]["allowed"], false, "pods/{subresource}");
        tried += 1;
    }
    println!("{tried} requests, all refused for want of a right");
    assert!(tried >= 100);
    release.remove().await;
}
