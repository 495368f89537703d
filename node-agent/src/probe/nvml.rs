//! The probe that asks a real driver through NVML. Nothing outside this module knows the bindings.
//!
//! One long-lived connection per process: each new one could wake a sleeping GPU for seconds. The library's object is
//! never dropped, as its end would call into a driver that may be gone.

mod fault;
mod instances;
mod lists;
mod memory_v1;
mod process_list;
mod signs;
mod unsupported;
mod xid;

use std::cell::RefCell;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use nvml_wrapper::enum_wrappers::device::GpuVirtualizationMode;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml, cuda_driver_version_major, cuda_driver_version_minor};

use self::fault::fault;
use self::unsupported::Unsupported;
use super::{Driver, DriverVersion, Fault, Probe};
use crate::gpu::{Identity, Instance, Listed, Memory, Signs};
use crate::health::XidEvent;
use crate::metrics::Calls;

/// A driver behind NVML.
pub struct NvmlProbe {
    library: Option<PathBuf>,
    calls: Calls,
    xids: std::sync::mpsc::Sender<XidEvent>,
    open: Option<Open>,
    unsupported: RefCell<Unsupported>,
}

struct Open {
    nvml: &'static Nvml,
    devices: Vec<Option<Device<'static>>>,
    version: Option<DriverVersion>,
    version_text: String,
    /// The thread that waits for Xids ends with its only other end.
    listening: Option<Arc<()>>,
}

impl NvmlProbe {
    /// A probe that loads the library at `library`, or the loader's `libnvidia-ml.so.1`, and sends Xids to `xids`.
    pub fn new(library: Option<PathBuf>, calls: Calls, xids: std::sync::mpsc::Sender<XidEvent>) -> Self {
        Self { library, calls, xids, open: None, unsupported: RefCell::default() }
    }

    fn call<T>(&self, name: &'static str, ask: impl FnOnce() -> Result<T, NvmlError>) -> Result<T, Fault> {
        self.calls.timed(name, || ask().map_err(|error| fault(&error)))
    }

    /// The same for what not every GPU has: one that has said so is not asked again.
    fn call_if_supported<T>(
        &self,
        index: u32,
        name: &'static str,
        ask: impl FnOnce() -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        if self.unsupported.borrow().has(index, name) {
            return Err(Fault::NotSupported);
        }
        let answer = self.calls.timed(name, ask);
        if let Err(Fault::NotSupported) = &answer {
            self.unsupported.borrow_mut().note(index, name);
        }
        answer
    }

    fn opened(&self) -> Result<&Open, Fault> {
        self.open.as_ref().ok_or_else(|| Fault::no_driver(None, "not opened"))
    }

    fn device(&self, index: u32) -> Result<&Device<'static>, Fault> {
        let slot = usize::try_from(index).ok().and_then(|index| self.opened().ok()?.devices.get(index));
        slot.and_then(Option::as_ref).ok_or(Fault::GpuLost)
    }

    fn memory_of(&self, device: &Device<'static>) -> Result<Memory, Fault> {
        let nvml = self.opened()?.nvml;
        let figures = match self.call("memory", || device.memory_info()) {
            Ok(v2) => Memory::new(v2.total, Some(v2.reserved), v2.free, v2.used),
            // Drivers before 510 have the first version only; its `used` holds the reserved part too.
            Err(Fault::FunctionNotFound(_)) => {
                let v1 = self
                    .calls
                    .timed("memory_v1", || memory_v1::read(nvml, device).map_err(Fault::from_code))?;
                Memory::new(v1.total, None, v1.free, v1.used)
            }
            Err(other) => return Err(other),
        };
        figures.ok_or(Fault::Implausible)
    }
}

/// A fact of a GPU; `None` where the driver or the GPU has no such thing, or will never tell: virtual machines and old
/// drivers answer that they know nothing, or that it is not allowed, for ever.
///
/// # Errors
/// Any other fault: to be asked again, as nothing may be taken for granted meanwhile.
fn settled<T>(answer: Result<T, Fault>) -> Result<Option<T>, Fault> {
    match answer {
        Ok(fact) => Ok(Some(fact)),
        Err(Fault::NotSupported | Fault::FunctionNotFound(_) | Fault::NoPermission | Fault::Unknown) => {
            Ok(None)
        }
        Err(fault) => Err(fault),
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
            listening: None,
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
        self.unsupported.take();
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
                    let persistent = self.call("persistence_mode", || device.is_in_persistent_mode()).ok();
                    let confidential =
                        settled(self.call("confidential_computing", || device.is_cc_enabled()))?;
                    let numa = settled(self.call("numa_node", || device.numa_node_id()))?;
                    let mode = || match device.virtualization_mode() {
                        // A mode of which the bindings have no word yet: they have one for every low return code.
                        Err(NvmlError::UnexpectedVariant(mode)) if mode < 20 => Ok(None),
                        other => other.map(Some),
                    };
                    let virtualization = settled(self.call("virtualization_mode", mode))?.flatten();
                    let identity = Identity::new(index, uuid, &name, pci).ok_or(Fault::Implausible)?;
                    Ok(Identity {
                        persistent,
                        confidential: confidential.unwrap_or(false),
                        numa: numa.is_some(),
                        hosts_vgpus: virtualization == Some(GpuVirtualizationMode::HostVgpu),
                        ..identity
                    })
                }),
                Err(fault) => Err(fault.clone()),
            });
            devices.push(found.ok());
        }
        let (xids, clock) = (self.xids.clone(), self.calls.clock());
        let Some(open) = &mut self.open else { return Ok(identities) };
        open.devices = devices;
        if open.listening.is_none() && count > 0 {
            open.listening = xid::listen(nvml, clock, xids).ok();
        }
        Ok(identities)
    }

    fn memory(&mut self, index: u32) -> Result<Memory, Fault> {
        self.memory_of(self.device(index)?)
    }

    fn processes(&mut self, index: u32, mps: bool) -> Result<Vec<Listed>, Fault> {
        lists::read(self, index, mps)
    }

    fn signs(&mut self, index: u32) -> Signs {
        self.device(index).map(|device| signs::read(self, index, device)).unwrap_or_default()
    }

    fn instances(&mut self, index: u32) -> Result<Vec<Instance>, Fault> {
        instances::read(self, index)
    }
}
