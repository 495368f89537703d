//! The bed: a real Kubernetes cluster of two nodes on one machine, with simulated GPUs, for demo and tests.
//!
//! - [`bed`]: brings it up, finds it again, takes it down
//! - [`tools`], [`packages`]: the programs it is made of
//! - [`images`]: what runs on it
//! - [`gpu`]: what happens to its GPUs
//! - [`transfer`]: files into and out of its volumes
//! - [`job`]: a `VideoUpscale` on it; [`demo`], [`mod@test`]: what is done with all this
//! - [`command`], [`progress`]: how all of them run programs and tell what they wait for
#![expect(
    clippy::disallowed_methods,
    reason = "a tool for people: it shows elapsed time, reads the user's environment and waits for real processes"
)]

pub mod bed;
pub mod command;
pub mod demo;
pub mod gpu;
pub mod images;
pub mod job;
pub mod packages;
pub mod progress;
pub mod test;
pub mod tools;
pub mod transfer;
