//! VideoUpscale: an operator that upscales videos on GPUs which are not all its own.
//!
//! The program is three loops, each *observe -> plan -> act*. Only the first and the last touch the world; the
//! middle is a pure, total function of what was seen and of a given `now`.
//!
//! * [`controllers`] — the job loop, one per `VideoUpscale`: pods, status, events.
//! * [`fleet`] — the fleet loop, one task: which attempt gets which GPU; claims by compare-and-swap.
//! * the node agent (its own package) — what is true of the GPUs of one node.
//!
//! Of several controllers one acts: [`election`].
//!
//! Around them: [`api`] is the vocabulary all programs share, [`profile`] turns an engine's data into arguments and
//! memory needs, [`worker`] is the video work inside the pods and knows no Kubernetes.

pub mod api;
pub mod config;
pub mod controllers;
pub mod election;
pub mod fleet;
pub mod profile;
#[cfg(test)]
pub(crate) mod runs;
pub mod telemetry;
pub mod worker;
