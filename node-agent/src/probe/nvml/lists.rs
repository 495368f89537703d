//! Process lists: which lists there are, and which version of the call a driver can be asked with.

use nvml_wrapper::Device;

use super::NvmlProbe;
use super::process_list::{self, COMPUTE_V2, COMPUTE_V3, Call, GRAPHICS_V2, GRAPHICS_V3, MPS_V2, MPS_V3};
use crate::gpu::{Listed, join};
use crate::probe::{DriverVersion, Fault};

/// The calls that can answer for one list.
struct List {
    v3: Call,
    v2: Call,
}

const COMPUTE: List = List { v3: COMPUTE_V3, v2: COMPUTE_V2 };
const GRAPHICS: List = List { v3: GRAPHICS_V3, v2: GRAPHICS_V2 };
const MPS_CLIENTS: List = List { v3: MPS_V3, v2: MPS_V2 };

/// Reads the lists of one GPU, those of MPS clients only where `mps` says so.
pub fn read(probe: &NvmlProbe, index: u32, mps: bool) -> Result<Vec<Listed>, Fault> {
    let device = probe.device(index)?;
    let newest = |list: &List| newest(probe, index, device, list);
    let compute = newest(&COMPUTE)?;
    let graphics = or_empty(newest(&GRAPHICS))?;
    let clients = if mps { or_empty(newest(&MPS_CLIENTS))? } else { Vec::new() };
    let compute = compute.into_iter().map(|listed| Listed { compute: true, ..listed });
    let graphics = graphics.into_iter().map(|listed| Listed { graphics: true, ..listed });
    let clients = clients.into_iter().map(|listed| Listed { mps: true, ..listed });
    Ok(join(compute.chain(graphics).chain(clients).collect()))
}

/// Asks with `_v3` where its entries are sound, with `_v2` where they are not or the driver is too old.
fn newest(
    probe: &NvmlProbe,
    index: u32,
    device: &Device<'static>,
    list: &List,
) -> Result<Vec<Listed>, Fault> {
    let open = probe.opened()?;
    let ask = |call: Call| {
        let read = || process_list::read(call, open.nvml, device).map_err(Fault::from_code);
        probe.call_if_supported(index, call.name, read)
    };
    if open.version.is_some_and(DriverVersion::has_sound_v3_lists) {
        match ask(list.v3) {
            Err(Fault::FunctionNotFound(_)) => {}
            answer => return answer,
        }
    }
    match ask(list.v2) {
        Err(Fault::FunctionNotFound(_)) => Err(Fault::UnreadableLists(open.version_text.clone())),
        answer => answer,
    }
}

/// A GPU that cannot draw, or knows no MPS, has nobody who does.
fn or_empty(answer: Result<Vec<Listed>, Fault>) -> Result<Vec<Listed>, Fault> {
    match answer {
        Err(Fault::NotSupported) => Ok(Vec::new()),
        other => other,
    }
}
