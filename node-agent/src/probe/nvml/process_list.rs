//! One process list call. The bindings' own functions ask for the length first, which makes two of a call that takes
//! milliseconds and holds a lock that other GPU programs wait for; with room to spare one is enough.

#![expect(unsafe_code, reason = "the bindings have no call into a buffer of the caller's")]

use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::{Device, Nvml};

use crate::gpu::Listed;

/// Entries that there is room for at first.
const ROOM: u32 = 64;
/// Entries beyond what the driver says it needs, as the list may grow until it is asked again.
const SPARE: u32 = 16;
/// Largest list that is believed; a driver lists 950 processes of one GPU at most.
const MOST: u32 = 4_096;
/// How often a list is asked for that outgrows its room each time.
const TRIES: usize = 3;
/// `NVML_ERROR_INSUFFICIENT_SIZE`.
const INSUFFICIENT_SIZE: u32 = 7;
/// `NVML_ERROR_FUNCTION_NOT_FOUND`.
const FUNCTION_NOT_FOUND: u32 = 13;

/// `nvmlProcessInfo_v2_t`: the entry of `_v2` lists, and of `_v3` lists of sound drivers.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub struct Entry {
    pid: u32,
    used: u64,
    gpu_instance: u32,
    compute_instance: u32,
}

const _: () = assert!(size_of::<Entry>() == 24);

/// A function of the library, by its name in metrics.
#[derive(Clone, Copy)]
pub struct Call {
    /// Name in metrics.
    pub name: &'static str,
    /// Fills the room, says how many entries there are, and returns the driver's code.
    ask: fn(&Nvml, &Device<'_>, &mut u32, &mut [Entry]) -> u32,
}

/// The function `$function` of the library, as a [`Call`].
macro_rules! call {
    ($name:literal, $function:ident) => {
        Call {
            name: $name,
            ask: |nvml, device, count, room| {
                let Ok(function) = nvml.lib().$function.as_ref() else { return FUNCTION_NOT_FOUND };
                // SAFETY: the function was loaded from the library that `device` belongs to, and both live as long as
                // the process, since `nvml` is never dropped. `count` is at most the length of `room` (see `read`), so
                // the driver writes no entry beyond it; entries have the 24 bytes that the assertion above holds this
                // type to, and drivers whose `_v3` entries are longer are not asked by `_v3` (see `super::lists`).
                unsafe { function(device.handle(), count, room.as_mut_ptr().cast()) }
            },
        }
    };
}

pub const COMPUTE_V3: Call = call!("compute_processes", nvmlDeviceGetComputeRunningProcesses_v3);
pub const COMPUTE_V2: Call = call!("compute_v2", nvmlDeviceGetComputeRunningProcesses_v2);
pub const GRAPHICS_V3: Call = call!("graphics_processes", nvmlDeviceGetGraphicsRunningProcesses_v3);
pub const GRAPHICS_V2: Call = call!("graphics_v2", nvmlDeviceGetGraphicsRunningProcesses_v2);
pub const MPS_V3: Call = call!("mps_processes", nvmlDeviceGetMPSComputeRunningProcesses_v3);
pub const MPS_V2: Call = call!("mps_v2", nvmlDeviceGetMPSComputeRunningProcesses_v2);

/// Reads the list; the error is the number of the answer, 13 if the library has no such function.
pub fn read(call: Call, nvml: &Nvml, device: &Device<'_>) -> Result<Vec<Listed>, u32> {
    let mut room = ROOM;
    for _ in 0..TRIES {
        let mut entries = vec![Entry::default(); usize::try_from(room).unwrap_or(0)];
        let mut count = u32::try_from(entries.len()).unwrap_or(0);
        match (call.ask)(nvml, device, &mut count, &mut entries) {
            0 => {
                entries.truncate(usize::try_from(count).unwrap_or(0));
                return Ok(entries.into_iter().map(listed).collect());
            }
            INSUFFICIENT_SIZE if count <= MOST => room = count.saturating_add(SPARE),
            code => return Err(code),
        }
    }
    Err(INSUFFICIENT_SIZE)
}

fn listed(entry: Entry) -> Listed {
    let bytes = match UsedGpuMemory::from(entry.used) {
        UsedGpuMemory::Used(bytes) => Some(bytes),
        UsedGpuMemory::Unavailable => None,
    };
    Listed { pid: entry.pid, bytes, ..Listed::default() }
}
