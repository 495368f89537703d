//! The first version of the memory call, which the bindings load but do not wrap: drivers before 510 have no other.

#![expect(unsafe_code, reason = "the bindings have no safe call for the first version")]

use nvml_wrapper::{Device, Nvml};

/// `nvmlMemory_t`, bytes.
#[repr(C)]
#[derive(Default)]
pub struct MemoryV1 {
    /// Installed.
    pub total: u64,
    /// To be had.
    pub free: u64,
    /// Allocated, with what the driver keeps.
    pub used: u64,
}

/// Reads it; the error is the number of the answer, 13 if the library has no such function.
pub fn read(nvml: &Nvml, device: &Device<'_>) -> Result<MemoryV1, u32> {
    let Ok(function) = nvml.lib().nvmlDeviceGetMemoryInfo.as_ref() else { return Err(13) };
    let mut memory = MemoryV1::default();
    // SAFETY: the function was loaded from the library that `device` belongs to, and both live as long as the
    // process, since `nvml` is never dropped. The bindings' struct has the same three 64-bit fields in the same
    // order under `repr(C)`; the pointer is valid and exclusive for the call, which writes those 24 bytes at most.
    let answer = unsafe { function(device.handle(), std::ptr::from_mut(&mut memory).cast()) };
    if answer == 0 { Ok(memory) } else { Err(answer) }
}
