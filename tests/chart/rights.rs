//! Who may do what: every right is listed here, and none is missing.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use video_upscale::api::keys;

use super::rendered::chart;
use super::{NAMESPACE, of_kind, one, render, template};

/// (group, resource) -> verbs, of all rules of a role.
fn rights(role: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let words = |value: &Value| -> Vec<String> {
        value.as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
    };
    let mut rights: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for rule in role["rules"].as_array().unwrap() {
        assert_eq!(rule["nonResourceURLs"], Value::Null);
        for group in words(&rule["apiGroups"]) {
            for resource in words(&rule["resources"]) {
                rights.entry(format!("{group}/{resource}")).or_default().extend(words(&rule["verbs"]));
            }
        }
    }
    rights
}

/// Kind and name of a role, and its verbs by group and resource.
type Expected<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)]);

/// What the controller needs once in a cluster.
const CLUSTER: &[(&str, &str)] = &[
    ("upscale.video/upscaleprofiles", "get list watch create patch"),
    ("upscale.video/upscaleprofiles/status", "patch"),
    ("/nodes", "get list watch"),
    ("/persistentvolumes", "get"),
    ("/namespaces", "get"),
];
/// What it needs in each namespace that it serves.
const JOBS: &[(&str, &str)] = &[
    ("upscale.video/videoupscales", "get list watch delete"),
    ("upscale.video/videoupscales/status", "patch"),
    ("/pods", "get list watch create delete"),
    ("apps/controllerrevisions", "get create"),
    ("events.k8s.io/events", "create patch"),
    ("/persistentvolumeclaims", "get"),
];

fn wanted(rules: &[(&str, &str)]) -> BTreeMap<String, BTreeSet<String>> {
    let words = |verbs: &str| verbs.split(' ').map(str::to_owned).collect();
    rules.iter().map(|(resource, verbs)| ((*resource).to_owned(), words(verbs))).collect()
}

#[test]
fn nobody_has_a_right_that_is_not_listed_here() {
    let objects = render(&[]);
    let expected: [Expected; 6] = [
        ("ClusterRole", "video-upscale-controller.upscale-system.upscale.video", &[CLUSTER, JOBS].concat()),
        (
            "Role",
            "video-upscale-controller",
            &[("coordination.k8s.io/leases", "get list watch create update")],
        ),
        (
            "Role",
            "video-upscale-controller.upscale-system.upscale.video",
            &[("coordination.k8s.io/leases", "get")],
        ),
        ("ClusterRole", "video-upscale-agent.upscale-system.upscale.video", &[("/nodes", "get patch")]),
        ("ClusterRole", "upscale-gpu-viewer", &[("/nodes", "get list")]),
        ("Role", "video-upscale-gpu-viewer", &[("coordination.k8s.io/leases", "get list")]),
    ];
    for (kind, name, rules) in expected {
        assert_eq!(rights(one(&objects, kind, name)), wanted(rules), "{name}");
    }
    let roles: Vec<&str> = ["ClusterRole", "Role"]
        .iter()
        .flat_map(|kind| of_kind(&objects, kind))
        .map(|role| role["metadata"]["name"].as_str().unwrap())
        .collect();
    assert_eq!(roles.len(), 8, "a role that this test does not know: {roles:?}");
    let tenants = ["view", "edit"]
        .map(|part| one(&objects, "ClusterRole", &format!("video-upscale-{part}.{NAMESPACE}.upscale.video")));
    for role in tenants {
        assert!(rights(role).keys().all(|key| key.starts_with("upscale.video/")));
        assert!(rights(role).values().flatten().all(|verb| verb != "*"));
    }
    assert!(
        !rights(tenants[1]).contains_key("upscale.video/upscaleprofiles"),
        "profiles are the administrator's"
    );
}

#[test]
fn a_controller_of_few_namespaces_has_no_right_in_others() {
    let objects = render(&["--set", "controller.watchNamespaces={media,studio}"]);
    let name = format!("video-upscale-controller.{NAMESPACE}.upscale.video");
    let cluster = one(&objects, "ClusterRole", &name);
    assert_eq!(rights(cluster), wanted(CLUSTER));
    let named = |rule: &&Value| rule["resources"] == json!(["namespaces"]);
    let namespaces = cluster["rules"].as_array().unwrap().iter().find(named).unwrap();
    assert_eq!(namespaces["resourceNames"], json!(["media", "studio", "kube-system"]));
    for kind in ["Role", "RoleBinding"] {
        let there: Vec<&Value> = of_kind(&objects, kind)
            .into_iter()
            .filter(|object| object["metadata"]["name"] == name.as_str())
            .collect();
        let places: Vec<&Value> = there.iter().map(|object| &object["metadata"]["namespace"]).collect();
        assert_eq!(places, ["media", "studio"], "{kind}");
        for object in there.iter().filter(|_| kind == "Role") {
            assert_eq!(rights(object), wanted(JOBS));
        }
    }
}

#[test]
fn bindings_name_our_accounts_and_roles() {
    let objects = render(&[]);
    for kind in ["ClusterRoleBinding", "RoleBinding"] {
        for binding in of_kind(&objects, kind) {
            let role = &binding["roleRef"];
            let bound = one(&objects, role["kind"].as_str().unwrap(), role["name"].as_str().unwrap());
            assert_eq!(binding["metadata"]["namespace"], bound["metadata"]["namespace"]);
            let subject = &binding["subjects"][0];
            assert_eq!(
                (&subject["kind"], &subject["namespace"]),
                (&json!("ServiceAccount"), &json!(NAMESPACE))
            );
            one(&objects, "ServiceAccount", subject["name"].as_str().unwrap());
        }
    }
}

/// An account of another name has the same rights, and the same policies hold it.
#[test]
fn accounts_of_any_name_are_bound_and_held() {
    let file = format!("{}/ci/accounts-values.yaml", chart().display());
    let objects = render(&["--values", &file]);
    assert!(of_kind(&objects, "ServiceAccount").is_empty());
    for (part, account, kind) in
        [("controller", "video-bot", "Deployment"), ("agent", "gpu-reader", "DaemonSet")]
    {
        let pod = &one(&objects, kind, &format!("video-upscale-{part}"))["spec"]["template"]["spec"];
        assert_eq!(pod["serviceAccountName"], account);
        let name = format!("video-upscale-{part}.{NAMESPACE}.upscale.video");
        assert_eq!(one(&objects, "ClusterRoleBinding", &name)["subjects"][0]["name"], account);
    }
    for policy in of_kind(&objects, "ValidatingAdmissionPolicy") {
        let whom = policy["spec"]["matchConditions"][0]["expression"].as_str().unwrap();
        assert!(whom.ends_with(":video-bot'") || whom.ends_with(":gpu-reader'"), "{whom}");
    }
    let said = template(&["--set", "serviceAccount.agent.create=false"]).unwrap_err();
    assert!(said.contains("name the account that is there in serviceAccount.agent.name"), "{said}");
}

/// The policy names the keys that the agent writes; it would shut the agent out, or let more in, if they differed.
#[test]
fn the_agents_policy_speaks_of_the_agents_keys_and_account() {
    let objects = render(&[]);
    let name = format!("video-upscale-agent.{NAMESPACE}.upscale.video");
    let policy = one(&objects, "ValidatingAdmissionPolicy", &name);
    let variable = |name: &str| {
        let all = policy["spec"]["variables"].as_array().unwrap();
        all.iter().find(|entry| entry["name"] == name).unwrap()["expression"].as_str().unwrap()
    };
    assert_eq!(variable("keys"), format!("['{}', '{}']", keys::REPORT, keys::HEARTBEAT));
    assert_eq!(policy["spec"]["failurePolicy"], "Fail");
    assert_eq!(
        policy["spec"]["matchConditions"][0]["expression"],
        format!("request.userInfo.username == 'system:serviceaccount:{NAMESPACE}:video-upscale-agent'")
    );
    let binding = one(&objects, "ValidatingAdmissionPolicyBinding", &name);
    assert_eq!(binding["spec"], json!({"policyName": name, "validationActions": ["Deny"]}));
    let least = format!("{}/ci/least-values.yaml", chart().display());
    assert!(of_kind(&render(&["--values", &least]), "ValidatingAdmissionPolicy").is_empty());
}

/// A policy that is rendered and not bound, or that lets requests pass when it fails, stops nobody.
#[test]
fn every_policy_is_bound_denies_and_fails_closed() {
    let all = ["--set", "admissionPolicies.authorsMustBeAbleToCreatePods=true"];
    let objects = render(&all);
    let policies = of_kind(&objects, "ValidatingAdmissionPolicy");
    assert_eq!(policies.len(), 5, "agent, controller's creates, deletes and jobs, authors");
    for policy in policies {
        let name = policy["metadata"]["name"].as_str().unwrap();
        let binding = one(&objects, "ValidatingAdmissionPolicyBinding", name);
        assert_eq!(binding["spec"], json!({"policyName": name, "validationActions": ["Deny"]}));
        assert_eq!(policy["spec"]["failurePolicy"], "Fail", "{name}");
        // The API server looks for parameters before it asks whose request it is.
        assert_eq!(policy["spec"]["paramKind"], Value::Null, "{name}");
        for validation in policy["spec"]["validations"].as_array().unwrap() {
            assert_eq!(validation["reason"], "Forbidden", "{name}");
            assert!(validation["message"].is_string(), "{name}");
        }
    }
}

/// Every image that a pod may need is allowed, and the administrator's additions.
#[test]
fn the_policy_allows_the_images_and_classes_of_all_profiles() {
    let two = format!("{}/ci/two-profiles-values.yaml", chart().display());
    let objects = render(&[
        "--values",
        &two,
        "--set",
        "admissionPolicies.images={old.example/e:1},admissionPolicies.priorityClasses={batch}",
    ]);
    let name = format!("video-upscale-controller-create.{NAMESPACE}.upscale.video");
    let policy = one(&objects, "ValidatingAdmissionPolicy", &name);
    let variable = |name: &str| -> Value {
        let all = policy["spec"]["variables"].as_array().unwrap();
        let text = all.iter().find(|entry| entry["name"] == name).unwrap()["expression"].as_str().unwrap();
        serde_json::from_str(text).unwrap()
    };
    assert_eq!(variable("worker"), json!("video-upscale/worker:0.1.0"));
    assert_eq!(
        variable("images"),
        json!([
            "video-upscale/worker:0.1.0",
            "old.example/e:1",
            "registry.example/flashvsr:e771549",
            "registry.example/flashvsr-weights:1.0",
            "registry.internal/realesrgan-ncnn:0.2",
        ])
    );
    assert_eq!(variable("priorityClasses"), json!(["", "batch"]));
    assert_eq!(variable("runtimeClasses"), json!(["", "nvidia"]));
    assert_eq!(variable("namespaces"), json!([]));
}
