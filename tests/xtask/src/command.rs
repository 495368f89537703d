//! Programs of the machine: run one, and say which one failed and why.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::progress::Progress;

/// The end of a program's output that an error repeats, bytes.
const TAIL: usize = 3000;

/// One call of a program. Its standard input is empty unless said otherwise.
#[derive(Debug)]
pub struct Run {
    command: Command,
    input: Input,
}

/// A call of cargo like one that somebody types. To what it runs, as to this program, cargo tells by variables which package
/// it is; a build script that looks at them would run again, and all that hangs on it be built anew, each time that one of
/// the two follows the other.
pub fn cargo() -> Command {
    let mut command = Command::new("cargo");
    for (name, _) in std::env::vars_os().filter(|(name, _)| tells_of_a_package(name)) {
        command.env_remove(name);
    }
    command
}

fn tells_of_a_package(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|begin| name.starts_with(begin))
}

#[derive(Debug)]
enum Input {
    Nothing,
    Bytes(Vec<u8>),
    Pipe(ChildStdout),
}

impl Run {
    /// A call of `program`, found on PATH if it is no path.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self { command: Command::new(program), input: Input::Nothing }
    }

    /// A call of cargo, as by [`cargo`].
    pub fn cargo() -> Self {
        Self { command: cargo(), input: Input::Nothing }
    }

    /// Appends arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs it in `folder`.
    #[must_use]
    pub fn dir(mut self, folder: &Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// Gives it `input` to read.
    #[must_use]
    pub fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = Input::Bytes(input.into());
        self
    }

    /// Lets it read what another program writes.
    #[must_use]
    pub fn read_from(mut self, other: ChildStdout) -> Self {
        self.input = Input::Pipe(other);
        self
    }

    /// Runs it to its end; its standard output is the answer.
    ///
    /// # Errors
    /// When it cannot start or ends with another code than 0; says the end of what it printed.
    pub fn output(mut self) -> Result<String> {
        let told = self.to_string();
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut bytes = Vec::new();
        match self.input {
            Input::Nothing => self.command.stdin(Stdio::null()),
            Input::Pipe(other) => self.command.stdin(other),
            Input::Bytes(given) => {
                bytes = given;
                self.command.stdin(Stdio::piped())
            }
        };
        let mut child = self.command.spawn().with_context(|| format!("start {told}"))?;
        if let Some(mut pipe) = child.stdin.take() {
            pipe.write_all(&bytes).with_context(|| format!("write to {told}"))?;
        }
        let output = child.wait_with_output().with_context(|| format!("wait for {told}"))?;
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            bail!("{told}: {}", failure(output.status, &[&output.stderr, &output.stdout]));
        }
        Ok(stdout)
    }

    /// Runs it to its end and ignores what it prints.
    ///
    /// # Errors
    /// As [`Run::output`].
    pub fn done(self) -> Result<()> {
        self.output().map(drop)
    }

    /// Whether it ends with 0.
    pub fn succeeds(self) -> bool {
        self.output().is_ok()
    }

    /// Runs it with its input and output on the terminal.
    ///
    /// # Errors
    /// When it cannot start or ends with another code than 0.
    pub fn shown(mut self) -> Result<()> {
        let told = self.to_string();
        let status = self.command.status().with_context(|| format!("start {told}"))?;
        if !status.success() {
            bail!("{told} ended with {status}");
        }
        Ok(())
    }

    /// Runs something that takes minutes: its output goes to `log`, and every 15 s a line says that it still runs.
    ///
    /// # Errors
    /// When it cannot start, ends with another code than 0 or takes longer than `limit`; says the end of the log.
    pub fn long(mut self, what: &str, limit: Duration, log: &Path, progress: &Progress) -> Result<()> {
        let told = self.to_string();
        let file = File::create(log).with_context(|| format!("create {}", log.display()))?;
        let errors = file.try_clone().context("share the log")?;
        self.command.stdin(Stdio::null()).stdout(file).stderr(errors);
        let mut child = self.command.spawn().with_context(|| format!("start {told}"))?;
        let ended = progress.wait(what, limit, || child.try_wait().context("wait for it"));
        if ended.is_err() {
            child.kill().with_context(|| format!("end {told}"))?;
            child.wait().with_context(|| format!("wait for {told}"))?;
        }
        let status = ended?;
        if !status.success() {
            let text = std::fs::read(log).unwrap_or_default();
            bail!("{told} ({}): {}", log.display(), failure(status, &[&text]));
        }
        Ok(())
    }
}

impl std::fmt::Display for Run {
    /// Program and arguments, cut where they get long.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let words: Vec<_> = std::iter::once(self.command.get_program())
            .chain(self.command.get_args())
            .map(OsStr::to_string_lossy)
            .collect();
        let text = words.join(" ");
        let short: String = text.chars().take(160).collect();
        write!(out, "`{short}{}`", if short.len() < text.len() { " ..." } else { "" })
    }
}

fn failure(status: ExitStatus, outputs: &[&[u8]]) -> String {
    let text: String =
        outputs.iter().map(|bytes| String::from_utf8_lossy(bytes)).collect::<Vec<_>>().join("\n");
    format!("{status}\n{}", tail(text.trim(), TAIL))
}

/// The last `bytes` of a text, from the start of a line where there is one.
pub fn tail(text: &str, bytes: usize) -> &str {
    let from = text.len().saturating_sub(bytes);
    let from = text.char_indices().map(|(at, _)| at).find(|at| *at >= from).unwrap_or(text.len());
    let end = text.get(from..).unwrap_or_default();
    match end.split_once('\n') {
        Some((_, lines)) if from > 0 => lines,
        _ => end,
    }
}

/// Where `program` lies on `path` (folders separated by colons).
pub fn find_on(path: &OsStr, program: &str) -> Option<PathBuf> {
    std::env::split_paths(path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// The user's PATH with the folders of system programs, which a plain user's PATH lacks.
pub fn system_path() -> OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin");
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_program_and_repeats_its_words() {
        let error = Run::new("sh").args(["-c", "echo no such luck >&2; exit 3"]).output().unwrap_err();
        let text = error.to_string();
        assert!(text.contains("sh -c") && text.contains("no such luck") && text.contains('3'), "{text}");
    }

    #[test]
    fn a_call_of_cargo_is_not_told_of_this_package() {
        // Cargo has told this test.
        assert!(std::env::vars_os().any(|(name, _)| name == "CARGO_PKG_NAME"));
        let told = Run::cargo().args(["--version"]);
        let told: Vec<_> = told.command.get_envs().filter(|(name, _)| tells_of_a_package(name)).collect();
        assert!(told.len() > 5 && told.iter().all(|(_, value)| value.is_none()), "{told:?}");
    }

    #[test]
    fn what_is_given_is_read() {
        assert_eq!(Run::new("cat").input("words").output().unwrap(), "words");
    }

    #[test]
    fn the_tail_begins_with_a_whole_line() {
        assert_eq!(tail("one\ntwo\nthree", 7), "three");
        assert_eq!(tail("short", 100), "short");
        assert_eq!(tail("äöü", 3), "ü");
    }
}
