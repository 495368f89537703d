//! What tests do to a bed that runs, beside what befalls its GPUs.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use gpusim::control::GpuState;
use rustix::process::{Pid, Signal, kill_process};
use video_upscale::api::keys;

use super::{Bed, NODES, gpus, node};

/// Program of the controllers.
const CONTROLLER: &str = "upscale-controller";

impl Bed {
    /// Keeps new pods away from the nodes, or lets them in again.
    ///
    /// # Errors
    /// When kubectl fails.
    pub fn cordon(&self, away: bool) -> Result<()> {
        let verb = if away { "cordon" } else { "uncordon" };
        self.kubectl(&[&[verb], NODES.as_slice()].concat()).map(drop)
    }

    /// Takes GPUs out of what the operator may use, as an administrator does; those that it is not said of come back.
    ///
    /// # Errors
    /// When a driver does not answer, or kubectl fails.
    pub fn exclude(&self, which: impl Fn(&GpuState) -> bool) -> Result<()> {
        let cards = self.gpus()?;
        for node in NODES {
            let here = cards.iter().filter(|card| card.node == node && which(card));
            let out: Vec<&str> = here.map(|card| card.uuid.as_str()).collect();
            let note = match out.as_slice() {
                [] => format!("{}-", keys::EXCLUDE_GPUS),
                out => format!("{}={}", keys::EXCLUDE_GPUS, out.join(",")),
            };
            self.kubectl(&["annotate", "node", node, "--overwrite", &note])?;
        }
        Ok(())
    }

    /// Lets the simulated driver of a node stand still, so that every call to it hangs, or go on.
    ///
    /// # Errors
    /// When it does not run.
    pub fn hold_driver(&self, node: &str, still: bool) -> Result<()> {
        self.hold(&gpus::daemon(node), still)
    }

    /// Lets the kubelet of a node stand still, so that the node falls silent while its pods run on, or go on.
    ///
    /// # Errors
    /// When it does not run.
    pub fn hold_kubelet(&self, node: &str, still: bool) -> Result<()> {
        self.hold(&node::kubelet(node), still)
    }

    fn hold(&self, daemon: &str, still: bool) -> Result<()> {
        let process = self.record.daemons.get(daemon).with_context(|| format!("find {daemon}"))?;
        let pid =
            i32::try_from(process.pid).ok().and_then(Pid::from_raw).context("a process without a number")?;
        ensure!(process.runs(), "{daemon} has ended");
        let signal = if still { Signal::STOP } else { Signal::CONT };
        kill_process(pid, signal).with_context(|| format!("signal {daemon}"))
    }

    /// Declares a node out of service, so that its pods are given up while it is silent, or back in service.
    ///
    /// # Errors
    /// When kubectl fails.
    pub fn out_of_service(&self, node: &str, out: bool) -> Result<()> {
        let taint = "node.kubernetes.io/out-of-service=nodeshutdown:NoExecute";
        let there = self.kubectl(&["get", "node", node, "-o", "jsonpath={.spec.taints[*].key}"])?;
        if there.contains("out-of-service") == out {
            return Ok(());
        }
        let taint = if out { taint.to_owned() } else { format!("{taint}-") };
        self.kubectl(&["taint", "node", node, &taint]).map(drop)
    }

    /// Sends a signal to every process of the bed whose program is called `program`; tells how many there were.
    ///
    /// # Errors
    /// When the bed's processes cannot be listed.
    pub fn signal(&self, program: &str, signal: Signal) -> Result<usize> {
        self.signal_where(signal, |pid| is_program(pid, program))
    }

    /// Ends all controllers with SIGKILL, as a machine would that loses power; whether there was one.
    ///
    /// # Errors
    /// When the bed's processes cannot be listed.
    pub fn kill_controllers(&self) -> Result<bool> {
        Ok(self.signal(CONTROLLER, Signal::KILL)? > 0)
    }

    /// Ends the controller of that pod alone with SIGKILL.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill_controller(&self, pod: &str) -> Result<()> {
        let name = format!("POD_NAME={pod}");
        let killed = self.signal_where(Signal::KILL, |pid| {
            is_program(pid, CONTROLLER) && words(pid, "environ").contains(&name)
        })?;
        ensure!(killed == 1, "{killed} controllers of pod {pod} run on the bed");
        Ok(())
    }

    /// Lets the controllers of a release stand still, as if their node were out of breath, or go on.
    ///
    /// # Errors
    /// When none runs.
    pub fn hold_controllers(&self, namespace: &str, still: bool) -> Result<()> {
        let place = format!("POD_NAMESPACE={namespace}");
        let signal = if still { Signal::STOP } else { Signal::CONT };
        let held = self.signal_where(signal, |pid| {
            is_program(pid, CONTROLLER) && words(pid, "environ").contains(&place)
        })?;
        ensure!(held > 0, "no controller of {namespace} runs on the bed");
        Ok(())
    }

    fn signal_where(&self, signal: Signal, wanted: impl Fn(i32) -> bool) -> Result<usize> {
        let mut reached = 0_usize;
        for pid in self.processes.processes()?.into_iter().filter(|pid| wanted(*pid)) {
            if Pid::from_raw(pid).is_some_and(|pid| kill_process(pid, signal).is_ok()) {
                reached = reached.saturating_add(1);
            }
        }
        Ok(reached)
    }
}

/// Whether a process is of that program.
fn is_program(pid: i32, program: &str) -> bool {
    let words = words(pid, "cmdline");
    words.first().and_then(|first| Path::new(first).file_name()).is_some_and(|name| name == program)
}

/// What `/proc` tells of a process with a zero byte after each word; nothing of one that is gone.
fn words(pid: i32, file: &str) -> Vec<String> {
    let text = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
    text.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}
