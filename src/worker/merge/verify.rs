//! The result verified before it gets its name: streams, size, count, every time, the payload of all sound; and in
//! full, every picture against its own source picture.

use std::path::Path;

use super::excerpt::Excerpt;
use super::join::{copied, delay_micros};
use super::sound;
use crate::api::worker::Code;
use crate::worker::compare::{RAW, films, shrink};
use crate::worker::cut;
use crate::worker::failure::{Failure, Outcome};
use crate::worker::ffmpeg::Tools;
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

pub(super) fn wrong<T>(text: impl std::fmt::Display) -> Outcome<T> {
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
    let first = times(tools, checked, &media, film)?;
    let mut done = vec!["streams".to_owned(), "size".to_owned(), "times".to_owned()];
    let tracks = sound::verify(tools, checked, &media, &first)?;
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
    let chapters = Excerpt::of(&checked.work.index)
        .map_or(checked.of_source.chapters.len(), |excerpt| excerpt.chapters(checked.of_source).len());
    if media.chapters.len() != chapters {
        return wrong(format!("{} chapters instead of {chapters}", media.chapters.len()));
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

/// When the first picture of a result comes.
#[derive(Clone, Copy, Debug)]
pub(super) struct First {
    /// Microseconds.
    pub micros: i64,
    /// How far it and others may be from where they belong, microseconds: [`DELAY`] and a tick.
    pub tolerance: u64,
}

/// Every picture's time since the first, in whole ticks; and the first one's delay.
fn times(tools: &Tools, checked: &Checked<'_>, media: &Media, film: &Stream) -> Outcome<First> {
    let index = &checked.work.index;
    let base =
        film.base().ok_or_else(|| Failure::stop(Code::BadOutput, "the joined film has no time base"))?;
    let mut run = tools.ffprobe();
    run.args(["-select_streams", &film.index.to_string(), "-show_entries", "packet=pts", "-of", "csv=p=0"]);
    run.input(checked.result);
    let owned = index.owned();
    let wanted = index.times_from_zero(owned.start, owned.end);
    let mut found: Vec<i64> = Vec::with_capacity(wanted.len());
    let mut unreadable = 0u64;
    run.lines("read the times of the result", |line| {
        match line.trim_end_matches(',').parse() {
            Ok(time) => found.push(time),
            Err(_) => unreadable = unreadable.saturating_add(1),
        }
        found.len() <= wanted.len()
    })?;
    found.sort_unstable();
    if unreadable > 0 || found.len() != wanted.len() {
        return wrong(format!("{} pictures instead of {}", found.len(), wanted.len()));
    }
    let first = found.first().copied().unwrap_or(0);
    let late = found
        .iter()
        .zip(&wanted)
        .position(|(time, wanted)| !base.same(time.saturating_sub(first), index.base, *wanted));
    if let Some(number) = late {
        return wrong(format!("picture {number} is not at its time"));
    }
    let first =
        First { micros: base.micros(first), tolerance: DELAY.saturating_add(base.micros(1).unsigned_abs()) };
    end(checked, film, base, first)?;
    if media.streams.iter().any(|stream| stream.codec_type == "audio") {
        // The sound says where the first picture belongs, more exactly than the file's start.
        return Ok(first);
    }
    let delay = first.micros.saturating_sub(media.start_micros());
    let wanted = delay_micros(index, checked.of_source);
    if delay.abs_diff(wanted) > first.tolerance {
        return wrong(format!("the first picture comes {delay} us after the start instead of {wanted}"));
    }
    Ok(first)
}

/// The last picture ends where the source's does, if the container says when the film ends.
fn end(checked: &Checked<'_>, film: &Stream, base: Ratio, first: First) -> Outcome<()> {
    let (Some(start), Some(ticks)) = (film.start_pts, film.duration_ts) else { return Ok(()) };
    let index = &checked.work.index;
    let lasts = base.micros(start.saturating_add(ticks)).saturating_sub(first.micros);
    let wanted = index.base.micros(index.duration());
    if lasts.abs_diff(wanted) > first.tolerance {
        return wrong(format!("its pictures last {lasts} us instead of {wanted}"));
    }
    Ok(())
}

/// Every picture of the result against its own source picture.
fn pictures(tools: &Tools, checked: &Checked<'_>) -> Outcome<()> {
    let index = &checked.work.index;
    let owned = index.owned();
    let last = owned.end.saturating_sub(1);
    if index.excerpt.is_none() {
        return pictures_from(tools, checked, None, "");
    }
    // As a cut does: decoding may begin later than is right for it; then it begins earlier.
    let select = format!(
        "select='between(pts,{},{})',",
        index.time(owned.start).unwrap_or(0),
        index.time(last).unwrap_or(0)
    );
    let mut outcome = Ok(());
    for start in cut::starts(index, owned.start) {
        outcome = pictures_from(tools, checked, start.as_deref(), &select);
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

/// As [`pictures`], from that second of the source on and only what `select` lets through.
fn pictures_from(tools: &Tools, checked: &Checked<'_>, start: Option<&str>, select: &str) -> Outcome<()> {
    let index = &checked.work.index;
    let mut expected = tools.ffmpeg_saying("fatal");
    expected.args(["-copyts", "-noautorotate"]);
    if let Some(start) = start {
        expected.args(["-seek_timestamp", "1", "-ss", start]);
    }
    expected.input(checked.source);
    let filter = format!("{select}{}", shrink(&index.colour.read_by_scale()));
    expected.args(["-map", &format!("0:{}", index.stream), "-vf", &filter]);
    expected.args(["-frames:v", &index.owned().frames().to_string()]).args(RAW);
    let mut made = tools.ffmpeg();
    made.args(["-noautorotate"]).input(checked.result);
    let height = checked.manifests.first().map_or(0, |part| part.height);
    let read_as = index.colour.of_result(height).read_by_scale();
    made.args(["-map", "0:v:0", "-vf", &shrink(&read_as)]).args(RAW);
    films(&made, &expected, Code::BadOutput, "the joined film is wrong")?;
    Ok(())
}
