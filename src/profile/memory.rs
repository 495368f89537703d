//! What a step needs: GPU memory, host memory, scratch space. Bytes throughout.

use super::{Picture, Tiling, step_of, tile_at, unsigned};
use crate::api::profile::{OutputKind, Phase, UpscaleProfileSpec};
use crate::api::quantity::MIB;

/// What an attempt changes about its host memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostFlags {
    /// One and a half times the limit, after a host memory end.
    pub more_memory: bool,
}

/// GPU memory that must be free for a run over `frames` frames: percent of the largest phase, and MiB on top. `None` if
/// the step is not offered for the picture or the figures overflow.
pub fn need_bytes(spec: &UpscaleProfileSpec, step: u32, picture: &Picture, frames: u32) -> Option<u64> {
    let tile_pixels = match tile_at(spec, step, picture)? {
        Tiling::Whole => picture.output_pixels(),
        Tiling::Tiles(tile) => {
            let side = u128::from(tile.size)
                .checked_add(unsigned(spec.tile.halo).checked_mul(2)?)?
                .checked_mul(u128::from(picture.scale))?;
            side.checked_mul(side)?
        }
    };
    let mut largest = 0;
    for phase in &step_of(spec, step)?.gpu {
        largest = phase_bytes(phase, tile_pixels, picture.output_pixels(), frames)?.max(largest);
    }
    let with_margin = largest.checked_mul(unsigned(spec.gpu_memory.percent))? / 100;
    u64::try_from(with_margin.checked_add(mib(spec.gpu_memory.plus_mib)?)?).ok()
}

fn phase_bytes(phase: &Phase, tile_pixels: u128, picture_pixels: u128, frames: u32) -> Option<u128> {
    let per_pixel = |fixed: i32, per_frame: i32, pixels: u128| {
        let bytes = unsigned(fixed).checked_add(unsigned(per_frame).checked_mul(u128::from(frames))?)?;
        bytes.checked_mul(pixels)
    };
    mib(phase.fixed_mib)?
        .checked_add(per_pixel(phase.tile_pixel, phase.tile_pixel_frame, tile_pixels)?)?
        .checked_add(per_pixel(phase.picture_pixel, phase.picture_pixel_frame, picture_pixels)?)
}

/// Memory limit of the engine's container for a run over `frames` frames. `None` if there is no such step or the
/// figures overflow.
pub fn host_limit_bytes(
    spec: &UpscaleProfileSpec,
    step: u32,
    picture: &Picture,
    frames: u32,
    flags: HostFlags,
) -> Option<u64> {
    let host = &spec.host_memory;
    let frames = u128::from(frames);
    let pixels = unsigned(host.output_pixel)
        .checked_add(unsigned(host.output_pixel_frame).checked_mul(frames)?)?
        .checked_mul(picture.output_pixels())?
        .checked_add(
            unsigned(host.input_pixel_frame).checked_mul(frames)?.checked_mul(picture.input_pixels())?,
        )?;
    let limit = mib(host.base_mib)?
        .checked_add(pixels.checked_mul(unsigned(host.percent))? / 100)?
        .checked_add(mib(step_of(spec, step)?.host_mib)?)?;
    let limit = if flags.more_memory { limit.checked_mul(3)? / 2 } else { limit };
    u64::try_from(limit).ok()
}

/// Scratch space of an attempt whose pieces read `frames` frames in all: lossless input, the engine's output, what the
/// profile says that the engine writes beside them, and a quarter on top. `None` if the figures overflow.
pub fn scratch_bytes(spec: &UpscaleProfileSpec, picture: &Picture, frames: u32) -> Option<u64> {
    // Three bytes a pixel are RGB uncompressed: what a lossless file or a PNG may reach on noise. A lossy file stays
    // below one byte a pixel.
    let input: u128 = 3;
    let output: u128 = match spec.output.kind {
        OutputKind::Video => 1,
        OutputKind::Pictures => 3,
    };
    let per_frame = unsigned(spec.scratch.input_pixel_frame)
        .checked_add(input)?
        .checked_mul(picture.input_pixels())?
        .checked_add(
            unsigned(spec.scratch.output_pixel_frame)
                .checked_add(output)?
                .checked_mul(picture.output_pixels())?,
        )?;
    let bytes = per_frame.checked_mul(u128::from(frames))?.checked_mul(5)? / 4;
    u64::try_from(bytes.checked_add(u128::from(SCRATCH_BASE))?).ok()
}

/// Caches, compiled kernels, temporary files.
const SCRATCH_BASE: u64 = 512 * MIB;

fn mib(count: i32) -> Option<u128> {
    unsigned(count).checked_mul(u128::from(MIB))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::quantity::GIB;
    use crate::profile::testdata::{flashvsr, realesrgan, seedvr2};

    fn gib(bytes: Option<u64>) -> f64 {
        bytes.unwrap() as f64 / GIB as f64
    }

    #[test]
    fn flashvsr_needs_what_its_simulation_said() {
        let spec = flashvsr();
        let needs = [38.0, 16.2, 16.1, 13.1, 11.7, 9.4, 6.8, 6.5, 5.7, 5.1];
        for scale in [2, 4] {
            let picture = Picture::of(&spec, 3840, 2160, scale);
            for (step, need) in (0u32..).zip(needs) {
                let got = gib(need_bytes(&spec, step, &picture, 125));
                let tolerance = if step == 0 { 0.5 } else { 0.06 };
                assert!(
                    (got - need).abs() <= tolerance,
                    "scale {scale} step {step}: {got:.3} GiB, not {need}"
                );
            }
        }
        let picture = Picture::of(&spec, 3840, 2160, 4);
        assert!((gib(need_bytes(&spec, 2, &picture, 101)) - 15.5).abs() < 0.06);
        let odd_scale = Picture::of(&spec, 3840, 2160, 3);
        assert!((gib(need_bytes(&spec, 3, &odd_scale, 125)) - 15.3).abs() < 0.06);
        assert_eq!(need_bytes(&spec, 6, &odd_scale, 125), None);
        assert_eq!(need_bytes(&spec, 10, &picture, 125), None);
    }

    #[test]
    fn the_largest_phase_decides_and_halos_count() {
        let spec = seedvr2();
        let picture = Picture::of(&spec, 320, 180, 2);
        // b45 at 640x360: the second phase is the larger one.
        assert_eq!(need_bytes(&spec, 0, &picture, 45), Some(18_400 * MIB * 110 / 100 + 1024 * MIB));
        let spec = realesrgan();
        let picture = Picture::of(&spec, 1920, 1080, 2);
        let pixels: u64 = (400 + 20) * 2 * (400 + 20) * 2;
        let expected = (400 * MIB + 2600 * pixels) * 120 / 100 + 256 * MIB;
        assert_eq!(need_bytes(&spec, 0, &picture, 9), Some(expected));
    }

    #[test]
    fn host_memory_grows_with_frames_and_step_and_flag() {
        let spec = flashvsr();
        let picture = Picture { width: 1920, height: 1080, scale: 1, pad: 0 };
        let plain = host_limit_bytes(&spec, 3, &picture, 200, HostFlags::default()).unwrap();
        let pixels: u64 = 1920 * 1080 * 200;
        assert_eq!(plain, 8 * GIB + pixels * (24 + 40) * 115 / 100);
        let more = host_limit_bytes(&spec, 3, &picture, 200, HostFlags { more_memory: true }).unwrap();
        assert_eq!(more, plain * 3 / 2);
        let spec = seedvr2();
        let swap = |step| host_limit_bytes(&spec, step, &picture, 5, HostFlags::default()).unwrap();
        assert_eq!(swap(4) - swap(0), 15_200 * MIB);
    }

    #[test]
    fn scratch_holds_input_output_and_what_the_engine_writes() {
        let spec = flashvsr();
        let picture = Picture { width: 100, height: 100, scale: 2, pad: 0 };
        assert_eq!(
            scratch_bytes(&spec, &picture, 10),
            Some((3 * 10_000 + (3 + 1) * 40_000) * 10 * 5 / 4 + 512 * MIB)
        );
    }

    #[test]
    fn absurd_figures_overflow_to_none() {
        let mut spec = flashvsr();
        spec.ladder[3].gpu[0].tile_pixel_frame = i32::MAX;
        spec.gpu_memory.percent = i32::MAX;
        let picture = Picture::of(&spec, 3840, 2160, 4);
        assert_eq!(need_bytes(&spec, 3, &picture, u32::MAX), None);
        let huge = Picture { width: u32::MAX, height: u32::MAX, scale: 4, pad: 0 };
        assert_eq!(host_limit_bytes(&spec, 3, &huge, u32::MAX, HostFlags::default()), None);
        assert_eq!(scratch_bytes(&spec, &huge, u32::MAX), None);
    }
}
