//! A stand-in for the kubelet where a machine gives neither containers nor control groups: it registers a node and runs
//! the pods that the scheduler binds to it as plain processes of the user who started it.
//!
//! - [`config`]: what it is told, [`marked`]: how its processes are found again
//! - `node`: the Node object and its heartbeat; `watch`: which pods are there; `life`: one pod from its first container to
//!   its deletion
//! - `volumes`, `account`: what a pod finds on disk; `command`: a container as a process; `process`: that process's life
//! - `status`: what the API server is told of all this; `readiness`: whether a server answers
//!
//! Without mount namespaces a container's paths do not exist: where an argument or a variable begins with a mount's path,
//! it gets the folder behind it instead. Without network namespaces every pod has a loopback address of its own.

#![expect(
    clippy::disallowed_methods,
    reason = "it keeps real time, as a kubelet does, and hands its PATH on to what it runs"
)]

mod account;
mod command;
pub mod config;
mod life;
pub mod marked;
mod node;
mod process;
mod readiness;
mod status;
mod volumes;
mod watch;

pub use watch::run;
