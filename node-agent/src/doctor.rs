//! `--doctor`: everything the agent needs, checked one by one, each with what was found and what to do about it.

mod api;
mod local;

use std::fmt;
use std::io::{self, Write};

use kube::Client;
use video_upscale::api::report::State;

use crate::observer::Snapshot;
use crate::once::{NO_DRIVER, NO_GPU};

pub use local::Place;

/// A check other than of driver and GPUs failed.
const FAILED: u8 = 1;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    /// As it should be.
    Ok,
    /// The agent works, but knows or tells less than it could.
    Warn,
    /// The agent cannot do its work.
    Fail,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        })
    }
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Check {
    name: &'static str,
    verdict: Verdict,
    told: String,
}

impl Check {
    fn ok(name: &'static str, told: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Ok, told: told.into() }
    }

    fn warn(name: &'static str, told: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Warn, told: told.into() }
    }

    fn fail(name: &'static str, told: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Fail, told: told.into() }
    }
}

/// Whom to ask about the API server's side.
pub struct Cluster<'a> {
    /// A client, or why there is none.
    pub client: Result<Client, String>,
    /// The node to report.
    pub node: &'a str,
}

/// Makes every check, prints them, and returns the exit code. Without a node the API server is not asked.
///
/// # Errors
/// When nothing can be printed.
pub async fn run(snapshot: &Snapshot, place: &Place, cluster: Option<Cluster<'_>>) -> io::Result<u8> {
    let mut checks = local::checks(snapshot, place);
    match cluster {
        Some(cluster) => checks.extend(api::checks(cluster, &place.report).await),
        None => checks.push(Check::warn("api", "not asked: name the node with --node-name")),
    }
    let mut out = io::stdout().lock();
    for Check { name, verdict, told } in &checks {
        writeln!(out, "{verdict:<5} {name:<14} {told}")?;
    }
    out.flush()?;
    Ok(code(snapshot.state, &checks))
}

fn code(state: State, checks: &[Check]) -> u8 {
    match state {
        State::NoGpu => NO_GPU,
        State::Ok if checks.iter().any(|check| check.verdict == Verdict::Fail) => FAILED,
        State::Ok => 0,
        _ => NO_DRIVER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_names_the_gravest_trouble() {
        let warned = [Check::ok("a", ""), Check::warn("b", "")];
        let failed = [Check::warn("a", ""), Check::fail("b", "")];
        assert_eq!(code(State::Ok, &warned), 0);
        assert_eq!(code(State::Ok, &failed), FAILED);
        assert_eq!(code(State::NoGpu, &failed), NO_GPU);
        for state in [State::NoDriver, State::DriverMismatch, State::NvmlStuck] {
            assert_eq!(code(state, &warned), NO_DRIVER);
        }
    }
}
