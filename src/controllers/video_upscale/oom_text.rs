//! Reads what an engine wrote when memory ran out, and says whose fault it was as far as the text alone can tell.
//!
//! The text is a stranger's: only its last [`MAX_BYTES`] are looked at, in time linear to them, without panic. It comes
//! from a log, so colour codes, prefixes of ranks and times, carriage returns and wrapped lines are taken out first, and
//! either end may be cut off.
//!
//! PyTorch compares process ids of the driver (the host's) with its own (the container's), so in a container **the
//! failing process stands in its own list like a foreign one**. Whoever takes all of the list for foreign blames a
//! neighbour that is not there.

mod blame;
mod normal;
mod parse;

pub use blame::{Blame, Need, TextVerdict, blame};
pub(super) use blame::{ROUNDING, threshold};
pub use parse::{Kind, Listed, OomText, Reading, read};

/// Most bytes of a text that are looked at, from its end.
pub const MAX_BYTES: usize = 256 * 1024;

#[cfg(test)]
mod mutated;
#[cfg(test)]
mod tests;
