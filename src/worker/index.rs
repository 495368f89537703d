//! The index of a film: time and hash of every picture that is shown, made in one decode. Everything later speaks of
//! pictures by number; the hashes prove that a cut found the right ones.

mod pass;
mod shape;
mod told;

use std::io::{Cursor, Read as _};
use std::path::Path;
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use super::colour::Colour;
use super::failure::{Failure, Outcome, on_file};
use super::plan::{SceneCut, Span};
use super::publish;
use super::range::Excerpt;
use super::ratio::Ratio;
use super::turn::Turn;
use crate::api::worker::{Code, Deinterlace};

pub use pass::{Hashed, Pictures, Scan, first_time, read_hashes, scan};
pub use shape::{ShapeChange, shape_change, shape_headers, states_shape};
pub use told::{HashLine, Seen, read_hash_line, told_of_picture};

/// Most bytes that an index may unfold to.
const MAX_INDEX_BYTES: u64 = 1 << 30;

/// What tells a file from its successor under the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileIdentity {
    /// Size.
    pub bytes: u64,
    /// Time of the last change, nanoseconds since 1970.
    pub changed_ns: u128,
}

impl FileIdentity {
    /// Identity of a file now.
    pub fn of(path: &Path) -> Outcome<Self> {
        let facts = std::fs::metadata(path).map_err(on_file("look at", path))?;
        let changed = facts.modified().map_err(on_file("look at", path))?;
        let changed_ns = changed.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        Ok(Self { bytes: facts.len(), changed_ns })
    }
}

/// A film's pictures, or those of a range and around it, and what must be known of them later.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Index {
    /// Version of this format, 1.
    pub v: u32,
    /// The file that was indexed.
    pub file: FileIdentity,
    /// Number of the film's stream.
    pub stream: u32,
    /// ffmpeg's name of its codec.
    pub codec: String,
    /// Time base of `pts`.
    pub base: Ratio,
    /// How frames became the pictures.
    #[serde(default)]
    pub deinterlace: Deinterlace,
    /// Width, pixels.
    pub width: u32,
    /// Height, pixels.
    pub height: u32,
    /// ffmpeg's name of the pixel format.
    pub pixel_format: String,
    /// Shape of a pixel, if said.
    pub pixel_shape: Option<Ratio>,
    /// Turn that players give it, degrees counter-clockwise.
    pub rotation: i32,
    /// Whether they mirror it before they turn it; unsaid by versions that did not know it.
    #[serde(default)]
    pub mirrored: bool,
    /// What the numbers mean.
    pub colour: Colour,
    /// The range that is used; `None` for the whole film.
    #[serde(default)]
    pub excerpt: Option<Excerpt>,
    /// Presentation time of every picture, rising.
    pub pts: Vec<i64>,
    /// Duration of the last picture, at least 1.
    pub last_duration: i64,
    /// Hash of every picture, in hex.
    pub hashes: Vec<String>,
    /// Numbers of the pictures that a decoder can start at, rising.
    pub keys: Vec<u64>,
    /// Where scenes begin, rising.
    #[serde(default)]
    pub cuts: Vec<SceneCut>,
    /// What the decode found odd, for people.
    #[serde(default)]
    pub warnings: Vec<String>,
}

impl Index {
    /// Number of pictures indexed: all that may be read.
    pub fn frames(&self) -> u64 {
        count(self.pts.len())
    }

    /// The pictures that the result is made of.
    pub fn owned(&self) -> Span {
        match self.excerpt {
            Some(excerpt) => excerpt.owned(self.base, &self.pts),
            None => Span { start: 0, end: self.frames() },
        }
    }

    /// Time of a picture; the end of the film for the number after the last.
    pub fn time(&self, frame: u64) -> Option<i64> {
        if frame == self.frames() {
            return Some(self.pts.last()?.saturating_add(self.last_duration));
        }
        self.pts.get(usize::try_from(frame).ok()?).copied()
    }

    /// Times of pictures `start..end` relative to the first of them; empty if there are none.
    pub fn times_from_zero(&self, start: u64, end: u64) -> Vec<i64> {
        let times = slice(&self.pts, start, end);
        let first = times.first().copied().unwrap_or(0);
        times.iter().map(|time| time.saturating_sub(first)).collect()
    }

    /// Hashes of pictures `start..end`.
    pub fn hashes_of(&self, start: u64, end: u64) -> &[String] {
        slice(&self.hashes, start, end)
    }

    /// How players turn it.
    pub fn turn(&self) -> Turn {
        Turn { degrees: self.rotation, mirrored: self.mirrored }
    }

    /// Duration of the owned pictures, from the first to the end of the last, ticks.
    pub fn duration(&self) -> i64 {
        let owned = self.owned();
        let first = self.time(owned.start).unwrap_or(0);
        self.time(owned.end).unwrap_or(first).saturating_sub(first)
    }

    /// Duration of the last owned picture, ticks, at least 1.
    pub fn last_owned_duration(&self) -> i64 {
        let end = self.owned().end;
        let start = end.checked_sub(1).and_then(|last| self.time(last));
        self.time(end).zip(start).map_or(1, |(end, start)| end.saturating_sub(start))
    }

    /// Whether every owned picture is a whole number of `tick`s after the first.
    pub fn is_exact_in(&self, tick: Ratio) -> bool {
        let owned = self.owned();
        let times = self.times_from_zero(owned.start, owned.end);
        times.into_iter().all(|time| tick.is_whole(time, self.base))
    }

    /// What the streams beside the film may take in the result, bytes: a tenth of the file, by the share of the film,
    /// which lasts `film_us` by its header, that is used.
    pub fn other_bytes(&self, film_us: Option<i64>) -> u64 {
        let all = self.file.bytes / 10;
        let used = self.base.micros(self.duration());
        let Some(film) = film_us.filter(|film| self.excerpt.is_some() && *film > used) else { return all };
        (all as f64 * (used as f64 / film as f64)).ceil() as u64
    }

    /// One rate for all owned pictures, pictures per second: what their encoder is told.
    pub fn rate(&self) -> Ratio {
        let seconds = u128::try_from(self.duration()).unwrap_or(1).saturating_mul(self.base.num.into());
        let frames = u128::from(self.owned().frames()).saturating_mul(self.base.den.into());
        // A rate that does not fit its integers is rounded to a thousandth.
        let rounded = || Ratio::reduced(frames.saturating_mul(1000).checked_div(seconds)?, 1000);
        Ratio::reduced(frames, seconds)
            .filter(fits_encoders)
            .or_else(rounded)
            .unwrap_or(Ratio { num: 25, den: 1 })
    }

    /// Writes it compressed; its digest, by which plan and parts refer to it.
    pub fn write(&self, path: &Path) -> Outcome<String> {
        let json = serde_json::to_vec(self).map_err(|error| damaged(path, &error))?;
        let packed = zstd::encode_all(Cursor::new(&json), 3).map_err(on_file("compress", path))?;
        publish::write_whole(path, &packed)?;
        Ok(publish::digest_of(&json))
    }

    /// Reads it with its digest; `None` if it is not there.
    pub fn read(path: &Path) -> Outcome<Option<(Self, String)>> {
        let Some(packed) = publish::read_bounded(path)? else { return Ok(None) };
        let mut json = Vec::new();
        zstd::Decoder::new(Cursor::new(packed))
            .and_then(|unpacked| unpacked.take(MAX_INDEX_BYTES).read_to_end(&mut json))
            .map_err(on_file("unpack", path))?;
        let index: Self = serde_json::from_slice(&json).map_err(|error| damaged(path, &error))?;
        if index.v != 1 || index.pts.len() != index.hashes.len() || index.pts.is_empty() {
            return Err(damaged(path, &"it contradicts itself"));
        }
        Ok(Some((index, publish::digest_of(&json))))
    }

    /// Ends with [`Code::SourceChanged`] if the file is not the one that was indexed.
    pub fn prove_unchanged(&self, source: &Path, name: &str) -> Outcome<()> {
        let now = FileIdentity::of(source)?;
        if now == self.file {
            return Ok(());
        }
        Err(Failure::stop(
            Code::SourceChanged,
            format!(
                "{name} changed since it was indexed ({} bytes then, {} now); make a new VideoUpscale",
                self.file.bytes, now.bytes
            ),
        ))
    }
}

fn fits_encoders(rate: &Ratio) -> bool {
    rate.num <= 1_000_000_000 && rate.den <= 1_000_000_000
}

fn damaged(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::stop(Code::Internal, format!("{} is damaged: {error}", path.display()))
}

fn slice<T>(list: &[T], start: u64, end: u64) -> &[T] {
    let place = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    list.get(place(start)..place(end)).unwrap_or_default()
}

/// A length as a number of pictures.
pub fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::worker::colour::Tags;

    pub(in crate::worker) fn film(pts: &[i64], base: &str, last_duration: i64) -> Index {
        Index {
            v: 1,
            file: FileIdentity { bytes: 1, changed_ns: 1 },
            stream: 0,
            codec: "h264".to_owned(),
            base: base.parse().unwrap(),
            deinterlace: Deinterlace::Off,
            width: 64,
            height: 36,
            pixel_format: "yuv420p".to_owned(),
            pixel_shape: None,
            rotation: 0,
            mirrored: false,
            excerpt: None,
            colour: Colour::of(Tags::default(), 36, "yuv420p").unwrap(),
            pts: pts.to_vec(),
            last_duration,
            hashes: pts.iter().map(|pts| format!("{pts:032x}")).collect(),
            keys: vec![0],
            cuts: Vec::new(),
            warnings: Vec::new(),
        }
    }

    #[test]
    fn times_end_with_the_end_of_the_film() {
        let index = film(&[100, 140, 200], "1/1000", 33);
        assert_eq!((index.time(0), index.time(3), index.time(4)), (Some(100), Some(233), None));
        assert_eq!(index.times_from_zero(1, 3), [0, 60]);
        assert_eq!(index.times_from_zero(1, 9), [0; 0]);
        assert_eq!(index.duration(), 133);
    }

    #[test]
    fn rates_are_exact_where_they_fit() {
        let ntsc: Vec<i64> = (0..150).map(|frame| frame * 1001).collect();
        assert_eq!(film(&ntsc, "1/30000", 1001).rate().to_string(), "30000/1001");
        assert_eq!(film(&[0], "1/25", 1).rate().to_string(), "25/1");
        assert_eq!(film(&[0, 7, 9], "1/1000", 4).rate().to_string(), "3000/13");
    }

    #[test]
    fn an_index_comes_back_as_it_went() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("index.json.zst");
        assert!(Index::read(&path).unwrap().is_none());
        let index = film(&[0, 40], "1/1000", 40);
        let digest = index.write(&path).unwrap();
        assert_eq!(Index::read(&path).unwrap().unwrap(), (index, digest));
        std::fs::write(&path, b"not zstd").unwrap();
        assert!(Index::read(&path).is_err());
    }

    #[test]
    fn a_changed_source_is_noticed() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("film");
        std::fs::write(&path, "one").unwrap();
        let mut index = film(&[0], "1/25", 1);
        index.file = FileIdentity::of(&path).unwrap();
        assert!(index.prove_unchanged(&path, "film").is_ok());
        std::fs::write(&path, "other").unwrap();
        assert_eq!(index.prove_unchanged(&path, "film").unwrap_err().code(), Code::SourceChanged);
    }
}
