//! GPUs: which there are, what they are called, their memory, their modes and health.

use std::ffi::{c_char, c_int, c_uint};

use gpusim::card::pci_bus;
use gpusim::driver::Device;

use crate::abi::{Code, FieldValue, MEMORY_V2, MemoryV1, MemoryV2, Out, PciInfo, Text, answer, field};
use crate::library::library;

/// Fields of the remapped rows: corrected, uncorrected, pending, failed.
const REMAPPED_ROWS: std::ops::RangeInclusive<u32> = 142..=145;
/// `NVML_VALUE_TYPE_UNSIGNED_INT`.
const UNSIGNED_INT: u32 = 1;

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetCount_v2(count: Out<c_uint>) -> c_int {
    answer(|| count.put(u32::try_from(library().devices()?.len()).unwrap_or(u32::MAX)))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetHandleByIndex_v2(index: c_uint, handle: Out<usize>) -> c_int {
    answer(|| {
        let mut library = library();
        let at = usize::try_from(index).map_err(|_| Code::InvalidArgument)?;
        match library.devices()?.get(at) {
            None => Err(Code::InvalidArgument),
            Some(Device { lost: true, .. }) => Err(Code::GpuIsLost),
            Some(device) => handle.put(library.handle(&device.uuid)),
        }
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetHandleByUUID(uuid: Text, handle: Out<usize>) -> c_int {
    answer(|| {
        let uuid = uuid.get()?;
        let mut library = library();
        match library.devices()?.iter().find(|device| device.uuid == uuid) {
            None => Err(Code::NotFound),
            Some(Device { lost: true, .. }) => Err(Code::GpuIsLost),
            Some(_) => handle.put(library.handle(&uuid)),
        }
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetUUID(handle: usize, uuid: Out<c_char>, length: c_uint) -> c_int {
    answer(|| uuid.put_text(length, &library().device(handle)?.1.uuid))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetName(handle: usize, name: Out<c_char>, length: c_uint) -> c_int {
    answer(|| name.put_text(length, &library().device(handle)?.1.model))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetIndex(handle: usize, index: Out<c_uint>) -> c_int {
    answer(|| index.put(library().device(handle)?.0))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMinorNumber(handle: usize, minor: Out<c_uint>) -> c_int {
    answer(|| minor.put(library().device(handle)?.1.minor))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetPciInfo_v3(handle: usize, pci: Out<PciInfo>) -> c_int {
    answer(|| {
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
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMemoryInfo(handle: usize, memory: Out<MemoryV1>) -> c_int {
    answer(|| {
        let mut library = library();
        let uuid = library.uuid(handle)?;
        let now = library.ask(|driver| driver.memory(&uuid))?;
        // The first version knows nothing of reserved memory and counts it as used.
        memory.put(MemoryV1 { total: now.total, free: now.free, used: now.total.saturating_sub(now.free) })
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMemoryInfo_v2(handle: usize, memory: Out<MemoryV2>) -> c_int {
    answer(|| {
        let version = memory.get()?.version;
        if version != MEMORY_V2 {
            return Err(Code::ArgumentVersionMismatch);
        }
        let mut library = library();
        let uuid = library.uuid(handle)?;
        let now = library.ask(|driver| driver.memory(&uuid))?;
        let (total, reserved, free, used) = (now.total, now.reserved, now.free, now.used);
        memory.put(MemoryV2 { version, total, reserved, free, used })
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMigMode(handle: usize, current: Out<c_uint>, pending: Out<c_uint>) -> c_int {
    off(handle, &current, &pending)
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetEccMode(handle: usize, current: Out<c_uint>, pending: Out<c_uint>) -> c_int {
    off(handle, &current, &pending)
}

/// A mode that is off now and will be.
fn off(handle: usize, current: &Out<c_uint>, pending: &Out<c_uint>) -> c_int {
    answer(|| {
        library().device(handle)?;
        current.put(0)?;
        pending.put(0)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMaxMigDeviceCount(handle: usize, count: Out<c_uint>) -> c_int {
    answer(|| library().device(handle).and_then(|_| count.put(0)))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMigDeviceHandleByIndex(handle: usize, _index: c_uint, _mig: usize) -> c_int {
    refuse(handle, Code::NotFound)
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetAttributes_v2(handle: usize, _attributes: usize) -> c_int {
    refuse(handle, Code::NotSupported)
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetTotalEccErrors(
    handle: usize,
    _error: c_uint,
    _counter: c_uint,
    _count: usize,
) -> c_int {
    refuse(handle, Code::NotSupported)
}

/// What a working GPU says to a question that it has no answer to.
fn refuse(handle: usize, code: Code) -> c_int {
    answer(|| library().device(handle).and(Err(code)))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetFieldValues(handle: usize, count: c_int, values: Out<FieldValue>) -> c_int {
    answer(|| {
        library().device(handle)?;
        let count = usize::try_from(count).map_err(|_| Code::InvalidArgument)?;
        values.update(count, |field, scope| {
            let known = REMAPPED_ROWS.contains(&field);
            let code = if known { 0 } else { Code::NotSupported as c_int };
            FieldValue { field, scope, timestamp: 0, latency: 0, value_type: UNSIGNED_INT, code, value: 0 }
        })
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetRemappedRows(
    handle: usize,
    corrected: Out<c_uint>,
    uncorrected: Out<c_uint>,
    pending: Out<c_uint>,
    failed: Out<c_uint>,
) -> c_int {
    answer(|| {
        library().device(handle)?;
        [corrected, uncorrected, pending, failed].iter().try_for_each(|count| count.put(0))
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetRetiredPages(
    handle: usize,
    _cause: c_uint,
    count: Out<c_uint>,
    _pages: usize,
) -> c_int {
    answer(|| library().device(handle).and_then(|_| count.put(0)))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetRetiredPages_v2(
    handle: usize,
    _cause: c_uint,
    count: Out<c_uint>,
    _pages: usize,
    _times: usize,
) -> c_int {
    answer(|| library().device(handle).and_then(|_| count.put(0)))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetComputeMode(handle: usize, mode: Out<c_uint>) -> c_int {
    answer(|| library().device(handle).and_then(|_| mode.put(0)))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetPersistenceMode(handle: usize, mode: Out<c_uint>) -> c_int {
    answer(|| library().device(handle).and_then(|_| mode.put(1)))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetVirtualizationMode(handle: usize, mode: Out<c_uint>) -> c_int {
    answer(|| library().device(handle).and_then(|_| mode.put(0)))
}
