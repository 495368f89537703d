//! Whether sound and text fit into the result's container: tried, not guessed, before any GPU works for a film that could
//! not be joined. What a muxer takes differs by codec, by parameters, and from one ffmpeg to the next.

use std::ops::Range;
use std::path::Path;

use super::failure::{Failure, Outcome};
use super::ffmpeg::Tools;
use super::media::{Media, Stream};
use super::merge::packets::Packets;
use super::ratio::seconds;
use super::refusals::{Container, refuse};

/// How much is tried, seconds: enough for what a muxer learns from packets.
const TRIED: &str = "2";

/// Muxes the beginning of all sound, as the merge will, into nothing.
///
/// # Errors
/// [`crate::api::worker::Code::UnsupportedSource`] with what the muxer says.
pub fn prove_fit(
    tools: &Tools,
    source: &Path,
    name: &str,
    media: &Media,
    container: Container,
) -> Outcome<()> {
    if media.streams.iter().all(|stream| stream.codec_type != "audio") {
        return Ok(());
    }
    let mut run = tools.ffmpeg();
    run.input(source).args(["-map", "0:a", "-c", "copy", "-t", TRIED, "-f", container.muxer()]);
    match run.file(Path::new("/dev/null")).run("try the sound in the container") {
        Err(ref failure @ Failure::Tool { ref said, .. }) if failure.is_of_content() => refuse(
            "StreamsDoNotFit",
            format!(
                "the sound of {name} does not go into {} ({said}); end the destination's name otherwise",
                container.muxer()
            ),
        ),
        other => other.map(|_| ()),
    }
}

/// How long two texts may be shown at once, microseconds: what formats round.
const TOGETHER: i64 = 1000;

/// Reads all text that is to be converted for MP4, which shows one text at a time. `used`: from when to when the film is,
/// microseconds.
///
/// # Errors
/// [`crate::api::worker::Code::UnsupportedSource`] with where two are shown at once, or what the decoder says.
pub fn prove_texts(
    tools: &Tools,
    source: &Path,
    name: &str,
    media: &Media,
    container: Container,
    used: &Range<i64>,
) -> Outcome<()> {
    let streams: Vec<&Stream> =
        media.streams.iter().filter(|stream| container.converts(stream).is_some()).collect();
    if streams.is_empty() || container == Container::Mkv {
        return Ok(());
    }
    let mut ends = vec![i64::MIN; streams.len()];
    let mut together = None;
    let packets = Packets { path: source, streams: &streams, excerpt: None, as_text: true };
    let read = packets.each(tools, "read the subtitles", false, |packet| {
        let (from, to) = (packet.micros, packet.micros.saturating_add(packet.lasts));
        let Some(end) = ends.get_mut(packet.stream).filter(|_| from < used.end && to > used.start) else {
            return;
        };
        if from.saturating_add(TOGETHER) < *end {
            together.get_or_insert((packet.stream, from));
        }
        *end = to.max(*end);
    });
    let otherwise = "end the destination's name with .mkv";
    match (read, together) {
        (Err(ref failure @ Failure::Tool { ref said, .. }), _) if failure.is_of_content() => refuse(
            "StreamsDoNotFit",
            format!("subtitles of {name} cannot be converted ({said}); {otherwise}"),
        ),
        (Err(failure), _) => Err(failure),
        (Ok(()), None) => Ok(()),
        (Ok(()), Some((number, micros))) => refuse(
            "StreamsDoNotFit",
            format!(
                "subtitle stream {} of {name} shows two texts at once at {} s, which {} does not; {otherwise}",
                streams.get(number).map_or(0, |stream| stream.index),
                seconds(micros),
                container.muxer()
            ),
        ),
    }
}
