//! The seam below which a driver is: six questions, each answered with a value or a [`Fault`].

#[cfg(test)]
pub mod fake;
pub mod nvml;
mod version;

use thiserror::Error;

use crate::gpu::{Identity, Instance, Listed, Memory, Signs};
pub use version::DriverVersion;

/// What is known once the driver has been opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Driver {
    /// Driver version, empty if unknown.
    pub version: String,
    /// Version of the management library, empty if unknown.
    pub library: String,
    /// CUDA version the driver supports, empty if unknown.
    pub cuda: String,
}

/// A driver that can be asked. All calls block and may hang; they are made from one thread only.
pub trait Probe {
    /// Loads the library and connects to the driver.
    fn open(&mut self) -> Result<Driver, Fault>;
    /// All GPUs by index; one that cannot even be named is a fault in its place.
    fn gpus(&mut self) -> Result<Vec<Result<Identity, Fault>>, Fault>;
    /// Memory of one GPU: cheap.
    fn memory(&mut self, index: u32) -> Result<Memory, Fault>;
    /// Processes of one GPU: dear, and other GPU programs wait meanwhile. `mps` also asks for clients of a server.
    fn processes(&mut self, index: u32, mps: bool) -> Result<Vec<Listed>, Fault>;
    /// Health and modes of one GPU.
    fn signs(&mut self, index: u32) -> Signs;
    /// MIG instances of one GPU whose MIG mode is on.
    fn instances(&mut self, index: u32) -> Result<Vec<Instance>, Fault>;
}

/// Why a value is not known. From the number that the driver answers, as new numbers have no name in the bindings.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    /// 3: not on this GPU or in this mode.
    #[error("not supported")]
    NotSupported,
    /// 4: more rights are needed; they are never asked for.
    #[error("no permission")]
    NoPermission,
    /// 9, 12, or no library to load.
    #[error("no driver: {detail}")]
    NoDriver {
        /// The number, if there was somebody to answer.
        code: Option<u32>,
        /// What is missing.
        detail: String,
    },
    /// 13 or 25: the driver is older or newer than the call.
    #[error("function not found")]
    FunctionNotFound(u32),
    /// 15: fell off the bus.
    #[error("GPU is lost")]
    GpuLost,
    /// 16: must be reset.
    #[error("GPU must be reset")]
    ResetRequired,
    /// 17: the operating system took the device away.
    #[error("access denied by the operating system")]
    OperatingSystem,
    /// 18: the driver was changed under the library.
    #[error("driver and library differ")]
    Mismatch,
    /// 19, 20, 27: for the moment; the next round may do better.
    #[error("not ready (code {0})")]
    NotReady(u32),
    /// 28: the driver has no GPU.
    #[error("no GPU")]
    NoGpu,
    /// 999.
    #[error("unknown error")]
    Unknown,
    /// An answer that cannot be true.
    #[error("implausible answer")]
    Implausible,
    /// This driver's process lists have another layout than their version says.
    #[error("process lists of driver {0} cannot be read; use 535.104 or later")]
    UnreadableLists(String),
    /// The GPU is cut into virtual ones, and its lists do not name the processes on those.
    #[error("the GPU is shared out to virtual machines, whose processes are not listed")]
    HostsVgpus,
    /// Two GPUs of one node claim the same UUID, so neither can be addressed by it.
    #[error("two GPUs have this UUID")]
    DuplicateUuid,
    /// Any other number.
    #[error("code {0}")]
    Other(u32),
}

impl Fault {
    /// From the number of an NVML answer other than success.
    pub fn from_code(code: u32) -> Self {
        match code {
            3 => Self::NotSupported,
            4 => Self::NoPermission,
            9 => Self::no_driver(Some(code), "the kernel module is not loaded"),
            12 => Self::no_driver(Some(code), "a library of the driver is missing"),
            13 | 25 => Self::FunctionNotFound(code),
            15 => Self::GpuLost,
            16 => Self::ResetRequired,
            17 => Self::OperatingSystem,
            18 => Self::Mismatch,
            19 | 20 | 27 => Self::NotReady(code),
            28 => Self::NoGpu,
            999 => Self::Unknown,
            other => Self::Other(other),
        }
    }

    /// There is no driver.
    pub fn no_driver(code: Option<u32>, detail: impl Into<String>) -> Self {
        Self::NoDriver { code, detail: detail.into() }
    }

    /// The number of the answer; `None` where it was not the driver that said so.
    pub const fn code(&self) -> Option<u32> {
        match self {
            Self::NotSupported => Some(3),
            Self::NoPermission => Some(4),
            Self::NoDriver { code, .. } => *code,
            Self::FunctionNotFound(code) | Self::NotReady(code) | Self::Other(code) => Some(*code),
            Self::GpuLost => Some(15),
            Self::ResetRequired => Some(16),
            Self::OperatingSystem => Some(17),
            Self::Mismatch => Some(18),
            Self::NoGpu => Some(28),
            Self::Unknown => Some(999),
            Self::Implausible | Self::UnreadableLists(_) | Self::HostsVgpus | Self::DuplicateUuid => None,
        }
    }

    /// One word for the report's `why`.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::NotSupported => "NotSupported",
            Self::NoPermission => "NoPermission",
            Self::NoDriver { .. } => "NoDriver",
            Self::FunctionNotFound(_) => "FunctionNotFound",
            Self::GpuLost => "GpuLost",
            Self::ResetRequired => "ResetRequired",
            Self::OperatingSystem => "OperatingSystem",
            Self::Mismatch => "DriverMismatch",
            Self::NotReady(_) => "NotReady",
            Self::NoGpu => "NoGpu",
            Self::Unknown => "UnknownError",
            Self::Implausible => "Implausible",
            Self::UnreadableLists(_) => "UnreadableLists",
            Self::HostsVgpus => "HostsVgpus",
            Self::DuplicateUuid => "DuplicateUuid",
            Self::Other(_) => "OtherError",
        }
    }

    /// Whether it says of the driver, whichever GPU was asked, that it is not there or not this library's.
    pub const fn is_of_the_driver(&self) -> bool {
        matches!(self, Self::Mismatch | Self::NoDriver { .. })
    }

    /// Whether the whole node's devices may be gone, if every GPU answers so.
    pub const fn suggests_lost_access(&self) -> bool {
        matches!(self, Self::OperatingSystem | Self::Unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_a_meaning_and_none_panics() {
        for (code, word) in
            [(3, "NotSupported"), (15, "GpuLost"), (18, "DriverMismatch"), (23, "OtherError"), (28, "NoGpu")]
        {
            assert_eq!(Fault::from_code(code).word(), word);
        }
        for code in (0..1100).chain([u32::MAX]) {
            assert!(!Fault::from_code(code).word().is_empty());
            assert_eq!(Fault::from_code(code).code(), Some(code));
        }
    }
}
