//! x
pub mod attempts;
pub mod profiles;
pub mod video_upscale;
