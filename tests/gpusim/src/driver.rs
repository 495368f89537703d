//! What a process asks of the driver, and the client through which library, engine and hog ask it.
//!
//! The socket plays `/dev/nvidia*`: who asks is what the kernel says of the sender, what a process may see is what
//! its `NVIDIA_VISIBLE_DEVICES` named, what it holds is given back when it ends or the connection does.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::control::{Holder, Spoil};
use crate::wire::Line;

/// Name of the socket in its folder.
pub const SOCKET: &str = "gpusim.sock";
/// Folder of the socket where [`FOLDER_VARIABLE`] says nothing.
pub const FOLDER: &str = "/run/gpusim";
/// Environment variable that names another folder.
pub const FOLDER_VARIABLE: &str = "GPUSIM_DIR";
/// Environment variable that says which GPUs a process sees.
pub const VISIBLE_VARIABLE: &str = "NVIDIA_VISIBLE_DEVICES";

/// A question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// The first on every connection.
    Hello {
        /// Which GPUs, in the words of `NVIDIA_VISIBLE_DEVICES`.
        visible: String,
        /// Version of the driver when the asking library was loaded; none the first time.
        library: Option<String>,
    },
    /// Which GPUs are visible?
    Devices,
    /// How much memory has this GPU?
    Memory {
        /// The GPU.
        uuid: String,
    },
    /// Which processes hold memory of this GPU?
    Processes {
        /// The GPU.
        uuid: String,
    },
    /// Give me memory.
    Alloc {
        /// The GPU.
        uuid: String,
        /// How much.
        bytes: u64,
    },
    /// Take memory back.
    Free {
        /// The GPU.
        uuid: String,
        /// How much; at most what is held.
        bytes: u64,
    },
    /// An engine begins a run: what is true of this card?
    Begin {
        /// The GPU.
        uuid: String,
    },
    /// Which Xid events came after this one? Waits for the first.
    Xids {
        /// Number of the last one known; none: only say the latest number.
        after: Option<u64>,
        /// How long to wait, milliseconds.
        millis: u64,
    },
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// To `Hello`.
    Welcome {
        /// Version of the driver.
        version: String,
    },
    /// To `Devices`, in the order of the process's own numbering.
    Devices(Vec<Device>),
    /// To `Memory`.
    Memory(Memory),
    /// To `Processes`, by process id.
    Processes(Vec<Holder>),
    /// To `Alloc` and `Free`.
    Done,
    /// To `Alloc`: the card has not got it.
    OutOfMemory(OutOfMemory),
    /// To `Begin`.
    Run(Run),
    /// To `Xids`.
    Xids(Vec<Xid>),
    /// To any of them.
    Fault(Fault),
}

/// A GPU that a process sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// `GPU-...`.
    pub uuid: String,
    /// Product name.
    pub model: String,
    /// Number of its device file: its index on the node.
    pub minor: u32,
    /// It fell off the bus.
    pub lost: bool,
}

/// Memory of a GPU, bytes; `total` is the sum of the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// All of it.
    pub total: u64,
    /// Kept by the driver to itself.
    pub reserved: u64,
    /// Allocated.
    pub used: u64,
    /// Can be allocated.
    pub free: u64,
}

/// Why there is no memory, with what a program is able to say about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutOfMemory {
    /// The card at that moment.
    pub memory: Memory,
    /// Every holder, by process id of the host.
    pub holders: Vec<Holder>,
}

/// What is true of a card for an engine's run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// What it truly needs, percent of the published formula.
    pub need_percent: u32,
    /// How long it takes to load, to grow and at least to hold its memory, percent of the usual.
    pub pace_percent: u32,
    /// What goes wrong with its work.
    pub spoil: Spoil,
}

/// An Xid event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Xid {
    /// Number of the event, ascending from 1.
    pub number: u64,
    /// The GPU; empty for the mark that a listener starts from.
    pub uuid: String,
    /// Its code.
    pub code: u64,
}

/// Why a question has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Fault {
    /// No driver is loaded.
    #[error("driver not loaded")]
    NotLoaded,
    /// The library is of another version than the driver.
    #[error("driver/library version mismatch")]
    VersionMismatch,
    /// No visible GPU of that name.
    #[error("no such GPU is visible")]
    NotFound,
    /// The GPU fell off the bus.
    #[error("GPU is lost")]
    Lost,
    /// The question makes no sense here.
    #[error("invalid request")]
    Invalid,
}

/// A question that was not answered as asked.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// The driver is gone: no socket, or the connection ended.
    #[error("driver is gone: {0}")]
    Gone(#[from] io::Error),
    /// The driver answered with a fault.
    #[error("{0}")]
    Fault(Fault),
    /// The card has not got the memory.
    #[error("out of memory: {} of {} bytes free", .0.memory.free, .0.memory.total)]
    OutOfMemory(OutOfMemory),
}

impl DriverError {
    /// The fault that a caller sees: a driver that is gone is not loaded.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Gone(_) => Fault::NotLoaded,
            Self::Fault(fault) => *fault,
            Self::OutOfMemory(_) => Fault::Invalid,
        }
    }
}

/// The driver's folder that this process's environment names.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the environment is where a driver's clients find it")]
pub fn folder() -> PathBuf {
    std::env::var_os(FOLDER_VARIABLE).unwrap_or_else(|| FOLDER.into()).into()
}

/// The socket in it.
#[must_use]
pub fn socket_path() -> PathBuf {
    folder().join(SOCKET)
}

/// What this process's environment lets it see; nothing where it says nothing.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the environment is what the container runtime sets")]
pub fn visible_devices() -> Option<String> {
    std::env::var(VISIBLE_VARIABLE).ok()
}

/// A connection to the driver.
#[derive(Debug)]
pub struct Driver {
    line: Line,
    version: String,
}

impl Driver {
    /// Dials the socket at `path`; sees what `visible` names. `library` is the version that an earlier connection of
    /// this process found.
    ///
    /// # Errors
    /// When the driver is gone, not loaded, or of another version than `library`.
    pub fn dial(path: &Path, visible: &str, library: Option<&str>) -> Result<Self, DriverError> {
        let mut line = Line::dial(path)?;
        let hello = Request::Hello { visible: visible.to_owned(), library: library.map(str::to_owned) };
        match line.ask(&hello)? {
            Reply::Welcome { version } => Ok(Self { line, version }),
            other => Err(unexpected(other)),
        }
    }

    /// Version of the driver.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Sleeps until the driver is gone; says how it went.
    pub fn wait_gone(mut self) -> io::Error {
        match self.line.hear::<Reply>() {
            Err(error) => error,
            Ok(_) => io::ErrorKind::UnexpectedEof.into(),
        }
    }

    fn ask(&mut self, request: &Request) -> Result<Reply, DriverError> {
        Ok(self.line.ask(request)?)
    }

    /// GPUs that this process sees, in the order of its own numbering.
    ///
    /// # Errors
    /// When the driver is gone or has a fault.
    pub fn devices(&mut self) -> Result<Vec<Device>, DriverError> {
        match self.ask(&Request::Devices)? {
            Reply::Devices(devices) => Ok(devices),
            other => Err(unexpected(other)),
        }
    }

    /// Memory of a GPU.
    ///
    /// # Errors
    /// When the GPU is not visible or lost, or the driver is gone.
    pub fn memory(&mut self, uuid: &str) -> Result<Memory, DriverError> {
        match self.ask(&Request::Memory { uuid: uuid.to_owned() })? {
            Reply::Memory(memory) => Ok(memory),
            other => Err(unexpected(other)),
        }
    }

    /// Processes that hold memory of a GPU, as far as this process may see them, by process id.
    ///
    /// # Errors
    /// As [`Driver::memory`].
    pub fn processes(&mut self, uuid: &str) -> Result<Vec<Holder>, DriverError> {
        match self.ask(&Request::Processes { uuid: uuid.to_owned() })? {
            Reply::Processes(holders) => Ok(holders),
            other => Err(unexpected(other)),
        }
    }

    /// Takes memory; it is this process's until it gives it back or ends.
    ///
    /// # Errors
    /// [`DriverError::OutOfMemory`] when the card has not got it; else as [`Driver::memory`].
    pub fn alloc(&mut self, uuid: &str, bytes: u64) -> Result<(), DriverError> {
        match self.ask(&Request::Alloc { uuid: uuid.to_owned(), bytes })? {
            Reply::Done => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    /// Gives memory back; more than is held gives back all.
    ///
    /// # Errors
    /// As [`Driver::memory`].
    pub fn free(&mut self, uuid: &str, bytes: u64) -> Result<(), DriverError> {
        match self.ask(&Request::Free { uuid: uuid.to_owned(), bytes })? {
            Reply::Done => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    /// Begins an engine's run on a GPU.
    ///
    /// # Errors
    /// As [`Driver::memory`].
    pub fn begin(&mut self, uuid: &str) -> Result<Run, DriverError> {
        match self.ask(&Request::Begin { uuid: uuid.to_owned() })? {
            Reply::Run(run) => Ok(run),
            other => Err(unexpected(other)),
        }
    }

    /// Xid events after number `after`, waiting at most `millis` for the first; with `after` none, at once, one entry
    /// without a GPU that carries the latest number.
    ///
    /// # Errors
    /// When the driver is gone or has a fault.
    pub fn xids(&mut self, after: Option<u64>, millis: u64) -> Result<Vec<Xid>, DriverError> {
        match self.ask(&Request::Xids { after, millis })? {
            Reply::Xids(xids) => Ok(xids),
            other => Err(unexpected(other)),
        }
    }
}

/// The error that an answer of another kind stands for.
fn unexpected(reply: Reply) -> DriverError {
    match reply {
        Reply::Fault(fault) => DriverError::Fault(fault),
        Reply::OutOfMemory(out) => DriverError::OutOfMemory(out),
        _ => DriverError::Gone(io::Error::new(io::ErrorKind::InvalidData, "an answer of another kind")),
    }
}
