//! The chart, rendered by helm: links to the definitions, refuses wrong values, gives no right that is not needed, and
//! starts pods that can do no more than they must.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is a test's verdict"
)]

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::{Value, json};
use video_upscale::api::crds;
use video_upscale::api::keys;
use video_upscale::api::profile::UpscaleProfile;

mod alerts;
mod gitops;
mod links;
mod pods;
mod readme;
mod reasons;
#[path = "../rendered/mod.rs"]
mod rendered;
mod rights;
mod scored;
mod surroundings;

use rendered::{GPU_VIEWER, chart, helm, repository};

const NAMESPACE: &str = "upscale-system";

fn template(more: &[&str]) -> Result<Vec<Value>, String> {
    rendered::template("video-upscale", NAMESPACE, more)
}

fn render(more: &[&str]) -> Vec<Value> {
    template(more).unwrap_or_else(|said| panic!("{more:?}: {said}"))
}

/// Every values file of `ci/`, as arguments.
fn alternatives() -> Vec<[String; 2]> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(chart().join("ci")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 6);
    files.into_iter().map(|file| ["--values".to_owned(), file.to_str().unwrap().to_owned()]).collect()
}

fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects.iter().filter(|object| object["kind"] == kind).collect()
}

fn one<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let mut found =
        objects.iter().filter(|object| object["kind"] == kind && object["metadata"]["name"] == name);
    let object = found.next().unwrap_or_else(|| panic!("no {kind} {name}"));
    assert!(found.next().is_none(), "two of {kind} {name}");
    object
}

#[test]
fn helm_finds_no_fault() {
    let chart = chart();
    let chart = chart.to_str().unwrap();
    for values in std::iter::once(Vec::new()).chain(alternatives().into_iter().map(Vec::from)) {
        let args = ["lint", "--strict", chart].map(str::to_owned);
        let output = helm(args.into_iter().chain(values.clone()));
        assert!(output.status.success(), "{values:?}: {}", String::from_utf8_lossy(&output.stdout));
    }
}

#[test]
fn every_rendering_has_names_labels_and_no_object_twice() {
    for values in std::iter::once(Vec::new()).chain(alternatives().into_iter().map(Vec::from)) {
        let more: Vec<&str> = values.iter().map(String::as_str).collect();
        let mut seen = BTreeSet::new();
        for object in render(&more) {
            let meta = &object["metadata"];
            let name = meta["name"].as_str().unwrap();
            let place = (object["kind"].to_string(), meta["namespace"].to_string(), name.to_owned());
            assert!(seen.insert(place), "{more:?}: {name} twice");
            assert_eq!(meta["labels"]["app.kubernetes.io/part-of"], "video-upscale", "{name}");
            assert_eq!(meta["labels"]["app.kubernetes.io/instance"], "video-upscale", "{name}");
            let cluster_wide = name.ends_with(&format!(".{NAMESPACE}.upscale.video"));
            // These have one name in a cluster, whoever installs them.
            let shared = object["kind"] == "CustomResourceDefinition"
                || name == GPU_VIEWER
                || (meta["namespace"] == keys::CLUSTER_LEASE_NAMESPACE && name == keys::CLUSTER_LEASE);
            assert!(
                shared || cluster_wide != (meta["namespace"] == NAMESPACE),
                "{name} is neither here nor there"
            );
        }
    }
}

#[test]
fn the_definitions_are_linked_and_kept() {
    let objects = render(&[]);
    let rendered = of_kind(&objects, "CustomResourceDefinition");
    let crds = crds::all().unwrap();
    assert_eq!(rendered.len(), crds.len());
    for crd in &crds {
        let link = chart().join("crd-manifests").join(crd.file_name());
        let target = std::fs::read_link(&link).unwrap_or_else(|error| panic!("{}: {error}", link.display()));
        assert!(target.is_relative(), "{} is absolute", target.display());
        assert_eq!(
            link.canonicalize().unwrap(),
            repository().join("crds").join(crd.file_name()).canonicalize().unwrap()
        );
        let object = one(&objects, "CustomResourceDefinition", &crd.name);
        assert_eq!(floats(object["spec"].clone()), floats(crd.object["spec"].clone()), "{}", crd.name);
        assert_eq!(object["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");
    }
    assert_eq!(std::fs::read_dir(chart().join("crd-manifests")).unwrap().count(), crds.len());
    assert!(!chart().join("crds").exists(), "helm never upgrades what lies in crds/");
    let dropped = render(&["--set", "crds.keep=false"]);
    let annotations = &one(&dropped, "CustomResourceDefinition", &crds[0].name)["metadata"]["annotations"];
    assert_eq!(annotations["helm.sh/resource-policy"], Value::Null);
    assert!(of_kind(&render(&["--set", "crds.enabled=false"]), "CustomResourceDefinition").is_empty());
}

/// Helm's templates know no integers.
fn floats(value: Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64()),
        Value::Array(items) => items.into_iter().map(floats).collect(),
        Value::Object(fields) => fields.into_iter().map(|(key, value)| (key, floats(value))).collect(),
        other => other,
    }
}

#[test]
fn wrong_values_are_refused_by_name() {
    for (set, at) in [
        ("gpu.pinning=DRA", "/gpu/pinning"),
        ("gpu.visibleDevices=uuid", "/gpu/visibleDevices"),
        ("gpu.runtimeClassName=", "/gpu/runtimeClassName"),
        ("gpu.devices=all", "/gpu"),
        ("controler.image.tag=1", "''"),
        ("controller.replicas=0", "/controller/replicas"),
        ("controller.strategy=Recreate", "/controller"),
        ("controller.image.tags=1", "/controller/image"),
        ("controller.image.digest=sha256:1", "/controller/image/digest"),
        ("controller.image.repository=", "/controller/image/repository"),
        ("controller.image.pullPolicy=Sometimes", "/controller/image/pullPolicy"),
        ("controller.clientQps=0", "/controller/clientQps"),
        ("controller.logFormat=xml", "/controller/logFormat"),
        ("controller.watchNamespaces={Media}", "/controller/watchNamespaces/0"),
        ("controller.watchNamespaces=media", "/controller/watchNamespaces"),
        ("controller.extraArgs={x}", "/controller/extraArgs/0"),
        ("agent.heartbeatSeconds=5", "/agent/heartbeatSeconds"),
        ("agent.hostPID=maybe", "/agent/hostPID"),
        ("agent.privileged=true", "/agent"),
        ("agent.libraryPath=lib/x.so", "/agent/libraryPath"),
        ("agent.logLevel=loud", "/agent/logLevel"),
        ("agent.tolerations.key=x", "/agent/tolerations"),
        ("worker.resources.limits.cpu=1", "/worker"),
        ("pods.user=0", "/pods/user"),
        ("pods.fsGroup=video", "/pods/fsGroup"),
        ("profiles.new.default=true", "/profiles/new"),
        ("profiles.flashvsr.image=x", "/profiles/flashvsr"),
        ("profiles.flashvsr.default=yes", "/profiles/flashvsr/default"),
        ("rbac.clusterAdmin=true", "/rbac"),
        ("crds.install=true", "/crds"),
        ("rbac.gpuViewer=all", "/rbac/gpuViewer"),
        ("admissionPolicies.enabled=no", "/admissionPolicies/enabled"),
        ("admissionPolicies.failurePolicy=Ignore", "/admissionPolicies"),
        ("admissionPolicies.images=all", "/admissionPolicies/images"),
        ("admissionPolicies.images={a b}", "/admissionPolicies/images/0"),
        ("admissionPolicies.labelledNamespacesOnly=media", "/admissionPolicies/labelledNamespacesOnly"),
        ("controller.podDisruptionBudget.maxUnavailable=0", "/controller/podDisruptionBudget/maxUnavailable"),
        ("controller.podDisruptionBudget.minAvailable=1", "/controller/podDisruptionBudget"),
        ("agent.spreadSeconds=3600", "/agent/spreadSeconds"),
        ("serviceAccount.controller.name=Video", "/serviceAccount/controller/name"),
        ("serviceAccount.agent.create=maybe", "/serviceAccount/agent/create"),
        ("serviceAccount.worker.create=true", "/serviceAccount"),
        ("metrics.podMonitor.interval=30", "/metrics/podMonitor/interval"),
        ("metrics.port=9090", "/metrics"),
        ("metrics.rules.runbookBaseUrl=", "/metrics/rules/runbookBaseUrl"),
        ("metrics.dashboard.labels.x=1", "/metrics/dashboard/labels/x"),
        ("networkPolicy.metricsFrom={monitoring}", "/networkPolicy/metricsFrom/0"),
        ("networkPolicy.apiServerPorts={0}", "/networkPolicy/apiServerPorts/0"),
        ("networkPolicy.isolateJobs=sure", "/networkPolicy/isolateJobs"),
        ("prePull.command=true", "/prePull/command"),
        ("prePull.pauseImage=", "/prePull/pauseImage"),
        ("tests.image=x", "/tests"),
        ("extraObjects=x", "/extraObjects"),
    ] {
        let said = rendered::template("x", NAMESPACE, &["--set", set]).expect_err(set);
        assert!(said.contains(&format!("at '{}'", at.trim_matches('\''))), "{set}: {said}");
    }
    let said = rendered::template("x", NAMESPACE, &["--set-json", r#"profiles.two={"default":true,"spec":{"engine":{},"scales":[2],"output":{},"hostMemory":{},"ladder":[]}}"#]).unwrap_err();
    assert!(said.contains("profiles flashvsr, two are all default: true"), "{said}");
}

#[test]
fn the_profiles_are_objects_that_the_controller_can_apply() {
    let objects = render(&[]);
    let data = &one(&objects, "ConfigMap", "video-upscale-profiles")["data"];
    let text = data["flashvsr.yaml"].as_str().unwrap();
    assert_eq!(data.as_object().unwrap().len(), 1);
    let written: Value = serde_saphyr::from_str(text).unwrap();
    let profile: UpscaleProfile = serde_json::from_value(written.clone()).unwrap();
    assert_eq!(profile.metadata.labels.as_ref().unwrap()[keys::DEFAULT_PROFILE], "true");
    assert_eq!((profile.spec.ladder.len(), profile.spec.steps.first), (10, 2));
    // What the type does not know would be lost.
    let known = serde_json::to_value(&profile).unwrap();
    assert_eq!(missing("spec", &written["spec"], &known["spec"]), Vec::<String>::new());

    let with = |more: &[&str]| {
        let objects = render(more);
        let pod = &one(&objects, "Deployment", "video-upscale-controller")["spec"]["template"]["metadata"];
        pod["annotations"]["upscale.video/profiles-checksum"].as_str().unwrap().to_owned()
    };
    let merged = "profiles.flashvsr.spec.hostMemory.baseMiB=512";
    assert_ne!(with(&[]), with(&["--set", merged]), "a changed profile must restart the controller");
    let objects = render(&["--set", merged]);
    let text =
        one(&objects, "ConfigMap", "video-upscale-profiles")["data"]["flashvsr.yaml"].as_str().unwrap();
    let merged: UpscaleProfile = serde_json::from_value(serde_saphyr::from_str(text).unwrap()).unwrap();
    assert_eq!((merged.spec.host_memory.base_mib, merged.spec.ladder.len()), (512, 10));
    assert!(
        one(&render(&["--set", "profiles.flashvsr=null"]), "ConfigMap", "video-upscale-profiles")["data"]
            .is_null()
    );
}

/// What stands in the first and not in the second.
fn missing(at: &str, written: &Value, known: &Value) -> Vec<String> {
    match (written, known) {
        (Value::Object(fields), _) => fields
            .iter()
            .flat_map(|(name, value)| missing(&format!("{at}.{name}"), value, &known[name]))
            .collect(),
        (Value::Array(items), Value::Array(others)) if items.len() == others.len() => items
            .iter()
            .zip(others)
            .enumerate()
            .flat_map(|(index, (item, other))| missing(&format!("{at}[{index}]"), item, other))
            .collect(),
        _ if written == known => Vec::new(),
        _ => vec![at.to_owned()],
    }
}
