//! Builds the three kinds of pods: pure functions from facts to objects.

mod segment;
mod shared;
mod single;

pub use segment::{SegmentPod, segment_pod, segment_requests};
pub use shared::{JobFacts, PullPolicy, Release, VisibleDevices};
pub use single::{SinglePod, merge_pod, probe_pod};

#[cfg(test)]
mod tests;
