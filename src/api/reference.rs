//! `docs/reference.md`: every field of our kinds, written from the definitions as they are installed.
#![expect(clippy::indexing_slicing, reason = "a JSON value gives null for a key that it lacks")]

use std::fmt::Write;

use serde_json::Value;

use super::crds::Crd;

const HEAD: &str = "<!-- Written by `cargo run --bin crdgen` from src/api. Do not edit. -->\n# Reference\n\n\
    The same as `kubectl explain --recursive` says, on one page. `[]` stands for each item of a list, `{}` for each value of a map.\n";

/// The page. Fields stand in the order of their names, the ones of a status after those of the spec.
pub fn markdown(crds: &[Crd]) -> String {
    let mut page = HEAD.to_owned();
    for crd in crds {
        let names = &crd.object["spec"]["names"];
        let kind = text(&names["kind"]);
        for version in crd.object["spec"]["versions"].as_array().into_iter().flatten() {
            let schema = &version["schema"]["openAPIV3Schema"];
            let api = format!("{}/{}", text(&crd.object["spec"]["group"]), text(&version["name"]));
            let short: Vec<&str> = names["shortNames"].as_array().into_iter().flatten().map(text).collect();
            // Writing to a string cannot fail.
            let _written = write!(
                page,
                "\n## {kind}\n\n`{api}`, {}, short `{}`. {}\n",
                text(&crd.object["spec"]["scope"]).to_lowercase(),
                short.join("`, `"),
                one_cell(text(&schema["description"]))
            );
            for part in ["spec", "status"] {
                let below = &schema["properties"][part];
                if below.is_object() {
                    page.push_str("\n| field | type | meaning |\n| --- | --- | --- |\n");
                    rows(&mut page, part, below, required(schema, part));
                }
            }
        }
    }
    page
}

fn rows(page: &mut String, at: &str, schema: &Value, required: bool) {
    let kind = match text(&schema["type"]) {
        "" => "any",
        "string" if text(&schema["format"]) == "date-time" => "time",
        kind => kind,
    };
    let must = if required { ", required" } else { "" };
    let meaning = one_cell(text(&schema["description"]));
    // What is said of a list or map holds for its items.
    if !at.ends_with(']') && !at.ends_with('}') {
        let _written = writeln!(page, "| `{at}` | {kind}{must} | {meaning} |");
    }
    for (name, below) in schema["properties"].as_object().into_iter().flatten() {
        rows(page, &format!("{at}.{name}"), below, self::required(schema, name));
    }
    for (below, mark) in [(&schema["items"], "[]"), (&schema["additionalProperties"], "{}")] {
        if below.is_object() {
            rows(page, &format!("{at}{mark}"), below, false);
        }
    }
}

fn required(schema: &Value, name: &str) -> bool {
    schema["required"].as_array().into_iter().flatten().any(|field| field == name)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn one_cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_of_lists_and_maps_have_rows_and_bars_do_not_break_them() {
        let leaf = |description: &str| json!({"type": "string", "description": description});
        let object = json!({"spec": {
            "group": "g", "scope": "Namespaced", "names": {"kind": "K", "shortNames": ["k"]},
            "versions": [{"name": "v1", "schema": {"openAPIV3Schema": {"description": "A kind.", "properties": {"spec": {
                "type": "object", "description": "S.", "required": ["list"], "properties": {
                    "list": {"type": "array", "description": "L.", "items": {"type": "object", "description": "I.",
                        "properties": {"one": leaf("Mi|Gi.")}}},
                    "map": {"type": "object", "description": "M.", "additionalProperties": leaf("V.")},
                }}}}}}],
        }});
        let page = markdown(&[Crd { name: "ks.g".into(), object }]);
        let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| `")).collect();
        assert_eq!(
            rows,
            [
                "| `spec` | object | S. |",
                "| `spec.list` | array, required | L. |",
                "| `spec.list[].one` | string | Mi\\|Gi. |",
                "| `spec.map` | object | M. |",
            ]
        );
        assert!(page.contains("`g/v1`, namespaced, short `k`. A kind."), "{page}");
    }
}
