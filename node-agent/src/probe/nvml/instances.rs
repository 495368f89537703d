//! MIG instances of a GPU. Handles die with their instances, so they are asked for anew each time.

use video_upscale::api::report::is_gpu_uuid;

use super::NvmlProbe;
use crate::gpu::Instance;
use crate::probe::Fault;

/// Slots that are asked for at most; no GPU has had more than 7.
const MAX_SLOTS: u32 = 16;

/// Reads the instances by slot. A slot may be empty, and an instance may go while it is asked for; both are left out.
pub fn read(probe: &NvmlProbe, index: u32) -> Result<Vec<Instance>, Fault> {
    let parent = probe.device(index)?;
    let slots = probe.call("mig_slots", || parent.mig_device_count())?.min(MAX_SLOTS);
    let mut instances = Vec::new();
    for slot in 0..slots {
        let Ok(device) = probe.call("mig_device", || parent.mig_device_by_index(slot)) else { continue };
        let Ok(uuid) = probe.call("mig_uuid", || device.uuid()) else { continue };
        if is_gpu_uuid(&uuid) {
            instances.push(Instance { uuid, memory: probe.memory_of(&device).ok() });
        }
    }
    Ok(instances)
}
