//! Finds the last failure in a text, and its figures.

use super::normal::compact;
use crate::api::profile::{Failure, FailureText};
use crate::api::quantity::{GIB, MIB};

/// What a text says of the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Out of GPU memory.
    Gpu(OomText),
    /// Out of host memory.
    Host {
        /// What was asked for, bytes.
        requested: Option<u64>,
    },
    /// This GPU model cannot run the engine; the pattern that says so.
    Incompatible(String),
    /// Wrong input or arguments; the pattern that says so.
    Permanent(String),
    /// A file system is full.
    NoSpace,
    /// None of these.
    NotOom,
}

/// Who wrote the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// PyTorch's own allocator, on CUDA or HIP.
    Torch,
    /// PyTorch's `cudaMallocAsync` backend.
    Async,
    /// The driver: no figures.
    Driver,
    /// cuBLAS, cuDNN and their like: no figures.
    Library,
    /// A library error that is often, but not always, an end of memory in disguise.
    Disguise,
    /// PyTorch's report of an end of memory failed, as NVML refused.
    NvmlAssert,
    /// A pattern of the profile.
    Pattern,
}

/// An entry of the message's process list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Process id on the host.
    pub pid: u32,
    /// Its memory, bytes.
    pub bytes: u64,
}

/// The figures of an out-of-memory message, bytes; `None` where the text has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OomText {
    /// Who wrote it.
    pub kind: Kind,
    /// What was asked for.
    pub requested: Option<u64>,
    /// Free on the device.
    pub free: Option<u64>,
    /// Capacity of the device.
    pub total: Option<u64>,
    /// Tensors of the failing process.
    pub allocated: Option<u64>,
    /// Reserved by its allocator, not allocated.
    pub unallocated: Option<u64>,
    /// Reserved by its allocator in all; the only such figure before PyTorch 2.1.
    pub reserved: Option<u64>,
    /// A limit that the program set itself.
    pub allowed: Option<u64>,
    /// The request was refused because of such a limit.
    pub rejected: bool,
    /// What the failing process says that it holds, context included.
    pub own: Option<u64>,
    /// The process list, the failing process perhaps among them; at most 64.
    pub processes: Vec<Listed>,
}

impl OomText {
    /// A message without figures.
    pub(super) fn bare(kind: Kind) -> Self {
        Self {
            kind,
            requested: None,
            free: None,
            total: None,
            allocated: None,
            unallocated: None,
            reserved: None,
            allowed: None,
            rejected: false,
            own: None,
            processes: Vec::new(),
        }
    }
}

const MOST_PROCESSES: usize = 64;

/// What is looked for, in compact form. Where several are found, the last one in the text counts.
#[derive(Clone, Copy)]
enum Sign {
    Torch,
    /// PyTorch's words without its figures, as whoever catches the exception repeats them.
    Repeated,
    Gpu(Kind),
    Host,
    NoSpace,
    Incompatible,
}

/// Words of PyTorch and of what lies below it.
const TORCH_SIGNS: &[(&str, Sign)] = &[
    ("outofmemory.triedtoallocate", Sign::Torch),
    ("hasatotalcapac", Sign::Torch),
    ("isallocatedbypytorch", Sign::Torch),
    ("isreservedbypytorchbutunallocated", Sign::Torch),
    ("reservedintotalbypytorch", Sign::Torch),
    ("allocationondevice", Sign::Gpu(Kind::Async)),
    ("wouldexceedallowedmemory", Sign::Gpu(Kind::Async)),
    ("free(accordingtocuda)", Sign::Gpu(Kind::Async)),
    ("cudaoutofmemory", Sign::Repeated),
    ("hipoutofmemory", Sign::Repeated),
    ("torch.outofmemoryerror", Sign::Repeated),
    ("cuda.outofmemoryerror", Sign::Repeated),
    ("cudaerror:outofmemory", Sign::Gpu(Kind::Driver)),
    ("cudadrivererror:outofmemory", Sign::Gpu(Kind::Driver)),
    ("cudaruntimeerror(2):outofmemory", Sign::Gpu(Kind::Driver)),
    ("tritonerror[cuda]:outofmemory", Sign::Gpu(Kind::Driver)),
    ("tritonerror[hip]:outofmemory", Sign::Gpu(Kind::Driver)),
    ("cudafailure2:outofmemory", Sign::Gpu(Kind::Driver)),
    ("cudafailure'outofmemory'", Sign::Gpu(Kind::Driver)),
    ("cudamallocfailed:outofmemory", Sign::Gpu(Kind::Driver)),
    ("cuda_error_out_of_memory", Sign::Gpu(Kind::Driver)),
    ("cudaerrormemoryallocation", Sign::Gpu(Kind::Driver)),
    ("cuda.memory.outofmemoryerror", Sign::Gpu(Kind::Driver)),
    ("hiperror:outofmemory", Sign::Gpu(Kind::Driver)),
    ("hiperroroutofmemory", Sign::Gpu(Kind::Driver)),
    ("gpuapicall)outofmemory", Sign::Gpu(Kind::Driver)),
    ("cublas_status_alloc_failed", Sign::Gpu(Kind::Library)),
    ("cudnn_status_alloc_failed", Sign::Gpu(Kind::Library)),
    ("cudnn_status_internal_error_device_allocation_failed", Sign::Gpu(Kind::Library)),
    ("cusolver_status_alloc_failed", Sign::Gpu(Kind::Library)),
    ("cusparse_status_alloc_failed", Sign::Gpu(Kind::Library)),
    ("cufft_alloc_failed", Sign::Gpu(Kind::Library)),
    ("cudnn_status_internal_error_host_allocation_failed", Sign::Host),
    ("cublas_status_not_initialized", Sign::Gpu(Kind::Disguise)),
    ("cudnn_status_not_initialized", Sign::Gpu(Kind::Disguise)),
    ("unabletofindanengine", Sign::Gpu(Kind::Disguise)),
    ("nvml_success==rinternalassertfailed", Sign::Gpu(Kind::NvmlAssert)),
    ("nvml_success==driverapi::get()", Sign::Gpu(Kind::NvmlAssert)),
    ("outofresource:sharedmemory", Sign::Incompatible),
    ("outofresources", Sign::Incompatible),
    ("nokernelimageisavailable", Sign::Incompatible),
];

/// Words of the host, whatever the engine.
const HOST_SIGNS: &[(&str, Sign)] = &[
    ("defaultcpuallocator", Sign::Host),
    ("std::bad_alloc", Sign::Host),
    ("cannotallocatememory", Sign::Host),
    ("lowonresource:memory", Sign::Host),
    ("_arraymemoryerror", Sign::Host),
    ("insufficientmemory(failedtoallocate", Sign::Host),
    ("(-4:insufficientmemory)", Sign::Host),
    ("(-4)failedtoallocate", Sign::Host),
    // Shared memory is host memory: these are a full /dev/shm, and a worker that the kernel killed.
    ("unexpectedbuserror", Sign::Host),
    ("fatalpythonerror:buserror", Sign::Host),
    ("killedbysignal:buserror", Sign::Host),
    ("killedbysignal:killed", Sign::Host),
    ("nospaceleftondevice", Sign::NoSpace),
];

/// Words of a program that caught a failure and goes on.
const WENT_ON: &[&str] = &[
    "fallingback",
    "fallback",
    "fellback",
    "retrying",
    "tryingagain",
    "recovered",
    "recovering",
    "continuing",
    "skipping",
    "switchingto",
    "%|",
];

/// Reads the end of an engine's log. A failure after which the program went on, until another one ended it, was
/// survived, and is not what ended the engine. That another traceback follows is not enough: other threads and ranks
/// have theirs, and so has whatever fails while the program is torn down.
pub fn read(text: &str, failure: &Failure) -> Reading {
    let text = compact(text);
    let mut last: Option<(usize, Reading)> = None;
    let mut consider = |at: Option<usize>, reading: &dyn Fn(usize) -> Reading| {
        if let Some(at) = at
            && last.as_ref().is_none_or(|(before, _)| *before <= at)
        {
            last = Some((at, reading(at)));
        }
    };
    let torch = if failure.text == FailureText::Torch { TORCH_SIGNS } else { &[] };
    for (word, sign) in HOST_SIGNS.iter().chain(torch) {
        consider(text.rfind(word), &|at| reading(&text, at, word, *sign));
    }
    consider(memory_error(&text), &|_| Reading::Host { requested: None });
    for pattern in &failure.out_of_memory {
        consider(find(&text, pattern), &|_| Reading::Gpu(OomText::bare(Kind::Pattern)));
    }
    for pattern in &failure.incompatible {
        consider(find(&text, pattern), &|_| Reading::Incompatible(pattern.clone()));
    }
    for pattern in &failure.permanent {
        consider(find(&text, pattern), &|_| Reading::Permanent(pattern.clone()));
    }
    match last {
        Some((at, reading)) if !survived(&text, at) => reading,
        _ => Reading::NotOom,
    }
}

fn find(text: &str, pattern: &str) -> Option<usize> {
    let pattern = compact(pattern);
    if pattern.is_empty() { None } else { text.rfind(&pattern) }
}

/// Python's `MemoryError`, which is part of the name of PyTorch's.
fn memory_error(text: &str) -> Option<usize> {
    text.rmatch_indices("memoryerror").map(|(at, _)| at).find(|at| {
        !text.get(..*at).is_some_and(|before| before.ends_with("outof") || before.ends_with("array"))
    })
}

fn survived(text: &str, at: usize) -> bool {
    let after = text.get(at..).unwrap_or_default();
    after.split_once("traceback(mostrecentcalllast)").is_some_and(|(between, _)| went_on(between))
}

fn went_on(between: &str) -> bool {
    !between.contains("theaboveexception") && WENT_ON.iter().any(|word| between.contains(word))
}

fn reading(text: &str, at: usize, word: &str, sign: Sign) -> Reading {
    match sign {
        Sign::Torch => Reading::Gpu(torch(message_from(text, at))),
        Sign::Repeated => Reading::Gpu(repeated(text, at)),
        Sign::Gpu(Kind::Async) => Reading::Gpu(asynchronous(message_around(text, at))),
        Sign::Gpu(kind) => Reading::Gpu(OomText::bare(kind)),
        Sign::Host => {
            let rest = text.get(at..).unwrap_or_default();
            let words = ["youtriedtoallocate", "failedtoallocate", "unabletoallocate"];
            Reading::Host { requested: words.iter().find_map(|word| after(rest, word)) }
        }
        // PyTorch shares tensors between processes through files in shared memory.
        Sign::NoSpace if of_shared_memory(text, at) => Reading::Host { requested: None },
        Sign::NoSpace => Reading::NoSpace,
        Sign::Incompatible => Reading::Incompatible(word.to_owned()),
    }
}

/// From the message's beginning; from the text's if that was cut off.
fn message_from(text: &str, at: usize) -> &str {
    let upto = text.get(..at).unwrap_or_default();
    let start = match text.get(at..).is_some_and(|rest| rest.starts_with("outofmemory.tried")) {
        true => at,
        false => upto.rfind("outofmemory.triedtoallocate").unwrap_or(0),
    };
    text.get(start..).unwrap_or_default()
}

/// Words that repeat a message: its figures, if it stands before them and the program did not go on in between.
fn repeated(text: &str, at: usize) -> OomText {
    let upto = text.get(..at).unwrap_or_default();
    let Some(start) = upto.rfind("outofmemory.triedtoallocate") else {
        return OomText::bare(Kind::Driver);
    };
    let between = upto.get(start..).unwrap_or_default();
    if went_on(between) { OomText::bare(Kind::Driver) } else { torch(between) }
}

/// Whether the line that ends there is about shared memory.
fn of_shared_memory(text: &str, at: usize) -> bool {
    const NEAR: usize = 160;
    let upto = text.get(..at).unwrap_or_default();
    let mut from = upto.len().saturating_sub(NEAR);
    while !upto.is_char_boundary(from) {
        from = from.saturating_add(1);
    }
    let near = upto.get(from..).unwrap_or_default();
    near.contains("unabletowritetofile</torch_") || near.contains("/dev/shm/")
}

/// The figures of this form stand after the sign, or before it if the sign is the last line.
fn message_around(text: &str, at: usize) -> &str {
    const BEGINNING: &str = "allocationondevice";
    let here = text.get(at..).is_some_and(|rest| rest.starts_with(BEGINNING));
    let upto = text.get(..at).unwrap_or_default();
    let start = if here { at } else { upto.rfind(BEGINNING).unwrap_or(0) };
    text.get(start..).unwrap_or_default()
}

fn torch(message: &str) -> OomText {
    let allocated = before(message, "isallocatedbypytorch").or_else(|| before(message, "alreadyallocated"));
    // Up to PyTorch 1.3 what is cached leaves out what is allocated; from 1.4 on what is reserved holds it.
    let cached = before(message, "cached)");
    let reserved = before(message, "reservedintotalbypytorch").or_else(|| cached?.checked_add(allocated?));
    let unallocated = before(message, "isreservedbypytorchbutunallocated").or(cached);
    OomText {
        requested: after(message, "triedtoallocate"),
        free: before(message, "isfree").or_else(|| before(message, "free;")),
        total: after(message, "totalcapacityof")
            .or_else(|| after(message, "totalcapactyof"))
            .or_else(|| before(message, "totalcapacity;")),
        allocated,
        unallocated: unallocated.or_else(|| reserved?.checked_sub(allocated?)),
        reserved,
        allowed: before(message, "allowed;"),
        rejected: message.contains("preemptivelyrejected"),
        own: after(message, "thisprocesshas"),
        processes: processes(message),
        ..OomText::bare(Kind::Torch)
    }
}

fn asynchronous(message: &str) -> OomText {
    OomText {
        requested: after(message, "requested:"),
        free: after(message, "free(accordingtocuda):"),
        total: after(message, "devicelimit:"),
        allocated: after(message, "currentlyallocated:"),
        allowed: after(message, "memoryfraction):"),
        ..OomText::bare(Kind::Async)
    }
}

fn processes(message: &str) -> Vec<Listed> {
    let mut listed = Vec::new();
    for (at, word) in message.match_indices("process") {
        let entry = message.get(at.saturating_add(word.len())..).and_then(|rest| {
            let end = rest.bytes().position(|b| !b.is_ascii_digit())?;
            let (pid, rest) = rest.split_at_checked(end)?;
            let (bytes, rest) = size(rest.strip_prefix("has")?)?;
            rest.starts_with("memoryinuse").then_some(Listed { pid: pid.parse().ok()?, bytes: bytes? })
        });
        listed.extend(entry);
        if listed.len() == MOST_PROCESSES {
            break;
        }
    }
    listed
}

/// The size that follows the first occurrence of the word.
fn after(message: &str, word: &str) -> Option<u64> {
    let (_, rest) = message.split_once(word)?;
    size(rest)?.0
}

/// The size that stands before the first occurrence of the word.
fn before(message: &str, word: &str) -> Option<u64> {
    let (upto, _) = message.split_once(word)?;
    let number = UNITS.iter().find_map(|(unit, _)| upto.strip_suffix(unit))?;
    // A second dot from the right ends the sentence before.
    let mut dots = 0;
    let in_number = |b: &u8| {
        dots = u32::from(*b == b'.').saturating_add(dots);
        b.is_ascii_digit() || (*b == b'.' && dots <= 1)
    };
    let digits = number.bytes().rev().take(MOST_DIGITS).take_while(in_number).count();
    size(upto.get(number.len().checked_sub(digits)?..)?)?.0
}

const UNITS: [(&str, u64); 5] =
    [("bytes", 1), ("kib", 1024), ("mib", MIB), ("gib", GIB), ("tib", 1024 * GIB)];
const MOST_DIGITS: usize = 24;

/// Reads a size at the beginning, and what follows. 2^64 bytes and more are what PyTorch prints for "not available".
fn size(text: &str) -> Option<(Option<u64>, &str)> {
    let end = text.bytes().position(|b| !b.is_ascii_digit() && b != b'.')?;
    let (number, rest) = text.split_at_checked(end).filter(|(number, _)| number.len() <= MOST_DIGITS)?;
    let (unit, rest) = UNITS.iter().find_map(|(name, unit)| Some((*unit, rest.strip_prefix(name)?)))?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole: u128 = whole.parse().ok()?;
    let fraction: String = fraction.chars().take(6).collect();
    let divisor = 10u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let part: u128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let unit = u128::from(unit);
    let bytes = whole.checked_mul(unit)?.checked_add(part.checked_mul(unit)?.checked_div(divisor)?)?;
    Some((u64::try_from(bytes).ok(), rest))
}
