//! Room on the volumes: what a stage needs at least, and the proof that it is there before work is done for nothing.

use super::failure::{Failure, Outcome};
use super::folder::{Mounts, WorkFolder};
use super::index::Index;
use super::media::Media;
use super::merge::copied;
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

/// The least that so many pictures of the result take, bytes. An encoder at a rate factor of 16 seldom gets below 0.02
/// bytes per pixel, and every 6 more of it halve what it writes; less of it is not counted on to write more, as soft films
/// do not. With less room than that it cannot end well.
pub fn encoded_bytes(index: &Index, scale: u32, quality: u32, frames: u64) -> u64 {
    let pixels = f64::from(index.width) * f64::from(index.height) * f64::from(scale).powi(2) * frames as f64;
    let halvings = ((f64::from(quality) - 16.0) / 6.0).max(0.0);
    (pixels / 50.0 * (-halvings).exp2()) as u64
}

/// What the streams beside the film take in the result, bytes: by the bits a second that the file states of each, for as
/// long as is used of it; a share of the file if it does not state that of all sound.
pub fn others_bytes(media: &Media, index: &Index) -> u64 {
    let film = media.duration_micros();
    let share = index.other_bytes(film);
    let micros = match index.excerpt {
        None => film.unwrap_or(0),
        Some(_) => index.base.micros(index.duration()),
    };
    let mut sum = 0u64;
    for stream in copied(media, index.stream) {
        match stream.bits_per_second() {
            Some(rate) => sum = sum.saturating_add(bytes_of(rate, micros)),
            None if stream.codec_type == "audio" => return share.max(sum),
            // Subtitles, covers, attached files: little.
            None => {}
        }
    }
    sum
}

/// Bytes of so many bits a second for that long.
fn bytes_of(rate: u64, micros: i64) -> u64 {
    let bits = u128::from(rate).saturating_mul(u128::try_from(micros).unwrap_or(0)) / 1_000_000;
    u64::try_from(bits.div_ceil(8)).unwrap_or(u64::MAX)
}

/// Bytes of the parts that lie in the work folder already.
pub fn parts_bytes(folder: &WorkFolder) -> u64 {
    let entries = std::fs::read_dir(folder.parts()).into_iter().flatten().flatten();
    let sizes = entries.filter_map(|entry| Some(entry.metadata().ok()?.len()));
    sizes.fold(0, u64::saturating_add)
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
    fn a_film_takes_as_much_as_its_pixels_and_its_quality_say() {
        // 64x36 at twice the size.
        let index = film(&[0, 40], "1/1000", 40);
        let bytes = |quality, frames| encoded_bytes(&index, 2, quality, frames);
        assert_eq!(bytes(16, 25), 128 * 72 * 25 / 50);
        assert_eq!(bytes(16, u64::MAX), u64::MAX);
        // Half of it for every 6 more, and as much for any less.
        assert_eq!([28, 22, 10].map(|quality| bytes(quality, 25)), [4608 / 4, 4608 / 2, 4608]);
    }

    #[test]
    fn other_streams_take_what_the_file_states() {
        let mut index = film(&[0, 40], "1/1000", 40);
        index.file.bytes = 90_000;
        let others = |streams: &str| {
            let text =
                format!(r#"{{"format":{{"duration":"8.0"}},"streams":[{{"codec_type":"video"}}{streams}]}}"#);
            others_bytes(&serde_json::from_str(&text).unwrap(), &index)
        };
        let sound = |rate: &str| format!(r#",{{"index":1,"codec_type":"audio"{rate}}}"#);
        assert_eq!(others(""), 0);
        assert_eq!(others(&sound(r#","bit_rate":"128000""#)), 128_000);
        assert_eq!(others(&sound(r#","tags":{"BPS-eng":"64000"}"#)), 64_000);
        assert_eq!(others(&sound("")), 9000);
        assert_eq!(others(r#",{"index":2,"codec_type":"subtitle"}"#), 0);
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
