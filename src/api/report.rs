//! What the agent says of its node: the payload of the annotations [`super::keys::REPORT`] and
//! [`super::keys::HEARTBEAT`]. One type, written by the agent and read by the controller.
//!
//! Unknown is `null` with a reason, never 0. Unknown fields are ignored; within a major version fields are only added.

mod reading;

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use reading::{FREE_SLACK, Heartbeat, ReportError, digest, read};

/// Major version of the schema.
pub const VERSION: u32 = 1;
/// Largest report in bytes; the agent shrinks its lists to stay below, the controller refuses more.
pub const MAX_BYTES: usize = 16 * 1024;
/// Longest UUID of a GPU, characters.
const MAX_UUID: usize = 48;

/// Whether a text can be the UUID of a GPU. In lower case it names the GPU's Lease, so it is 1 to 48 ASCII letters,
/// digits and dashes, with a letter or digit at both ends.
pub fn is_gpu_uuid(text: &str) -> bool {
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    plain && (1..=MAX_UUID).contains(&text.len()) && !text.starts_with('-') && !text.ends_with('-')
}

/// One node's GPUs at one instant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Schema version, [`VERSION`].
    pub v: u32,
    /// Namespace of the release whose agent wrote it.
    #[serde(default)]
    pub ns: String,
    /// Grows by one per report within one `inst`.
    pub seq: u64,
    /// Eight hex digits, random per agent start.
    pub inst: String,
    /// Time of the sample by the node's clock, whole seconds.
    pub at: Timestamp,
    /// Heartbeat period in force, seconds.
    pub hb: u32,
    /// Driver version, empty if unknown.
    #[serde(default)]
    pub drv: String,
    /// Names the life of the driver that the verdicts were found in: this boot, this load, this version; empty if
    /// unknown. For the agent itself: in another life a GPU that was bad may be well again.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub life: String,
    /// State of the agent's view as a whole.
    pub state: State,
    /// How far the process lists can be believed.
    pub attr: Attribution,
    /// The GPUs by index.
    #[serde(default)]
    pub gpus: Vec<Gpu>,
}

/// State of the agent's view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// All is read.
    Ok,
    /// No driver or no library.
    NoDriver,
    /// A driver without a GPU.
    NoGpu,
    /// The driver changed under the library.
    DriverMismatch,
    /// The devices were taken away from the container.
    DeviceAccessLost,
    /// A driver call has not come back.
    NvmlStuck,
    /// The agent ended on purpose.
    Stopped,
    /// A word of a newer agent.
    #[serde(other)]
    Unknown,
}

impl State {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::NoDriver => "no-driver",
            Self::NoGpu => "no-gpu",
            Self::DriverMismatch => "driver-mismatch",
            Self::DeviceAccessLost => "device-access-lost",
            Self::NvmlStuck => "nvml-stuck",
            Self::Stopped => "stopped",
            Self::Unknown => "unknown",
        }
    }

    /// Every state that an agent writes.
    pub const ALL: [Self; 7] = [
        Self::Ok,
        Self::NoDriver,
        Self::NoGpu,
        Self::DriverMismatch,
        Self::DeviceAccessLost,
        Self::NvmlStuck,
        Self::Stopped,
    ];

    /// Reads a word; one that is not known is [`State::Unknown`].
    pub fn parse(text: &str) -> Self {
        Self::ALL.into_iter().find(|state| state.as_str() == text).unwrap_or(Self::Unknown)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How far the process lists can be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attribution {
    /// All processes of the machine are seen.
    Full,
    /// Only those of a nested PID namespace.
    Namespace,
    /// None, or a driver whose lists cannot be read.
    #[serde(other)]
    None,
}

/// One GPU.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gpu {
    /// Index on the node, for people.
    pub i: u32,
    /// UUID, `GPU-...`; the key.
    pub id: String,
    /// Product name.
    #[serde(default)]
    pub n: String,
    /// Total memory, bytes.
    #[serde(default)]
    pub tot: Option<u64>,
    /// Memory that the driver keeps, bytes.
    #[serde(default)]
    pub rsv: Option<u64>,
    /// Free memory after the agent's peak-hold, bytes.
    #[serde(default)]
    pub free: Option<u64>,
    /// Used memory that no listed process explains, bytes.
    #[serde(default)]
    pub una: Option<u64>,
    /// `una` has been more than the driver's own overhead for a minute: memory has probably leaked.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub leak: bool,
    /// Why a value is null.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Health verdict.
    pub h: Health,
    /// Last hardware-class Xid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub xid: Option<u64>,
    /// When that Xid came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub xat: Option<Timestamp>,
    /// MIG mode is on: shown, never used.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub mig: bool,
    /// The MIG instances: shown, never used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mis: Vec<Instance>,
    /// Compute mode, if not the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cm: Option<ComputeMode>,
    /// Confidential computing is on: what processes hold is not told.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cc: bool,
    /// Its memory is a NUMA node of the machine: what processes gave back may stay used by the kernel's files.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub numa: bool,
    /// Who is on it; null if the lists cannot be read.
    #[serde(default)]
    pub procs: Option<Processes>,
}

/// A MIG instance of a GPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// UUID, `MIG-...`.
    pub id: String,
    /// Its memory, bytes.
    #[serde(default)]
    pub tot: Option<u64>,
    /// Its free memory, bytes.
    #[serde(default)]
    pub free: Option<u64>,
}

/// Health of a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// No sign of trouble.
    Ok,
    /// A sign in the last ten minutes.
    Suspect,
    /// Works until the next reset, then must be reset.
    ResetRequired,
    /// Broken until a reset or reboot.
    Bad,
    /// Fell off the bus.
    Lost,
    /// Its memory cannot be read in principle.
    #[serde(other)]
    Unsupported,
}

impl Health {
    /// Every verdict an agent gives, best first.
    pub const ALL: [Self; 6] =
        [Self::Ok, Self::Suspect, Self::ResetRequired, Self::Bad, Self::Lost, Self::Unsupported];

    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Suspect => "suspect",
            Self::ResetRequired => "reset-required",
            Self::Bad => "bad",
            Self::Lost => "lost",
            Self::Unsupported => "unsupported",
        }
    }
}

/// Compute modes other than the default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ComputeMode {
    /// One process at a time.
    ExclusiveProcess,
    /// No process.
    Prohibited,
    /// A word of a newer agent.
    #[serde(other)]
    Unknown,
}

/// The processes of one GPU.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Processes {
    /// How many live ones.
    pub n: u32,
    /// Sum of their memory, bytes; null if one is unknown.
    pub b: Option<u64>,
    /// How many are not in `top`.
    #[serde(default)]
    pub more: u32,
    /// The largest, and those that ended in the last 120 s.
    #[serde(default)]
    pub top: Vec<Process>,
}

/// One process on a GPU.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Process {
    /// Whose it is.
    pub k: Kind,
    /// Pod UID, for [`Kind::Pod`]; 32 hex digits for a static pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub u: Option<String>,
    /// PID on the host.
    #[serde(default)]
    pub p: u32,
    /// Its memory now, bytes; null if unknown.
    #[serde(default)]
    pub b: Option<u64>,
    /// Its largest memory seen, bytes.
    #[serde(default)]
    pub pk: Option<u64>,
    /// Letters: C compute, G graphics, M MPS client, Z zombie, D uninterruptible, E ended.
    #[serde(default)]
    pub t: String,
    /// When it was found to have ended, by the node's clock, whole seconds; its true end is earlier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub e: Option<Timestamp>,
}

impl Process {
    /// Whether the process has ended and is listed only for its peak.
    pub fn ended(&self) -> bool {
        self.t.contains('E')
    }

    /// Whether it had surely ended before that instant of the node's clock, of which only whole seconds are told.
    pub fn had_ended(&self, instant: Timestamp) -> bool {
        self.ended() && self.e.is_some_and(|end| end.as_second() < instant.as_second())
    }
}

impl Kind {
    /// Every kind, in the order in which it is declared.
    pub const ALL: [Self; 6] =
        [Self::Pod, Self::Container, Self::Host, Self::Mps, Self::Ghost, Self::Unknown];

    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pod => "pod",
            Self::Container => "container",
            Self::Host => "host",
            Self::Mps => "mps",
            Self::Ghost => "ghost",
            Self::Unknown => "unknown",
        }
    }
}

/// What kind of owner a process has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A pod of this cluster; ours or not is for the controller to say.
    Pod,
    /// A container outside Kubernetes.
    Container,
    /// A process of the machine.
    Host,
    /// The MPS server.
    Mps,
    /// A process id without a process.
    Ghost,
    /// Not to be told.
    #[serde(other)]
    Unknown,
}
