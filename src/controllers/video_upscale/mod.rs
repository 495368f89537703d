//! One pass over one `VideoUpscale`.
