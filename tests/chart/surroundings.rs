//! What stands around controller and agent: monitors, alerts, dashboard, network policies, budget, image pulls, the
//! self-check, and the administrator's own objects.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use video_upscale::telemetry::Telemetry;

use super::rendered::{chart, repository};
use super::{NAMESPACE, of_kind, one, render, template};

/// The chart with a values file of `ci/`.
pub fn with_file(name: &str) -> Vec<Value> {
    render(&["--values", &format!("{}/ci/{name}-values.yaml", chart().display())])
}

#[test]
fn nothing_optional_is_there_unless_asked_for() {
    let kinds: BTreeSet<String> =
        render(&[]).iter().map(|object| object["kind"].as_str().unwrap().to_owned()).collect();
    for kind in ["PodMonitor", "ServiceMonitor", "PrometheusRule", "NetworkPolicy", "Service"] {
        assert!(!kinds.contains(kind), "{kind}");
    }
    assert_eq!(of_kind(&render(&[]), "DaemonSet").len(), 1);
    assert!(of_kind(&render(&["--set", "tests.enabled=false"]), "Pod").is_empty());
    assert!(of_kind(&render(&["--set", "agent.enabled=false"]), "Pod").is_empty());
}

#[test]
fn monitors_find_our_pods_and_need_metrics() {
    let pods = with_file("monitoring");
    let services = with_file("service-monitor");
    for part in ["controller", "agent"] {
        let name = format!("video-upscale-{part}");
        let kind = if part == "agent" { "DaemonSet" } else { "Deployment" };
        let template = &one(&pods, kind, &name)["spec"]["template"];
        let labels = &template["metadata"]["labels"];
        let chosen =
            |selector: &Value| selector.as_object().unwrap().iter().all(|(key, value)| labels[key] == *value);
        let monitor = one(&pods, "PodMonitor", &name);
        assert_eq!(monitor["metadata"]["labels"]["release"], "prometheus");
        assert!(chosen(&monitor["spec"]["selector"]["matchLabels"]));
        let endpoint = &monitor["spec"]["podMetricsEndpoints"][0];
        assert_eq!(endpoint["port"], template["spec"]["containers"][0]["ports"][0]["name"]);
        let service = one(&services, "Service", &format!("{name}-metrics"));
        assert!(chosen(&service["spec"]["selector"]));
        assert_eq!(
            service["spec"]["ports"][0]["port"],
            template["spec"]["containers"][0]["ports"][0]["containerPort"]
        );
        let monitor = one(&services, "ServiceMonitor", &name);
        let wanted = monitor["spec"]["selector"]["matchLabels"].as_object().unwrap();
        assert!(wanted.iter().all(|(key, value)| service["metadata"]["labels"][key] == *value));
        assert_eq!(monitor["spec"]["endpoints"][0]["interval"], "1m");
    }
    for which in ["podMonitor", "serviceMonitor", "rules"] {
        let said = template(&["--set", &format!("metrics.{which}.enabled=true")]).unwrap_err();
        assert!(said.contains(&format!("metrics.{which}.enabled needs metrics.enabled")), "{said}");
    }
}

/// Names of metrics in an expression of PromQL.
fn used(expression: &str) -> BTreeSet<String> {
    let words = expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("upscale_")).map(str::to_owned).collect()
}

/// Names that the controller exposes, as a query sees them. A family without a series is not exposed.
fn exposed() -> BTreeSet<String> {
    let telemetry = Telemetry::new();
    let metrics = &telemetry.metrics;
    let word = [("any", "any")];
    drop(metrics.reconcile_seconds.get_or_create(&word));
    for family in [
        &metrics.reconcile_errors,
        &metrics.attempts,
        &metrics.out_of_memory,
        &metrics.changes,
        &metrics.undecodable,
        &metrics.watch_errors,
        &metrics.degrade_steps,
    ] {
        drop(family.get_or_create(&word));
    }
    drop(metrics.wasted_gpu_seconds.get_or_create(&word));
    let work = [("any", String::new()), ("other", String::new())];
    drop(metrics.segment_seconds.get_or_create(&work));
    drop(metrics.frames.get_or_create(&work));
    let request = [("any", String::new()), ("other", String::new()), ("third", String::new())];
    drop(metrics.api_requests.get_or_create(&request));
    let text = telemetry.exposition().unwrap();
    let mut names = BTreeSet::new();
    for line in text.lines() {
        let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) else {
            continue;
        };
        names.insert(match kind {
            "counter" => format!("{name}_total"),
            "histogram" => format!("{name}_bucket"),
            "info" => format!("{name}_info"),
            _ => name.to_owned(),
        });
    }
    names
}

#[test]
fn alerts_ask_for_metrics_that_exist_and_have_their_runbook() {
    let objects = with_file("monitoring");
    let rules = &one(&objects, "PrometheusRule", "video-upscale-alerts")["spec"]["groups"][0]["rules"];
    let rules = rules.as_array().unwrap();
    assert!(rules.len() >= 8);
    let exposed = exposed();
    let page = std::fs::read_to_string(repository().join("docs/monitoring.md")).unwrap();
    let headings: BTreeSet<String> =
        page.lines().filter_map(|line| line.strip_prefix("### ")).map(str::to_lowercase).collect();
    for rule in rules {
        let name = rule["alert"].as_str().unwrap();
        let metrics = used(rule["expr"].as_str().unwrap());
        assert!(!metrics.is_empty() && metrics.is_subset(&exposed), "{name}: {metrics:?}");
        let link = format!("https://wiki.example/upscale#{}", name.to_lowercase());
        assert_eq!(rule["annotations"]["runbook_url"], link);
        assert!(headings.contains(&name.to_lowercase()), "docs/monitoring.md has no heading {name}");
        assert!(["critical", "warning", "info"].contains(&rule["labels"]["severity"].as_str().unwrap()));
    }
    let alerts: BTreeSet<String> =
        rules.iter().map(|rule| rule["alert"].as_str().unwrap().to_lowercase()).collect();
    let idle: Vec<&String> = headings
        .iter()
        .filter(|heading| heading.starts_with("upscale") && !alerts.contains(*heading))
        .collect();
    assert!(idle.is_empty(), "headings of no alert: {idle:?}");
}

#[test]
fn the_dashboard_shows_metrics_that_exist() {
    let objects = with_file("monitoring");
    let map = one(&objects, "ConfigMap", "video-upscale-dashboard");
    assert_eq!(map["metadata"]["labels"]["grafana_dashboard"], "1");
    let board: Value = serde_json::from_str(map["data"]["video-upscale.json"].as_str().unwrap()).unwrap();
    let panels = board["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let asked: BTreeSet<String> = targets.flat_map(|target| used(target["expr"].as_str().unwrap())).collect();
    let exposed = exposed();
    assert!(asked.len() > 8 && asked.is_subset(&exposed), "{:?}", asked.difference(&exposed));
}

/// Names in the tables of `docs/monitoring.md`, below a heading.
fn documented(heading: &str) -> BTreeSet<String> {
    let page = std::fs::read_to_string(repository().join("docs/monitoring.md")).unwrap();
    let part = page.split("\n## ").find(|part| part.starts_with(heading)).unwrap();
    let rows = part.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    rows.map(str::to_owned).collect()
}

/// Names of metrics that stand in the agent's source.
fn of_the_agent() -> BTreeSet<String> {
    let folder = repository().join("node-agent/src");
    ["exposition.rs", "metrics.rs"]
        .iter()
        .flat_map(|file| {
            let text = std::fs::read_to_string(folder.join(file)).unwrap();
            let names = text.split("\"upscale_").skip(1).filter_map(|rest| rest.split('"').next());
            let whole = |name: &&str| name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
            names.filter(whole).map(|name| format!("upscale_{name}")).collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn every_metric_is_documented_and_every_documented_one_exists() {
    let exposed: BTreeSet<String> =
        exposed().iter().map(|name| name.trim_end_matches("_bucket").to_owned()).collect();
    assert_eq!(documented("Metrics of the controller"), exposed);
    let agents: BTreeSet<String> = documented("Metrics of the agent")
        .iter()
        .map(|name| name.trim_end_matches("_total").to_owned())
        .collect();
    assert!(agents.len() > 15);
    assert_eq!(agents, of_the_agent());
}

#[test]
fn network_policies_leave_what_is_needed() {
    let objects = with_file("network-policy");
    for part in ["controller", "agent"] {
        let policy = one(&objects, "NetworkPolicy", &format!("video-upscale-{part}"));
        assert_eq!(policy["spec"]["policyTypes"], json!(["Ingress", "Egress"]));
        assert_eq!(policy["spec"]["podSelector"]["matchLabels"]["app.kubernetes.io/component"], part);
        let from = &policy["spec"]["ingress"][0]["from"][0]["namespaceSelector"]["matchLabels"];
        assert_eq!(from["kubernetes.io/metadata.name"], "monitoring");
        assert_eq!(policy["spec"]["egress"][0]["ports"], json!([{"port": 6443, "protocol": "TCP"}]));
    }
    let jobs: Vec<&Value> = of_kind(&objects, "NetworkPolicy")
        .into_iter()
        .filter(|policy| policy["metadata"]["namespace"] != NAMESPACE)
        .collect();
    assert_eq!(jobs.len(), 2, "one for each namespace that is served");
    for policy in jobs {
        assert_eq!(policy["spec"]["ingress"], Value::Null);
        assert_eq!(policy["spec"]["egress"], Value::Null);
        assert_eq!(
            policy["spec"]["podSelector"]["matchExpressions"][0]["key"],
            video_upscale::api::keys::JOB_UID
        );
    }
    let closed = render(&["--set", "networkPolicy.enabled=true"]);
    for policy in of_kind(&closed, "NetworkPolicy") {
        assert_eq!(policy["spec"]["ingress"], Value::Null, "nobody is let in unless named");
    }
}

#[test]
fn the_budget_is_of_the_controllers_pods() {
    let objects = render(&[]);
    let budget = one(&objects, "PodDisruptionBudget", "video-upscale-controller");
    assert_eq!(budget["spec"]["maxUnavailable"], 1);
    let deployment = one(&objects, "Deployment", "video-upscale-controller");
    assert_eq!(budget["spec"]["selector"], deployment["spec"]["selector"]);
    assert!(of_kind(&with_file("least"), "PodDisruptionBudget").is_empty());
}

#[test]
fn every_image_of_a_job_is_pulled_before() {
    let objects = with_file("pre-pull");
    let pod = &one(&objects, "DaemonSet", "video-upscale-pre-pull")["spec"]["template"]["spec"];
    let first = pod["initContainers"].as_array().unwrap();
    let images: Vec<&str> = first.iter().map(|container| container["image"].as_str().unwrap()).collect();
    assert_eq!(images, ["video-upscale/worker:0.1.0", "registry.example/flashvsr:e771549"]);
    assert_eq!(first[1]["command"], json!(["/usr/bin/true"]));
    assert_eq!(pod["volumes"][0]["image"]["reference"], "registry.example/flashvsr-weights:1.0");
    assert_eq!(pod["automountServiceAccountToken"], false);
    assert_eq!(pod["imagePullSecrets"], json!([{"name": "mirror"}]));
    let agent = &one(&objects, "DaemonSet", "video-upscale-agent")["spec"]["template"]["spec"];
    for field in ["nodeSelector", "tolerations"] {
        assert_eq!(pod[field], agent[field], "{field}");
    }
    for container in first.iter().chain(pod["containers"].as_array().unwrap()) {
        assert_eq!(container["securityContext"]["capabilities"]["drop"], json!(["ALL"]));
        assert!(container["resources"]["limits"]["memory"].is_string());
        assert_eq!(container["volumeMounts"], Value::Null);
    }
}

#[test]
fn the_self_check_runs_as_the_agent_does() {
    let objects = render(&["--set", "agent.libraryPath=/x.so"]);
    let test = one(&objects, "Pod", "video-upscale-test");
    assert_eq!(test["metadata"]["annotations"]["helm.sh/hook"], "test");
    let agent = &one(&objects, "DaemonSet", "video-upscale-agent")["spec"]["template"]["spec"];
    let same = [
        "serviceAccountName",
        "hostPID",
        "runtimeClassName",
        "securityContext",
        "nodeSelector",
        "tolerations",
    ];
    for field in same {
        assert_eq!(test["spec"][field], agent[field], "{field}");
    }
    let container = &test["spec"]["containers"][0];
    for field in ["image", "env", "securityContext"] {
        assert_eq!(container[field], agent["containers"][0][field], "{field}");
    }
    assert_eq!(container["args"], json!(["--doctor", "--nvml-library=/x.so"]));
}

#[test]
fn objects_of_the_administrators_own_are_templates() {
    let objects = with_file("extra-objects");
    assert_eq!(one(&objects, "ConfigMap", "video-upscale-extra")["data"]["version"], "0.1.0");
    let text = one(&objects, "ConfigMap", "video-upscale-text");
    assert_eq!(text["metadata"]["namespace"], NAMESPACE);
}
