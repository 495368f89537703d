//! From the bindings' errors to ours.

use nvml_wrapper::error::NvmlError;

use crate::probe::Fault;

/// By number, since newer answers have no name in the bindings and arrive as `UnexpectedVariant`.
pub fn fault(error: &NvmlError) -> Fault {
    let code = match error {
        NvmlError::LibloadingError(source) => {
            let hint = "is the NVIDIA container toolkit allowed to inject the driver into this pod?";
            return Fault::no_driver(None, format!("{source}; {hint}"));
        }
        NvmlError::FailedToLoadSymbol(_) => 13,
        NvmlError::InvalidArg => 2,
        NvmlError::NotSupported => 3,
        NvmlError::NoPermission => 4,
        NvmlError::NotFound => 6,
        NvmlError::InsufficientSize(_) => 7,
        NvmlError::InsufficientPower => 8,
        NvmlError::DriverNotLoaded => 9,
        NvmlError::Timeout => 10,
        NvmlError::IrqIssue => 11,
        NvmlError::LibraryNotFound => 12,
        NvmlError::FunctionNotFound => 13,
        NvmlError::CorruptedInfoROM => 14,
        NvmlError::GpuLost => 15,
        NvmlError::ResetRequired => 16,
        NvmlError::OperatingSystem => 17,
        NvmlError::LibRmVersionMismatch => 18,
        NvmlError::InUse => 19,
        NvmlError::InsufficientMemory => 20,
        NvmlError::NoData => 21,
        NvmlError::VgpuEccNotSupported => 22,
        NvmlError::UnexpectedVariant(code) => *code,
        NvmlError::Unknown => 999,
        _ => return Fault::Implausible,
    };
    Fault::from_code(code)
}
