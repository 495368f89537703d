//! `cargo xtask gpu`: what happens to the simulated GPUs of a running bed.

mod hog;

use anyhow::Result;
use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use gpusim::card::{Gpu, MIB};
use gpusim::control::{Command, DriverAction, GpuState, PinMode, Spoil, ViewMode};

use crate::bed::{Bed, NODES};

pub use hog::{HOG, Hog};

/// A node of the bed.
#[derive(Args, Clone, Debug)]
pub struct OnNode {
    /// The node
    #[arg(value_parser = PossibleValuesParser::new(NODES))]
    pub node: String,
}

/// A GPU of the bed.
#[derive(Args, Clone, Debug)]
pub struct OnGpu {
    /// Its node
    #[arg(value_parser = PossibleValuesParser::new(NODES))]
    pub node: String,
    /// Index on the node, or UUID
    pub gpu: Gpu,
}

/// What happens.
#[derive(Subcommand, Clone, Debug)]
pub enum Act {
    /// Show every GPU: memory, who holds it, health
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Let a foreign process hold memory until `release`
    Hog {
        /// Where
        #[command(flatten)]
        on: OnGpu,
        /// How much, MiB
        #[arg(long)]
        mib: u64,
        /// As a pod of this namespace, made on demand; without it as a process of the host
        #[arg(long, value_name = "NAMESPACE")]
        pod_in: Option<String>,
    },
    /// End the foreign processes on a GPU
    Release {
        /// Where
        #[command(flatten)]
        on: OnGpu,
    },
    /// Let a GPU fall off the bus (Xid 79), or bring it back
    Lose {
        /// Where
        #[command(flatten)]
        on: OnGpu,
        /// Bring it back
        #[arg(long)]
        back: bool,
    },
    /// Raise an Xid event
    Xid {
        /// Where
        #[command(flatten)]
        on: OnGpu,
        /// Its number: 13, 31, 48, 79, ...
        code: u64,
    },
    /// Let memory be held by no process; replaces what leaked before, 0 heals
    Leak {
        /// Where
        #[command(flatten)]
        on: OnGpu,
        /// How much, MiB
        mib: u64,
    },
    /// Keep the memory of processes that end from now on
    LeakOnExit {
        /// Where
        #[command(flatten)]
        on: OnGpu,
        /// Stop keeping it; what was kept stays until `leak NODE GPU 0`
        #[arg(long)]
        off: bool,
    },
    /// Let memory of processes that end from now on come back slowly
    SlowRelease {
        /// Where
        #[command(flatten)]
        on: OnGpu,
        /// Until all of it is back, milliseconds; 0 = at once
        millis: u64,
    },
    /// Unload, load or reload a node's driver; all its memory is given back
    Driver {
        /// Where
        #[command(flatten)]
        on: OnNode,
        /// What to do
        action: DriverAction,
        /// Version from now on
        #[arg(long)]
        version: Option<String>,
    },
    /// Break NVIDIA_VISIBLE_DEVICES on a node, or let it work again
    Pin {
        /// Where
        #[command(flatten)]
        on: OnNode,
        /// How
        mode: PinMode,
    },
    /// Spoil what the engine makes on a GPU
    Engine {
        /// Where
        #[command(flatten)]
        on: OnGpu,
        /// How
        spoil: Spoil,
        /// For so many runs; without it until told otherwise
        #[arg(long)]
        runs: Option<u32>,
    },
    /// Set what an engine truly needs on a GPU, apart from the profile's estimate
    Need {
        /// Where
        #[command(flatten)]
        on: OnGpu,
        /// Percent of the published formula
        #[arg(value_parser = clap::value_parser!(u32).range(1..=1000))]
        percent: u32,
    },
    /// Choose whose process ids a node's driver shows
    View {
        /// Where
        #[command(flatten)]
        on: OnNode,
        /// Which
        mode: ViewMode,
    },
}

impl Act {
    /// Does it, on the bed that is up.
    ///
    /// # Errors
    /// When no bed is up, or the driver refuses.
    pub fn run(self) -> Result<()> {
        let bed = Bed::attach()?;
        let (node, command) = match self {
            Self::List { json } => return list(&bed, json),
            Self::Hog { on, mib, pod_in } => {
                let gpu = on.gpu.to_string();
                let hog = match pod_in {
                    Some(namespace) => bed.hog_pod(&namespace, &on.node, &gpu, mib)?,
                    None => bed.hog_process(&on.node, &gpu, mib)?,
                };
                println!("{hog} holds {mib} MiB of GPU {} of {}", on.gpu, on.node);
                return Ok(());
            }
            Self::Release { on } => {
                println!("ended {} foreign process(es)", bed.release(&on.node, &on.gpu.to_string())?);
                return Ok(());
            }
            Self::Lose { on, back } => (on.node, Command::Lose { gpu: on.gpu, back }),
            Self::Xid { on, code } => (on.node, Command::Xid { gpu: on.gpu, code }),
            Self::Leak { on, mib } => (on.node, Command::Leak { gpu: on.gpu, mib }),
            Self::LeakOnExit { on, off } => (on.node, Command::LeakOnExit { gpu: on.gpu, off }),
            Self::SlowRelease { on, millis } => (on.node, Command::SlowRelease { gpu: on.gpu, millis }),
            Self::Driver { on, action, version } => (on.node, Command::Driver { action, version }),
            Self::Pin { on, mode } => (on.node, Command::Pin { mode }),
            Self::Engine { on, spoil, runs } => (on.node, Command::Engine { gpu: on.gpu, spoil, runs }),
            Self::Need { on, percent } => (on.node, Command::Need { gpu: on.gpu, percent }),
            Self::View { on, mode } => (on.node, Command::View { mode }),
        };
        bed.control(&node)?.run(&command)?;
        Ok(())
    }
}

fn list(bed: &Bed, json: bool) -> Result<()> {
    let gpus = bed.gpus()?;
    if json {
        println!("{}", serde_json::to_string_pretty(&gpus)?);
        return Ok(());
    }
    println!("{}", row(&["NODE", "GPU", "MODEL", "TOTAL", "FREE", "HEALTH", "HELD BY", "UUID"]));
    for gpu in &gpus {
        let (index, total, free) = (gpu.index.to_string(), mib(gpu.total), mib(gpu.free));
        let (health, holders) = (format!("{:?}", gpu.health), holders(gpu));
        println!("{}", row(&[&gpu.node, &index, &gpu.model, &total, &free, &health, &holders, &gpu.uuid]));
    }
    Ok(())
}

fn row(cells: &[&str; 8]) -> String {
    let [node, gpu, model, total, free, health, holders, uuid] = cells;
    format!("{node:<8}{gpu:<5}{model:<26}{total:>10}{free:>11}  {health:<8}{holders:<32}{uuid}")
}

fn holders(gpu: &GpuState) -> String {
    let leaked = (gpu.unowned > 0).then(|| format!("nobody {}", mib(gpu.unowned)));
    let holders = gpu.holders.iter().map(|holder| format!("pid {} {}", holder.pid, mib(holder.bytes)));
    let all: Vec<String> = holders.chain(leaked).collect();
    if all.is_empty() { "-".to_owned() } else { all.join(", ") }
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes.checked_div(MIB).unwrap_or(0))
}
