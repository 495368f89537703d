//! The rules alone, without an API server: each is broken by an object of the table and kept by another.

use std::collections::BTreeSet;

use kube::core::cel::{CompiledSchema, Validator, compile_schema};
use serde_json::Value;
use video_upscale::api::crds;

use super::cases::{self, Base, Verdict};

#[test]
fn every_object_is_judged_as_the_table_says() {
    let (job, profile) = (compile_schema(&schema(Base::Job)), compile_schema(&schema(Base::Profile)));
    assert!(!job.has_errors() && !profile.has_errors(), "{:?}", profile.compilation_errors());
    for case in cases::NEW {
        let schema = if case.0 == Base::Job { &job } else { &profile };
        check(schema, &cases::object(case), None, case.2, &format!("{case:?}"));
    }
    for change in cases::CHANGES {
        let (pointer, before, after, verdict) = *change;
        let (mut old, mut new) = (cases::base(Base::Job), cases::base(Base::Job));
        cases::put(&mut old, pointer, before);
        cases::put(&mut new, pointer, after);
        check(&job, &new, Some(&old), verdict, &format!("{change:?}"));
    }
}

/// The rules say nothing of what the schema refuses: those are for the API server.
fn check(schema: &CompiledSchema, new: &Value, old: Option<&Value>, verdict: Verdict, about: &str) {
    let new = without_nulls(new.clone());
    let judged = Validator::new().validate_compiled(schema, &new, old);
    let messages: BTreeSet<String> =
        judged.err().into_iter().flat_map(|errors| errors.into_vec()).map(|error| error.message).collect();
    match verdict {
        Verdict::Taken => assert!(messages.is_empty(), "{about}: {messages:?}"),
        Verdict::Rule(message) => assert!(messages.contains(message), "{about}: {messages:?}"),
        Verdict::Schema(_) => {}
    }
}

/// What the API server prunes, as no field is nullable.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(
            fields
                .into_iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(key, value)| (key, without_nulls(value)))
                .collect(),
        ),
        other => other,
    }
}

#[test]
fn every_rule_is_broken_by_one_object_and_kept_by_another() {
    for kind in [Base::Job, Base::Profile] {
        let schema = schema(kind);
        let broken: BTreeSet<&str> = cases::NEW
            .iter()
            .map(|(base, _, verdict)| (*base, *verdict))
            .chain(cases::CHANGES.iter().map(|(.., verdict)| (Base::Job, *verdict)))
            .filter(|(base, _)| *base == kind)
            .filter_map(
                |(_, verdict)| if let Verdict::Rule(message) = verdict { Some(message) } else { None },
            )
            .collect();
        let taken: Vec<Value> = cases::NEW
            .iter()
            .filter(|case| case.0 == kind && case.2 == Verdict::Taken)
            .map(cases::object)
            .collect();
        let mut rules = Vec::new();
        collect(&schema, &mut Vec::new(), &mut rules);
        assert!(rules.len() > 10, "{kind:?} has {} rules", rules.len());
        for (at, message) in &rules {
            assert!(broken.contains(message.as_str()), "no object of the table breaks {at:?}: {message}");
            assert!(taken.iter().any(|object| reaches(object, at)), "no accepted object has {at:?}");
        }
        let known: BTreeSet<&str> = rules.iter().map(|(_, message)| message.as_str()).collect();
        assert_eq!(broken, known, "the table and the rules of {kind:?} differ");
    }
}

/// Every rule below a schema: where it stands, and what it says.
fn collect(schema: &Value, at: &mut Vec<String>, rules: &mut Vec<(Vec<String>, String)>) {
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        rules.push((at.clone(), rule["message"].as_str().unwrap_or_default().to_owned()));
    }
    let properties = schema["properties"].as_object().into_iter().flatten();
    let below = properties.map(|(name, schema)| (name.clone(), schema));
    for (name, schema) in below.chain(schema.get("items").map(|items| ("*".to_owned(), items))) {
        at.push(name);
        collect(schema, at, rules);
        at.pop();
    }
}

fn reaches(value: &Value, at: &[String]) -> bool {
    let Some((first, rest)) = at.split_first() else { return true };
    match value {
        Value::Array(items) => items.iter().any(|item| reaches(item, rest)),
        _ => value.get(first).is_some_and(|value| reaches(value, rest)),
    }
}

fn schema(kind: Base) -> Value {
    let name = if kind == Base::Job { "videoupscales" } else { "upscaleprofiles" };
    let crds = crds::all().unwrap();
    let crd = crds.iter().find(|crd| crd.name == format!("{name}.upscale.video")).unwrap();
    crd.object["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}
