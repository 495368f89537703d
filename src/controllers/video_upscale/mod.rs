//! Temporary.
pub mod job; pub mod ladder; pub mod memory; pub mod oom_text; pub mod plan; pub mod pods; pub mod seen; pub mod verdict; pub mod volumes; pub mod error;
