//! The bed's own processes: started as what the next call finds again, outside the terminal's reach, with their output in a log.

use std::ffi::{OsStr, OsString};
use std::fs::OpenOptions;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::process_set::ProcessSet;
use super::record::Process;

/// Joins the groups named first, then becomes the program named last: no process of it is ever outside.
const JOIN: &str = r#"n=$1; shift; while [ "$n" -gt 0 ]; do echo $$ >"$1" || exit 125; shift; n=$((n - 1)); done; exec "$@""#;

/// A process to be started.
#[derive(Debug)]
pub struct Daemon {
    /// Its name in the record and of its log.
    pub name: String,
    words: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
}

impl Daemon {
    /// The process `name`, which runs `program`.
    pub fn new(name: impl Into<String>, program: &Path) -> Self {
        Self { name: name.into(), words: vec![program.into()], env: Vec::new() }
    }

    /// Appends arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.words.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Appends `--name=value`.
    #[must_use]
    pub fn flag(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        let mut word = OsString::from(format!("--{name}="));
        word.push(value);
        self.words.push(word);
        self
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.into(), value.as_ref().to_owned()));
        self
    }

    /// Lets it run in the namespaces that these files hold.
    #[must_use]
    pub fn inside(mut self, network: &Path, mounts: Option<&Path>) -> Self {
        let mut words = vec![OsString::from("nsenter")];
        for (kind, file) in [("net", Some(network)), ("mount", mounts)] {
            if let Some(file) = file {
                let mut word = OsString::from(format!("--{kind}="));
                word.push(file);
                words.push(word);
            }
        }
        words.push("--".into());
        words.append(&mut self.words);
        self.words = words;
        self
    }

    /// Its log below `logs`.
    pub fn log(name: &str, logs: &Path) -> PathBuf {
        logs.join(format!("{name}.log"))
    }

    /// Starts it.
    ///
    /// # Errors
    /// When the log cannot be written or the process not be started.
    pub fn start(self, set: &ProcessSet, logs: &Path) -> Result<Process> {
        let file = Self::log(&self.name, logs);
        let log = OpenOptions::new().create(true).append(true).open(&file);
        let log = log.with_context(|| format!("open {}", file.display()))?;
        let groups = set.entry();
        let child = Command::new("sh")
            .args(["-c", JOIN, &self.name, &groups.len().to_string()])
            .args(&groups)
            .args(&self.words)
            .envs(self.env)
            .envs(set.mark())
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("share the log")?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {}", self.name))?;
        Process::find(child.id())
            .with_context(|| format!("{} ended at once; see {}", self.name, file.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_enters_its_namespaces_before_it_becomes_itself() {
        let daemon = Daemon::new("kubelet", Path::new("/bin/kubelet"))
            .flag("config", "/x")
            .inside(Path::new("/run/n.net"), Some(Path::new("/run/n.mnt")));
        let words: Vec<_> = daemon.words.iter().map(|word| word.to_string_lossy()).collect();
        assert_eq!(
            words,
            ["nsenter", "--net=/run/n.net", "--mount=/run/n.mnt", "--", "/bin/kubelet", "--config=/x"]
        );
    }
}
