//! A stand-in `libnvidia-ml.so.1`: the calls of NVML that a node agent and a pre-check need, with the sizes, codes and
//! habits of the real library, answered by the simulated driver.
//!
//! It shows the GPUs that `NVIDIA_VISIBLE_DEVICES` of its process names (none where it is unset). A driver that is
//! gone is `DRIVER_NOT_LOADED` until it is back; one of another version than at the first call is
//! `LIB_RM_VERSION_MISMATCH` for the rest of the process. After a fork the child dials for itself.
//!
//! - [`abi`]: codes, layouts, and the only places that touch a caller's memory
//! - [`library`]: the connection and the handles of this process
//! - [`script`]: what it is to answer otherwise than the driver, as a test wrote it
//! - [`system`], [`device`], [`processes`], [`events`]: the exports

mod abi;
#[expect(unsafe_code, reason = "exports carry their C names")]
mod device;
#[expect(unsafe_code, reason = "exports carry their C names")]
mod events;
mod library;
#[expect(unsafe_code, reason = "exports carry their C names")]
mod processes;
mod script;
#[expect(unsafe_code, reason = "exports carry their C names")]
mod system;
