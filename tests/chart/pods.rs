//! What our own pods are and may, and which values reach the programs.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{one, render};

#[test]
fn our_pods_can_do_nothing_that_they_need_not() {
    for more in [&[][..], &["--set", "gpu.visibleDevices=Cdi"]] {
        let objects = render(more);
        for (kind, part) in [("Deployment", "controller"), ("DaemonSet", "agent")] {
            let workload = one(&objects, kind, &format!("video-upscale-{part}"));
            let pod = &workload["spec"]["template"]["spec"];
            let agent = part == "agent";
            assert_eq!(pod["hostPID"], if agent { json!(true) } else { Value::Null });
            for key in ["hostNetwork", "hostIPC", "shareProcessNamespace", "initContainers"] {
                assert_eq!(pod[key], Value::Null, "{part} {key}");
            }
            assert_eq!(pod["serviceAccountName"], format!("video-upscale-{part}"));
            assert_eq!(
                pod["securityContext"],
                json!({"runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "seccompProfile": {"type": "RuntimeDefault"}})
            );
            assert_eq!(pod["containers"].as_array().unwrap().len(), 1);
            let container = &pod["containers"][0];
            assert_eq!(
                container["securityContext"],
                json!({"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}})
            );
            for volume in pod["volumes"].as_array().unwrap() {
                assert!(volume["configMap"].is_object() || volume["emptyDir"].is_object(), "{volume}");
            }
            assert!(container["resources"]["limits"]["memory"].is_string());
            assert_eq!(container["livenessProbe"]["httpGet"]["path"], "/livez");
            assert_eq!(container["readinessProbe"]["httpGet"]["path"], "/readyz");
            let selector = workload["spec"]["selector"]["matchLabels"].as_object().unwrap();
            let labels = &workload["spec"]["template"]["metadata"]["labels"];
            assert!(selector.iter().all(|(key, value)| labels[key] == *value));
            assert!(!selector.contains_key("app.kubernetes.io/version"), "a selector cannot change");
        }
    }
}

/// Two of them, apart where that can be, and one upgrade after the other, so that one is always there.
#[test]
fn one_controller_acts_and_another_stands_by() {
    let objects = render(&[]);
    let deployment = &one(&objects, "Deployment", "video-upscale-controller")["spec"];
    assert_eq!(
        (&deployment["replicas"], &deployment["strategy"]["type"]),
        (&json!(2), &json!("RollingUpdate"))
    );
    let apart = &deployment["template"]["spec"]["topologySpreadConstraints"][0];
    assert_eq!(apart["labelSelector"], deployment["selector"]);
    assert_eq!(apart["whenUnsatisfiable"], "ScheduleAnyway", "a cluster may have one node only");
    let other = format!("{}/ci/scheduling-values.yaml", super::chart().display());
    let objects = render(&["--values", &other, "--set", "controller.replicas=3"]);
    let deployment = &one(&objects, "Deployment", "video-upscale-controller")["spec"];
    assert_eq!(deployment["replicas"], 3);
    // An upgrade may keep the values of a chart that had no such value.
    let objects = render(&["--set", "controller.replicas=null"]);
    assert_eq!(one(&objects, "Deployment", "video-upscale-controller")["spec"]["replicas"], 2);
    let constraints = deployment["template"]["spec"]["topologySpreadConstraints"].as_array().unwrap();
    assert_eq!((constraints.len(), &constraints[0]["matchLabelKeys"]), (1, &Value::Null), "the user's own");
}

/// OpenShift gives users and groups by namespace, and refuses pods that bring their own.
#[test]
fn no_pod_brings_a_user_where_the_namespace_gives_one() {
    let file = format!("{}/ci/openshift-values.yaml", super::chart().display());
    let objects = render(&["--values", &file, "--set", "prePull.enabled=true"]);
    let own = json!({"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}});
    let templates = [
        ("Deployment", "video-upscale-controller"),
        ("DaemonSet", "video-upscale-agent"),
        ("DaemonSet", "video-upscale-pre-pull"),
    ];
    for (kind, name) in templates {
        let pod = &one(&objects, kind, name)["spec"]["template"]["spec"];
        assert_eq!(pod["securityContext"], own, "{name}");
    }
    assert_eq!(one(&objects, "Pod", "video-upscale-test")["spec"]["securityContext"], own);
    let objects = render(&["--set", "pods.user=1000,pods.group=2000"]);
    let pod = &one(&objects, "Deployment", "video-upscale-controller")["spec"]["template"]["spec"];
    assert_eq!(pod["securityContext"]["runAsUser"], 1000);
    assert_eq!(pod["securityContext"]["runAsGroup"], 2000);
}

fn flags(objects: &[Value], kind: &str, name: &str) -> BTreeMap<String, String> {
    let args = &one(objects, kind, name)["spec"]["template"]["spec"]["containers"][0]["args"];
    args.as_array()
        .unwrap()
        .iter()
        .map(|arg| {
            let (flag, value) = arg.as_str().unwrap().split_once('=').unwrap_or((arg.as_str().unwrap(), ""));
            (flag.to_owned(), value.to_owned())
        })
        .collect()
}

#[test]
fn values_reach_the_programs() {
    let controller = |more: &[&str]| flags(&render(more), "Deployment", "video-upscale-controller");
    let agent = |more: &[&str]| flags(&render(more), "DaemonSet", "video-upscale-agent");
    let plain = controller(&[]);
    for (flag, value) in [
        ("--release", "video-upscale"),
        ("--worker-image", "video-upscale/worker:0.1.0"),
        ("--image-pull-policy", "IfNotPresent"),
        ("--profiles-dir", "/etc/upscale/profiles"),
        ("--runtime-class", "nvidia"),
        ("--visible-devices", "Uuid"),
        ("--user", "65532"),
        ("--group", "65532"),
        ("--fs-group", "65532"),
        ("--client-qps", "300"),
        ("--listen", "0.0.0.0:8080"),
        ("--metrics", "off"),
        ("--log-format", "json"),
        ("--log-level", "info"),
    ] {
        assert_eq!(plain.get(flag).map(String::as_str), Some(value), "{flag}");
    }
    assert_eq!(plain.len(), 14, "{plain:?}");
    let open = controller(&[
        "--set",
        "pods.user=null,pods.group=null,pods.fsGroup=null,controller.watchNamespaces={a,b}",
    ]);
    assert_eq!(open.get("--watch-namespaces").map(String::as_str), Some("a,b"));
    assert!(["--user", "--group", "--fs-group"].iter().all(|flag| !open.contains_key(*flag)));
    let pinned = controller(&[
        "--set",
        &format!("global.imageRegistry=r:5000/x/,worker.image.digest=sha256:{}", "0".repeat(64)),
    ]);
    assert_eq!(pinned["--worker-image"], format!("r:5000/x/video-upscale/worker@sha256:{}", "0".repeat(64)));

    assert_eq!(controller(&["--set", "metrics.enabled=true"])["--metrics"], "on");

    assert_eq!(agent(&[])["--heartbeat-seconds"], "300");
    assert_eq!(agent(&["--set", "agent.spreadSeconds=0"])["--spread-seconds"], "0");
    assert!(!agent(&[]).contains_key("--nvml-library") && !agent(&[]).contains_key("--ready-without-driver"));
    let set = agent(&["--set", "agent.libraryPath=/x.so,agent.readyWithoutDriver=true"]);
    assert!(set["--nvml-library"] == "/x.so" && set.contains_key("--ready-without-driver"));
}

#[test]
fn the_agent_sees_all_gpus_and_knows_where_it_is() {
    for (more, devices) in [(&[][..], "all"), (&["--set", "gpu.visibleDevices=Cdi"], "nvidia.com/gpu=all")] {
        let objects = render(more);
        let pod = &one(&objects, "DaemonSet", "video-upscale-agent")["spec"]["template"]["spec"];
        let environment: BTreeMap<&str, &str> = pod["containers"][0]["env"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| {
                let from = &entry["valueFrom"]["fieldRef"]["fieldPath"];
                (entry["name"].as_str().unwrap(), entry["value"].as_str().or(from.as_str()).unwrap())
            })
            .collect();
        assert_eq!(
            environment,
            BTreeMap::from([
                ("NODE_NAME", "spec.nodeName"),
                ("POD_NAMESPACE", "metadata.namespace"),
                ("POD_UID", "metadata.uid"),
                ("NVIDIA_VISIBLE_DEVICES", devices),
                ("NVIDIA_DRIVER_CAPABILITIES", "utility"),
            ])
        );
        assert_eq!(pod["runtimeClassName"], "nvidia");
        assert_eq!(pod["tolerations"], json!([{"operator": "Exists"}]));
        assert_eq!(pod["nodeSelector"], json!({"nvidia.com/gpu.present": "true"}));
    }
}
