//! What tests do to a bed that runs, beside what befalls its GPUs.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::{Bed, NODES, gpus};

impl Bed {
    /// Keeps new pods away from the nodes, or lets them in again.
    ///
    /// # Errors
    /// When kubectl fails.
    pub fn cordon(&self, away: bool) -> Result<()> {
        let verb = if away { "cordon" } else { "uncordon" };
        self.kubectl(&[&[verb], NODES.as_slice()].concat()).map(drop)
    }

    /// Lets the simulated driver of a node stand still, so that every call to it hangs, or go on.
    ///
    /// # Errors
    /// When it does not run.
    pub fn hold_driver(&self, node: &str, still: bool) -> Result<()> {
        let driver = self
            .record
            .daemons
            .get(&gpus::daemon(node))
            .with_context(|| format!("find the driver of {node}"))?;
        let pid =
            i32::try_from(driver.pid).ok().and_then(Pid::from_raw).context("a process without a number")?;
        ensure!(driver.runs(), "the driver of {node} has ended");
        let signal = if still { Signal::STOP } else { Signal::CONT };
        kill_process(pid, signal).with_context(|| format!("signal the driver of {node}"))
    }

    /// Ends every process of the bed whose program is called `program` with SIGKILL; tells how many.
    ///
    /// # Errors
    /// When the bed's processes cannot be listed.
    pub fn kill(&self, program: &str) -> Result<usize> {
        let mut killed = 0_usize;
        for pid in self.group.processes()? {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let first = line.split(|byte| *byte == 0).next().unwrap_or_default();
            let name = Path::new(std::str::from_utf8(first).unwrap_or_default()).file_name();
            if name.is_some_and(|name| name == program)
                && Pid::from_raw(pid).is_some_and(|pid| kill_process(pid, Signal::KILL).is_ok())
            {
                killed = killed.saturating_add(1);
            }
        }
        Ok(killed)
    }

    /// Ends the controller with SIGKILL, as a machine would that loses power.
    ///
    /// # Errors
    /// When no controller runs.
    pub fn kill_controller(&self) -> Result<()> {
        ensure!(self.kill("upscale-controller")? > 0, "no controller runs on the bed");
        Ok(())
    }
}
