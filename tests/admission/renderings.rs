//! Every rendering of the chart on a real API server: each object is taken as it stands, with strict fields.

use serde_json::json;

use super::rendered::{self, GPU_VIEWER};
use super::server;

#[tokio::test]
async fn a_server_takes_every_rendering_of_the_chart() {
    let Some(server) = server::named().await else { return };
    let namespace = format!("rendered-{}", server.own);
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
    server.apply(&object).await;
    let mut files: Vec<_> =
        std::fs::read_dir(rendered::chart().join("ci")).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    let values = files.iter().map(|file| vec!["--values", file.to_str().unwrap()]);
    for more in std::iter::once(Vec::new()).chain(values) {
        let crdless = [more.as_slice(), &["--set", "crds.enabled=false"]].concat();
        let objects = rendered::template(&format!("r{}", server.own), &namespace, &crdless).unwrap();
        assert!(!objects.is_empty());
        for mut object in objects {
            if object["metadata"]["namespace"].is_string() {
                // Those of `controller.watchNamespaces` are not on every server.
                object["metadata"]["namespace"] = json!(namespace);
            }
            if server::name(&object) == GPU_VIEWER {
                // One for all releases, and another test's may be there.
                object["metadata"]["name"] = json!(format!("{GPU_VIEWER}-{}", server.own));
            }
            // Kinds of Prometheus' operator are not served here; the self-check is made after everything else, of an
            // account that a dry run does not leave behind.
            let of_others = object["apiVersion"]
                .as_str()
                .is_some_and(|version| version.starts_with("monitoring.coreos.com/"));
            if of_others || object["metadata"]["annotations"]["helm.sh/hook"].is_string() {
                continue;
            }
            let taken = server.dry_run(&object).await;
            assert!(taken.is_ok(), "{more:?}: {} {}: {taken:?}", object["kind"], server::name(&object));
        }
    }
    server.remove(&object).await;
}
