//! What a test does to the driver: commands over the control socket, which no pod ever sees.
//!
//! [`Command`] is the wire form and, at the same time, a clap subcommand, so that every tool names things alike.

use std::io;
use std::path::Path;

use clap::{Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::card::Gpu;
use crate::wire::Line;

/// One act on a node's driver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Subcommand)]
pub enum Command {
    /// Show every GPU: memory, holders, health.
    List,
    /// Let a GPU fall off the bus (Xid 79), or bring it back.
    Lose {
        /// Index or UUID.
        gpu: Gpu,
        /// Bring it back instead.
        #[arg(long)]
        back: bool,
    },
    /// Raise an Xid event.
    Xid {
        /// Index or UUID.
        gpu: Gpu,
        /// Number of the event: 13, 31, 48, 79, ...
        code: u64,
    },
    /// Let memory be held by no process; replaces what leaked before, 0 heals.
    Leak {
        /// Index or UUID.
        gpu: Gpu,
        /// How much, MiB.
        mib: u64,
    },
    /// Keep the memory of processes that end from now on.
    LeakOnExit {
        /// Index or UUID.
        gpu: Gpu,
        /// Stop keeping it; what was kept stays until `leak GPU 0`.
        #[arg(long)]
        off: bool,
    },
    /// Let memory of processes that end from now on come back slowly and evenly.
    SlowRelease {
        /// Index or UUID.
        gpu: Gpu,
        /// Until all of it is back, milliseconds; 0 = at once.
        millis: u64,
    },
    /// Unload, load or reload the driver: all memory is given back, all connections end.
    Driver {
        /// What to do.
        action: DriverAction,
        /// Version from now on; a library loaded before then answers "version mismatch".
        #[arg(long)]
        version: Option<String>,
    },
    /// Break NVIDIA_VISIBLE_DEVICES on this node, or let it work again.
    Pin {
        /// How.
        mode: PinMode,
    },
    /// Spoil what the engine makes on a GPU.
    Engine {
        /// Index or UUID.
        gpu: Gpu,
        /// How.
        spoil: Spoil,
        /// For so many runs; without it until told otherwise.
        #[arg(long)]
        runs: Option<u32>,
    },
    /// Set what an engine truly needs on a GPU.
    Need {
        /// Index or UUID.
        gpu: Gpu,
        /// Percent of the published formula, 1-1000.
        #[arg(value_parser = clap::value_parser!(u32).range(1..=1000))]
        percent: u32,
    },
    /// Choose whose process ids the process lists show.
    View {
        /// Which.
        mode: ViewMode,
    },
}

/// What happens to the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum DriverAction {
    /// Gone until `load`: every call answers "driver not loaded".
    Unload,
    /// There again; one that is loaded stays as it is, but for its version.
    Load,
    /// Both at once.
    Reload,
}

/// What `NVIDIA_VISIBLE_DEVICES` does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum PinMode {
    /// It works.
    #[default]
    Honour,
    /// Every GPU is visible whatever it says.
    Ignore,
    /// The next GPU of the node is visible in place of each that is named.
    Swap,
    /// No GPU is visible whatever it says.
    None,
}

/// What is wrong with the engine's work. None of it touches memory: that runs out only where a card has too little.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Spoil {
    /// Nothing.
    #[default]
    None,
    /// A picture in the middle is missing, the last one comes twice.
    DropFrame,
    /// A picture in the middle comes twice, the next one is missing.
    RepeatFrame,
    /// A picture in the middle is black.
    BlackFrame,
    /// The last three pictures are missing.
    TooFewFrames,
    /// MPEG-4 part 2 instead of H.264.
    WrongCodec,
    /// Exit 0 without a file.
    NoOutput,
    /// Exit 0 with half a file.
    PartialFile,
    /// An exception that has nothing to do with memory; exit 1.
    Crash,
    /// Triton's "out of resource: shared memory"; exit 1.
    Incompatible,
    /// Never ends.
    Hang,
}

/// Whose process ids the process lists show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum ViewMode {
    /// Those of the caller's namespace; processes it cannot see are left out (drivers from 535.113 on).
    #[default]
    Translated,
    /// Those of the host (older drivers).
    Raw,
}

/// Whether a GPU works.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// It does.
    #[default]
    Ok,
    /// It fell off the bus.
    Lost,
}

/// A process and what it holds of one GPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Process id in the daemon's namespace.
    pub pid: u32,
    /// Bytes.
    pub bytes: u64,
}

/// One GPU as the driver knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuState {
    /// Its node.
    pub node: String,
    /// Position on the node, from 0.
    pub index: u32,
    /// `GPU-...`.
    pub uuid: String,
    /// Product name.
    pub model: String,
    /// All its memory, bytes.
    pub total: u64,
    /// What the driver keeps to itself, bytes.
    pub reserved: u64,
    /// What can be allocated now, bytes.
    pub free: u64,
    /// Held by no process: leaked, or not yet given back, bytes.
    pub unowned: u64,
    /// Who holds how much, by process id.
    pub holders: Vec<Holder>,
    /// Whether it works.
    pub health: Health,
    /// What an engine truly needs, percent of the published formula.
    pub need_percent: u32,
}

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// Of `List`: every GPU in index order.
    Gpus(Vec<GpuState>),
    /// Done.
    Done,
    /// Not done, and why.
    Refused(String),
}

/// A command that had no effect.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The daemon is not there, or spoke nonsense.
    #[error("control socket: {0}")]
    Socket(#[from] io::Error),
    /// The daemon refused.
    #[error("the driver refused: {0}")]
    Refused(String),
    /// The daemon answered another question.
    #[error("the driver gave an answer of another kind")]
    Mismatch,
}

/// A connection to one node's control socket.
#[derive(Debug)]
pub struct Control {
    line: Line,
}

impl Control {
    /// Dials.
    ///
    /// # Errors
    /// When no daemon listens at `path`.
    pub fn dial(path: &Path) -> Result<Self, ControlError> {
        Ok(Self { line: Line::dial(path)? })
    }

    /// Does `command`.
    ///
    /// # Errors
    /// When the daemon is gone or refuses.
    pub fn run(&mut self, command: &Command) -> Result<Answer, ControlError> {
        match self.line.ask(command)? {
            Answer::Refused(why) => Err(ControlError::Refused(why)),
            answer => Ok(answer),
        }
    }

    /// Every GPU of the node, in index order.
    ///
    /// # Errors
    /// When the daemon is gone.
    pub fn list(&mut self) -> Result<Vec<GpuState>, ControlError> {
        match self.run(&Command::List)? {
            Answer::Gpus(gpus) => Ok(gpus),
            _ => Err(ControlError::Mismatch),
        }
    }
}
