//! The commands that README.md and the pages in docs/ tell a reader to type, and which of them no test on the bed runs.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// Pages in the order in which somebody reads them who installs, uses and removes it.
const FIRST: [&str; 2] = ["docs/quick-start.md", "README.md"];
/// The page that ends it.
const LAST: &str = "docs/upgrade-removal.md";
/// The chart's own page.
const CHART: &str = "charts/video-upscale/README.md";
/// What commands begin with.
const PROGRAMS: [&str; 6] = ["cargo", "helm", "kubectl", "buildah", "upscale-agent", "for"];

/// A command of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The page, from the repository on.
    pub page: String,
    /// As it stands there, which may be several lines.
    pub text: String,
}

/// Commands that are not run on the bed.
struct Exception {
    /// How they begin.
    begins: &'static str,
    /// The only page of which it is said; empty: all.
    page: &'static str,
    why: &'static str,
}

const fn but(begins: &'static str, why: &'static str) -> Exception {
    Exception { begins, page: "", why }
}

const EXCEPTIONS: &[Exception] = &[
    but("cargo xtask", "this program: whoever runs the test has called it, and it takes the bed up and down"),
    but("cargo build", "a release build; the bed runs what the same command has built"),
    but(
        "for part in",
        "pushes to a registry of the reader's; the bed has the same targets of the Containerfile",
    ),
    but("cargo bench", "figures of the machine it runs on, which take minutes"),
    but("cargo test -p upscale-agent --test driver", "what waits, among the tests of cargo"),
    but("PROPTEST_CASES=2000 cargo test", "what computes, among the tests of cargo, with as many cases"),
    but(
        "cargo run --bin crdgen",
        "writes the page that tests/crds_in_sync.rs holds against what it would write",
    ),
    but(
        "UPSCALE_WRITE=1 cargo test",
        "writes the page that the same test without the variable holds it against",
    ),
    but(
        "upscale-agent ",
        "for a machine of an agent's; README.md has it with the way into the pod, and that is run",
    ),
    Exception {
        begins: "helm install upscale",
        page: CHART,
        why: "in short: images that no registry offers; docs/quick-start.md has it in full, and that is run",
    },
    Exception {
        begins: "kubectl explain --recursive",
        page: "docs/reference.md",
        why: "without a kind; tests/admission asks it of both",
    },
];

impl Command {
    /// Why no test on the bed runs it, if none does.
    pub fn not_run(&self) -> Option<&'static str> {
        EXCEPTIONS.iter().find(|exception| exception.covers(self)).map(|exception| exception.why)
    }

    /// On one line, with single spaces.
    pub fn line(&self) -> String {
        self.text.replace("\\\n", " ").split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

impl Exception {
    fn covers(&self, command: &Command) -> bool {
        command.text.starts_with(self.begins) && (self.page.is_empty() || self.page == command.page)
    }
}

/// The commands of all pages, each once, in the order in which they can be run.
pub fn commands(checkout: &Path) -> Result<Vec<Command>> {
    let mut all = Vec::new();
    for page in pages(checkout)? {
        let text = fs::read_to_string(checkout.join(&page)).with_context(|| format!("read {page}"))?;
        all.extend(of_page(&page, &text));
    }
    let mut seen = BTreeSet::new();
    all.retain(|command: &Command| seen.insert(command.line()));
    let lines: Vec<String> = all.iter().map(Command::line).collect();
    // A program with its verb is a name, if the whole stands somewhere.
    all.retain(|command| {
        let line = command.line();
        let name = line.split(' ').count() == 2;
        !name || !lines.iter().any(|other| other.starts_with(&format!("{line} ")))
    });
    Ok(all)
}

fn pages(checkout: &Path) -> Result<Vec<String>> {
    let mut others = vec![CHART.to_owned()];
    for entry in fs::read_dir(checkout.join("docs")).context("list the pages")? {
        let name = entry.context("list the pages")?.file_name();
        others.push(format!("docs/{}", name.to_string_lossy()));
    }
    others.retain(|page| page.ends_with(".md") && page != LAST && !FIRST.contains(&page.as_str()));
    others.sort();
    Ok(FIRST.iter().copied().map(str::to_owned).chain(others).chain([LAST.to_owned()]).collect())
}

/// The commands of a page: what stands behind a `$` in its blocks, then what stands in its sentences.
fn of_page(page: &str, text: &str) -> Vec<Command> {
    let (mut blocks, mut prose, mut fence) = (Vec::new(), String::new(), None);
    for line in text.lines() {
        let bare = line.trim_start();
        if bare.starts_with("```") {
            fence = if fence.is_none() { Some(line.len().saturating_sub(bare.len())) } else { None };
        } else if let Some(indent) = fence {
            blocks.push(line.get(indent..).unwrap_or_default());
            continue;
        }
        prose.push_str(if bare.starts_with("```") { "" } else { line });
        prose.push('\n');
    }
    let mut commands = Vec::new();
    let mut lines = blocks.into_iter();
    while let Some(line) = lines.next() {
        let Some(first) = line.strip_prefix("$ ") else { continue };
        let mut command = first.to_owned();
        while is_unfinished(&command) {
            let Some(more) = lines.next() else { break };
            command.push('\n');
            command.push_str(more);
        }
        commands.push(command);
    }
    // A span of code ends with its paragraph at the latest.
    for paragraph in prose.split("\n\n") {
        let spans = paragraph.split('`').skip(1).step_by(2).map(|span| span.replace('\n', " "));
        commands.extend(spans.filter(|span| is_command(span)));
    }
    commands.into_iter().map(|text| Command { page: page.to_owned(), text }).collect()
}

fn is_unfinished(command: &str) -> bool {
    command.ends_with('\\') || (command.starts_with("for ") && !command.ends_with("done"))
}

/// Whether code in a sentence is to be typed: a program of ours or of the reader's, with arguments.
fn is_command(span: &str) -> bool {
    let is_variable = |word: &&str| {
        let name = word.split_once('=').map_or("", |(name, _)| name);
        !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c == '_')
    };
    let mut words = span.split_whitespace().skip_while(is_variable);
    words.next().is_some_and(|word| PROGRAMS.contains(&word)) && words.next().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkout() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
    }

    #[test]
    fn commands_are_found_in_blocks_and_sentences() {
        let page = "# A\n```console\n$ one \\\n    --two\nsays\n$ three # why\n```\nText `kubectl get\nvu` and `kubectl`.\n\n\
                    1. So:\n\n   ```console\n   $ for x in y; do\n       z\n     done\n   ```\n`A_B=1 cargo test x`, `my=1 helm test`\n";
        let found: Vec<String> = of_page("p", page).into_iter().map(|command| command.text).collect();
        let expected = [
            "one \\\n    --two",
            "three # why",
            "for x in y; do\n    z\n  done",
            "kubectl get vu",
            "A_B=1 cargo test x",
        ];
        assert_eq!(found, expected);
    }

    /// What is neither is to be put into one of the two lists.
    #[test]
    fn every_command_is_run_on_the_bed_or_an_exception() {
        let all = commands(&checkout()).unwrap();
        assert!(all.len() > 30, "{all:#?}");
        for command in all.iter().filter(|command| command.not_run().is_none()) {
            let program = command.text.split_whitespace().next().unwrap();
            assert!(
                ["helm", "kubectl"].contains(&program),
                "nothing runs this, and nothing says why: {command:?}"
            );
            let left = super::super::unknown_words(&command.text);
            assert!(left.is_empty(), "who fills in {left:?}? {command:?}");
        }
    }

    #[test]
    fn every_exception_is_of_a_command() {
        let all = commands(&checkout()).unwrap();
        for exception in EXCEPTIONS {
            assert!(
                all.iter().any(|command| exception.covers(command)),
                "{} stands nowhere",
                exception.begins
            );
        }
    }
}
