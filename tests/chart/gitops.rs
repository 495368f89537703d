//! What `docs/gitops.md` tells GitOps tools to ask, asked of jobs in each state.

use kube::core::cel::{Validator, compile_schema};
use serde_json::{Value, json};

use super::rendered::repository;

/// The block of that page that holds this text, read as YAML.
fn block(holding: &str) -> Value {
    let page = std::fs::read_to_string(repository().join("docs/gitops.md")).unwrap();
    let mut blocks = page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    serde_saphyr::from_str(blocks.find(|block| block.contains(holding)).unwrap()).unwrap()
}

fn status(conditions: &[(&str, &str, &str)]) -> Value {
    let conditions: Vec<Value> = conditions
        .iter()
        .map(|(kind, status, reason)| json!({"type": kind, "status": status, "reason": reason, "message": "m"}))
        .collect();
    json!({"observedGeneration": 1, "conditions": conditions})
}

/// A status, and whether Flux is to call it current, and failed.
fn states() -> Vec<(Value, bool, bool)> {
    vec![
        (json!({"observedGeneration": -1}), false, false),
        (status(&[("Complete", "Unknown", "Pending"), ("Failed", "False", "NoFinalFailure")]), false, false),
        (status(&[("Failed", "False", "NoFinalFailure"), ("Complete", "False", "Running")]), false, false),
        (status(&[("Complete", "False", "WaitingForGpu"), ("Scheduled", "False", "Mixed")]), false, false),
        (status(&[("Complete", "False", "Suspended"), ("Suspended", "True", "Requested")]), false, false),
        (status(&[("Complete", "True", "Succeeded"), ("Failed", "False", "NoFinalFailure")]), true, false),
        (status(&[("Complete", "False", "MergeFailed"), ("Failed", "True", "MergeFailed")]), false, true),
    ]
}

#[test]
fn flux_waits_for_the_end_and_knows_a_failure() {
    let spec = block("healthCheckExprs");
    let asked = &spec["spec"]["healthCheckExprs"][0];
    assert_eq!(
        (&asked["apiVersion"], &asked["kind"]),
        (&json!("upscale.video/v1alpha1"), &json!("VideoUpscale"))
    );
    for (question, expected) in [("current", 1), ("failed", 2)] {
        // Flux gives an expression the fields of the object by name, a rule of a schema has them in `self`.
        let rule = asked[question].as_str().unwrap().replace("status.conditions", "self.status.conditions");
        let word = json!({"type": "string"});
        let condition = json!({"type": "object", "properties": {"type": word, "status": word}});
        let conditions = json!({"type": "array", "items": condition});
        let schema = compile_schema(&json!({
            "type": "object",
            "properties": {"status": {"type": "object", "properties": {"conditions": conditions}}},
            "x-kubernetes-validations": [{"rule": rule, "message": "no"}],
        }));
        assert!(!schema.has_errors(), "{:?}", schema.compilation_errors());
        for (status, current, failed) in states() {
            let object = json!({"status": status});
            let yes = Validator::new().validate_compiled(&schema, &object, None).is_ok();
            assert_eq!(yes, if expected == 1 { current } else { failed }, "{question}: {object}");
        }
    }
}
