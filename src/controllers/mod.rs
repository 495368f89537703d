//! The job loop.

pub mod video_upscale;
