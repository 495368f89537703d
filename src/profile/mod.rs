//! Evaluates an [`UpscaleProfile`](crate::api::profile): which tile a step has on a picture, what memory it needs,
//! how its command line reads, how long it may take. Pure and total; a profile that [`check()`] accepts never makes an
//! evaluation fail for its own sake, but every formula is still computed without overflow and says `None` instead.

mod check;
mod digest;
mod engine;
mod frames;
mod memory;
mod picture;
mod render;
mod tiling;
mod time;

#[cfg(test)]
pub(crate) mod testdata;

pub use check::{ProfileError, check};
pub use digest::digest;
pub use engine::{engine_input, engine_output};
pub use frames::{Lengths, frames_ok, frames_up, longest_piece};
pub use memory::{HostFlags, host_limit_bytes, need_bytes, scratch_bytes};
pub use picture::Picture;
pub use render::{Piece, Rendered, render};
pub use tiling::{Tile, Tiling, label, steps_allowed, steps_offered, tile_at};
pub use time::{Measured, deadline_seconds};

use crate::api::profile::{Step, UpscaleProfileSpec};

/// The step of that number; `None` beyond the ladder.
pub(crate) fn step_of(spec: &UpscaleProfileSpec, step: u32) -> Option<&Step> {
    spec.ladder.get(usize::try_from(step).ok()?)
}

/// A number of the spec as an unsigned one; a negative one, which [`check()`] refuses, counts as 0.
pub(crate) fn unsigned(value: i32) -> u128 {
    u128::try_from(value).unwrap_or(0)
}
