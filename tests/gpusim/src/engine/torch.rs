//! How PyTorch speaks when it dies.

use crate::driver::OutOfMemory;

/// What PyTorch knows of its own memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allocator {
    /// In tensors, bytes.
    pub allocated: u64,
    /// Taken from the driver, bytes.
    pub reserved: u64,
}

/// A traceback as it stands on stderr.
#[must_use]
pub fn traceback(function: &str, error: &str) -> String {
    format!(
        "Traceback (most recent call last):\n  File \"/app/FlashVSR_Ultra_Fast/infer_video.py\", line 1355, in \
         <module>\n    main()\n  File \"/app/FlashVSR_Ultra_Fast/infer_video.py\", line 1318, in main\n    output = \
         {function}\n             ^^^^^^^^^^^^^^^^^^^^\n{error}\n"
    )
}

/// The exception of an allocation that the driver refused, in the wording of PyTorch 2.9 and later. The process list
/// is NVML's with process ids of the host; an entry counts as PyTorch's own only where its number is `own`, so in a
/// container with its own process ids it looks like a stranger's.
#[must_use]
pub fn out_of_memory(
    request: u64,
    device: usize,
    out: &OutOfMemory,
    own: u32,
    allocator: Allocator,
) -> String {
    let processes: String = out
        .holders
        .iter()
        .map(|holder| {
            let size = size(holder.bytes);
            if holder.pid == own {
                format!("Including non-PyTorch memory, this process has {size} memory in use. ")
            } else {
                format!("Process {} has {size} memory in use. ", holder.pid)
            }
        })
        .collect();
    format!(
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate {}. GPU {device} has a total capacity of {} of \
         which {} is free. {processes}Of the allocated memory {} is allocated by PyTorch, and {} is reserved by \
         PyTorch but unallocated. If reserved but unallocated memory is large try setting \
         PYTORCH_ALLOC_CONF=expandable_segments:True to avoid fragmentation.  See documentation for Memory Management  \
         (https://pytorch.org/docs/stable/notes/cuda.html#environment-variables)",
        size(request),
        size(out.memory.total),
        size(out.memory.free),
        size(allocator.allocated),
        size(allocator.reserved.saturating_sub(allocator.allocated)),
    )
}

/// A size as PyTorch prints it.
fn size(bytes: u64) -> String {
    let part = |shift: u32| {
        let whole = bytes.checked_shr(shift).unwrap_or(0);
        let rest = bytes.saturating_sub(whole.checked_shl(shift).unwrap_or(0));
        (whole, rest.saturating_mul(100).checked_shr(shift).unwrap_or(0))
    };
    let (unit, (whole, hundredths)) = match bytes {
        0..=1024 => return format!("{bytes} bytes"),
        1025..=1_048_576 => ("KiB", part(10)),
        1_048_577..=1_073_741_824 => ("MiB", part(20)),
        _ => ("GiB", part(30)),
    };
    format!("{whole}.{hundredths:02} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Holder;
    use crate::driver::Memory;

    #[test]
    fn the_text_has_the_words_and_figures_of_a_real_one() {
        let memory = Memory { total: 12 << 30, reserved: 0, used: 11 << 30, free: (1 << 30) - (12 << 20) };
        let holders = vec![Holder { pid: 7, bytes: 6 << 30 }, Holder { pid: 9, bytes: 5 << 30 }];
        let out = OutOfMemory { memory, holders };
        let allocator = Allocator { allocated: 4 << 30, reserved: (4 << 30) + (300 << 20) };
        let text = out_of_memory(2 << 30, 0, &out, 9, allocator);
        assert_eq!(
            text,
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of \
             12.00 GiB of which 1012.00 MiB is free. Process 7 has 6.00 GiB memory in use. Including non-PyTorch \
             memory, this process has 5.00 GiB memory in use. Of the allocated memory 4.00 GiB is allocated by \
             PyTorch, and 300.00 MiB is reserved by PyTorch but unallocated. If reserved but unallocated memory is \
             large try setting PYTORCH_ALLOC_CONF=expandable_segments:True to avoid fragmentation.  See documentation \
             for Memory Management  (https://pytorch.org/docs/stable/notes/cuda.html#environment-variables)"
        );
        assert!(out_of_memory(1, 0, &out, 1, allocator).contains("Process 9 has 5.00 GiB"));
    }

    #[test]
    fn sizes_have_two_decimals_and_nothing_is_bytes() {
        for (bytes, want) in
            [(0, "0 bytes"), (1536, "1.50 KiB"), (20 << 20, "20.00 MiB"), (1_610_612_736, "1.50 GiB")]
        {
            assert_eq!(size(bytes), want);
        }
    }
}
