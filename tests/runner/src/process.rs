//! The life of one container's process.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use crate::command::Words;
use crate::marked;

/// Variable that names a process's container.
const MARK: &str = "POD_RUNNER_CONTAINER";
/// What a signal's number is added to.
const BY_SIGNAL: i32 = 128;
/// Most of a termination message that is kept, bytes; as kubelets do.
const MESSAGE: usize = 4096;
/// Most of a log that stands in for one, bytes; as kubelets do.
const LOG: usize = 2048;

/// Where the files of a container lie.
#[derive(Clone, Debug)]
pub struct Files {
    /// Its working folder.
    pub folder: PathBuf,
    /// Its output.
    pub log: PathBuf,
    /// Its termination message.
    pub message: PathBuf,
}

/// A process that runs.
pub struct Process {
    child: Child,
    mark: String,
}

impl Process {
    /// Starts it; `name` is the container's, unique on this machine.
    ///
    /// # Errors
    /// When there is no such program, or a file cannot be made.
    pub fn start(words: &Words, every: &BTreeMap<String, String>, name: &str, files: &Files) -> Result<Self> {
        for folder in [Some(files.folder.as_path()), files.log.parent()].into_iter().flatten() {
            fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        }
        fs::write(&files.message, "").with_context(|| format!("create {}", files.message.display()))?;
        let log = OpenOptions::new().create(true).append(true).open(&files.log);
        let log = log.with_context(|| format!("open {}", files.log.display()))?;
        let (program, args) = words.words.split_first().context("a container without a program")?;
        let child = Command::new(program)
            .args(args)
            .env_clear()
            .envs(&words.env)
            .envs(every)
            .env(MARK, name)
            .current_dir(&files.folder)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("share the log")?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {program}"))?;
        Ok(Self { child, mark: name.to_owned() })
    }

    /// Waits for its end, which takes with it whatever it has started; its exit code.
    pub async fn ended(&mut self) -> i32 {
        let status = self.child.wait().await;
        self.kill();
        status.map_or(BY_SIGNAL, code)
    }

    /// Asks it to end, and ends it after `grace`; its exit code.
    pub async fn end(&mut self, grace: Duration) -> i32 {
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // It may have ended by itself meanwhile.
            let _already_gone = kill_process(pid, Signal::TERM);
        }
        match tokio::time::timeout(grace, self.ended()).await {
            Ok(code) => code,
            Err(_) => {
                self.kill();
                self.ended().await
            }
        }
    }

    fn kill(&self) {
        if let Err(error) = marked::kill(MARK, &self.mark) {
            eprintln!("end what is left of {}: {error}", self.mark);
        }
    }
}

fn code(status: ExitStatus) -> i32 {
    let signal = status.signal().map(|signal| BY_SIGNAL.saturating_add(signal));
    status.code().or(signal).unwrap_or(BY_SIGNAL)
}

/// A container's last words: its message, or, where `log` says so and there is none, the end of what it printed.
pub fn last_words(files: &Files, log: bool) -> String {
    let message = read_end(&files.message, MESSAGE);
    if message.is_empty() && log { read_end(&files.log, LOG) } else { message }
}

fn read_end(file: &Path, bytes: usize) -> String {
    let text = fs::read(file).unwrap_or_default();
    let from = text.len().saturating_sub(bytes);
    String::from_utf8_lossy(text.get(from..).unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(folder: &Path) -> Files {
        Files {
            folder: folder.join("root"),
            log: folder.join("logs/log"),
            message: folder.join("root/message"),
        }
    }

    fn shell(script: &str) -> Words {
        Words {
            words: ["sh", "-c", script].map(str::to_owned).into(),
            env: [("PATH".to_owned(), "/usr/bin:/bin".to_owned())].into(),
        }
    }

    #[tokio::test]
    async fn a_containers_end_takes_its_children_along_and_leaves_its_words() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path());
        let name = format!("{}/end", std::process::id());
        let words = shell("sleep 60 & echo said; exit 3");
        let mut process = Process::start(&words, &BTreeMap::new(), &name, &files).unwrap();
        assert_eq!(process.ended().await, 3);
        assert_eq!(last_words(&files, true), "said\n");
        assert_eq!(last_words(&files, false), "");
        fs::write(&files.message, "message").unwrap();
        assert_eq!(last_words(&files, true), "message");
        while !marked::processes(MARK, &name).unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn who_does_not_obey_is_ended() {
        let folder = tempfile::tempdir().unwrap();
        let name = format!("{}/stubborn", std::process::id());
        let files = files(folder.path());
        let words = shell("trap '' TERM; echo set; while :; do sleep 60; done");
        let mut process = Process::start(&words, &BTreeMap::new(), &name, &files).unwrap();
        while fs::read_to_string(&files.log).unwrap_or_default().is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(process.end(Duration::from_millis(100)).await, 137);
    }
}
