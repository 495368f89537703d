//! GPU memory of a run by the closed forms that were fitted to the real model's byte counts.

use super::options::{Mode, Options};

/// Bytes of the CUDA context, which no closed form counts.
pub const CONTEXT: u64 = 448 << 20;

/// One run's tile and frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Output pixels of the tile the model works on.
    pub pixels: u64,
    /// Frames that are read.
    pub frames: u64,
}

/// Hundredths of a GiB in bytes.
const fn hundredths(count: u64) -> u64 {
    count.saturating_mul(1 << 30).saturating_div(100)
}

/// Bytes of the weights, which come first.
#[must_use]
pub fn weights(options: &Options) -> u64 {
    let bytes = if options.mode == Mode::Full { hundredths(332) } else { hundredths(326) };
    precise(options, bytes)
}

/// Bytes at the peak, weights included, context not.
#[must_use]
pub fn peak(options: &Options, load: Load) -> u64 {
    let Load { pixels, frames } = load;
    let pixel = |bytes: u64| pixels.saturating_mul(bytes);
    let per_frame = |bytes: u64| pixel(bytes.saturating_mul(frames));
    let short = options.kv_ratio < 3;
    // Every window beyond the third is 1440 bytes a pixel more.
    let windows = u64::try_from(options.kv_ratio.saturating_sub(3)).unwrap_or(0);
    let further = pixel(windows.saturating_mul(1440));
    let fixed = if options.mode == Mode::Full { hundredths(342) } else { hundredths(336) };
    let whole = match options.mode {
        Mode::TinyLong => pixel(if short { 6543 } else { 7790 }),
        Mode::Tiny => pixel(if short { 6150 } else { 7600 }).saturating_add(per_frame(24)),
        Mode::Full => {
            let decoded = if options.tiled_vae { pixels.min(399_360) } else { pixels };
            pixel(if short { 4320 } else { 5760 })
                .saturating_add(per_frame(9))
                .saturating_add(decoded.saturating_mul(10_000))
        }
    };
    let peak = fixed.saturating_add(whole).saturating_add(further);
    if !options.unload_dit || options.mode == Mode::TinyLong {
        return precise(options, peak);
    }
    // The model leaves before decoding; what it needs itself stays the floor.
    let own = fixed.saturating_add(pixel(if short { 5666 } else { 7106 })).saturating_add(further);
    precise(options, peak.saturating_sub(hundredths(320)).max(own).min(peak))
}

fn precise(options: &Options, bytes: u64) -> u64 {
    if options.fp32 { bytes.saturating_mul(2) } else { bytes }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::arithmetic_side_effects, reason = "small figures of a test")]
    fn gib(args: &str, side: u64, frames: u64) -> f64 {
        let args: Vec<String> = format!("--input a {args}").split_whitespace().map(str::to_owned).collect();
        let options = Options::parse(&args, 1).unwrap();
        peak(&options, Load { pixels: side * side, frames }) as f64 / f64::from(1 << 30)
    }

    #[test]
    fn the_closed_forms_agree_with_the_simulated_peaks_within_six_percent() {
        for (args, side, frames, want) in [
            ("--mode tiny-long", 512, 101, 5.26),
            ("--mode tiny-long", 1024, 301, 10.97),
            ("--mode tiny-long --kv_ratio 1.0", 1024, 101, 9.75),
            ("--mode tiny-long --kv_ratio 1.0 --unload_dit True", 256, 101, 3.76),
            ("--mode tiny", 1024, 101, 12.53),
            ("--mode tiny", 512, 301, 6.81),
            ("--mode full", 1024, 101, 13.58),
            ("--mode full", 512, 101, 7.36),
            ("--mode full --tiled_vae=", 1024, 37, 19.05),
            ("--mode tiny --unload_dit True", 1024, 101, 10.3),
            ("--mode full --unload_dit True", 1024, 101, 10.3),
        ] {
            let got = gib(args, side, frames);
            assert!((got / want - 1.0).abs() < 0.06, "{args}: {got} {want}");
        }
    }

    #[test]
    fn a_run_fits_what_is_scheduled_for_it() {
        for side in [256, 384, 512, 768, 1024] {
            let closed = gib("--mode tiny-long", side, 101);
            assert!(closed + CONTEXT as f64 / f64::from(1 << 30) < 1.10 * closed + 1.0);
        }
    }
}
