//! Every word that a user can meet has its heading in `docs/troubleshooting.md`, and no heading is of a word that cannot
//! be met.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use video_upscale::api::conditions::{FailureReason, OtherReason, Refusal, ScheduledReason, State};
use video_upscale::controllers::video_upscale::verdict::Verdict;

use super::rendered::repository;

fn headings() -> Vec<String> {
    let text = std::fs::read_to_string(repository().join("docs/troubleshooting.md")).unwrap();
    let lines = text.lines().filter_map(|line| line.strip_prefix("### "));
    lines.flat_map(|line| line.split(", ")).map(str::to_owned).collect()
}

/// Rust files below a folder of `src`, or the one file, without blanks and without what stands under `cfg(test)`.
fn sources(below: &str) -> Vec<String> {
    fn files(at: &Path, found: &mut Vec<PathBuf>) {
        if at.is_dir() {
            std::fs::read_dir(at).unwrap().for_each(|entry| files(&entry.unwrap().path(), found));
        } else if at.extension().is_some_and(|ending| ending == "rs") && !at.ends_with("tests.rs") {
            found.push(at.to_owned());
        }
    }
    let mut found = Vec::new();
    files(&repository().join("src").join(below), &mut found);
    assert!(!found.is_empty(), "nothing in src/{below}");
    found.retain(|file| !file.components().any(|part| part.as_os_str() == "tests"));
    let read = |file: &PathBuf| std::fs::read_to_string(file).unwrap();
    let bare = |text: String| -> String {
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        code.chars().filter(|c| !c.is_whitespace()).collect()
    };
    found.iter().map(read).map(bare).collect()
}

/// Words in quotes that follow one of these in the code.
fn words_after(below: &str, openings: &[&str]) -> BTreeSet<String> {
    let mut words = BTreeSet::new();
    for text in sources(below) {
        for opening in openings {
            for rest in text.split(opening).skip(1) {
                let word = rest.split(['"', ':']).next().unwrap_or_default();
                if word.starts_with(char::is_uppercase) && word.chars().all(char::is_alphanumeric) {
                    words.insert(word.to_owned());
                }
            }
        }
    }
    assert!(words.len() > 1, "the pattern finds nothing any more in src/{below}");
    words
}

#[test]
fn every_word_has_its_heading_and_every_heading_its_word() {
    let mut words: BTreeSet<String> = BTreeSet::new();
    words.extend(State::ALL.iter().map(|word| word.to_string()));
    words.extend(FailureReason::ALL.iter().map(|word| word.to_string()));
    words.extend(Refusal::ALL.iter().map(|word| word.to_string()));
    words.extend(ScheduledReason::ALL.iter().map(|word| word.to_string()));
    words.extend(OtherReason::ALL.iter().map(|word| word.to_string()));
    words.extend(Verdict::ALL.iter().map(|word| word.to_string()));
    // Reasons of events, as plans give them: (warning, reason, ...).
    words.extend(words_after("controllers/video_upscale/plan", &["(true,\"", "(false,\""]));
    // Reasons of a profile's condition: (status, reason, message).
    words.extend(words_after("controllers/profiles.rs", &["(\"True\",\"", "(\"False\",\""]));
    let told: Vec<String> = headings();
    let documented: BTreeSet<String> = told.iter().cloned().collect();
    assert_eq!(told.len(), documented.len(), "a heading stands twice");
    let missing: Vec<&String> = words.difference(&documented).collect();
    let idle: Vec<&String> = documented.difference(&words).collect();
    assert!(missing.is_empty() && idle.is_empty(), "no heading: {missing:?}; of no word: {idle:?}");
}

#[test]
fn what_the_worker_refuses_is_of_the_closed_list() {
    let known: BTreeSet<String> = Refusal::ALL.iter().map(|word| word.to_string()).collect();
    let used = words_after(
        "worker",
        &["refuse(\"", "Code::UnsupportedSource,\"", "Code::UnsupportedSource,format!(\""],
    );
    assert_eq!(used, known);
}
