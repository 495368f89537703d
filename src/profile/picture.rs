//! The picture as the engine sees it: padded, and of even size.

use super::unsigned;
use crate::api::profile::UpscaleProfileSpec;

/// A film's picture and what is done to it before the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Picture {
    /// Width of the source, pixels.
    pub width: u32,
    /// Height of the source, pixels.
    pub height: u32,
    /// Upscaling factor.
    pub scale: u32,
    /// Source pixels added on each side.
    pub pad: u32,
}

impl Picture {
    /// A source picture of that size under that profile.
    pub fn of(spec: &UpscaleProfileSpec, width: u32, height: u32, scale: u32) -> Self {
        let pad = u32::try_from(unsigned(spec.input.pad)).unwrap_or(u32::MAX);
        Self { width, height, scale, pad }
    }

    /// Size that the engine reads: padded on each side, then odd sizes made even.
    pub fn padded(&self) -> (u32, u32) {
        let side = |length: u32| {
            let padded = length.saturating_add(self.pad.saturating_mul(2));
            padded.checked_next_multiple_of(2).unwrap_or(padded)
        };
        (side(self.width), side(self.height))
    }

    /// Size that the engine writes.
    pub fn output(&self) -> (u32, u32) {
        let (width, height) = self.padded();
        (width.saturating_mul(self.scale), height.saturating_mul(self.scale))
    }

    /// Pixels that the engine reads per frame.
    pub fn input_pixels(&self) -> u128 {
        area(self.padded())
    }

    /// Pixels that the engine writes per frame.
    pub fn output_pixels(&self) -> u128 {
        area(self.output())
    }

    /// The picture class under which needs are learnt: padded `WxH@scale`.
    pub fn class(&self) -> String {
        let (width, height) = self.padded();
        format!("{width}x{height}@{}", self.scale)
    }
}

fn area((width, height): (u32, u32)) -> u128 {
    u128::from(width).saturating_mul(u128::from(height))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_sizes_are_made_even_after_padding() {
        for ((width, height, scale, pad), class) in [
            ((640, 360, 2, 4), "648x368@2"),
            ((641, 361, 3, 4), "650x370@3"),
            ((641, 361, 3, 0), "642x362@3"),
            ((1920, 1080, 2, 4), "1928x1088@2"),
        ] {
            let picture = Picture { width, height, scale, pad };
            assert_eq!(picture.class(), class);
        }
    }

    #[test]
    fn absurd_sizes_saturate() {
        let picture = Picture { width: u32::MAX, height: u32::MAX, scale: 4, pad: 64 };
        assert_eq!(picture.output(), (u32::MAX, u32::MAX));
    }
}
