//! How long an attempt may take.

use super::{Picture, unsigned};
use crate::api::profile::UpscaleProfileSpec;

/// Times as measured on finished segments; `None` where nothing was measured yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Measured {
    /// Fixed seconds per engine run.
    pub start_seconds: Option<u32>,
    /// Milliseconds per million output pixels and frame.
    pub megapixel_frame_millis: Option<u32>,
}

/// Seconds for what is not the engine: pulling its image (engines are tens of gigabytes), the look at the GPU, the cut.
const FIXED_SECONDS: u128 = 2_400;
/// Milliseconds of cutting and encoding per million output pixels and frame; several times what a slow node takes.
const WORKER_MILLIS: u128 = 2_000;

/// `activeDeadlineSeconds` of an attempt: the profile's percentage of the time that `pieces` engine runs over `frames`
/// frames each should take, and what the rest of the pod may take. The clock of the deadline starts with the kubelet,
/// so an image pull counts.
pub fn deadline_seconds(
    spec: &UpscaleProfileSpec,
    picture: &Picture,
    frames: u32,
    pieces: u32,
    measured: Measured,
) -> i64 {
    let start = measured.start_seconds.map_or_else(|| unsigned(spec.time.start_seconds), u128::from);
    let per_frame = measured
        .megapixel_frame_millis
        .map_or_else(|| unsigned(spec.time.megapixel_frame_millis), u128::from);
    let pieces = u128::from(pieces.max(1));
    let pixel_frames = picture.output_pixels().saturating_mul(u128::from(frames)).saturating_mul(pieces);
    let millis = |rate: u128| pixel_frames.saturating_mul(rate) / 1_000_000;
    let engine = start.saturating_mul(1_000).saturating_mul(pieces).saturating_add(millis(per_frame));
    let allowed = engine.saturating_mul(unsigned(spec.time.deadline_percent).max(100)) / 100;
    let total = allowed.saturating_add(millis(WORKER_MILLIS)).div_ceil(1_000).saturating_add(FIXED_SECONDS);
    i64::try_from(total).unwrap_or(i64::MAX).min(MOST_SECONDS)
}

/// Thirty days.
const MOST_SECONDS: i64 = 2_592_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::testdata::flashvsr;

    #[test]
    fn what_was_measured_replaces_the_guess() {
        let spec = flashvsr();
        let picture = Picture { width: 1000, height: 250, scale: 2, pad: 0 };
        // 100 frames of one megapixel: 60 s + 30 s guessed, four times; 200 s of cutting and encoding; 2,400 s fixed.
        assert_eq!(deadline_seconds(&spec, &picture, 100, 1, Measured::default()), 360 + 200 + 2_400);
        let measured = Measured { start_seconds: Some(10), megapixel_frame_millis: Some(900) };
        assert_eq!(deadline_seconds(&spec, &picture, 100, 1, measured), 400 + 200 + 2_400);
        assert_eq!(deadline_seconds(&spec, &picture, 50, 2, measured), 440 + 200 + 2_400);
    }

    #[test]
    fn absurd_films_are_bounded() {
        let huge = Picture { width: u32::MAX, height: u32::MAX, scale: 4, pad: 0 };
        assert_eq!(deadline_seconds(&flashvsr(), &huge, u32::MAX, 4, Measured::default()), MOST_SECONDS);
    }
}
