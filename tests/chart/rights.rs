//! Who may do what: every right is listed here, and none is missing.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use video_upscale::api::keys;

use super::rendered::chart;
use super::{NAMESPACE, of_kind, one, render};

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

#[test]
fn nobody_has_a_right_that_is_not_listed_here() {
    let objects = render(&[]);
    let read = "get list watch";
    let expected: [Expected; 3] = [
        (
            "ClusterRole",
            "video-upscale-controller.upscale-system.upscale.video",
            &[
                ("upscale.video/videoupscales", "get list watch delete"),
                ("upscale.video/videoupscales/status", "patch update"),
                ("upscale.video/videoupscales/finalizers", "update"),
                ("upscale.video/upscaleprofiles", "get list watch create patch"),
                ("upscale.video/upscaleprofiles/status", "patch update"),
                ("/pods", "get list watch create delete"),
                ("apps/controllerrevisions", "get list watch create"),
                ("events.k8s.io/events", "create patch"),
                ("/nodes", read),
                ("/namespaces", read),
                ("/persistentvolumeclaims", read),
                ("/persistentvolumes", read),
            ],
        ),
        (
            "Role",
            "video-upscale-controller",
            &[("coordination.k8s.io/leases", "get list watch create update patch delete")],
        ),
        ("ClusterRole", "video-upscale-agent.upscale-system.upscale.video", &[("/nodes", "get patch")]),
    ];
    for (kind, name, rules) in expected {
        let rules: BTreeMap<String, BTreeSet<String>> = rules
            .iter()
            .map(|(resource, verbs)| ((*resource).to_owned(), verbs.split(' ').map(str::to_owned).collect()))
            .collect();
        assert_eq!(rights(one(&objects, kind, name)), rules, "{name}");
    }
    let roles: Vec<&str> = ["ClusterRole", "Role"]
        .iter()
        .flat_map(|kind| of_kind(&objects, kind))
        .map(|role| role["metadata"]["name"].as_str().unwrap())
        .collect();
    assert_eq!(roles.len(), 5, "a role that this test does not know: {roles:?}");
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
fn bindings_name_our_accounts_and_roles() {
    let objects = render(&[]);
    for kind in ["ClusterRoleBinding", "RoleBinding"] {
        for binding in of_kind(&objects, kind) {
            let role = &binding["roleRef"];
            one(&objects, role["kind"].as_str().unwrap(), role["name"].as_str().unwrap());
            let subject = &binding["subjects"][0];
            assert_eq!(
                (&subject["kind"], &subject["namespace"]),
                (&json!("ServiceAccount"), &json!(NAMESPACE))
            );
            one(&objects, "ServiceAccount", subject["name"].as_str().unwrap());
        }
    }
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
