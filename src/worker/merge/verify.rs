//! The result verified before it gets its name: streams, size, count, every time, the payload of all sound; and in
//! full, every picture against its own source picture.

use std::path::Path;

use super::join::{copied, delay_micros};
use crate::api::worker::Code;
use crate::worker::compare::{RAW, films, shrink};
use crate::worker::failure::{Failure, Outcome};
use crate::worker::ffmpeg::Tools;
use crate::worker::index::count;
use crate::worker::media::{self, Media, Stream};
use crate::worker::parts::Manifest;
use crate::worker::prepare::Work;
use crate::worker::ratio::Ratio;
use crate::worker::refusals::Container;

/// How far sound and pictures may have moved against each other, microseconds, beside a tick of the result.
const DELAY: u64 = 1000;

/// What is verified.
#[derive(Clone, Copy, Debug)]
pub struct Checked<'a> {
    /// Index and plan.
    pub work: &'a Work,
    /// The parts.
    pub manifests: &'a [Manifest],
    /// The source.
    pub source: &'a Path,
    /// Its header.
    pub of_source: &'a Media,
    /// The result.
    pub result: &'a Path,
    /// Its container.
    pub container: Container,
    /// Whether every picture is compared.
    pub full: bool,
}

fn wrong<T>(text: impl std::fmt::Display) -> Outcome<T> {
    Err(Failure::stop(Code::BadOutput, format!("the joined film is wrong: {text}")))
}

/// Verifies; what was verified, for the sidecar.
///
/// # Errors
/// [`Code::BadOutput`] with what is wrong.
pub fn verify(tools: &Tools, checked: &Checked<'_>) -> Outcome<Vec<String>> {
    let media = media::read(tools, checked.result)?;
    let Some(film) = media.film() else { return wrong("it has no video stream") };
    streams(checked, &media, film)?;
    times(tools, checked, &media, film)?;
    let mut done = vec!["streams".to_owned(), "size".to_owned(), "times".to_owned()];
    let tracks = sound(tools, checked, &media)?;
    if tracks > 0 {
        done.push(format!("sound of {tracks} tracks"));
    }
    if checked.full {
        pictures(tools, checked)?;
        done.push("pictures".to_owned());
    }
    Ok(done)
}

fn streams(checked: &Checked<'_>, media: &Media, film: &Stream) -> Outcome<()> {
    let expected: Vec<&Stream> = copied(checked.of_source, checked.work.index.stream).collect();
    let found: Vec<&Stream> = copied(media, film.index).collect();
    let kinds = |streams: &[&Stream]| {
        let mut kinds: Vec<String> =
            streams.iter().map(|stream| format!("{} {}", stream.codec_type, stream.codec())).collect();
        kinds.sort();
        kinds
    };
    if kinds(&expected) != kinds(&found) {
        return wrong(format!(
            "it has {:?} beside the film, the source has {:?}",
            kinds(&found),
            kinds(&expected)
        ));
    }
    if media.chapters.len() != checked.of_source.chapters.len() {
        return wrong(format!(
            "{} chapters instead of {}",
            media.chapters.len(),
            checked.of_source.chapters.len()
        ));
    }
    let size = (film.width.unwrap_or(0), film.height.unwrap_or(0));
    let wanted = checked.manifests.first().map_or((0, 0), |part| (part.width, part.height));
    if size != wanted {
        return wrong(format!("{}x{} instead of {}x{}", size.0, size.1, wanted.0, wanted.1));
    }
    if film.rotation() != checked.work.index.rotation {
        return wrong(format!("turned by {} instead of {}", film.rotation(), checked.work.index.rotation));
    }
    Ok(())
}

/// Every picture's time since the first, in whole ticks; and the first one's delay.
fn times(tools: &Tools, checked: &Checked<'_>, media: &Media, film: &Stream) -> Outcome<()> {
    let index = &checked.work.index;
    let base =
        film.base().ok_or_else(|| Failure::stop(Code::BadOutput, "the joined film has no time base"))?;
    let mut run = tools.ffprobe();
    run.args(["-select_streams", &film.index.to_string(), "-show_entries", "packet=pts", "-of", "csv=p=0"]);
    run.input(checked.result);
    let mut found: Vec<i64> = Vec::with_capacity(index.pts.len());
    let mut unreadable = 0u64;
    run.lines("read the times of the result", |line| {
        match line.trim_end_matches(',').parse() {
            Ok(time) => found.push(time),
            Err(_) => unreadable = unreadable.saturating_add(1),
        }
        found.len() <= index.pts.len()
    })?;
    found.sort_unstable();
    if unreadable > 0 || count(found.len()) != index.frames() {
        return wrong(format!("{} pictures instead of {}", found.len(), index.frames()));
    }
    let (first, first_wanted) = (found.first().copied().unwrap_or(0), index.time(0).unwrap_or(0));
    let late = found.iter().zip(&index.pts).position(|(time, wanted)| {
        !base.same(time.saturating_sub(first), index.base, wanted.saturating_sub(first_wanted))
    });
    if let Some(number) = late {
        return wrong(format!("picture {number} is not at its time"));
    }
    let delay = base.micros(first).saturating_sub(media.start_micros());
    let wanted = delay_micros(index, checked.of_source);
    if delay.abs_diff(wanted) > DELAY.saturating_add(tick_micros(base)) {
        return wrong(format!("the first picture comes {delay} us after the start instead of {wanted}"));
    }
    Ok(())
}

fn tick_micros(base: Ratio) -> u64 {
    base.micros(1).unsigned_abs()
}

/// The payload of every sound track, bit for bit; how many there are.
fn sound(tools: &Tools, checked: &Checked<'_>, media: &Media) -> Outcome<usize> {
    if reframed(checked.of_source) {
        // AAC of broadcasts loses the header of every packet in any file format; its samples stay.
        return Ok(0);
    }
    let tracks = |media: &Media| media.streams.iter().filter(|stream| stream.codec_type == "audio").count();
    if tracks(media) == 0 {
        return Ok(0);
    }
    let (of_source, of_result) = (payloads(tools, checked.source)?, payloads(tools, checked.result)?);
    if of_source == of_result {
        return Ok(of_result.len());
    }
    let differs = of_source
        .iter()
        .zip(&of_result)
        .position(|(a, b)| a != b)
        .unwrap_or(of_source.len().min(of_result.len()));
    wrong(format!("sound track {differs} is not the source's bit for bit ({:?})", checked.container))
}

/// Whether the container of the source frames AAC in its own way.
fn reframed(media: &Media) -> bool {
    media.format.format_name.contains("mpegts") && media.streams.iter().any(|stream| stream.codec() == "aac")
}

/// SHA-256 of all packets of each sound track.
fn payloads(tools: &Tools, path: &Path) -> Outcome<Vec<String>> {
    let mut run = tools.ffmpeg();
    run.input(path).args(["-map", "0:a", "-c", "copy", "-f", "streamhash", "-hash", "sha256", "pipe:1"]);
    let mut hashes = Vec::new();
    run.lines("hash the sound", |line| {
        hashes.extend(line.split_once('=').map(|(_, hash)| hash.to_owned()));
        true
    })?;
    Ok(hashes)
}

/// Every picture of the result against its own source picture.
fn pictures(tools: &Tools, checked: &Checked<'_>) -> Outcome<()> {
    let index = &checked.work.index;
    let mut expected = tools.ffmpeg_saying("fatal");
    expected.args(["-copyts", "-noautorotate"]).input(checked.source);
    expected
        .args(["-map", &format!("0:{}", index.stream), "-vf", &shrink(&index.colour.read_by_scale())])
        .args(RAW);
    let mut made = tools.ffmpeg();
    made.args(["-noautorotate"]).input(checked.result);
    let height = checked.manifests.first().map_or(0, |part| part.height);
    let read_as = index.colour.of_result(height).read_by_scale();
    made.args(["-map", "0:v:0", "-vf", &shrink(&read_as)]).args(RAW);
    films(&made, &expected, Code::BadOutput, "the joined film is wrong")?;
    Ok(())
}
