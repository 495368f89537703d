//! The worker with a script in the place of its ffmpeg, which does more or less than it should.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, WaitOptions, waitpid};

use crate::bench::Bench;

/// The command with a program in place of its ffmpeg.
fn with_ffmpeg(command: &Command, ffmpeg: &Path) -> Command {
    let mut other = Command::new(command.get_program());
    other.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut replace = false;
    for arg in command.get_args() {
        if replace {
            other.arg(ffmpeg);
        } else {
            other.arg(arg);
        }
        replace = arg == "--ffmpeg";
    }
    other
}

/// The command's ffmpeg.
fn ffmpeg_of(command: &Command) -> PathBuf {
    let mut args = command.get_args().skip_while(|arg| *arg != "--ffmpeg");
    args.nth(1).unwrap().into()
}

/// The command with a script as its ffmpeg; `FFMPEG` in it is the real one.
pub fn scripted(bench: &Bench, name: &str, command: &Command, script: &str) -> Command {
    let path = bench.root().join(name);
    let text = format!("#!/bin/sh\n{}", script.replace("FFMPEG", &format!("{:?}", ffmpeg_of(command))));
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    with_ffmpeg(command, &path)
}

/// Starts a command in a process group of its own.
pub fn spawn(mut command: Command) -> (Child, Pid) {
    let child = command.process_group(0).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    (child, pid)
}

/// Waits until a child of ours is stopped.
pub fn wait_until_stopped(pid: Pid) {
    let (_, status) = waitpid(Some(pid), WaitOptions::UNTRACED).unwrap().unwrap();
    assert!(status.stopped(), "it has ended: {status:?}");
}
