//! The picture work: enlarged frames, blended tile by tile on canvases that stay in host memory to the end.
//!
//! As in the real program every frame is held as floating point several times over: enlarged input, canvas and
//! weights, 39 bytes an output pixel and frame with the bytes that were read.

use super::tiles::{self, Rect};

/// Values of a pixel.
const RGB: usize = 3;

/// A stack of frames, values 0-255, RGB.
#[derive(Clone, Debug, PartialEq)]
pub struct Frames {
    /// Width of each, pixels.
    pub width: usize,
    /// Height of each, pixels.
    pub height: usize,
    /// Values of each.
    pub values: Vec<Vec<f32>>,
}

impl Frames {
    /// So many black frames.
    #[must_use]
    pub fn black(width: usize, height: usize, count: usize) -> Self {
        let values = width.saturating_mul(height).saturating_mul(RGB);
        // Written, not just reserved: the kernel is to count it.
        Self {
            width,
            height,
            values: (0..count).map(|_| std::iter::repeat_n(0.0, values).collect()).collect(),
        }
    }

    /// The part `rect` of every frame, for frames that are not split.
    #[must_use]
    pub fn cut(&self, rect: Rect) -> Self {
        let cut =
            |frame: &Vec<f32>| rows(frame, self.width, rect).flat_map(|row| row.iter().copied()).collect();
        Self { width: rect.width, height: rect.height, values: self.values.iter().map(cut).collect() }
    }
}

/// Rows of the part `rect` of a frame of `width` pixels.
fn rows(frame: &[f32], width: usize, rect: Rect) -> impl Iterator<Item = &[f32]> {
    let from = rect.x.saturating_mul(RGB);
    let to = from.saturating_add(rect.width.saturating_mul(RGB));
    frame
        .chunks_exact(width.saturating_mul(RGB).max(1))
        .skip(rect.y)
        .take(rect.height)
        .filter_map(move |row| row.get(from..to))
}

/// The same to write to.
fn rows_mut(frame: &mut [f32], width: usize, rect: Rect) -> impl Iterator<Item = &mut [f32]> {
    let from = rect.x.saturating_mul(RGB);
    let to = from.saturating_add(rect.width.saturating_mul(RGB));
    frame
        .chunks_exact_mut(width.saturating_mul(RGB).max(1))
        .skip(rect.y)
        .take(rect.height)
        .filter_map(move |row| row.get_mut(from..to))
}

/// Sum of blended tiles and of their weights.
#[derive(Debug)]
pub struct Canvas {
    sums: Frames,
    weights: Frames,
}

impl Canvas {
    /// An empty canvas.
    #[must_use]
    pub fn new(width: usize, height: usize, frames: usize) -> Self {
        Self { sums: Frames::black(width, height, frames), weights: Frames::black(width, height, frames) }
    }

    /// Blends `tile` of every frame in. The model sees the tile cut to multiples of 128 around its centre, and what it
    /// yields is laid at the tile's upper left corner, whatever was cut.
    pub fn blend(&mut self, enlarged: &Frames, tile: Rect, ramp: usize) {
        let seen = tiles::crop(tile);
        let laid = Rect { x: tile.x, y: tile.y, ..seen };
        let across = mask(seen.width, ramp);
        let down = mask(seen.height, ramp);
        let width = self.sums.width;
        let frames = self.sums.values.iter_mut().zip(&mut self.weights.values).zip(&enlarged.values);
        for ((sums, weights), frame) in frames {
            let lines = rows_mut(sums, width, laid).zip(rows_mut(weights, width, laid));
            for ((line, row), vertical) in lines.zip(rows(frame, width, seen)).zip(&down) {
                let (sums, weights) = line;
                let pixels =
                    sums.chunks_exact_mut(RGB).zip(weights.chunks_exact_mut(RGB)).zip(row.chunks_exact(RGB));
                for (((sum, weight), pixel), horizontal) in pixels.zip(&across) {
                    let share = vertical.min(*horizontal);
                    for ((sum, weight), value) in sum.iter_mut().zip(weight).zip(pixel) {
                        *sum += value * share;
                        *weight += share;
                    }
                }
            }
        }
    }

    /// The blended frames; black where no tile has any weight.
    #[must_use]
    pub fn finish(mut self) -> Frames {
        for (sums, weights) in self.sums.values.iter_mut().zip(&self.weights.values) {
            for (sum, weight) in sums.iter_mut().zip(weights) {
                *sum = if *weight > 0.0 { *sum / *weight } else { 0.0 };
            }
        }
        self.sums
    }
}

/// Weights along one side of a tile: from 0 at each edge to 1 within `ramp` pixels.
fn mask(side: usize, ramp: usize) -> Vec<f32> {
    let ramp = u16::try_from(ramp.saturating_sub(1).max(1)).unwrap_or(u16::MAX);
    let weight =
        |distance: usize| (f32::from(u16::try_from(distance).unwrap_or(u16::MAX)) / f32::from(ramp)).min(1.0);
    (0..side).map(|at| weight(at.min(side.saturating_sub(1).saturating_sub(at)))).collect()
}

/// Values as bytes.
#[must_use]
pub fn bytes(frame: &[f32]) -> Vec<u8> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to a byte before")]
    let byte = |value: &f32| value.round().clamp(0.0, 255.0) as u8;
    frame.iter().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grey(width: usize, height: usize) -> Frames {
        let mut frames = Frames::black(width, height, 1);
        frames.values[0].fill(100.0);
        frames
    }

    fn black_share(frames: &Frames) -> f64 {
        let black = frames.values[0].iter().filter(|value| **value == 0.0).count();
        black as f64 / frames.values[0].len() as f64
    }

    #[expect(clippy::arithmetic_side_effects, reason = "small figures of a test")]
    fn tiled(width: usize, height: usize, tile: usize, overlap: usize, scale: usize) -> Frames {
        let enlarged = grey(width * scale, height * scale);
        let mut canvas = Canvas::new(width * scale, height * scale, 1);
        for rect in tiles::grid(width, height, tile, overlap, scale) {
            canvas.blend(&enlarged, rect, overlap * scale);
        }
        canvas.finish()
    }

    #[test]
    fn a_tiled_picture_has_a_black_ring_of_one_pixel_and_is_itself_within() {
        let picture = tiled(320, 192, 128, 16, 2);
        let (width, height) = (640, 384);
        for y in 0..height {
            for x in 0..width {
                let edge = x == 0 || y == 0 || x == width - 1 || y == height - 1;
                let value = picture.values[0][(y * width + x) * 3];
                let want = if edge { 0.0 } else { 100.0 };
                assert!((value - want).abs() < 0.01, "{x} {y} {value}");
            }
        }
    }

    #[test]
    fn tiles_that_are_no_multiple_of_128_spoil_the_picture() {
        let share = black_share(&tiled(320, 180, 96, 16, 2));
        assert!((0.40..0.46).contains(&share), "{share}");
        let share = black_share(&tiled(320, 100, 128, 16, 2));
        assert!((share - 74.0 / 200.0).abs() < 0.01, "{share}");
    }
}
