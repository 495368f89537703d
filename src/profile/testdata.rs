//! The three profiles that the tests know: engines that have nothing in common.

use std::sync::LazyLock;

use crate::api::profile::{UpscaleProfile, UpscaleProfileSpec};

fn read(yaml: &str) -> UpscaleProfileSpec {
    serde_saphyr::from_str::<UpscaleProfile>(yaml).expect("a profile").spec
}

/// Temporal, tiles, 8k + 5 frames.
pub(crate) fn flashvsr() -> UpscaleProfileSpec {
    static SPEC: LazyLock<UpscaleProfileSpec> =
        LazyLock::new(|| read(include_str!("testdata/flashvsr.yaml")));
    SPEC.clone()
}

/// A folder of pictures, no time, always exits 0.
pub(crate) fn realesrgan() -> UpscaleProfileSpec {
    static SPEC: LazyLock<UpscaleProfileSpec> =
        LazyLock::new(|| read(include_str!("testdata/realesrgan-ncnn.yaml")));
    SPEC.clone()
}

/// Whole pictures, batches of 4n + 1, several phases.
pub(crate) fn seedvr2() -> UpscaleProfileSpec {
    static SPEC: LazyLock<UpscaleProfileSpec> =
        LazyLock::new(|| read(include_str!("testdata/seedvr2-7b.yaml")));
    SPEC.clone()
}
