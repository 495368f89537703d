//! What a machine lets a bed be: a real cluster, or the same programs with pods as plain processes. Decided here and nowhere
//! else; a machine that can have the first never gets the second.

use std::fs;

use serde::{Deserialize, Serialize};

use super::control_group;
use crate::progress::Progress;

/// `CAP_NET_ADMIN` and `CAP_SYS_ADMIN` of `linux/capability.h`: networks, and namespaces with mounts.
const CAPABILITIES: u64 = (1 << 12) | (1 << 21);

/// What a bed is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Grade {
    /// Two nodes with container runtimes and kubelets, networks and control groups of their own.
    Full,
    /// The same control plane and programs; a runner in the kubelets' place runs pods as processes of the user.
    Plain,
}

/// What a machine gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The user is root.
    pub root: bool,
    /// The user may make namespaces, mounts and networks.
    pub namespaces: bool,
    /// The user may make control groups.
    pub control_groups: bool,
}

impl Machine {
    /// Looks around. The only trace is a control group that is made and removed.
    pub fn look() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let root = rustix::process::geteuid().is_root();
        Self { root, namespaces: may(&status), control_groups: root && control_group::can_be_made() }
    }

    /// What it lacks for a full bed.
    fn lacks(self) -> Vec<&'static str> {
        let all = [
            (self.root, "root"),
            (self.namespaces, "the right to make namespaces and networks"),
            (self.control_groups, "control groups that can be written"),
        ];
        all.into_iter().filter(|(there, _)| !there).map(|(_, what)| what).collect()
    }
}

/// Whether the effective capabilities in a `/proc/PID/status` contain all that are needed.
fn may(status: &str) -> bool {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let set = line.and_then(|line| u64::from_str_radix(line.trim(), 16).ok()).unwrap_or(0);
    set & CAPABILITIES == CAPABILITIES
}

impl Grade {
    /// The best that the machine allows.
    pub fn of(machine: Machine) -> Self {
        if machine.lacks().is_empty() { Self::Full } else { Self::Plain }
    }
}

/// What a plain bed leaves untested.
const UNTESTED: &[&str] = &[
    "containers: images, their users, their read-only roots, their mounts",
    "the runtime class and how a runtime hands a GPU to a container (the runner sets the variables itself)",
    "whose a process on a GPU is: the agent tells pods by control groups, so here every process is the machine's",
    "memory limits (OOMKilled), deadlines of pods, eviction, ephemeral-storage limits",
    "Pod Security at run time: users, capabilities, seccomp (admission is tested)",
    "pod networks and NetworkPolicy: all pods are on the loopback interface",
    "real volumes: fsGroup, access modes, read-only mounts",
    "kubelets: liveness probes, kubectl logs and exec, image pulls, lost and drained nodes",
];

/// Says loudly what a bed on this machine is not.
pub fn warn(machine: Machine, progress: &Progress) {
    progress.say("========================================================================");
    progress.say("THIS IS NOT THE FULL BED: pods run as plain processes, without containers");
    progress.say(format_args!("this machine lacks {}", machine.lacks().join(", ")));
    progress.say(
        "API server, scheduler, chart, controller, agent, worker and simulated driver are the usual ones",
    );
    progress.say(untested());
    progress.say("========================================================================");
}

/// What a plain bed leaves untested, for people.
pub fn untested() -> String {
    format!("NOT TESTED here, as pods are plain processes:\n  - {}", UNTESTED.join("\n  - "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABLE: Machine = Machine { root: true, namespaces: true, control_groups: true };

    #[test]
    fn only_a_machine_that_gives_everything_gets_the_full_bed() {
        assert_eq!(Grade::of(ABLE), Grade::Full);
        for machine in [
            Machine { root: false, ..ABLE },
            Machine { namespaces: false, ..ABLE },
            Machine { control_groups: false, ..ABLE },
        ] {
            assert_eq!(Grade::of(machine), Grade::Plain);
            assert_eq!(machine.lacks().len(), 1);
        }
    }

    #[test]
    fn rights_are_read_from_the_kernels_words() {
        assert!(may("Name:\tx\nCapEff:\t000001ffffffffff\n"));
        // As a container runtime leaves them to root.
        assert!(!may("CapEff:\t00000000a80425fb\n"));
        assert!(!may("CapEff:\t0000000000001000\n"));
        assert!(!may(""));
    }
}
