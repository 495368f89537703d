//! The chart's README is made of the comments in its values: `UPSCALE_WRITE=1 cargo test --test chart readme` writes it.

use std::fmt::Write;

use super::rendered::chart;

const HEAD: &str = "<!-- Written by `UPSCALE_WRITE=1 cargo test --test chart readme` from values.yaml. Do not edit. -->\n\
    # video-upscale\n\n\
    Upscales videos on GPUs that are not all its own: controller, node agent, definitions, rights and admission policies.\n\n\
    ```console\n\
    $ helm install upscale charts/video-upscale --namespace upscale-system --create-namespace\n\
    ```\n\n\
    How to begin is in `docs/quick-start.md`, what each file in `ci/` shows is said in its first line.\n";

/// One key of the values.
struct Key {
    path: Vec<String>,
    default: String,
    comment: String,
}

/// Keys in their order, with the comments above them. What stands below a profile's `spec` is its own kind's matter.
fn keys(values: &str) -> Vec<Key> {
    let mut keys: Vec<Key> = Vec::new();
    let mut above: Vec<(usize, String)> = Vec::new();
    let mut comment = String::new();
    for line in values.lines() {
        let text = line.trim_start();
        let depth = line.len().saturating_sub(text.len());
        if let Some(words) = text.strip_prefix('#') {
            comment = format!("{comment} {}", words.trim()).trim().to_owned();
            continue;
        }
        let Some((name, default)) = text.split_once(':').filter(|_| !text.starts_with('-')) else {
            if let Some(item) = text.strip_prefix("- ")
                && let Some(last) =
                    keys.last_mut().filter(|key| key.path.last().is_none_or(|key| key != "spec"))
            {
                last.default = format!("{} [{{{item}}}]", last.default).trim().to_owned();
            }
            continue;
        };
        above.retain(|(outer, _)| *outer < depth);
        if above.iter().any(|(_, key)| key == "spec") {
            comment.clear();
            continue;
        }
        above.push((depth, name.to_owned()));
        let path = above.iter().map(|(_, key)| key.clone()).collect();
        keys.push(Key { path, default: default.trim().to_owned(), comment: std::mem::take(&mut comment) });
    }
    keys
}

fn page(values: &str) -> String {
    let mut page = HEAD.to_owned();
    for Key { path, default, comment } in keys(values) {
        let comment = comment.replace('|', "\\|");
        if let [root] = path.as_slice() {
            let said = if comment.is_empty() { comment } else { format!("\n{comment}\n") };
            write!(page, "\n## {root}\n{said}\n| value | default | |\n| --- | --- | --- |\n").unwrap();
            if !default.is_empty() {
                writeln!(page, "| `{root}` | `{default}` | |").unwrap();
            }
        } else if !default.is_empty() || !comment.is_empty() || path.last().unwrap() == "spec" {
            let shown = match path.last().map(String::as_str) {
                Some("spec") => "see values.yaml".to_owned(),
                _ if default.is_empty() => String::new(),
                _ => format!("`{default}`"),
            };
            writeln!(page, "| `{}` | {shown} | {comment} |", path.join(".")).unwrap();
        }
    }
    page
}

#[test]
fn the_readme_is_what_the_values_say() {
    let values = std::fs::read_to_string(chart().join("values.yaml")).unwrap();
    let page = page(&values);
    assert!(page.contains("| `agent.tolerations` | `[{operator: Exists}]` |"), "{page}");
    assert!(page.contains("| `gpu.visibleDevices` | `Uuid` | Uuid: the GPU's UUID;"), "{page}");
    let file = chart().join("README.md");
    #[expect(clippy::disallowed_methods, reason = "the edge of the tests")]
    if std::env::var_os("UPSCALE_WRITE").is_some() {
        std::fs::write(&file, &page).unwrap();
    }
    let written = std::fs::read_to_string(file).unwrap_or_default();
    assert!(
        written == page,
        "charts/video-upscale/README.md is stale; see the first line of tests/chart/readme.rs"
    );
}
