//! Room on the volumes: what a stage needs at least, and the proof that it is there before work is done for nothing.

use super::failure::{Failure, Outcome};
use super::folder::Mounts;
use super::index::Index;
use super::publish::{free_bytes, human};
use crate::api::worker::Code;

/// A volume that a stage writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Volume {
    /// The destination claim: work folder, parts, result.
    Destination,
    /// The pod's scratch volume: the engine's input and output.
    Scratch,
}

/// The least that so many pictures of the result take, bytes. An encoder at its default quality seldom gets below 0.02
/// bytes per pixel; with less room than that it cannot end well.
pub fn encoded_bytes(index: &Index, scale: u32, frames: u64) -> u64 {
    let pixels = u64::from(index.width)
        .saturating_mul(index.height.into())
        .saturating_mul(scale.saturating_mul(scale).into())
        .saturating_mul(frames);
    pixels / 50
}

/// Proves that a volume has room for `what`, which takes `need` bytes.
///
/// # Errors
/// [`Code::OutOfSpace`] with the numbers.
pub fn prove_room(mounts: &Mounts, volume: Volume, what: &str, need: u64) -> Outcome<()> {
    let (path, name) = match volume {
        Volume::Destination => (&mounts.destination, "the destination claim"),
        Volume::Scratch => (&mounts.scratch, "scratch"),
    };
    let free = free_bytes(path)?;
    if free >= need {
        return Ok(());
    }
    let text = format!("{name} has {} free; {what} takes about {}", human(free), human(need));
    Err(Failure::stop(Code::OutOfSpace, text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::index::tests::film;

    #[test]
    fn a_film_takes_a_fiftieth_of_a_byte_for_each_pixel() {
        // 64x36 at twice the size.
        let index = film(&[0, 40], "1/1000", 40);
        assert_eq!(encoded_bytes(&index, 2, 25), 128 * 72 * 25 / 50);
        assert_eq!(encoded_bytes(&index, 2, u64::MAX), u64::MAX / 50);
    }

    #[test]
    fn room_is_proved_with_numbers() {
        let root = tempfile::tempdir().unwrap();
        let folder = || root.path().to_owned();
        let mounts = Mounts { source: folder(), destination: folder(), scratch: folder() };
        assert!(prove_room(&mounts, Volume::Destination, "the part", 0).is_ok());
        let error = prove_room(&mounts, Volume::Scratch, "the cut", u64::MAX).unwrap_err();
        assert_eq!(error.code(), Code::OutOfSpace);
        let told = error.to_string();
        assert!(
            told.starts_with("scratch has ") && told.ends_with("; the cut takes about 16777216.0Ti"),
            "{told}"
        );
    }
}
