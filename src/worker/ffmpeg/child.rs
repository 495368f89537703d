//! One child process: its words bounded, its end waited for, itself killed when nobody wants it any more.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::process::{Child, ChildStdout, Command};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};

use super::super::failure::{Failure, Outcome};
use super::super::lines::{for_each_line, printable};

/// First and last lines of standard error that are kept, each.
const LINES: usize = 10;
/// Longest line of standard error that is kept, characters.
const LINE: usize = 300;

/// The children that run now, to be killed when the worker must end.
#[derive(Clone, Debug, Default)]
pub struct Children(Arc<Mutex<BTreeSet<i32>>>);

impl Children {
    /// Kills all that run now.
    pub fn kill_all(&self) {
        for pid in self.lock().iter() {
            kill(*pid);
        }
    }

    fn kill_one(&self, pid: i32) {
        if self.lock().contains(&pid) {
            kill(pid);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeSet<i32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn kill(pid: i32) {
    if let Some(pid) = Pid::from_raw(pid) {
        // It may have ended by itself; then there is nothing to do.
        let _ = rustix::process::kill_process(pid, Signal::KILL);
    }
}

/// What a program said on standard error: the first and the last lines.
#[derive(Clone, Debug, Default)]
pub struct Said {
    first: Vec<String>,
    last: VecDeque<String>,
    /// Lines said in all.
    pub lines: u64,
}

impl Said {
    fn push(&mut self, line: &str) {
        self.lines = self.lines.saturating_add(1);
        let line = printable(line, LINE);
        if self.first.len() < LINES {
            self.first.push(line);
            return;
        }
        if self.last.len() == LINES {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }

    /// Whether the program told of a volume that cannot be read; ffmpeg goes on after that as if the film had ended.
    pub fn is_of_reading(&self) -> bool {
        self.kept().any(is_of_reading)
    }

    fn kept(&self) -> impl Iterator<Item = &str> {
        self.first.iter().chain(&self.last).map(String::as_str)
    }

    /// The first two and the last line, for a message.
    pub fn summary(&self) -> String {
        let last = self.last.back().or_else(|| self.first.get(2..)?.last());
        let lines: Vec<&str> = self.first.iter().take(2).chain(last).map(|line| line.trim()).collect();
        lines.join("; ")
    }

    fn everything(&self) -> String {
        self.kept().collect::<Vec<_>>().join("; ")
    }
}

/// Whether ffmpeg's words tell of a volume that cannot be read.
pub fn is_of_reading(said: &str) -> bool {
    said.contains("Input/output error") || said.contains("Stale file handle")
}

/// A running child. Dropped without [`Running::wait`], it is killed.
#[derive(Debug)]
pub struct Running {
    program: &'static str,
    purpose: &'static str,
    child: Child,
    pid: i32,
    children: Children,
    listener: Option<JoinHandle<Said>>,
    /// Dropping it ends the watch over the deadline.
    watch: Option<mpsc::Sender<()>>,
}

impl Running {
    pub(super) fn start(
        program: &'static str,
        purpose: &'static str,
        mut command: Command,
        deadline: Option<Duration>,
        children: &Children,
        mut heard: impl FnMut(&str) -> bool + Send + 'static,
    ) -> Outcome<Self> {
        let mut child = command.spawn().map_err(|error| Failure::Tool {
            program,
            purpose,
            ended: format!("could not be started as {}", command.get_program().display()),
            said: error.to_string(),
        })?;
        let pid = i32::try_from(child.id()).unwrap_or(0);
        children.lock().insert(pid);
        let listener = child.stderr.take().map(|stderr| {
            std::thread::spawn(move || {
                let mut said = Said::default();
                let read = for_each_line(stderr, |line| {
                    if !heard(line) {
                        said.push(line);
                    }
                    true
                });
                if let Err(error) = read {
                    said.push(&format!("its standard error could not be read: {error}"));
                }
                said
            })
        });
        let watch = deadline.map(|deadline| {
            let (sender, receiver) = mpsc::channel();
            let children = children.clone();
            std::thread::spawn(move || {
                if receiver.recv_timeout(deadline) == Err(mpsc::RecvTimeoutError::Timeout) {
                    children.kill_one(pid);
                }
            });
            sender
        });
        Ok(Self { program, purpose, child, pid, children: children.clone(), listener, watch })
    }

    /// Its standard output, once.
    pub fn take_output(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// The failure to read from it.
    pub fn broken(&self, error: &io::Error) -> Failure {
        self.failure("could not be read from".to_owned(), error.to_string())
    }

    /// Waits for its end; what it said, if it succeeded.
    ///
    /// # Errors
    /// [`Failure::Tool`] if it did not succeed.
    pub fn wait(mut self) -> Outcome<Said> {
        drop(self.child.stdout.take());
        let status = self.reap().map_err(|error| self.broken(&error))?;
        let said = self.listener.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        if status.success() {
            return Ok(said);
        }
        Err(self.failure(format!("ended with {status}"), said.everything()))
    }

    fn failure(&self, ended: String, said: String) -> Failure {
        Failure::Tool { program: self.program, purpose: self.purpose, ended, said }
    }

    /// Waits, and takes the process off the list while its number cannot have been given to another yet.
    fn reap(&mut self) -> io::Result<std::process::ExitStatus> {
        if let Some(pid) = Pid::from_raw(self.pid) {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            while let Err(error) = rustix::process::waitid(WaitId::Pid(pid), options) {
                if error != rustix::io::Errno::INTR {
                    break;
                }
            }
        }
        self.children.lock().remove(&self.pid);
        self.watch = None;
        self.child.wait()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.children.kill_one(self.pid);
        if self.children.lock().contains(&self.pid) {
            // Nobody asks for the status of a child that was given up.
            let _ = self.reap();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, deadline: Option<Duration>, children: &Children) -> Running {
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", script])
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        Running::start("ffmpeg", "test", command, deadline, children, |_| false).unwrap()
    }

    #[test]
    fn words_are_bounded_and_the_status_is_told() {
        let children = Children::default();
        let error = shell("for i in $(seq 5000); do echo line $i >&2; done; exit 3", None, &children)
            .wait()
            .unwrap_err()
            .to_string();
        assert!(error.contains("exit status: 3") && error.contains("line 1;") && error.contains("line 5000"));
        assert!(error.len() < 500, "{error}");
        assert!(children.lock().is_empty());
    }

    #[test]
    fn the_deadline_and_the_end_of_the_worker_kill() {
        let children = Children::default();
        let late = shell("exec sleep 100", Some(Duration::from_millis(50)), &children);
        assert!(late.wait().unwrap_err().to_string().contains("signal: 9"));
        let running = shell("exec sleep 100", None, &children);
        children.kill_all();
        assert!(running.wait().is_err());
        drop(shell("exec sleep 100", None, &children));
        assert!(children.lock().is_empty());
    }
}
