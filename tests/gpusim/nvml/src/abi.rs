//! NVML's C interface on x86-64: return codes, layouts, and the guarded ways into a caller's memory.

use std::ffi::{CStr, c_char, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use gpusim::driver::{DriverError, Fault};
use rustix::time::{ClockId, clock_gettime};

use crate::script;

/// `nvmlReturn_t` of a failed call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Code {
    /// `nvmlInit` was not called.
    Uninitialized = 1,
    /// An argument makes no sense.
    InvalidArgument = 2,
    /// This GPU cannot do that.
    NotSupported = 3,
    /// Nothing of that name.
    NotFound = 6,
    /// The buffer is too small.
    InsufficientSize = 7,
    /// No driver is loaded.
    DriverNotLoaded = 9,
    /// Nothing happened in time.
    Timeout = 10,
    /// The GPU fell off the bus.
    GpuIsLost = 15,
    /// The driver is of another version than this library.
    LibRmVersionMismatch = 18,
    /// The structure is of another version.
    ArgumentVersionMismatch = 25,
    /// Anything else.
    Unknown = 999,
}

impl From<DriverError> for Code {
    fn from(error: DriverError) -> Self {
        match error.fault() {
            Fault::NotLoaded => Self::DriverNotLoaded,
            Fault::VersionMismatch => Self::LibRmVersionMismatch,
            Fault::NotFound => Self::NotFound,
            Fault::Lost => Self::GpuIsLost,
            Fault::Invalid => Self::Unknown,
        }
    }
}

/// What a call about the GPU of index `gpu` does, as its return code; a panic stays on this side of the interface.
pub fn answer(name: &str, gpu: Option<u32>, body: impl FnOnce() -> Result<(), Code>) -> c_int {
    let call = || {
        let begun = thread_time();
        let code =
            script::interfere(name, gpu).unwrap_or_else(|| body().map_or_else(|code| code as c_int, |()| 0));
        let cost = script::cost(name);
        while thread_time().saturating_sub(begun) < cost {}
        code
    };
    catch_unwind(AssertUnwindSafe(call)).unwrap_or(Code::Unknown as c_int)
}

/// Processor time of this thread: a call's cost is work, however busy the machine is.
fn thread_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

/// Functions under their C names: each does its body, or what the script says of it. `on` names the GPU that a call
/// is about, by its index.
macro_rules! exports {
    ($(fn $name:ident($($argument:ident: $type:ty),* $(,)?) $(on $gpu:expr)? ; $body:block)*) => {$(
        #[unsafe(no_mangle)]
        extern "C" fn $name($($argument: $type),*) -> std::ffi::c_int {
            $crate::abi::answer(stringify!($name), None$(.or($gpu))?, || $body)
        }
    )*};
}
pub(crate) use exports;

/// A caller's pointer to room for results. Only C makes one.
#[repr(transparent)]
pub struct Out<T>(*mut T);

impl<T: Copy> Out<T> {
    /// Reads what the caller put there.
    pub fn get(&self) -> Result<T, Code> {
        if self.0.is_null() {
            return Err(Code::InvalidArgument);
        }
        // SAFETY: NVML's contract: a pointer that is not null points to an aligned, initialised T.
        #[expect(unsafe_code, reason = "a C caller's memory")]
        Ok(unsafe { self.0.read() })
    }

    /// The same room, for results of another type.
    pub fn cast<U>(self) -> Out<U> {
        Out(self.0.cast())
    }

    /// Writes one result.
    pub fn put(&self, value: T) -> Result<(), Code> {
        self.put_all(&[value])
    }

    /// Writes results one behind the other; the caller has said that there is room for them.
    pub fn put_all(&self, values: &[T]) -> Result<(), Code> {
        if self.0.is_null() {
            return if values.is_empty() { Ok(()) } else { Err(Code::InvalidArgument) };
        }
        // SAFETY: NVML's contract: the pointer is valid for writes of as many T as the call says, and our slice is
        // never the caller's memory.
        #[expect(unsafe_code, reason = "a C caller's memory")]
        unsafe {
            self.0.copy_from_nonoverlapping(values.as_ptr(), values.len());
        }
        Ok(())
    }
}

impl Out<FieldValue> {
    /// Answers `count` questions that the caller put one behind the other, each in its place. Of a question only
    /// field and scope are read: the rest need not hold anything yet.
    pub fn update(&self, count: usize, answer: impl Fn(u32, u32) -> FieldValue) -> Result<(), Code> {
        if self.0.is_null() {
            return Err(Code::InvalidArgument);
        }
        (0..count).try_for_each(|at| {
            let place = self.0.wrapping_add(at);
            let [field, scope] = Out(place.cast::<[u32; 2]>()).get()?;
            Self(place).put(answer(field, scope))
        })
    }
}

impl Out<c_char> {
    /// Writes `text` and its NUL into `length` bytes.
    pub fn put_text(&self, length: u32, text: &str) -> Result<(), Code> {
        self.put_bytes(length, text.as_bytes())
    }

    /// Writes `text` and its NUL into `length` bytes, each character below U+0100 as one byte.
    pub fn put_latin(&self, length: u32, text: &str) -> Result<(), Code> {
        let bytes: Vec<u8> = text.chars().map(|c| u8::try_from(c).unwrap_or(b'?')).collect();
        self.put_bytes(length, &bytes)
    }

    fn put_bytes(&self, length: u32, text: &[u8]) -> Result<(), Code> {
        let mut bytes = Vec::from(text);
        bytes.push(0);
        if usize::try_from(length).is_ok_and(|length| length < bytes.len()) {
            return Err(Code::InsufficientSize);
        }
        self.put_all(&bytes.into_iter().map(u8::cast_signed).collect::<Vec<c_char>>())
    }
}

/// A caller's text. Only C makes one.
#[repr(transparent)]
pub struct Text(*const c_char);

impl Text {
    /// The text; bytes that are no UTF-8 name nothing.
    pub fn get(&self) -> Result<String, Code> {
        if self.0.is_null() {
            return Err(Code::InvalidArgument);
        }
        // SAFETY: NVML's contract: the pointer is to a NUL-terminated string that lives during the call.
        #[expect(unsafe_code, reason = "a C caller's memory")]
        let text = unsafe { CStr::from_ptr(self.0) };
        text.to_str().map(str::to_owned).map_err(|_| Code::NotFound)
    }
}

/// `text` in a fixed field, cut to it, NUL-terminated.
pub fn field<const N: usize>(text: &str) -> [c_char; N] {
    let mut field = [0; N];
    for (to, from) in field.iter_mut().take(N.saturating_sub(1)).zip(text.bytes()) {
        *to = from.cast_signed();
    }
    field
}

/// `nvmlMemory_t`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct MemoryV1 {
    pub total: u64,
    pub free: u64,
    pub used: u64,
}

/// `nvmlMemory_v2_t`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct MemoryV2 {
    pub version: u32,
    pub total: u64,
    pub reserved: u64,
    pub free: u64,
    pub used: u64,
}

/// Version that a caller writes into a [`MemoryV2`]: 2, and its size.
pub const MEMORY_V2: u32 = 0x0200_0028;

/// `nvmlProcessInfo_v2_t`, the entry of both `_v2` and `_v3` lists.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct ProcessInfo {
    pub pid: u32,
    pub used: u64,
    pub gpu_instance: u32,
    pub compute_instance: u32,
}

/// The entry of `_v3` lists of drivers 535.43 to 535.97.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct WideProcessInfo {
    pub entry: ProcessInfo,
    pub protected: u64,
}

/// `nvmlSystemConfComputeSettings_v1_t`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct ConfidentialSettings {
    pub version: u32,
    pub environment: u32,
    pub feature: u32,
    pub dev_tools: u32,
    pub multi_gpu: u32,
}

/// Version that a caller writes into a [`ConfidentialSettings`]: 1, and its size.
pub const CONFIDENTIAL_SETTINGS_V1: u32 = 0x0100_0014;

/// `nvmlPciInfo_t`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct PciInfo {
    pub bus_id_legacy: [c_char; 16],
    pub domain: u32,
    pub bus: u32,
    pub device: u32,
    pub pci_id: u32,
    pub subsystem: u32,
    pub bus_id: [c_char; 32],
}

/// `nvmlFieldValue_t`; the value's union is always written as a whole.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct FieldValue {
    pub field: u32,
    pub scope: u32,
    pub timestamp: i64,
    pub latency: i64,
    pub value_type: u32,
    pub code: c_int,
    pub value: u64,
}

/// `nvmlEventData_t`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct EventData {
    pub device: usize,
    pub kind: u64,
    pub data: u64,
    pub gpu_instance: u32,
    pub compute_instance: u32,
}

/// An instance number that means "none".
pub const NO_INSTANCE: u32 = u32::MAX;

const _: () = {
    assert!(size_of::<MemoryV1>() == 24 && size_of::<MemoryV2>() == 40);
    assert!(size_of::<ProcessInfo>() == 24 && size_of::<EventData>() == 32);
    assert!(size_of::<WideProcessInfo>() == 32 && size_of::<ConfidentialSettings>() == 20);
    assert!(size_of::<PciInfo>() == 68 && size_of::<FieldValue>() == 40);
};
