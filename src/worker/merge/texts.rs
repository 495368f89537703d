//! Subtitles and covers of the result: every packet the source's bit for bit, every subtitle at its time.

use sha2::{Digest as _, Sha256};

use super::packets::{Packet, Packets};
use super::times::Times;
use super::verify::{Checked, Streams, wrong};
use crate::worker::failure::Outcome;
use crate::worker::ffmpeg::Tools;

/// Bytes of the packets by which MP4 says that no subtitle is shown; its muxer writes them anew.
const EMPTY: u64 = 2;
/// How far a subtitle may be from its time beside what holds for sound, microseconds: formats tell thousandths.
const ROUNDED: u64 = 1000;

/// The packets of a track.
#[derive(Clone, Debug, Default)]
struct Track {
    content: Sha256,
    /// Microseconds.
    times: Vec<i64>,
}

/// Verifies the subtitles; how many tracks there are. `times`: those of the result's pictures.
///
/// # Errors
/// [`crate::api::worker::Code::BadOutput`] with what is wrong.
pub(super) fn verify(
    tools: &Tools,
    checked: &Checked<'_>,
    streams: &Streams<'_>,
    times: &Times,
) -> Outcome<usize> {
    let excerpt = checked.excerpt();
    let (of_source, of_result) = (streams.of_source("subtitle"), streams.of_result("subtitle"));
    if of_source.is_empty() && of_result.is_empty() {
        return Ok(0);
    }
    let source = Packets { path: checked.source, streams: &of_source, excerpt: excerpt.as_ref() };
    let result = Packets { path: checked.result, streams: &of_result, excerpt: None };
    let (was, is) = (tracks(tools, &source)?, tracks(tools, &result)?);
    let tolerance = times.tolerance().saturating_add(ROUNDED);
    for (number, (was, is)) in was.into_iter().zip(is).enumerate() {
        if was.times.len() != is.times.len() {
            return wrong(format!(
                "subtitle track {number} has {} subtitles instead of {}",
                is.times.len(),
                was.times.len()
            ));
        }
        let late = was.times.iter().zip(&is.times).position(|(was, is)| {
            let wanted = was.saturating_sub(checked.first_of_source());
            is.saturating_sub(times.first_micros()).abs_diff(wanted) > tolerance
        });
        if let Some(late) = late {
            return wrong(format!("subtitle {late} of track {number} is not at its time"));
        }
        if was.content.finalize() != is.content.finalize() {
            return wrong(format!("subtitle track {number} is not the source's bit for bit"));
        }
    }
    Ok(of_result.len())
}

fn tracks(tools: &Tools, packets: &Packets<'_>) -> Outcome<Vec<Track>> {
    let mut tracks = vec![Track::default(); packets.streams.len()];
    let is_empty = |packet: &Packet| {
        let stream = packets.streams.get(packet.stream);
        packet.bytes <= EMPTY && stream.is_some_and(|stream| stream.codec() == "mov_text")
    };
    packets.each(tools, "read the subtitles", false, |packet| {
        if let Some(track) = tracks.get_mut(packet.stream).filter(|_| !is_empty(&packet)) {
            track.content.update(&packet.hash);
            track.times.push(packet.micros);
        }
    })?;
    Ok(tracks)
}

/// Verifies the covers.
///
/// # Errors
/// [`crate::api::worker::Code::BadOutput`] with what is wrong.
pub(super) fn covers(tools: &Tools, checked: &Checked<'_>, streams: &Streams<'_>) -> Outcome<()> {
    let (of_source, of_result) = (streams.of_source("video"), streams.of_result("video"));
    if of_source.is_empty() && of_result.is_empty() {
        return Ok(());
    }
    let source = Packets { path: checked.source, streams: &of_source, excerpt: None };
    let result = Packets { path: checked.result, streams: &of_result, excerpt: None };
    if source.digests(tools, "hash the covers")? == result.digests(tools, "hash the covers")? {
        return Ok(());
    }
    wrong("a cover is not the source's bit for bit")
}
