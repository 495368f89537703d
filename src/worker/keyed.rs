//! A lossless copy of a long film whose keyframes are far apart. A cut decodes from a keyframe on, so each of many cuts of
//! such a film would decode half of it on average, while a GPU waits. The probe decodes it once more instead, into a film
//! with keyframes close to each other; cuts are read from that and proved against the same hashes. Without the copy,
//! or if a cut finds other pictures in it, the film itself is read.

use std::path::Path;

use super::colour::bits;
use super::deinterlace;
use super::failure::{Failure, Outcome};
use super::ffmpeg::Tools;
use super::folder::{Mounts, WorkFolder};
use super::index::{Index, read_hashes};
use super::publish::Aside;
use super::ratio::Ratio;
use super::space::{Volume, prove_room};
use crate::api::worker::{Code, Deinterlace};

/// Only films with more segments than that are copied; a few cuts cost less than a copy.
const SEGMENTS: usize = 50;
/// Only films whose keyframes are further apart than that on average, seconds.
const APART: f64 = 20.0;
/// Pictures from one keyframe of the copy to the next: a cut starts two keyframes early.
const KEYS: u64 = 50;
/// Pictures that are read back before the copy is kept; each cut is proved by all of its own.
const PROVED: u64 = 100;
/// What the copy is reckoned to take of its pictures' raw bytes. Films take a fifth to a third.
const SHARE: f64 = 0.4;
/// Pixel formats that the encoder takes as they are.
const FORMATS: [&str; 13] = [
    "yuv420p",
    "yuvj420p",
    "yuv422p",
    "yuvj422p",
    "yuv444p",
    "yuvj444p",
    "nv12",
    "nv16",
    "nv21",
    "gray",
    "yuv420p10le",
    "yuv422p10le",
    "yuv444p10le",
];
/// Its time base, Matroska's, and how many ticks a picture lasts.
const BASE: Ratio = Ratio { num: 1, den: 1000 };
const TICKS: i64 = 40;

/// Whether cuts of so many segments would decode too much.
pub fn is_wanted(index: &Index, segments: usize) -> bool {
    let film =
        index.time(0).zip(index.time(index.frames())).map_or(0, |(first, end)| end.saturating_sub(first));
    let seconds = index.base.value() * film as f64;
    segments > SEGMENTS && seconds > APART * index.keys.len().max(1) as f64
}

/// Makes the copy, unless it is there. The result, which takes `result` bytes at least, must find its room twice beside it, as
/// that is the least. A copy that is not to be had costs time and nothing else, so why there is none is only told.
pub fn make(tools: &Tools, mounts: &Mounts, folder: &WorkFolder, source: &Path, index: &Index, result: u64) {
    let copy = folder.keyed();
    if copy.is_file() {
        return;
    }
    if let Err(why) = try_make(tools, mounts, &copy, source, index, result) {
        tracing::warn!(%why, "no copy with more keyframes: each cut decodes from far before it");
    }
}

fn try_make(
    tools: &Tools,
    mounts: &Mounts,
    copy: &Path,
    source: &Path,
    index: &Index,
    result: u64,
) -> Outcome<()> {
    let format = &index.pixel_format;
    if !FORMATS.contains(&format.as_str()) {
        return Err(Failure::stop(Code::UnsupportedSource, format!("{format} is not stored without loss")));
    }
    let need = bytes(index).saturating_add(result.saturating_mul(2));
    prove_room(mounts, Volume::Destination, "a copy with more keyframes beside the result", need)?;
    let made = Aside::create(copy, "probe")?;
    write(tools, source, index, made.path())?;
    prove_stored(tools, index, made.path())?;
    made.publish(copy, true).map(drop)
}

/// The index of the copy: the same pictures, at times of their own.
pub fn index_of_copy(index: &Index) -> Index {
    let frames = index.frames();
    let pts = (0..).step_by(usize::try_from(TICKS).unwrap_or(1)).take(index.pts.len()).collect();
    let keys = (0..frames).step_by(usize::try_from(KEYS).unwrap_or(1)).collect();
    Index {
        stream: 0,
        base: BASE,
        deinterlace: Deinterlace::Off,
        pts,
        last_duration: TICKS,
        keys,
        ..index.clone()
    }
}

fn bytes(index: &Index) -> u64 {
    let raw =
        f64::from(index.width) * f64::from(index.height) * index.frames() as f64 * bytes_per_pixel(index);
    (raw * SHARE) as u64
}

/// By the name of the pixel format.
fn bytes_per_pixel(index: &Index) -> f64 {
    let format = index.pixel_format.as_str();
    let samples = if format.contains("420") || matches!(format, "nv12" | "nv21") {
        1.5
    } else if format.contains("422") || format == "nv16" {
        2.0
    } else {
        3.0
    };
    samples * f64::from(bits(format).div_ceil(8))
}

/// Writes it, and proves that it was handed the pictures that were indexed.
fn write(tools: &Tools, source: &Path, index: &Index, target: &Path) -> Outcome<()> {
    let (first, last) = (index.time(0).unwrap_or(0), index.pts.last().copied().unwrap_or(0));
    let mut run = tools.ffmpeg();
    run.args(["-max_error_rate", "1", "-copyts", "-noautorotate", "-display_rotation", "0"]).input(source);
    let graph = format!(
        "[0:{}]{}select='between(pts,{first},{last})',split[shown][all];[all]settb={BASE},setpts=N*{TICKS}[copy]",
        index.stream,
        deinterlace::filter(index.deinterlace, index.base),
    );
    let frames = index.frames().to_string();
    run.args(["-filter_complex", &graph, "-map", "[copy]", "-fps_mode", "passthrough"]);
    run.args(["-enc_time_base", &BASE.to_string(), "-frames:v", &frames]);
    run.args([
        "-threads",
        &tools.threads().to_string(),
        "-c:v",
        "libx264",
        "-qp",
        "0",
        "-preset",
        "ultrafast",
    ]);
    let keys = KEYS.to_string();
    run.args(["-bf", "0", "-sc_threshold", "0", "-g", &keys, "-keyint_min", &keys, "-f", "matroska"])
        .file(target);
    run.args(["-map", "[shown]", "-fps_mode", "passthrough", "-enc_time_base", &index.base.to_string()]);
    run.args(["-frames:v", &frames]).hashes().args(["pipe:1"]);
    let shown = read_hashes(&run, "copy the film with more keyframes", index.base, |_| false)?;
    same(&shown.hashes, &index.hashes, "was made of")
}

/// Proves by its first pictures that the encoder stores such pictures without loss.
fn prove_stored(tools: &Tools, index: &Index, copy: &Path) -> Outcome<()> {
    let first = index.hashes_of(0, PROVED.min(index.frames()));
    let mut run = tools.ffmpeg();
    run.args(["-copyts"]).input(copy);
    run.args(["-map", "0:v:0", "-fps_mode", "passthrough", "-enc_time_base", &BASE.to_string()]);
    run.args(["-frames:v", &first.len().to_string()]).hashes().args(["pipe:1"]);
    same(&read_hashes(&run, "prove the copy", BASE, |_| false)?.hashes, first, "shows")
}

fn same(found: &[String], wanted: &[String], what: &str) -> Outcome<()> {
    if found == wanted {
        return Ok(());
    }
    let (found, wanted) = (found.len(), wanted.len());
    Err(Failure::stop(Code::Io, format!("the copy {what} other pictures: {found} for {wanted}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::index::tests::film;

    #[test]
    fn a_copy_is_for_long_films_with_few_keyframes() {
        let times: Vec<i64> = (0..1500).map(|frame| frame * 40).collect();
        let mut index = film(&times, "1/1000", 40);
        index.keys = vec![0];
        assert!(is_wanted(&index, 51) && !is_wanted(&index, 50));
        index.keys = vec![0, 700];
        assert!(is_wanted(&index, 51), "30 s apart");
        index.keys = vec![0, 400, 800];
        assert!(!is_wanted(&index, 51), "20 s apart");
        index.keys.clear();
        assert!(is_wanted(&index, 51), "none was seen");
    }

    #[test]
    fn its_index_has_the_same_pictures_at_other_times() {
        let mut index = film(&(0..120).map(|frame| 7 + frame * 512).collect::<Vec<_>>(), "1/12800", 512);
        (index.stream, index.keys) = (3, vec![0]);
        let copy = index_of_copy(&index);
        assert_eq!((copy.stream, copy.time(3), copy.time(120)), (0, Some(120), Some(4800)));
        assert_eq!((copy.keys, copy.hashes), (vec![0, 50, 100], index.hashes));
    }

    #[test]
    fn room_is_reckoned_by_the_pixel_format() {
        let mut index = film(&[0, 40], "1/1000", 40);
        let mut of = |format: &str| {
            index.pixel_format = format.to_owned();
            bytes_per_pixel(&index)
        };
        assert_eq!([of("yuv420p"), of("yuvj422p"), of("yuv444p"), of("gbrp")], [1.5, 2.0, 3.0, 3.0]);
        assert_eq!(
            [of("yuv420p10le"), of("yuv422p12be"), of("gray16le"), of("yuv410p")],
            [3.0, 4.0, 6.0, 3.0]
        );
    }
}
