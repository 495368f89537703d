//! The plan: which segment owns which pictures, and what each reads besides. Pure.
//!
//! Every picture is owned by exactly one segment; every read obeys the engine's frame rule; no read is longer than the
//! host memory of a pod allows.

mod borders;
mod length;
mod reads;

use serde::{Deserialize, Serialize};

use super::ratio::Ratio;

pub use borders::SceneCut;
pub use length::{PlanError, Wishes, plan};
pub use reads::{Piece, Read, pieces, read};

/// Pictures `start..end` of the film.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Span {
    /// The first.
    pub start: u64,
    /// The one after the last.
    pub end: u64,
}

impl Span {
    /// How many.
    pub fn frames(self) -> u64 {
        self.end.saturating_sub(self.start)
    }
}

/// The plan of a film, as written to the work folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Version of this format, 1.
    pub v: u32,
    /// Digest of the index it is made for.
    pub index: String,
    /// Upscaling factor.
    pub scale: u32,
    /// Rate factor of the parts' encoder, by which room is estimated; unsaid by versions that did not know it.
    #[serde(default = "usual_quality")]
    pub quality: u32,
    /// The one rate that every part's encoder is told, pictures per second.
    pub rate: Ratio,
    /// Most pictures that a segment reads in one piece, repeats included.
    pub longest_read: u32,
    /// What each segment owns, in order, without gaps.
    pub segments: Vec<Span>,
}

const fn usual_quality() -> u32 {
    16
}

impl Plan {
    /// Most pictures that a segment owns.
    pub fn longest_owned(&self) -> u32 {
        let longest = self.segments.iter().map(|owned| owned.frames()).max().unwrap_or(0);
        u32::try_from(longest).unwrap_or(u32::MAX)
    }

    /// What a segment owns; `None` if there is no such segment.
    pub fn segment(&self, number: u32) -> Option<Span> {
        self.segments.get(usize::try_from(number).ok()?).copied()
    }
}
