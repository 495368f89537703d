//! Process lists: which version of the call a driver can be asked with, and what its entries say.

use nvml_wrapper::Device;
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::struct_wrappers::device::ProcessInfo;

use super::NvmlProbe;
use crate::gpu::{Listed, join};
use crate::probe::{DriverVersion, Fault};

/// How often a process list is asked again when it grew between the two calls that reading it takes.
const TRIES: usize = 3;

type Answer = Result<Vec<ProcessInfo>, NvmlError>;
type Ask = fn(&Device<'static>) -> Answer;

/// One list and the calls that can answer it.
struct List {
    v3: (&'static str, Ask),
    /// The bindings have no `_v2` for the clients of MPS.
    v2: Option<(&'static str, Ask)>,
}

const COMPUTE: List = List {
    v3: ("compute_processes", |device| device.running_compute_processes()),
    v2: Some(("compute_v2", |device| device.running_compute_processes_v2())),
};
const GRAPHICS: List = List {
    v3: ("graphics_processes", |device| device.running_graphics_processes()),
    v2: Some(("graphics_v2", |device| device.running_graphics_processes_v2())),
};
const MPS_CLIENTS: List =
    List { v3: ("mps_processes", |device| device.mps_running_compute_processes()), v2: None };

/// Reads the lists of one GPU, those of MPS clients only where `mps` says so.
pub fn read(probe: &NvmlProbe, index: u32, mps: bool) -> Result<Vec<Listed>, Fault> {
    let device = probe.device(index)?;
    let compute = newest(probe, device, &COMPUTE)?;
    let graphics = or_empty(newest(probe, device, &GRAPHICS))?;
    let clients = if mps { or_empty(newest(probe, device, &MPS_CLIENTS))? } else { Vec::new() };
    let compute = compute.iter().map(|info| Listed { compute: true, ..listed(info) });
    let graphics = graphics.iter().map(|info| Listed { graphics: true, ..listed(info) });
    let clients = clients.iter().map(|info| Listed { mps: true, ..listed(info) });
    Ok(join(compute.chain(graphics).chain(clients).collect()))
}

/// Asks with `_v3` where its entries are sound, with `_v2` where they are not or the driver is too old.
fn newest(probe: &NvmlProbe, device: &Device<'static>, list: &List) -> Result<Vec<ProcessInfo>, Fault> {
    let open = probe.opened()?;
    if open.version.is_some_and(DriverVersion::has_sound_v3_lists) {
        match patiently(probe, device, list.v3) {
            Err(Fault::FunctionNotFound) => {}
            answer => return answer,
        }
    }
    match list.v2.map_or(Err(Fault::FunctionNotFound), |v2| patiently(probe, device, v2)) {
        Err(Fault::FunctionNotFound) => Err(Fault::UnreadableLists(open.version_text.clone())),
        answer => answer,
    }
}

fn patiently(
    probe: &NvmlProbe,
    device: &Device<'static>,
    (name, ask): (&'static str, Ask),
) -> Result<Vec<ProcessInfo>, Fault> {
    probe.call(name, || {
        let mut answer = ask(device);
        for _ in 1..TRIES {
            if !matches!(answer, Err(NvmlError::InsufficientSize(_))) {
                break;
            }
            answer = ask(device);
        }
        answer
    })
}

/// A GPU that cannot draw, or knows no MPS, has nobody who does.
fn or_empty(answer: Result<Vec<ProcessInfo>, Fault>) -> Result<Vec<ProcessInfo>, Fault> {
    match answer {
        Err(Fault::NotSupported) => Ok(Vec::new()),
        other => other,
    }
}

fn listed(info: &ProcessInfo) -> Listed {
    let bytes = match info.used_gpu_memory {
        UsedGpuMemory::Used(bytes) => Some(bytes),
        UsedGpuMemory::Unavailable => None,
    };
    Listed { pid: info.pid, bytes, ..Listed::default() }
}
