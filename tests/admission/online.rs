//! The definitions on a real API server: it takes them, judges every object of the table, and fills in the defaults.

use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::cases::{self, Base, Verdict};
use super::server::{self, Server, said};

/// A server that serves our kinds, and a namespace for the test's own objects.
async fn prepared() -> Option<(Server, Value)> {
    let server = server::named().await?;
    server.serve_our_kinds().await;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": format!("admission-{}", server.own)}});
    server.apply(&namespace).await;
    Some((server, namespace))
}

fn placed(mut object: Value, namespace: &Value) -> Value {
    if object["kind"] == "VideoUpscale" {
        object["metadata"]["namespace"] = namespace["metadata"]["name"].clone();
    }
    object
}

fn check(answer: Result<(), String>, verdict: Verdict, about: &str) {
    match (answer, verdict) {
        (Ok(()), Verdict::Taken) => {}
        (Err(said), Verdict::Rule(words) | Verdict::Schema(words)) => {
            assert!(said.contains(words), "{about}: the server says {said}");
            assert!(!said.contains("failed rule"), "{about}: a rule without a message: {said}");
        }
        (answer, _) => panic!("{about}: the server says {answer:?}"),
    }
}

#[tokio::test]
async fn a_server_judges_every_new_object_as_the_table_says() {
    let Some((server, namespace)) = prepared().await else { return };
    for case in cases::NEW {
        let object = placed(cases::object(case), &namespace);
        // Some must be there afterwards: the chart's profile may be installed under its own name.
        let mut object = object;
        if case.0 == Base::Profile && object["metadata"]["name"] == "flashvsr" {
            object["metadata"]["name"] = json!(format!("flashvsr-{}", server.own));
        }
        check(server.dry_run(&object).await.map(drop), case.2, &format!("{case:?}"));
    }
    server.remove(&namespace).await;
}

#[tokio::test]
async fn a_server_judges_every_change_as_the_table_says() {
    let Some((server, namespace)) = prepared().await else { return };
    for (number, change) in cases::CHANGES.iter().enumerate() {
        let (pointer, before, after, verdict) = *change;
        let mut old = placed(cases::base(Base::Job), &namespace);
        old["metadata"]["name"] = json!(format!("job-{number}"));
        let mut new = old.clone();
        cases::put(&mut old, pointer, before);
        cases::put(&mut new, pointer, after);
        server.apply(&old).await;
        let params = PatchParams { dry_run: true, ..PatchParams::apply("admission-test").force() };
        let answer = server.api(&new).patch(server::name(&new), &params, &Patch::Apply(&new)).await;
        server.remove(&old).await;
        check(answer.map(drop).map_err(|error| said(&error)), verdict, &format!("{change:?}"));
    }
    server.remove(&namespace).await;
}

#[tokio::test]
async fn a_server_fills_in_the_defaults_and_takes_null_for_them() {
    let Some((server, namespace)) = prepared().await else { return };
    let mut job = placed(cases::base(Base::Job), &namespace);
    cases::put(&mut job, "/spec/encode", Some("null"));
    let stored = server.dry_run(&job).await.unwrap().data;
    let expected = json!({
        "source": {"claim": {"name": "media"}, "path": "in/a.mp4"},
        "destination": {"claim": {"name": "media"}, "path": "out/a.mp4", "ifExists": "Fail"},
        "degradation": {"policy": "Automatic", "patienceSeconds": 60, "consistency": "PerSegment"},
        "segmentation": {},
        "encode": {"quality": 16, "preset": "Medium"},
        "input": {"deinterlace": "Off", "dropAlpha": false, "strict": false},
        "verify": "Auto",
        "gpu": {"nodeSelector": {}, "products": [], "headroom": "1Gi", "foreignProcesses": "Avoid"},
        "parallelism": 8,
        "attemptsPerSegment": 6,
        "suspend": false,
    });
    assert_eq!(stored["spec"], expected);

    server.apply(&job).await;
    let born = server.api(&job).get("holiday").await.unwrap().data;
    assert_eq!(born["status"]["observedGeneration"], -1, "a job that nobody has seen: {born}");
    server.remove(&job).await;
    server.remove(&namespace).await;
}

/// A status that holds as much as the schema admits anywhere still fits: nothing else may stop the controller's word.
#[tokio::test]
async fn a_server_takes_a_status_and_keeps_its_conditions_by_type() {
    let Some((server, namespace)) = prepared().await else { return };
    let job = placed(cases::base(Base::Job), &namespace);
    server.apply(&job).await;
    let write = async |conditions: Value| {
        let status = json!({"apiVersion": job["apiVersion"], "kind": job["kind"], "status": {
            "observedGeneration": 1, "conditions": conditions, "tried": vec!["1".repeat(40); 1024],
        }});
        let params = PatchParams::apply("admission-test").force();
        server
            .api(&job)
            .patch_status("holiday", &params, &Patch::Apply(status))
            .await
            .map_err(|error| said(&error))
    };
    let condition = |kind: &str, status: &str| json!({"type": kind, "status": status, "reason": "Running", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let both = json!([condition("Complete", "False"), condition("Failed", "False")]);
    let written = write(both.clone()).await.unwrap();
    assert_eq!(written.data["status"]["conditions"], both);
    let twice = write(json!([condition("Complete", "False"), condition("Complete", "True")])).await;
    assert!(twice.unwrap_err().contains("duplicate"));
    let vague = write(json!([condition("Complete", "Maybe")])).await;
    assert!(vague.unwrap_err().contains(r#"supported values: "True", "False", "Unknown""#));
    server.remove(&job).await;
    server.remove(&namespace).await;
}
