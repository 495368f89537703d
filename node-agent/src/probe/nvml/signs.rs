//! Signs of ill health, and modes.

use nvml_wrapper::Device;
use nvml_wrapper::enum_wrappers::device::{ComputeMode as NvmlComputeMode, EccCounter, MemoryError};
use nvml_wrapper::enums::device::SampleValue;
use nvml_wrapper::struct_wrappers::device::FieldValueSample;
use nvml_wrapper::structs::device::FieldId;
use nvml_wrapper::sys_exports::field_id::{NVML_FI_DEV_REMAPPED_FAILURE, NVML_FI_DEV_REMAPPED_PENDING};
use video_upscale::api::report::ComputeMode;

use super::NvmlProbe;
use super::fault::fault;
use crate::gpu::Signs;
use crate::probe::Fault;

/// Asks for all of them; what is not told at the moment is `None`, what the GPU cannot have is not so.
pub fn read(probe: &NvmlProbe, index: u32, device: &Device<'static>) -> Signs {
    // First, as with another mode the GPU has other calls.
    let mig = known(probe.call("mig_mode", || device.mig_mode()).map(|mode| mode.current == 1));
    if let Some(on) = mig {
        probe.unsupported.borrow_mut().mig_mode(index, on);
    }
    let [pending, failure] = remapped_rows(probe, index, device);
    // Cards before Ampere retire pages instead of remapping rows.
    let reset_pending = match pending {
        Err(Fault::NotSupported) => {
            let ask = || device.are_pages_pending_retired().map_err(|error| fault(&error));
            known(probe.call_if_supported(index, "retired_pages_pending", ask))
        }
        pending => known(pending),
    };
    let errors = || {
        let count = device.total_ecc_errors(MemoryError::Uncorrected, EccCounter::Volatile);
        count.map_err(|error| fault(&error))
    };
    let mode = || device.compute_mode().map_err(|error| fault(&error));
    Signs {
        ecc_uncorrected: probe.call_if_supported(index, "ecc_errors", errors).ok(),
        reset_pending,
        remap_failed: failure.unwrap_or(false),
        mig,
        compute_mode: match probe.call_if_supported(index, "compute_mode", mode) {
            Ok(NvmlComputeMode::Default) | Err(Fault::NotSupported | Fault::FunctionNotFound(_)) => None,
            Ok(NvmlComputeMode::ExclusiveProcess) => Some(ComputeMode::ExclusiveProcess),
            Ok(NvmlComputeMode::Prohibited) => Some(ComputeMode::Prohibited),
            Ok(NvmlComputeMode::ExclusiveThread) | Err(_) => Some(ComputeMode::Unknown),
        },
    }
}

/// What the driver or the card does not have is not so; any other fault leaves it open.
fn known(answer: Result<bool, Fault>) -> Option<bool> {
    match answer {
        Ok(value) => Some(value),
        Err(Fault::NotSupported | Fault::FunctionNotFound(_)) => Some(false),
        Err(_) => None,
    }
}

/// Whether rows wait for a reset to be remapped, and whether some could not be.
fn remapped_rows(probe: &NvmlProbe, index: u32, device: &Device<'static>) -> [Result<bool, Fault>; 2] {
    let fields = [FieldId(NVML_FI_DEV_REMAPPED_PENDING), FieldId(NVML_FI_DEV_REMAPPED_FAILURE)];
    let ask = || device.field_values_for(&fields).map_err(|error| fault(&error));
    match probe.call_if_supported(index, "remapped_rows", ask) {
        Ok(samples) => {
            let mut raised = samples.into_iter().map(|sample| is_raised(sample.map_err(|e| fault(&e))?));
            std::array::from_fn(|_| raised.next().unwrap_or(Err(Fault::Implausible)))
        }
        // Drivers before 418 have no field values; no card that remaps rows runs with them.
        Err(Fault::FunctionNotFound(_)) => [Err(Fault::NotSupported), Err(Fault::NotSupported)],
        Err(other) => [Err(other.clone()), Err(other)],
    }
}

fn is_raised(sample: FieldValueSample) -> Result<bool, Fault> {
    match sample.value.map_err(|error| fault(&error))? {
        SampleValue::U32(value) => Ok(value != 0),
        SampleValue::U64(value) => Ok(value != 0),
        _ => Err(Fault::Implausible),
    }
}
