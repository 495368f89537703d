//! The node agent: tells, as annotations of its own Node, how much memory of each GPU is really free, who uses the
//! rest, and whether the card can be trusted.
//!
//! One thread asks the driver ([`sampler`], [`mod@observer`]); what it found is a [`observer::Snapshot`]. The other runs
//! everything else: [`report`] turns the snapshot into words, [`mod@publish`] decides when they are worth a write, and
//! [`http`] answers probes even while the driver hangs. [`program`] puts the parts together.
//!
//! What is public is what the benchmark measures and the tests over a real library play: an observer over any driver
//! or over NVML, the report, and the policy.

mod agent;
mod attribution;
mod board;
mod card;
mod clock;
mod config;
mod doctor;
mod exits;
mod exposition;
mod gpu;
mod health;
mod http;
mod metrics;
mod observer;
mod once;
mod probe;
mod procfs;
pub mod program;
mod publish;
mod report;
mod roster;
mod sampler;

pub use clock::{Clock, Now};
pub use gpu::{Identity, Instance, Listed, Memory, Signs};
pub use health::XidEvent;
pub use metrics::Calls;
pub use observer::{Observer, Snapshot};
pub use probe::nvml::NvmlProbe;
pub use probe::{Driver, Fault, Probe};
pub use procfs::Proc;
pub use publish::{Cause, Decision, Policy, Timing};
pub use report::{FreeMemory, Head, build};
