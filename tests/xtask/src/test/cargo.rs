//! The stages that cargo runs, and the counts in what it prints.

use std::env::{join_paths, split_paths};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::bed::Bed;

/// What a test prints that finds nothing to try itself on.
const SKIPPED: &str = "SKIPPED: ";

/// One call of cargo.
pub struct Stage {
    /// Name among the tests.
    pub name: &'static str,
    command: Command,
}

/// Counts of a call.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Tests that passed.
    pub passed: u64,
    /// Names of tests that failed.
    pub failed: Vec<String>,
    /// Tests that did not run, or could not try what they are about; each says why.
    pub skipped: u64,
}

/// Formatting.
pub fn format() -> Stage {
    stage("cargo fmt", &["fmt", "--all", "--check"])
}

/// Lints, warnings denied.
pub fn lint() -> Stage {
    stage("cargo clippy", &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])
}

/// Documentation, warnings denied.
pub fn docs() -> Stage {
    let mut stage = stage("cargo doc", &["doc", "--workspace", "--no-deps", "--document-private-items"]);
    // Private items are documented, too, so links to them lead somewhere.
    stage.command.env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private_intra_doc_links");
    stage
}

/// All tests of the workspace, with the bed's API server and tools. `full` has fifty times the cases, which need
/// optimised code.
pub fn tests(bed: &Bed, full: bool) -> Result<Stage> {
    let mut stage = stage("cargo test", &["test", "--workspace", "--no-fail-fast"]);
    stage.command.env("PROPTEST_CASES", if full { "100000" } else { "2000" });
    if full {
        stage.command.args(["--profile", "full"]).env("UPSCALE_TEST_FULL", "1");
    }
    stage.command.env("UPSCALE_TEST_KUBECONFIG", bed.kubeconfig());
    stage.command.envs(bed.tool_environment()?);
    let programs = bed.film_programs()?;
    // The stand-in engine finds them as the real program does: by name.
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = programs.ffmpeg.parent().map(Path::to_owned).into_iter().chain(split_paths(&path));
    let path = join_paths(folders).context("put ffmpeg on PATH")?;
    stage.command.env("PATH", bed.tools().search_path(path)?);
    stage.command.env("UPSCALE_FFMPEG", programs.ffmpeg).env("UPSCALE_FFPROBE", programs.ffprobe);
    Ok(stage)
}

/// The tests of the workspace that need neither an API server nor tools nor ffmpeg.
pub fn tests_without_bed() -> Stage {
    let args = [
        "test",
        "--workspace",
        "--no-fail-fast",
        "--lib",
        "--bins",
        "--test",
        "crds_in_sync",
        "--test",
        "bed",
    ];
    let mut stage = stage("cargo test, what needs no bed", &args);
    stage.command.env("PROPTEST_CASES", "2000");
    stage
}

fn stage(name: &'static str, args: &[&str]) -> Stage {
    let mut command = Command::new("cargo");
    command.args(args);
    Stage { name, command }
}

impl Stage {
    /// Runs it, showing what it prints. Fails if cargo fails without naming a failed test.
    pub fn run(mut self) -> Result<Counts> {
        println!("== {}", self.name);
        let mut child = self.command.stdout(Stdio::piped()).spawn().context("start cargo")?;
        let stdout = child.stdout.take().context("read what cargo prints")?;
        let mut counts = Counts::default();
        for line in BufReader::new(stdout).lines() {
            let line = line.context("read what cargo prints")?;
            println!("{line}");
            counts.read(&line);
        }
        let status = child.wait().context("wait for cargo")?;
        ensure!(status.success() || !counts.failed.is_empty(), "{} ended with {status}", self.name);
        Ok(counts)
    }
}

impl Counts {
    fn read(&mut self, line: &str) {
        if let Some(name) = line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED")) {
            self.failed.push(name.to_owned());
        }
        if line.contains(SKIPPED) {
            self.skipped += 1;
        }
        let Some(rest) = line.strip_prefix("test result: ") else { return };
        let counted = |word: &str| -> u64 {
            let part = rest.split([';', '.']).find_map(|part| part.trim().strip_suffix(word));
            part.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
        };
        self.passed += counted("passed");
        self.skipped += counted("ignored");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_from_what_cargo_prints() {
        let mut counts = Counts::default();
        for line in [
            "test a::b ... ok",
            "test a::c ... FAILED",
            "test a::d ... SKIPPED: there is no server",
            "test result: FAILED. 12 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.01s",
            "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s",
        ] {
            counts.read(line);
        }
        assert_eq!(counts, Counts { passed: 15, failed: vec!["a::c".into()], skipped: 3 });
    }
}
