//! The sound of the result: every packet the source's bit for bit, every track in step with the pictures.

use std::collections::BTreeMap;
use std::path::Path;

use super::excerpt::Excerpt;
use super::verify::{Checked, First, wrong};
use crate::worker::failure::Outcome;
use crate::worker::ffmpeg::{Invocation, Tools};
use crate::worker::media::Media;
use crate::worker::ratio::Ratio;

/// Verifies; how many tracks there are. `first`: the first picture of the result.
///
/// # Errors
/// [`crate::api::worker::Code::BadOutput`] with what is wrong.
pub(super) fn verify(tools: &Tools, checked: &Checked<'_>, media: &Media, first: &First) -> Outcome<usize> {
    if media.streams.iter().all(|stream| stream.codec_type != "audio") {
        return Ok(0);
    }
    let excerpt = Excerpt::of(&checked.work.index);
    let of_source = payloads(tools, checked.source, checked.of_source, excerpt.as_ref())?;
    let of_result = payloads(tools, checked.result, media, None)?;
    if of_source == of_result {
        in_step(tools, checked, media, excerpt.as_ref(), first)?;
        return Ok(of_result.len());
    }
    let differs = of_source
        .iter()
        .zip(&of_result)
        .position(|(a, b)| a != b)
        .unwrap_or(of_source.len().min(of_result.len()));
    wrong(format!("sound track {differs} is not the source's bit for bit ({:?})", checked.container))
}

/// The sound tracks of a file as packets with the times that it states, those of a range only.
fn packets(tools: &Tools, path: &Path, media: &Media, excerpt: Option<&Excerpt>) -> Invocation {
    let mut run = tools.ffmpeg();
    run.args(["-copyts"]).input(path).args(["-map", "0:a", "-c", "copy"]);
    if let Some(excerpt) = excerpt {
        run.args(["-t", &format!("{}us", excerpt.start_micros().saturating_add(excerpt.read_micros()))]);
    }
    let tracks = media.streams.iter().filter(|stream| stream.codec_type == "audio");
    for (number, track) in (0u32..).zip(tracks) {
        let chosen = excerpt.and_then(|excerpt| excerpt.filter(track, false));
        // AAC of broadcasts has a header in front of every packet, which no file format keeps; others pass as they are.
        let bare = (track.codec() == "aac").then(|| "aac_adtstoasc".to_owned());
        let filters: Vec<String> = chosen.into_iter().chain(bare).collect();
        if !filters.is_empty() {
            run.args([&format!("-bsf:{number}"), &filters.join(",")]);
        }
    }
    run
}

/// The first packet of every track comes as long before or after the first picture as in the source. Not the starts of
/// the files are held against each other: formats differ in whether that includes what a decoder drops at the beginning.
fn in_step(
    tools: &Tools,
    checked: &Checked<'_>,
    media: &Media,
    excerpt: Option<&Excerpt>,
    first: &First,
) -> Outcome<()> {
    let index = &checked.work.index;
    let first_of_source = index.base.micros(index.time(index.owned().start).unwrap_or(0));
    let of_source = starts(tools, checked.source, checked.of_source, excerpt)?;
    let of_result = starts(tools, checked.result, media, None)?;
    for (track, begin) in &of_result {
        let found = begin.saturating_sub(first.micros);
        let wanted = of_source.get(track).map(|begin| begin.saturating_sub(first_of_source));
        if wanted.is_none_or(|wanted| wanted.abs_diff(found) > first.tolerance) {
            let wanted = wanted.map_or_else(|| "never".to_owned(), |wanted| format!("{wanted} us"));
            return wrong(format!(
                "sound track {track} begins {found} us after the first picture instead of {wanted}"
            ));
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
