//! `crds/` and `docs/reference.md` hold what the types say, and what the types say is complete: described, bounded, small.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is a test's verdict"
)]

use std::path::Path;

use serde_json::Value;
use video_upscale::api::conditions::ConditionType;
use video_upscale::api::crds::{self, Crd};
use video_upscale::api::{keys, reference};

/// Largest definition, bytes of JSON: what people page through, and an eighth of what client-side apply can carry.
const MOST_BYTES: usize = 32_000;
/// Sizes below which a number says nothing of a limit: the status has the whole range of its types.
const WHOLE_RANGES: [i64; 2] = [i32::MAX as i64, 9_007_199_254_740_991];

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("crds")
}

#[test]
fn the_files_are_what_crdgen_writes() {
    let crds = crds::all().unwrap();
    for crd in &crds {
        let file = std::fs::read_to_string(folder().join(crd.file_name())).unwrap_or_default();
        assert!(file == crd.yaml().unwrap(), "{} is stale; run `cargo run --bin crdgen`", crd.file_name());
        let read: Value = serde_saphyr::from_str(&file).unwrap();
        assert_eq!(read, crd.object, "{} does not read back", crd.file_name());
    }
    let mut files: Vec<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    assert_eq!(files, crds.iter().map(Crd::file_name).collect::<Vec<_>>());
}

#[test]
fn the_reference_is_what_crdgen_writes() {
    let page = reference::markdown(&crds::all().unwrap());
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference.md");
    let written = std::fs::read_to_string(file).unwrap_or_default();
    assert!(written == page, "docs/reference.md is stale; run `cargo run --bin crdgen`");
    let mut fields = 0;
    each_field(&mut |at, _| {
        // Kinds themselves, and items of lists, have no row.
        let Some((_, field)) = at.split_once('.').filter(|_| !at.ends_with("[]")) else { return };
        let rows = page.matches(&format!("| `{}` |", field)).count();
        let mapped = page.matches(&format!("| `{}` |", field.replace("[]", "{}"))).count();
        if field.starts_with("spec") || field.starts_with("status") {
            assert!(rows + mapped > 0, "{at} has no row");
            fields += 1;
        }
    });
    assert!(fields > 100, "{fields} fields");
}

#[test]
fn the_definitions_are_small() {
    for crd in crds::all().unwrap() {
        let bytes = crd.object.to_string().len();
        println!("{}: {bytes} bytes", crd.name);
        assert!(bytes < MOST_BYTES, "{} has {bytes} bytes of JSON", crd.name);
    }
}

#[test]
fn nothing_is_undescribed_or_unbounded() {
    let mut complaints = Vec::new();
    each_field(&mut |at, schema| {
        for complaint in complain(at, schema) {
            complaints.push(format!("{at}: {complaint}"));
        }
    });
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

/// `kubectl explain` shows neither defaults nor limits, so the sentence must.
#[test]
fn descriptions_say_default_and_limits() {
    let mut complaints = Vec::new();
    each_field(&mut |at, schema| {
        // What is said of a list's items is said at the list.
        if !at.contains(".spec.") || at.ends_with("[]") {
            return;
        }
        let text = schema["description"].as_str().unwrap_or_default();
        let lower = text.to_lowercase();
        match &schema["default"] {
            Value::Null | Value::Object(_) => {}
            Value::Array(_) if lower.contains("default") => {}
            Value::String(word) if lower.contains("default") && text.contains(word) => {}
            Value::Number(number) if text.contains(&format!("efault {number}")) => {}
            Value::Bool(flag) if text.contains(&format!("efault {flag}")) => {}
            default => complaints.push(format!("{at}: the default {default} is not in: {text}")),
        }
        for limit in ["maximum", "minimum", "maxLength", "maxItems", "maxProperties"] {
            for place in [schema, &schema["items"], &schema["additionalProperties"]] {
                if let Some(number) = place[limit].as_i64()
                    && !text.contains(&number.to_string())
                {
                    complaints.push(format!("{at}: {limit} {number} is not in: {text}"));
                }
            }
        }
        if schema["enum"].is_array() {
            for word in schema["enum"].as_array().unwrap() {
                if !lower.contains(&word.as_str().unwrap().to_lowercase()) {
                    complaints.push(format!("{at}: {word} is not in: {text}"));
                }
            }
        }
    });
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn columns_and_born_status_are_as_documented() {
    for (name, columns, wide) in [
        (
            "videoupscales",
            vec!["Status", "Progress", "Running", "OOMs", "Duration", "Age"],
            vec!["Scale", "Step", "Profile", "Message"],
        ),
        ("upscaleprofiles", vec!["Scales", "Steps", "Default", "Ready", "Age"], vec![]),
    ] {
        let crds = crds::all().unwrap();
        let crd = crds.iter().find(|crd| crd.name == format!("{name}.{}", keys::GROUP)).unwrap();
        let version = &crd.object["spec"]["versions"][0];
        let all = version["additionalPrinterColumns"].as_array().unwrap();
        let of = |wide: bool| {
            let chosen = all.iter().filter(|column| (column["priority"] == 1) == wide);
            chosen.map(|column| column["name"].as_str().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!((of(false), of(true)), (columns, wide));
        let status = &version["schema"]["openAPIV3Schema"]["properties"]["status"];
        assert_eq!(status["default"]["observedGeneration"], -1);
        assert_eq!(version["subresources"]["status"], serde_json::json!({}));
    }
}

#[test]
fn the_status_column_reads_a_condition_that_exists() {
    let crds = crds::all().unwrap();
    let text = crds[1].object.to_string();
    assert!(text.contains(&format!(r#"@.type==\"{}\""#, ConditionType::Complete)));
    assert!(crds[0].object.to_string().contains(&keys::DEFAULT_PROFILE.replace('.', r"\\.")));
}

fn complain(at: &str, schema: &Value) -> Vec<&'static str> {
    let has = |key: &str| !schema[key].is_null();
    let mut complaints = Vec::new();
    let described = schema["description"].as_str().is_some_and(|text| text.len() > 3 && text.ends_with('.'));
    if !described && !at.ends_with("[]") {
        complaints.push("no description, or no sentence");
    }
    match schema["type"].as_str() {
        Some("string") if !has("maxLength") && !has("enum") => complaints.push("a string without maxLength"),
        Some("integer") if !has("minimum") || !has("maximum") => complaints.push("an integer without limits"),
        Some("number") => complaints.push("a number that is no integer"),
        Some("array") if !has("maxItems") => complaints.push("a list without maxItems"),
        Some("object") if has("additionalProperties") && !has("maxProperties") => {
            complaints.push("a map without maxProperties");
        }
        Some("object") if !has("additionalProperties") && !has("properties") => {
            complaints.push("an open object")
        }
        Some(_) => {}
        None => complaints.push("no type"),
    }
    if schema["format"].as_str().is_some_and(|format| !["int32", "int64", "date-time"].contains(&format)) {
        complaints.push("a format that the API server does not know");
    }
    if has("nullable") || schema["enum"].as_array().is_some_and(|words| words.contains(&Value::Null)) {
        complaints.push("null is a value");
    }
    if schema["maximum"].as_i64().is_some_and(|most| most > WHOLE_RANGES[1])
        || (schema["format"] == "int32"
            && schema["maximum"].as_i64().is_some_and(|most| most > WHOLE_RANGES[0]))
    {
        complaints.push("a number that does not fit its type");
    }
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        if rule["message"].as_str().is_none_or(|text| text.is_empty() || text.len() > 300) {
            complaints.push("a rule without a message");
        }
    }
    complaints
}

fn each_field(look: &mut impl FnMut(&str, &Value)) {
    for crd in crds::all().unwrap() {
        let schema = &crd.object["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        walk(crd.object["spec"]["names"]["kind"].as_str().unwrap(), schema, look);
    }
}

fn walk(at: &str, schema: &Value, look: &mut impl FnMut(&str, &Value)) {
    look(at, schema);
    for (name, below) in schema["properties"].as_object().into_iter().flatten() {
        walk(&format!("{at}.{name}"), below, look);
    }
    for below in [&schema["items"], &schema["additionalProperties"]] {
        if below.is_object() {
            walk(&format!("{at}[]"), below, look);
        }
    }
}
