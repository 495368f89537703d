//! The probe that asks a real driver through NVML. Nothing outside this module knows the bindings.
//!
//! One long-lived connection per process: each new one could wake a sleeping GPU for seconds. The library's object is
//! never dropped, as its end would call into a driver that may be gone.

mod memory_v1;
mod xid;

use std::ffi::OsString;
use std::path::PathBuf;

use nvml_wrapper::enum_wrappers::device::{ComputeMode as NvmlComputeMode, EccCounter, MemoryError};
use nvml_wrapper::enums::device::{SampleValue, UsedGpuMemory};
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::struct_wrappers::device::ProcessInfo;
use nvml_wrapper::structs::device::FieldId;
use nvml_wrapper::sys_exports::field_id::{NVML_FI_DEV_REMAPPED_FAILURE, NVML_FI_DEV_REMAPPED_PENDING};
use nvml_wrapper::{Device, Nvml, cuda_driver_version_major, cuda_driver_version_minor};
use video_upscale::api::report::ComputeMode;

use super::{Driver, DriverVersion, Fault, Probe};
use crate::gpu::{Identity, Listed, Memory, Signs, join};
use crate::health::XidEvent;
use crate::metrics::Calls;

/// How often a process list is asked again when it grew between the two calls that reading it takes.
const LIST_TRIES: usize = 3;

/// A driver behind NVML.
pub struct NvmlProbe {
    library: Option<PathBuf>,
    calls: Calls,
    xids: std::sync::mpsc::Sender<XidEvent>,
    open: Option<Open>,
}

struct Open {
    nvml: &'static Nvml,
    devices: Vec<Option<Device<'static>>>,
    version: Option<DriverVersion>,
    version_text: String,
    listens_for_xids: bool,
}

impl NvmlProbe {
    /// A probe that loads the library at `library`, or the loader's `libnvidia-ml.so.1`, and sends Xids to `xids`.
    pub fn new(library: Option<PathBuf>, calls: Calls, xids: std::sync::mpsc::Sender<XidEvent>) -> Self {
        Self { library, calls, xids, open: None }
    }

    fn call<T>(&self, name: &'static str, ask: impl FnOnce() -> Result<T, NvmlError>) -> Result<T, Fault> {
        self.calls.timed(name, || ask().map_err(|error| fault(&error)))
    }

    fn opened(&self) -> Result<&Open, Fault> {
        self.open.as_ref().ok_or_else(|| Fault::NoDriver { detail: "not opened".to_owned() })
    }

    fn device(&self, index: u32) -> Result<&Device<'static>, Fault> {
        let slot = usize::try_from(index).ok().and_then(|index| self.opened().ok()?.devices.get(index));
        slot.and_then(Option::as_ref).ok_or(Fault::GpuLost)
    }

    fn list(
        &self,
        name: &'static str,
        ask: impl Fn() -> Result<Vec<ProcessInfo>, NvmlError>,
    ) -> Result<Vec<ProcessInfo>, Fault> {
        self.call(name, || {
            let mut answer = ask();
            for _ in 1..LIST_TRIES {
                if !matches!(answer, Err(NvmlError::InsufficientSize(_))) {
                    break;
                }
                answer = ask();
            }
            answer
        })
    }
}

impl Probe for NvmlProbe {
    fn open(&mut self) -> Result<Driver, Fault> {
        let nvml = self.call("init", || {
            let path = self.library.clone().map(PathBuf::into_os_string);
            let name: OsString = path.unwrap_or_else(|| "libnvidia-ml.so.1".into());
            Nvml::builder().lib_path(&name).init()
        })?;
        let nvml: &'static Nvml = Box::leak(Box::new(nvml));
        let version_text = self.call("driver_version", || nvml.sys_driver_version()).unwrap_or_default();
        let cuda = self.call("cuda_version", || nvml.sys_cuda_driver_version()).ok();
        self.open = Some(Open {
            nvml,
            devices: Vec::new(),
            version: DriverVersion::parse(&version_text),
            version_text: version_text.clone(),
            listens_for_xids: false,
        });
        Ok(Driver {
            version: version_text,
            library: self.call("nvml_version", || nvml.sys_nvml_version()).unwrap_or_default(),
            cuda: cuda
                .map(|v| format!("{}.{}", cuda_driver_version_major(v), cuda_driver_version_minor(v)))
                .unwrap_or_default(),
        })
    }

    fn gpus(&mut self) -> Result<Vec<Result<Identity, Fault>>, Fault> {
        let nvml = self.opened()?.nvml;
        let count = self.call("device_count", || nvml.device_count())?;
        let mut devices = Vec::new();
        let mut identities = Vec::new();
        for index in 0..count {
            let found = self.call("device_by_index", || nvml.device_by_index(index));
            identities.push(match &found {
                Ok(device) => self.call("uuid", || device.uuid()).and_then(|uuid| {
                    let name: String = self.call("name", || device.name()).unwrap_or_default();
                    let pci =
                        self.call("pci_info", || device.pci_info()).map(|pci| pci.bus_id).unwrap_or_default();
                    Identity::new(index, uuid, &name, pci).ok_or(Fault::Implausible)
                }),
                Err(fault) => Err(fault.clone()),
            });
            devices.push(found.ok());
        }
        let xids = self.xids.clone();
        let Some(open) = &mut self.open else { return Ok(identities) };
        open.devices = devices;
        if !open.listens_for_xids && count > 0 {
            open.listens_for_xids = xid::listen(nvml, xids);
        }
        Ok(identities)
    }

    fn memory(&mut self, index: u32) -> Result<Memory, Fault> {
        let nvml = self.opened()?.nvml;
        let device = self.device(index)?;
        let figures = match self.call("memory", || device.memory_info()) {
            Ok(v2) => Memory::new(v2.total, Some(v2.reserved), v2.free, v2.used),
            // Drivers before 510 have the first version only; its `used` holds the reserved part too.
            Err(Fault::FunctionNotFound) => {
                let v1 = self
                    .calls
                    .timed("memory_v1", || memory_v1::read(nvml, device).map_err(Fault::from_code))?;
                Memory::new(v1.total, None, v1.free, v1.used)
            }
            Err(other) => return Err(other),
        };
        figures.ok_or(Fault::Implausible)
    }

    fn processes(&mut self, index: u32, mps: bool) -> Result<Vec<Listed>, Fault> {
        let open = self.opened()?;
        let device = self.device(index)?;
        let sound = open.version.is_some_and(DriverVersion::has_sound_v3_lists);
        let v3 = |name, ask: &dyn Fn() -> Result<Vec<ProcessInfo>, NvmlError>| {
            if sound { self.list(name, ask) } else { Err(Fault::FunctionNotFound) }
        };
        let or_v2 = |answer, name, ask: &dyn Fn() -> Result<Vec<ProcessInfo>, NvmlError>| match answer {
            Err(Fault::FunctionNotFound) => match self.list(name, ask) {
                Err(Fault::FunctionNotFound) => Err(Fault::UnreadableLists(open.version_text.clone())),
                other => other,
            },
            other => other,
        };
        let compute =
            or_v2(v3("compute_processes", &|| device.running_compute_processes()), "compute_v2", &|| {
                device.running_compute_processes_v2()
            })?;
        let graphics =
            or_v2(v3("graphics_processes", &|| device.running_graphics_processes()), "graphics_v2", &|| {
                device.running_graphics_processes_v2()
            });
        let graphics = match graphics {
            Err(Fault::NotSupported) => Vec::new(),
            other => other?,
        };
        let clients = if mps && sound {
            self.list("mps_processes", || device.mps_running_compute_processes()).unwrap_or_default()
        } else {
            Vec::new()
        };
        let compute = compute.iter().map(|info| Listed { compute: true, ..listed(info) });
        let graphics = graphics.iter().map(|info| Listed { graphics: true, ..listed(info) });
        let clients = clients.iter().map(|info| Listed { mps: true, ..listed(info) });
        Ok(join(compute.chain(graphics).chain(clients).collect()))
    }

    fn signs(&mut self, index: u32) -> Signs {
        let Ok(device) = self.device(index) else { return Signs::default() };
        let flags = self.call("remapped_rows", || {
            device.field_values_for(&[
                FieldId(NVML_FI_DEV_REMAPPED_PENDING),
                FieldId(NVML_FI_DEV_REMAPPED_FAILURE),
            ])
        });
        let raised: Vec<bool> = flags.unwrap_or_default().iter().map(is_raised).collect();
        // Cards before Ampere retire pages instead of remapping rows.
        let retired =
            || self.call("retired_pages_pending", || device.are_pages_pending_retired()).unwrap_or(false);
        let mode = self.call("compute_mode", || device.compute_mode());
        Signs {
            ecc_uncorrected: self
                .call("ecc_errors", || {
                    device.total_ecc_errors(MemoryError::Uncorrected, EccCounter::Volatile)
                })
                .ok(),
            reset_pending: raised.first().copied().unwrap_or(false) || retired(),
            remap_failed: raised.get(1).copied().unwrap_or(false),
            mig: self.call("mig_mode", || device.mig_mode()).is_ok_and(|mode| mode.current == 1),
            compute_mode: match mode {
                Ok(NvmlComputeMode::Default) | Err(Fault::NotSupported | Fault::FunctionNotFound) => None,
                Ok(NvmlComputeMode::ExclusiveProcess) => Some(ComputeMode::ExclusiveProcess),
                Ok(NvmlComputeMode::Prohibited) => Some(ComputeMode::Prohibited),
                Ok(NvmlComputeMode::ExclusiveThread) | Err(_) => Some(ComputeMode::Unknown),
            },
        }
    }
}

fn is_raised(value: &Result<nvml_wrapper::struct_wrappers::device::FieldValueSample, NvmlError>) -> bool {
    let Ok(sample) = value else { return false };
    match sample.value {
        Ok(SampleValue::U32(value)) => value != 0,
        Ok(SampleValue::U64(value)) => value != 0,
        _ => false,
    }
}

fn listed(info: &ProcessInfo) -> Listed {
    let bytes = match info.used_gpu_memory {
        UsedGpuMemory::Used(bytes) => Some(bytes),
        UsedGpuMemory::Unavailable => None,
    };
    Listed { pid: info.pid, bytes, ..Listed::default() }
}

/// By number, since newer answers have no name in the bindings and arrive as `UnexpectedVariant`.
fn fault(error: &NvmlError) -> Fault {
    let code = match error {
        NvmlError::LibloadingError(source) => {
            return Fault::NoDriver {
                detail: format!(
                    "{source}; is the NVIDIA container toolkit allowed to inject the driver into this pod?"
                ),
            };
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
