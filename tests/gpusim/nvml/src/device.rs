//! GPUs: which there are, what they are called, their memory, their modes and health.

use std::ffi::{c_char, c_int, c_uint};

use gpusim::card::pci_bus;
use gpusim::driver::{Device, Memory};

use crate::abi::{Code, FieldValue, MEMORY_V2, MemoryV1, MemoryV2, Out, PciInfo, Text, exports, field};
use crate::library::{Handle, index_of, library};
use crate::script::twist;

/// `NVML_VALUE_TYPE_UNSIGNED_INT`.
const UNSIGNED_INT: u32 = 1;
/// `NVML_MEMORY_ERROR_TYPE_UNCORRECTED`.
const UNCORRECTED: u32 = 1;
/// `NVML_VOLATILE_ECC`: since the driver was loaded.
const VOLATILE: u32 = 0;
/// MIG instances that a GPU can have at most.
const MOST_INSTANCES: c_uint = 7;

exports! {
    fn nvmlDeviceGetCount_v2(count: Out<c_uint>); {
        count.put(u32::try_from(library().devices()?.len()).unwrap_or(u32::MAX))
    }

    fn nvmlDeviceGetHandleByIndex_v2(index: c_uint, handle: Out<usize>) on Some(index); {
        let mut library = library();
        let at = usize::try_from(index).map_err(|_| Code::InvalidArgument)?;
        match library.devices()?.get(at) {
            None => Err(Code::InvalidArgument),
            Some(Device { lost: true, .. }) => Err(Code::GpuIsLost),
            Some(device) => handle.put(library.handle(&device.uuid, index)),
        }
    }

    fn nvmlDeviceGetHandleByUUID(uuid: Text, handle: Out<usize>); {
        let uuid = uuid.get()?;
        let mut library = library();
        match (0..).zip(library.devices()?).find(|(_, device)| device.uuid == uuid) {
            None => Err(Code::NotFound),
            Some((_, Device { lost: true, .. })) => Err(Code::GpuIsLost),
            Some((index, _)) => handle.put(library.handle(&uuid, index)),
        }
    }

    fn nvmlDeviceGetUUID(handle: usize, uuid: Out<c_char>, length: c_uint) on index_of(handle); {
        let mut library = library();
        let (index, device) = library.device(handle)?;
        let own = match library.instance(handle)? {
            Some(instance) => instance.uuid,
            None => twist(index).uuid.unwrap_or(device.uuid),
        };
        uuid.put_text(length, &own)
    }

    fn nvmlDeviceGetName(handle: usize, name: Out<c_char>, length: c_uint) on index_of(handle); {
        let (index, device) = library().device(handle)?;
        match twist(index).name {
            Some(strange) => name.put_latin(length, &strange),
            None => name.put_text(length, &device.model),
        }
    }

    fn nvmlDeviceGetIndex(handle: usize, index: Out<c_uint>) on index_of(handle); {
        index.put(library().device(handle)?.0)
    }

    fn nvmlDeviceGetMinorNumber(handle: usize, minor: Out<c_uint>) on index_of(handle); {
        minor.put(library().device(handle)?.1.minor)
    }

    fn nvmlDeviceGetPciInfo_v3(handle: usize, pci: Out<PciInfo>) on index_of(handle); {
        let bus = pci_bus(library().device(handle)?.1.minor);
        pci.put(PciInfo {
            bus_id_legacy: field(&format!("0000:{bus:02X}:00.0")),
            domain: 0,
            bus,
            device: 0,
            pci_id: 0x2204_10DE,
            subsystem: 0,
            bus_id: field(&format!("00000000:{bus:02X}:00.0")),
        })
    }

    fn nvmlDeviceGetMemoryInfo(handle: usize, memory: Out<MemoryV1>) on index_of(handle); {
        let now = figures(handle)?;
        // The first version knows nothing of reserved memory and counts it as used.
        memory.put(MemoryV1 { total: now.total, free: now.free, used: now.total.saturating_sub(now.free) })
    }

    fn nvmlDeviceGetMemoryInfo_v2(handle: usize, memory: Out<MemoryV2>) on index_of(handle); {
        let version = memory.get()?.version;
        if version != MEMORY_V2 {
            return Err(Code::ArgumentVersionMismatch);
        }
        let Memory { total, reserved, used, free } = figures(handle)?;
        memory.put(MemoryV2 { version, total, reserved, free, used })
    }

    fn nvmlDeviceGetMigMode(handle: usize, current: Out<c_uint>, pending: Out<c_uint>) on index_of(handle); {
        let (index, _) = library().device(handle)?;
        let mode = c_uint::from(twist(index).mig.is_some());
        current.put(mode)?;
        pending.put(mode)
    }

    fn nvmlDeviceGetMaxMigDeviceCount(handle: usize, count: Out<c_uint>) on index_of(handle); {
        let (index, _) = library().device(handle)?;
        count.put(twist(index).mig.map_or(0, |_| MOST_INSTANCES))
    }

    fn nvmlDeviceGetMigDeviceHandleByIndex(handle: usize, slot: c_uint, instance: Out<usize>)
    on index_of(handle); {
        let mut library = library();
        library.device(handle)?;
        instance.put(library.instance_handle(handle, slot)?)
    }

    fn nvmlDeviceGetAttributes_v2(handle: usize, _attributes: usize) on index_of(handle); {
        library().device(handle).and(Err(Code::NotSupported))
    }

    fn nvmlDeviceGetEccMode(handle: usize, current: Out<c_uint>, pending: Out<c_uint>) on index_of(handle); {
        let (index, _) = library().device(handle)?;
        let mode = c_uint::from(twist(index).ecc_uncorrected.is_some());
        current.put(mode)?;
        pending.put(mode)
    }

    fn nvmlDeviceGetTotalEccErrors(handle: usize, error: c_uint, counter: c_uint, count: Out<u64>)
    on index_of(handle); {
        let (index, _) = library().device(handle)?;
        let counted = twist(index).ecc_uncorrected.ok_or(Code::NotSupported)?;
        count.put(if error == UNCORRECTED && counter == VOLATILE { counted } else { 0 })
    }

    fn nvmlDeviceGetFieldValues(handle: usize, count: c_int, values: Out<FieldValue>) on index_of(handle); {
        let (index, _) = library().device(handle)?;
        let count = usize::try_from(count).map_err(|_| Code::InvalidArgument)?;
        let rows = remapped_rows(index);
        values.update(count, |field, scope| {
            // The fields 142 to 145 are the remapped rows in the order of the call for them.
            let at = field.checked_sub(142).and_then(|at| usize::try_from(at).ok());
            let found = rows.ok().and_then(|rows| rows.get(at?).copied());
            let code = if found.is_some() { 0 } else { Code::NotSupported as c_int };
            let value = u64::from(found.unwrap_or(0));
            FieldValue { field, scope, timestamp: 0, latency: 0, value_type: UNSIGNED_INT, code, value }
        })
    }

    fn nvmlDeviceGetRemappedRows(
        handle: usize,
        corrected: Out<c_uint>,
        uncorrected: Out<c_uint>,
        pending: Out<c_uint>,
        failed: Out<c_uint>,
    ) on index_of(handle); {
        let (index, _) = library().device(handle)?;
        let counts = [corrected, uncorrected, pending, failed];
        counts.iter().zip(remapped_rows(index)?).try_for_each(|(count, rows)| count.put(rows))
    }

    fn nvmlDeviceGetRetiredPages(handle: usize, _cause: c_uint, count: Out<c_uint>, _pages: usize)
    on index_of(handle); {
        library().device(handle).and_then(|_| count.put(0))
    }

    fn nvmlDeviceGetRetiredPages_v2(
        handle: usize,
        _cause: c_uint,
        count: Out<c_uint>,
        _pages: usize,
        _times: usize,
    ) on index_of(handle); {
        library().device(handle).and_then(|_| count.put(0))
    }

    fn nvmlDeviceGetRetiredPagesPendingStatus(handle: usize, pending: Out<c_uint>) on index_of(handle); {
        let (index, _) = library().device(handle)?;
        pending.put(c_uint::from(twist(index).retired_pending.ok_or(Code::NotSupported)?))
    }

    fn nvmlDeviceGetComputeMode(handle: usize, mode: Out<c_uint>) on index_of(handle); {
        let (index, _) = library().device(handle)?;
        mode.put(twist(index).compute_mode)
    }

    fn nvmlDeviceGetPersistenceMode(handle: usize, mode: Out<c_uint>) on index_of(handle); {
        let (index, _) = library().device(handle)?;
        mode.put(c_uint::from(!twist(index).sleeps))
    }

    fn nvmlDeviceGetVirtualizationMode(handle: usize, mode: Out<c_uint>) on index_of(handle); {
        let (index, _) = library().device(handle)?;
        mode.put(twist(index).virtualization)
    }

    fn nvmlDeviceGetNumaNodeId(handle: usize, node: Out<c_uint>) on index_of(handle); {
        let (index, _) = library().device(handle)?;
        node.put(twist(index).numa.ok_or(Code::NotSupported)?)
    }
}

/// Memory of the GPU or the instance behind a handle.
fn figures(handle: usize) -> Result<Memory, Code> {
    let mut library = library();
    let Handle { uuid, index, .. } = library.known(handle)?.clone();
    let instance = library.instance(handle)?;
    let whole = library.ask(|driver| driver.memory(&uuid))?;
    Ok(instance.map_or_else(|| twist(index).memory.unwrap_or(whole), |instance| instance.memory))
}

/// Remapped rows: corrected, uncorrected, pending, failed. Cards that retire pages remap none.
fn remapped_rows(gpu: u32) -> Result<[c_uint; 4], Code> {
    let twist = twist(gpu);
    match twist.retired_pending {
        Some(_) => Err(Code::NotSupported),
        None => Ok([0, 0, twist.remapped_pending, twist.remapped_failure]),
    }
}
