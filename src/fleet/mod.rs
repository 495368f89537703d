//! The fleet loop: which attempt gets which GPU.
//!
//! Nodes, claims and our own pods flow into an incremental [`index::Fleet`], which keeps a [`place::Board`] up to date;
//! job loops put their demands into it; one task asks the board what to do and writes the claims by compare-and-swap. A
//! sweeper undoes what nobody completes. Safety rests on the compare-and-swap alone: two controllers may run this at
//! once.
//!
//! The job loop holds a [`FleetHandle`]; [`run`] drives everything until told to stop.

mod allocator;
pub mod claim;
mod claims;
mod clock;
pub mod demand;
#[cfg(test)]
pub(crate) mod fake_api;
#[cfg(test)]
pub(crate) mod fixtures;
mod handle;
mod heard_pod;
mod heard_pods;
pub mod index;
mod news;
pub mod node;
pub mod place;
pub mod pod;
pub mod resource;
pub mod snapshot;
mod sweeper;
mod version;
mod watch;

pub use claims::{Claims, Error as ClaimError, Outcome};
pub use handle::{Clients, FleetConfig, FleetHandle, GpuView, Matching, Wakes, run};
pub use heard_pod::HeardPod;
pub use heard_pods::HeardPods;
pub use version::Version;
