//! How a frame is split, and what the model makes of a tile whose sides it does not like.

/// The model works on multiples of so many output pixels.
const MULTIPLE: usize = 128;

/// A rectangle, output pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rect {
    /// Left edge.
    pub x: usize,
    /// Upper edge.
    pub y: usize,
    /// Width.
    pub width: usize,
    /// Height.
    pub height: usize,
}

/// The largest multiple of 128 in `side`, at least 128, never more than there is.
#[must_use]
pub fn cropped(side: usize) -> usize {
    let rest = side.checked_rem(MULTIPLE).unwrap_or(0);
    side.saturating_sub(rest).max(MULTIPLE).min(side)
}

/// The part of `whole` that the model works on: cut to multiples of 128 around the centre.
#[must_use]
pub fn crop(whole: Rect) -> Rect {
    let (width, height) = (cropped(whole.width), cropped(whole.height));
    let margin = |side: usize, kept: usize| side.saturating_sub(kept).checked_div(2).unwrap_or(0);
    Rect {
        x: whole.x.saturating_add(margin(whole.width, width)),
        y: whole.y.saturating_add(margin(whole.height, height)),
        width,
        height,
    }
}

/// Tiles of a frame of `width` x `height` source pixels, row by row, as output pixels at `scale`. The last of a row
/// and of a column are moved inwards.
#[must_use]
pub fn grid(width: usize, height: usize, tile: usize, overlap: usize, scale: usize) -> Vec<Rect> {
    let starts = |side: usize| -> Vec<usize> {
        let stride = tile.saturating_sub(overlap).max(1);
        let count = side.saturating_sub(overlap).div_ceil(stride).max(1);
        (0..count).map(|n| n.saturating_mul(stride).min(side.saturating_sub(tile))).collect()
    };
    let out = |source: usize| source.saturating_mul(scale);
    let columns = starts(width);
    let row = |y: usize| {
        let rect = move |x: &usize| Rect {
            x: out(*x),
            y: out(y),
            width: out(tile.min(width)),
            height: out(tile.min(height)),
        };
        columns.iter().map(rect).collect::<Vec<_>>()
    };
    starts(height).into_iter().flat_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_the_frame_and_stay_inside() {
        let tiles = grid(320, 180, 128, 16, 2);
        assert_eq!(tiles.len(), 6);
        assert!(tiles.iter().all(|t| t.x + t.width <= 640 && t.y + t.height <= 360));
        assert!(tiles.contains(&Rect { x: 384, y: 104, width: 256, height: 256 }));
    }

    #[test]
    fn without_tiles_a_frame_is_cut_to_multiples_of_128() {
        for (side, want) in [(1280, 1280), (720, 640), (3840, 3840), (2160, 2048), (1440, 1408), (100, 100)] {
            assert_eq!(cropped(side), want);
        }
        let whole = Rect { x: 0, y: 0, width: 1280, height: 720 };
        assert_eq!(crop(whole), Rect { x: 0, y: 40, width: 1280, height: 640 });
    }
}
