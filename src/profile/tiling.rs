//! Which tile a step has on a picture, and which steps a picture can have at all.

use std::ops::RangeInclusive;

use super::{Picture, ProfileError, step_of, unsigned};
use crate::api::profile::UpscaleProfileSpec;

/// One tile, in source pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tile {
    /// Length of a side.
    pub size: u32,
    /// How far neighbours overlap.
    pub overlap: u32,
}

impl Tile {
    /// Reads `size/overlap`, decimal digits without sign or blank. `None` for anything else, size 0, or an overlap of
    /// more than half the size.
    pub fn parse(text: &str) -> Option<Self> {
        let (size, overlap) = text.split_once('/')?;
        let number = |digits: &str| {
            let plain = !digits.is_empty() && digits.len() <= 5 && digits.bytes().all(|b| b.is_ascii_digit());
            plain.then(|| digits.parse::<u32>().ok()).flatten()
        };
        let tile = Self { size: number(size)?, overlap: number(overlap)? };
        (tile.size > 0 && tile.overlap <= tile.size / 2).then_some(tile)
    }
}

impl std::fmt::Display for Tile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.size, self.overlap)
    }
}

/// How a step divides the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tiling {
    /// Not at all.
    Whole,
    /// Into tiles.
    Tiles(Tile),
}

/// How the step divides the picture; `None` if it is not offered for it.
pub fn tile_at(spec: &UpscaleProfileSpec, step: u32, picture: &Picture) -> Option<Tiling> {
    let Some(tiles) = &step_of(spec, step)?.tiles else {
        return Some(Tiling::Whole);
    };
    let tile = Tile::parse(tiles.get(&picture.scale.to_string())?)?;
    if !spec.tile.fit {
        return Some(Tiling::Tiles(tile));
    }
    let (width, height) = picture.padded();
    let side = fitting_side(width.min(height), picture.scale, spec.tile.multiple)?;
    if side >= tile.size {
        return Some(Tiling::Tiles(tile));
    }
    (side > 0).then_some(Tiling::Tiles(Tile { size: side, overlap: tile.overlap.min(side / 8) }))
}

/// The longest side up to `length` that, times `scale`, is a multiple of `multiple`.
fn fitting_side(length: u32, scale: u32, multiple: i32) -> Option<u32> {
    let multiple = u32::try_from(multiple).ok().filter(|multiple| *multiple > 0)?;
    let unit = multiple.checked_div(gcd(multiple, scale))?;
    Some(length.saturating_sub(length.checked_rem(unit)?))
}

fn gcd(a: u32, b: u32) -> u32 {
    match a.checked_rem(b) {
        None => a,
        Some(rest) => gcd(b, rest),
    }
}

/// The steps that the picture can have, best first.
pub fn steps_offered(spec: &UpscaleProfileSpec, picture: &Picture) -> Vec<u32> {
    if !spec.scales.iter().any(|scale| unsigned(*scale) == u128::from(picture.scale)) {
        return Vec::new();
    }
    (0u32..).take(spec.ladder.len()).filter(|step| tile_at(spec, *step, picture).is_some()).collect()
}

/// The steps that a job may use: what it says, else the profile's. An error if that is no range of the ladder.
pub fn steps_allowed(
    spec: &UpscaleProfileSpec,
    first: Option<i32>,
    last: Option<i32>,
) -> Result<RangeInclusive<u32>, ProfileError> {
    let end = i32::try_from(spec.ladder.len()).unwrap_or(i32::MAX).saturating_sub(1);
    let last = last.or(spec.steps.last).unwrap_or(end);
    let first = first.unwrap_or(spec.steps.first.min(last));
    match (u32::try_from(first), u32::try_from(last)) {
        (Ok(from), Ok(to)) if first <= last && last <= end => Ok(from..=to),
        _ => Err(ProfileError::Steps { first, last, end }),
    }
}

/// A step for people: its name and tile on that picture, `long-768 384/48`.
pub fn label(spec: &UpscaleProfileSpec, step: u32, picture: &Picture) -> String {
    let name = step_of(spec, step).map_or_else(|| format!("step-{step}"), |step| step.name.clone());
    match tile_at(spec, step, picture) {
        Some(Tiling::Tiles(tile)) => format!("{name} {tile}"),
        Some(Tiling::Whole) | None => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::testdata::{flashvsr, realesrgan, seedvr2};

    fn tile(size: u32, overlap: u32) -> Option<Tiling> {
        Some(Tiling::Tiles(Tile { size, overlap }))
    }

    #[test]
    fn tile_texts_are_read_strictly() {
        assert_eq!(Tile::parse("384/48"), Some(Tile { size: 384, overlap: 48 }));
        assert_eq!(Tile::parse("400/0"), Some(Tile { size: 400, overlap: 0 }));
        for text in ["", "384", "384/", "/48", "384/193", "0/0", "+384/48", "384 /48", "384/48/1", "999999/1"]
        {
            assert_eq!(Tile::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_tile_shrinks_to_the_pictures_shorter_side() {
        let spec = flashvsr();
        for ((width, height, scale, step), expected) in [
            ((1920, 1080, 2, 5), tile(384, 48)),
            ((1920, 1080, 2, 0), tile(1024, 96)),
            ((640, 360, 2, 0), tile(320, 40)),
            ((640, 360, 2, 5), tile(320, 40)),
            ((640, 360, 2, 6), tile(256, 32)),
            ((640, 360, 3, 0), tile(256, 32)),
            ((640, 360, 3, 6), None),
            ((640, 360, 4, 0), tile(352, 44)),
            ((40, 20, 2, 0), None),
        ] {
            let picture = Picture::of(&spec, width, height, scale);
            assert_eq!(tile_at(&spec, step, &picture), expected, "{width}x{height}@{scale} step {step}");
        }
    }

    #[test]
    fn steps_without_tiles_take_the_whole_picture() {
        let spec = seedvr2();
        let picture = Picture::of(&spec, 640, 360, 3);
        assert_eq!(tile_at(&spec, 0, &picture), Some(Tiling::Whole));
        assert_eq!(label(&spec, 0, &picture), "b45");
        assert_eq!(steps_offered(&spec, &picture), vec![0, 1, 2, 3, 4]);
    }

    #[test]
    fn steps_that_miss_a_scale_are_not_offered_there() {
        let spec = flashvsr();
        assert_eq!(steps_offered(&spec, &Picture::of(&spec, 1920, 1080, 3)), vec![0, 1, 2, 3, 4, 5, 8]);
        assert_eq!(steps_offered(&spec, &Picture::of(&spec, 1920, 1080, 2)).len(), 10);
        assert!(steps_offered(&spec, &Picture::of(&spec, 1920, 1080, 1)).is_empty());
        assert_eq!(steps_offered(&realesrgan(), &Picture::of(&realesrgan(), 64, 48, 4)), vec![0, 1, 2, 3]);
    }

    #[test]
    fn labels_name_step_and_tile() {
        let spec = flashvsr();
        assert_eq!(label(&spec, 5, &Picture::of(&spec, 1920, 1080, 2)), "long-768 384/48");
        assert_eq!(label(&spec, 99, &Picture::of(&spec, 1920, 1080, 2)), "step-99");
    }

    #[test]
    fn allowed_steps_are_the_jobs_else_the_profiles() {
        let spec = flashvsr();
        assert_eq!(steps_allowed(&spec, None, None), Ok(2..=9));
        assert_eq!(steps_allowed(&spec, Some(0), Some(0)), Ok(0..=0));
        assert_eq!(steps_allowed(&spec, None, Some(1)), Ok(1..=1));
        assert!(steps_allowed(&spec, Some(5), Some(4)).is_err());
        assert!(steps_allowed(&spec, None, Some(10)).is_err());
        assert!(steps_allowed(&spec, Some(-1), None).is_err());
    }
}
