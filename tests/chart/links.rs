//! Pages lead to each other: every link to a file of the repository leads somewhere, and the README leads to every page.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::rendered::repository;

/// Targets of the links of a page that are no addresses, without their anchors.
fn links(page: &Path) -> Vec<PathBuf> {
    let text = std::fs::read_to_string(page).unwrap();
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
    targets
        .filter(|target| !target.contains("://") && !target.is_empty())
        .map(|target| page.parent().unwrap().join(target))
        .collect()
}

#[test]
fn every_link_leads_somewhere_and_the_readme_to_every_page() {
    let readme = repository().join("README.md");
    let docs = std::fs::read_dir(repository().join("docs")).unwrap();
    let pages: BTreeSet<PathBuf> = docs.map(|entry| entry.unwrap().path().canonicalize().unwrap()).collect();
    assert!(pages.len() > 10);
    for page in pages.iter().chain([&readme]) {
        for target in links(page) {
            assert!(target.exists(), "{} leads to {}", page.display(), target.display());
        }
    }
    let led: BTreeSet<PathBuf> = links(&readme).iter().map(|target| target.canonicalize().unwrap()).collect();
    let lost: Vec<&PathBuf> = pages.difference(&led).collect();
    assert!(lost.is_empty(), "the README does not lead to {lost:?}");
}

/// Values that a page names are values of the chart.
#[test]
fn every_value_of_the_chart_that_a_page_names_exists() {
    let values: serde_json::Value = serde_saphyr::from_str(
        &std::fs::read_to_string(repository().join("charts/video-upscale/values.yaml")).unwrap(),
    )
    .unwrap();
    let roots: BTreeSet<&String> = values.as_object().unwrap().keys().collect();
    let docs = std::fs::read_dir(repository().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let mut named = 0;
    for page in docs.chain([repository().join("README.md")]) {
        let text = std::fs::read_to_string(&page).unwrap();
        // What stands in backticks and begins like a value, up to what it is set to.
        for word in
            text.split('`').skip(1).step_by(2).filter_map(|word| word.split(['=', ':', ' ', '[']).next())
        {
            let mut keys = word.split('.');
            let root = keys.next().unwrap_or_default().to_owned();
            // `gpu` is a part of a job's spec, too, and `agent.upscale.video` one of the names of annotations.
            let other = word.starts_with("gpu.") || word.contains("upscale.video") || word.ends_with(".yaml");
            if !roots.contains(&root) || !word.contains('.') || other {
                continue;
            }
            let mut at = &values[&root];
            for key in keys {
                at = &at[key];
            }
            let shown = page.file_name().unwrap().to_string_lossy().into_owned();
            assert!(!at.is_null() || word.starts_with("pods."), "{shown} names the value {word}");
            named += 1;
        }
    }
    assert!(named > 20, "{named} values");
}
