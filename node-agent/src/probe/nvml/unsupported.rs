//! What GPUs have said that they do not support: not asked again until their MIG mode or the driver changes.

use std::collections::{BTreeMap, BTreeSet};

/// Calls that GPUs do not support, by the GPU's index.
#[derive(Clone, Debug, Default)]
pub struct Unsupported {
    calls: BTreeSet<(u32, &'static str)>,
    mig: BTreeMap<u32, bool>,
}

impl Unsupported {
    /// Whether the GPU has said so of the call.
    pub fn has(&self, index: u32, call: &'static str) -> bool {
        self.calls.contains(&(index, call))
    }

    /// The GPU says so.
    pub fn note(&mut self, index: u32, call: &'static str) {
        self.calls.insert((index, call));
    }

    /// The GPU's MIG mode: with another one it supports other calls.
    pub fn mig_mode(&mut self, index: u32, on: bool) {
        if self.mig.insert(index, on).is_some_and(|before| before != on) {
            self.calls.retain(|(of, _)| *of != index);
        }
    }
}
