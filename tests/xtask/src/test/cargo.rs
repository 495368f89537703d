//! The stages that cargo runs, and the counts in what it prints.

use std::env::{join_paths, split_paths};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::bed::Bed;
use crate::{command, packages, tools};

/// Cases of each property test in the usual run.
const CASES: &str = "2000";
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

/// The test programs of the workspace, by what they need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// They ask the bed's API server, which nobody else may use meanwhile.
    AskTheServer,
    /// They hold what programs do against the clock, and mostly wait.
    Timed,
    /// They need programs and processors only.
    Computing,
}

impl Group {
    /// What cargo calls them.
    fn targets(self) -> &'static [&'static str] {
        match self {
            Self::AskTheServer => {
                &["--test", "admission", "--test", "crash", "--test", "handover", "--test", "scale"]
            }
            Self::Timed => &["--test", "bed", "--test", "driver"],
            Self::Computing => {
                &["--lib", "--bins", "--test", "chart", "--test", "crds_in_sync", "--test", "worker_pipeline"]
            }
        }
    }

    /// What its stage is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::AskTheServer => "cargo test, what asks the API server",
            Self::Timed => "cargo test, what waits",
            Self::Computing => "cargo test, what computes",
        }
    }
}

/// How a stage that runs beside others shares the processors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rank {
    /// As everybody.
    Equal,
    /// It takes what others leave.
    Last,
}

/// Builds all tests of the workspace.
pub fn build(full: bool) -> Stage {
    let mut stage = stage("cargo test --no-run", &["test", "--workspace", "--no-run"]);
    if full {
        stage.command.args(["--profile", "full"]);
    }
    stage
}

/// Tests of the workspace, with the bed's API server and tools. `full` has fifty times the cases, which need
/// optimised code.
pub fn tests(bed: &Bed, group: Group, full: bool) -> Result<Stage> {
    let mut stage = stage(group.name(), &["test", "--workspace", "--no-fail-fast"]);
    stage.command.args(group.targets());
    stage.command.env("PROPTEST_CASES", if full { "100000" } else { CASES });
    if full {
        stage.command.args(["--profile", "full"]).env("UPSCALE_TEST_FULL", "1");
    }
    if group == Group::AskTheServer {
        stage.command.env("UPSCALE_TEST_KUBECONFIG", bed.kubeconfig());
    }
    if group == Group::Computing {
        let (layout, progress) = (bed.layout(), bed.progress());
        let promtool = packages::promtool(&layout.cache, &layout.logs().join("apt.log"), progress)?;
        let linter = tools::linter(&layout.checkout, &layout.cache, progress)?;
        stage.command.env("PROMTOOL", promtool).env("KUBE_SCORE", linter);
    }
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
    stage.command.env("PROPTEST_CASES", CASES);
    stage
}

fn stage(name: &'static str, args: &[&str]) -> Stage {
    let mut command = command::cargo();
    command.args(args);
    Stage { name, command }
}

impl Stage {
    /// Runs it, showing what it prints. Fails if cargo fails without naming a failed test.
    pub fn run(mut self) -> Result<Counts> {
        println!("== {}", self.name);
        let mut child = self.command.stdout(Stdio::piped()).spawn().context("start cargo")?;
        let stdout = child.stdout.take().context("read what cargo prints")?;
        let counts = Counts::of(stdout, |line| println!("{line}"))?;
        counts.unless_it_failed(self.name, child)
    }

    /// As [`Self::run`], and shows what it has printed when it has ended.
    pub fn run_aside(self, rank: Rank) -> Result<Counts> {
        let (reader, writer) = std::io::pipe().context("make a pipe")?;
        let mut nice = Command::new("nice");
        nice.args(["-n", if rank == Rank::Last { "19" } else { "0" }])
            .arg(self.command.get_program())
            .args(self.command.get_args());
        for (name, value) in self.command.get_envs() {
            match value {
                Some(value) => nice.env(name, value),
                None => nice.env_remove(name),
            };
        }
        nice.stderr(writer.try_clone().context("copy a pipe's end")?).stdout(writer);
        let child = nice.spawn().context("start cargo")?;
        // It holds the pipe open.
        drop(nice);
        let mut printed = String::new();
        let counts = Counts::of(reader, |line| {
            printed.push_str(line);
            printed.push('\n');
        });
        print!("== {}\n{printed}", self.name);
        counts?.unless_it_failed(self.name, child)
    }
}

impl Counts {
    /// Of all that a call prints.
    fn of(printed: impl Read, mut show: impl FnMut(&str)) -> Result<Self> {
        let mut counts = Self::default();
        for line in BufReader::new(printed).split(b'\n') {
            // Programs that tests start may print anything.
            let line = String::from_utf8_lossy(&line.context("read what cargo prints")?).into_owned();
            show(&line);
            counts.read(&line);
        }
        Ok(counts)
    }

    /// Fails if the call failed without naming a failed test.
    fn unless_it_failed(self, name: &str, mut child: Child) -> Result<Self> {
        let status = child.wait().context("wait for cargo")?;
        ensure!(status.success() || !self.failed.is_empty(), "{name} ended with {status}");
        Ok(self)
    }

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
    fn every_test_program_is_in_one_group() {
        let metadata = Command::new(env!("CARGO"))
            .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
            .output()
            .unwrap();
        let metadata: serde_json::Value = serde_json::from_slice(&metadata.stdout).unwrap();
        let targets = metadata["packages"].as_array().unwrap().iter();
        let targets = targets.flat_map(|package| package["targets"].as_array().unwrap());
        let named = |group: Group, name: &str| group.targets().contains(&name);
        for target in targets {
            let (kind, name) = (target["kind"][0].as_str().unwrap(), target["name"].as_str().unwrap());
            if kind == "test" {
                let groups =
                    [Group::AskTheServer, Group::Timed, Group::Computing].map(|group| named(group, name));
                assert_eq!(groups.iter().filter(|named| **named).count(), 1, "{name}");
            }
            // Examples in documentation would be a third group.
            assert!(kind != "lib" || target["doctest"] == false, "{name}: set doctest = false");
        }
    }

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
