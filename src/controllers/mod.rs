//! The job loop.

pub mod attempts;
pub mod video_upscale;
