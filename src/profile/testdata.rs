//! The three profiles that the tests know: engines that have nothing in common.

use crate::api::profile::{UpscaleProfile, UpscaleProfileSpec};
use crate::api::worker::EngineOutput;

fn read(yaml: &str) -> UpscaleProfileSpec {
    serde_saphyr::from_str::<UpscaleProfile>(yaml).expect("a profile").spec
}

/// Temporal, tiles, 8k + 5 frames.
pub(crate) fn flashvsr() -> UpscaleProfileSpec {
    read(include_str!("testdata/flashvsr.yaml"))
}

/// A folder of pictures, no time, always exits 0.
pub(crate) fn realesrgan() -> UpscaleProfileSpec {
    read(include_str!("testdata/realesrgan-ncnn.yaml"))
}

/// Whole pictures, batches of 4n + 1, several phases.
pub(crate) fn seedvr2() -> UpscaleProfileSpec {
    read(include_str!("testdata/seedvr2-7b.yaml"))
}

/// What the profile's engine writes, as the worker is told.
pub(crate) fn engine_output(spec: &UpscaleProfileSpec) -> EngineOutput {
    EngineOutput {
        kind: spec.output.kind,
        path: spec.output.path.clone(),
        codec: spec.output.codec,
        pixel_format: spec.output.pixel_format.clone(),
        matrix: spec.output.matrix.clone(),
        range: spec.output.range,
        bad_border: u32::try_from(spec.output.bad_border).unwrap(),
    }
}
