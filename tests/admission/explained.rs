//! Our kinds as people ask a real API server about them: `kubectl explain`, and the definitions as it serves them.

use std::process::Command;

use kube::api::DynamicObject;
use serde_json::{Value, json};
use video_upscale::api::crds;

use super::server::{self, Server};

/// Largest definition as it is served, bytes of JSON.
const MOST_BYTES: usize = 32_000;
/// What kubectl prints where a description should be.
const UNDESCRIBED: [&str; 2] = ["<no description>", "<empty>"];

/// Asks as a person does, with the plural, the singular or the short name.
fn explain(server: &Server, cache: &std::path::Path, asked: &[&str]) -> String {
    let mut kubectl = Command::new("kubectl");
    kubectl.arg("--kubeconfig").arg(&server.path).arg("--cache-dir").arg(cache).arg("explain").args(asked);
    let output = kubectl.output().unwrap_or_else(|error| {
        panic!("cannot run kubectl: {error}. Put it on PATH; `cargo xtask test` does")
    });
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "kubectl explain {asked:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// Every object of a schema by its path, with the names of its fields.
fn objects(at: &str, schema: &Value, found: &mut Vec<(String, Vec<String>)>) {
    let fields = schema["properties"].as_object().into_iter().flatten();
    let names: Vec<String> = fields.clone().map(|(name, _)| name.clone()).collect();
    if !names.is_empty() {
        found.push((at.to_owned(), names));
    }
    for (name, below) in fields {
        objects(&format!("{at}.{name}"), below, found);
    }
    for below in
        [&schema["items"], &schema["additionalProperties"]].into_iter().filter(|below| below.is_object())
    {
        objects(at, below, found);
    }
}

#[tokio::test]
async fn kubectl_explains_every_field() {
    let Some(server) = server::named().await else { return };
    server.serve_our_kinds().await;
    let cache = tempfile::tempdir().unwrap();
    for crd in crds::all().unwrap() {
        let names = &crd.object["spec"]["names"];
        let schema = &crd.object["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        let short = names["shortNames"][0].as_str().unwrap();
        let mut all = Vec::new();
        for part in ["spec", "status"] {
            objects(&format!("{short}.{part}"), &schema["properties"][part], &mut all);
        }
        let whole = explain(&server, cache.path(), &[short, "--recursive"]);
        let singular = names["singular"].as_str().unwrap();
        assert_eq!(explain(&server, cache.path(), &[singular, "--recursive"]), whole, "{singular}");
        let listed =
            whole.split_once("\n  spec\t").unwrap().1.lines().filter(|line| line.contains("\t<")).count();
        let fields: usize = all.iter().map(|(_, fields)| fields.len()).sum();
        // `status` itself is listed among them.
        assert_eq!(listed, fields + 1, "{singular}: {whole}");
        let mut texts =
            vec![(short.to_owned(), whole), (short.to_owned(), explain(&server, cache.path(), &[short]))];
        for (path, fields) in &all {
            let text = explain(&server, cache.path(), &[path]);
            for field in fields {
                assert!(text.contains(&format!("\n  {field}\t<")), "{path} has no {field}: {text}");
            }
            texts.push((path.clone(), text));
        }
        for (path, text) in &texts {
            for word in UNDESCRIBED {
                assert!(!text.contains(word), "{path}: {text}");
            }
        }
        println!("{singular}: {fields} fields in {} objects", all.len());
    }
}

#[tokio::test]
async fn the_definitions_are_small_as_they_are_served() {
    let Some(server) = server::named().await else { return };
    server.serve_our_kinds().await;
    for crd in crds::all().unwrap() {
        let kind = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition"});
        let mut served: DynamicObject = server.api(&kind).get(&crd.name).await.unwrap();
        // Who wrote which field is kept for the writers; kubectl shows it only when asked to.
        served.metadata.managed_fields = None;
        let bytes = serde_json::to_vec(&served).unwrap().len();
        println!("{}: {bytes} bytes", crd.name);
        assert!(bytes < MOST_BYTES, "{} has {bytes} bytes of JSON", crd.name);
    }
}
