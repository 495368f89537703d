//! The result verified before it gets its name: streams, size, count, every time, the payload of all sound; and in
//! full, every picture against its own source picture.

use std::collections::BTreeMap;
use std::path::Path;

use super::excerpt::Excerpt;
use super::join::{copied, delay_micros};
use crate::api::worker::Code;
use crate::worker::compare::{RAW, films, shrink};
use crate::worker::cut;
use crate::worker::failure::{Failure, Outcome};
use crate::worker::ffmpeg::{Invocation, Tools};
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

/// Every picture's time since the first, in whole ticks; and the first one's delay.
fn times(tools: &Tools, checked: &Checked<'_>, media: &Media, film: &Stream) -> Outcome<()> {
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
    let excerpt = Excerpt::of(&checked.work.index);
    let of_source = payloads(tools, checked.source, checked.of_source, excerpt.as_ref())?;
    let of_result = payloads(tools, checked.result, media, None)?;
    if of_source == of_result {
        if let Some(excerpt) = excerpt {
            begins(tools, checked, media, &excerpt)?;
        }
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

/// The sound tracks of a file as packets with the times that it states, those of a range only.
fn packets(tools: &Tools, path: &Path, media: &Media, excerpt: Option<&Excerpt>) -> Invocation {
    let mut run = tools.ffmpeg();
    run.args(["-copyts"]).input(path).args(["-map", "0:a", "-c", "copy"]);
    let Some(excerpt) = excerpt else { return run };
    run.args(["-t", &format!("{}us", excerpt.start_micros().saturating_add(excerpt.read_micros()))]);
    let tracks = media.streams.iter().filter(|stream| stream.codec_type == "audio");
    for (number, track) in (0u32..).zip(tracks) {
        if let Some(filter) = excerpt.filter(track, false) {
            run.args([&format!("-bsf:{number}"), &filter]);
        }
    }
    run
}

/// The first packet of every sound track of a range comes as long after the first picture as in the source.
fn begins(tools: &Tools, checked: &Checked<'_>, media: &Media, excerpt: &Excerpt) -> Outcome<()> {
    let of_source = starts(tools, checked.source, checked.of_source, Some(excerpt))?;
    let of_result = starts(tools, checked.result, media, None)?;
    let start = excerpt.start_micros().saturating_sub(media.start_micros());
    for (track, begin) in &of_result {
        let wanted = of_source.get(track).map(|begin| begin.saturating_sub(start));
        if wanted.is_none_or(|wanted| wanted.abs_diff(*begin) > DELAY) {
            return wrong(format!("sound track {track} begins at {begin} us instead of {wanted:?}"));
        }
    }
    Ok(())
}

/// When the first packet of each sound track comes, microseconds, by the track's number.
fn starts(
    tools: &Tools,
    path: &Path,
    media: &Media,
    excerpt: Option<&Excerpt>,
) -> Outcome<BTreeMap<u32, i64>> {
    let mut run = packets(tools, path, media, excerpt);
    run.args(["-frames:a", "1", "-f", "framehash", "-hash", "crc32", "pipe:1"]);
    let (mut bases, mut starts) = (BTreeMap::<u32, Ratio>::new(), BTreeMap::new());
    run.lines("read when the sound begins", |line| {
        if let Some((track, base)) = line.strip_prefix("#tb ").and_then(|told| told.split_once(": ")) {
            let base = base.trim().parse::<Ratio>().ok();
            bases.extend(track.parse::<u32>().ok().zip(base));
        } else if !line.starts_with('#') {
            let mut fields = line.split(',').map(str::trim);
            let track: Option<u32> = fields.next().and_then(|track| track.parse().ok());
            let time: Option<i64> = fields.nth(1).and_then(|time| time.parse().ok());
            if let Some((track, (base, time))) =
                track.and_then(|track| Some((track, (bases.get(&track)?, time?))))
            {
                starts.entry(track).or_insert(base.micros(time));
            }
        }
        true
    })?;
    Ok(starts)
}

/// SHA-256 of all packets of each sound track.
fn payloads(tools: &Tools, path: &Path, media: &Media, excerpt: Option<&Excerpt>) -> Outcome<Vec<String>> {
    let mut run = packets(tools, path, media, excerpt);
    run.args(["-f", "streamhash", "-hash", "sha256", "pipe:1"]);
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
