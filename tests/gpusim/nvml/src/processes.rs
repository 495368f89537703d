//! Process lists. All simulated work is compute work: the graphics and MPS lists are always empty.

use std::ffi::{c_int, c_uint};

use crate::abi::{Code, NO_INSTANCE, Out, ProcessInfo, answer};
use crate::library::library;

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetComputeRunningProcesses_v3(
    handle: usize,
    n: Out<c_uint>,
    list: Out<ProcessInfo>,
) -> c_int {
    compute(handle, &n, &list)
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetComputeRunningProcesses_v2(
    handle: usize,
    n: Out<c_uint>,
    list: Out<ProcessInfo>,
) -> c_int {
    compute(handle, &n, &list)
}

fn compute(handle: usize, n: &Out<c_uint>, list: &Out<ProcessInfo>) -> c_int {
    answer(|| {
        let mut library = library();
        let uuid = library.uuid(handle)?;
        let holders = library.ask(|driver| driver.processes(&uuid))?;
        let entry = |holder: &gpusim::control::Holder| ProcessInfo {
            pid: holder.pid,
            used: holder.bytes,
            gpu_instance: NO_INSTANCE,
            compute_instance: NO_INSTANCE,
        };
        give(n, list, &holders.iter().map(entry).collect::<Vec<_>>())
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetGraphicsRunningProcesses_v3(
    handle: usize,
    n: Out<c_uint>,
    list: Out<ProcessInfo>,
) -> c_int {
    none(handle, &n, &list)
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetGraphicsRunningProcesses_v2(
    handle: usize,
    n: Out<c_uint>,
    list: Out<ProcessInfo>,
) -> c_int {
    none(handle, &n, &list)
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMPSComputeRunningProcesses_v3(
    handle: usize,
    n: Out<c_uint>,
    list: Out<ProcessInfo>,
) -> c_int {
    none(handle, &n, &list)
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMPSComputeRunningProcesses_v2(
    handle: usize,
    n: Out<c_uint>,
    list: Out<ProcessInfo>,
) -> c_int {
    none(handle, &n, &list)
}

fn none(handle: usize, n: &Out<c_uint>, list: &Out<ProcessInfo>) -> c_int {
    answer(|| library().device(handle).and_then(|_| give(n, list, &[])))
}

/// Says how many there are, and gives them where the caller has room for all.
fn give(n: &Out<c_uint>, list: &Out<ProcessInfo>, entries: &[ProcessInfo]) -> Result<(), Code> {
    let needed = u32::try_from(entries.len()).unwrap_or(u32::MAX);
    let room = n.get()?;
    n.put(needed)?;
    if room < needed {
        return Err(Code::InsufficientSize);
    }
    list.put_all(entries)
}
