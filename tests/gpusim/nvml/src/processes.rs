//! Process lists. All simulated work is compute work: the graphics and MPS lists hold only what a script says.

use std::ffi::c_uint;

use gpusim::script::{Entry, FIRST_GROWN};

use crate::abi::{Code, NO_INSTANCE, Out, ProcessInfo, WideProcessInfo, exports};
use crate::library::{Handle, index_of, library};
use crate::script;

/// What a list is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Compute,
    Graphics,
    MpsClients,
}

exports! {
    fn nvmlDeviceGetComputeRunningProcesses_v3(handle: usize, n: Out<c_uint>, list: Out<ProcessInfo>)
    on index_of(handle); { give_v3(&n, list, &entries(handle, Kind::Compute)?) }

    fn nvmlDeviceGetComputeRunningProcesses_v2(handle: usize, n: Out<c_uint>, list: Out<ProcessInfo>)
    on index_of(handle); { give(&n, &list, &entries(handle, Kind::Compute)?) }

    fn nvmlDeviceGetGraphicsRunningProcesses_v3(handle: usize, n: Out<c_uint>, list: Out<ProcessInfo>)
    on index_of(handle); { give_v3(&n, list, &entries(handle, Kind::Graphics)?) }

    fn nvmlDeviceGetGraphicsRunningProcesses_v2(handle: usize, n: Out<c_uint>, list: Out<ProcessInfo>)
    on index_of(handle); { give(&n, &list, &entries(handle, Kind::Graphics)?) }

    fn nvmlDeviceGetMPSComputeRunningProcesses_v3(handle: usize, n: Out<c_uint>, list: Out<ProcessInfo>)
    on index_of(handle); { give_v3(&n, list, &entries(handle, Kind::MpsClients)?) }

    fn nvmlDeviceGetMPSComputeRunningProcesses_v2(handle: usize, n: Out<c_uint>, list: Out<ProcessInfo>)
    on index_of(handle); { give(&n, &list, &entries(handle, Kind::MpsClients)?) }
}

fn entries(handle: usize, kind: Kind) -> Result<Vec<ProcessInfo>, Code> {
    let mut library = library();
    let Handle { uuid, index, .. } = library.known(handle)?.clone();
    let holders = library.ask(|driver| driver.processes(&uuid))?;
    let twist = script::twist(index);
    let listed = match kind {
        Kind::Compute => {
            let held = holders.iter().map(|holder| Entry { pid: holder.pid, bytes: Some(holder.bytes) });
            let grown = (FIRST_GROWN..).take(usize::try_from(script::growth(index)).unwrap_or(0));
            let grown = grown.map(|pid| Entry { pid, bytes: Some(gpusim::card::MIB) });
            held.chain(grown).chain(twist.compute).collect()
        }
        Kind::Graphics => twist.graphics,
        Kind::MpsClients => twist.mps,
    };
    Ok(listed.into_iter().map(entry).collect())
}

/// Memory that is not available is the largest number (`NVML_VALUE_NOT_AVAILABLE`).
fn entry(entry: Entry) -> ProcessInfo {
    let used = entry.bytes.unwrap_or(u64::MAX);
    ProcessInfo { pid: entry.pid, used, gpu_instance: NO_INSTANCE, compute_instance: NO_INSTANCE }
}

fn give_v3(n: &Out<c_uint>, list: Out<ProcessInfo>, entries: &[ProcessInfo]) -> Result<(), Code> {
    if !script::has_wide_entries() {
        return give(n, &list, entries);
    }
    let wide = |entry: &ProcessInfo| WideProcessInfo { entry: *entry, protected: 0 };
    give(n, &list.cast(), &entries.iter().map(wide).collect::<Vec<_>>())
}

/// Says how many there are, and gives them where the caller has room for all.
fn give<T: Copy>(n: &Out<c_uint>, list: &Out<T>, entries: &[T]) -> Result<(), Code> {
    let needed = u32::try_from(entries.len()).unwrap_or(u32::MAX);
    let room = n.get()?;
    n.put(needed)?;
    if room < needed {
        return Err(Code::InsufficientSize);
    }
    list.put_all(entries)
}
