//! One pass over one `VideoUpscale`.

pub mod ladder;
pub mod oom_text;
pub mod pods;
pub mod verdict;
