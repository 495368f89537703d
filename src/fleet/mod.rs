//! The fleet loop: which attempt gets which GPU.

pub mod claim;
pub mod demand;
