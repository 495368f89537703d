//! Processes by a variable of their environment: every child has it too, whoever its parent is by now.

use std::fs;
use std::io;

use rustix::process::{Pid, Signal, kill_process};

/// The processes whose environment says `name=value`, as far as this user may look at them.
///
/// # Errors
/// When `/proc` cannot be listed.
pub fn processes(name: &str, value: &str) -> io::Result<Vec<Pid>> {
    let word = format!("{name}={value}");
    let pids = fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let says = |pid: &i32| {
        let text = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        text.split(|byte| *byte == 0).any(|its| its == word.as_bytes())
    };
    Ok(pids.filter(says).filter_map(Pid::from_raw).collect())
}

/// Ends them at once; tells which there were.
///
/// # Errors
/// When `/proc` cannot be listed.
pub fn kill(name: &str, value: &str) -> io::Result<Vec<Pid>> {
    let found = processes(name, value)?;
    for pid in &found {
        // It may have ended between the two calls: the next look will tell.
        let _already_gone = kill_process(*pid, Signal::KILL);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_grandchild_is_found_by_what_its_grandparent_was_given_and_a_stranger_is_not() {
        let value = format!("{}", std::process::id());
        let mut shell = Command::new("sh")
            .args(["-c", "sleep 60 & wait"])
            .env("RUNNER_TEST_MARK", &value)
            .spawn()
            .unwrap();
        while processes("RUNNER_TEST_MARK", &value).unwrap().len() < 2 {
            assert!(shell.try_wait().unwrap().is_none());
            std::thread::yield_now();
        }
        assert_eq!(processes("RUNNER_TEST_MARK", "another").unwrap(), []);
        assert_eq!(kill("RUNNER_TEST_MARK", &value).unwrap().len(), 2);
        shell.wait().unwrap();
    }
}
