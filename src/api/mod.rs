//! The shared vocabulary: custom resources, report, claim, worker contract, names. No behaviour beyond parsing and
//! printing of its own formats.

pub mod conditions;
pub mod crds;
pub mod keys;
pub mod profile;
pub mod quantity;
pub mod reference;
pub mod report;
mod rules;
mod schema;
pub mod video_upscale;
pub mod worker;
