//! Life of the library, versions, names of processes.

use std::ffi::{c_char, c_int, c_uint};
use std::panic::catch_unwind;

use crate::abi::{CONFIDENTIAL_SETTINGS_V1, Code, ConfidentialSettings, Out, exports};
use crate::library::library;
use crate::script;

/// CUDA 13.0, as NVML counts.
const CUDA_VERSION: c_int = 13_000;

exports! {
    fn nvmlInit_v2(); { library().init() }

    fn nvmlInitWithFlags(_flags: c_uint); { library().init() }

    fn nvmlShutdown(); { library().shutdown() }

    fn nvmlSystemGetDriverVersion(version: Out<c_char>, length: c_uint); {
        version.put_text(length, &library().version()?)
    }

    fn nvmlSystemGetNVMLVersion(version: Out<c_char>, length: c_uint); {
        version.put_text(length, &format!("13.{}", library().version()?))
    }

    fn nvmlSystemGetCudaDriverVersion_v2(version: Out<c_int>); { version.put(CUDA_VERSION) }

    fn nvmlSystemGetProcessName(pid: c_uint, name: Out<c_char>, length: c_uint); {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).map_err(|_| Code::NotFound)?;
        let program = String::from_utf8_lossy(line.split(|byte| *byte == 0).next().unwrap_or_default());
        // The real library cuts a long name rather than refusing it.
        let room = usize::try_from(length).map_err(|_| Code::InvalidArgument)?.saturating_sub(1);
        let end = (0..=room.min(program.len())).rev().find(|end| program.is_char_boundary(*end)).unwrap_or(0);
        name.put_text(length, program.get(..end).unwrap_or_default())
    }

    fn nvmlSystemGetConfComputeSettings(settings: Out<ConfidentialSettings>); {
        let ConfidentialSettings { version, .. } = settings.get()?;
        match (version, script::is_confidential()) {
            (CONFIDENTIAL_SETTINGS_V1, true) => settings.put(ConfidentialSettings {
                version,
                environment: 0,
                feature: 1,
                dev_tools: 0,
                multi_gpu: 0,
            }),
            (CONFIDENTIAL_SETTINGS_V1, false) => Err(Code::NotSupported),
            _ => Err(Code::ArgumentVersionMismatch),
        }
    }
}

/// What the dynamic linker runs when the process ends in good order, or the library is unloaded.
#[used]
#[unsafe(link_section = ".fini_array")]
static LAST: extern "C" fn() = last;

extern "C" fn last() {
    // A panic must not reach the linker; the end comes all the same.
    drop(catch_unwind(script::at_end));
}

#[unsafe(no_mangle)]
extern "C" fn nvmlErrorString(code: c_int) -> *const c_char {
    let text = match code {
        0 => c"Success",
        1 => c"Uninitialized",
        2 => c"Invalid Argument",
        3 => c"Not Supported",
        6 => c"Not Found",
        7 => c"Insufficient Size",
        9 => c"Driver Not Loaded",
        10 => c"Timeout",
        15 => c"GPU is lost",
        18 => c"Driver/library version mismatch",
        25 => c"Argument version mismatch",
        _ => c"Unknown Error",
    };
    text.as_ptr()
}
