//! Subtitles and covers of the result: every packet the source's bit for bit, or in its words where text was converted;
//! every subtitle at its time.

use sha2::{Digest as _, Sha256};

use super::packets::{Packet, Packets};
use super::times::Times;
use super::verify::{Checked, Streams, wrong};
use crate::worker::failure::Outcome;
use crate::worker::ffmpeg::Tools;
use crate::worker::media::Stream;

/// Bytes of the packets by which MP4 says that no subtitle is shown; its muxer writes them anew.
const EMPTY: u64 = 2;
/// How far a subtitle may be from its time beside what holds for sound, microseconds: formats tell thousandths.
const ROUNDED: u64 = 1000;

/// The packets of a track.
#[derive(Clone, Debug, Default)]
struct Track {
    content: Sha256,
    /// When each comes and how long it lasts, microseconds.
    times: Vec<(i64, i64)>,
}

/// A track of the source with its copy, and its number among the subtitles.
type Pair<'a> = (usize, (&'a Stream, &'a Stream));

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
    let pairs = streams.pairs("subtitle");
    let count = pairs.len();
    let (converted, copied): (Vec<Pair<'_>>, Vec<Pair<'_>>) =
        pairs.into_iter().enumerate().partition(|(_, (was, _))| checked.container.converts(was).is_some());
    alike(tools, checked, times, &copied, false)?;
    alike(tools, checked, times, &converted, true)?;
    Ok(count)
}

/// Verifies tracks that were copied, or converted and are held against the source as bare text.
fn alike(
    tools: &Tools,
    checked: &Checked<'_>,
    times: &Times,
    pairs: &[Pair<'_>],
    as_text: bool,
) -> Outcome<()> {
    if pairs.is_empty() {
        return Ok(());
    }
    let excerpt = checked.excerpt();
    let (of_source, of_result): (Vec<_>, Vec<_>) = pairs.iter().map(|(_, pair)| *pair).unzip();
    let source = Packets { path: checked.source, streams: &of_source, excerpt: excerpt.as_ref(), as_text };
    let result = Packets { path: checked.result, streams: &of_result, excerpt: None, as_text };
    let (was, is) = (tracks(tools, &source)?, tracks(tools, &result)?);
    let tolerance = times.tolerance().saturating_add(ROUNDED);
    for ((number, _), (was, is)) in pairs.iter().zip(was.into_iter().zip(is)) {
        if was.times.len() != is.times.len() {
            return wrong(format!(
                "subtitle track {number} has {} subtitles instead of {}",
                is.times.len(),
                was.times.len()
            ));
        }
        let late = was.times.iter().zip(&is.times).position(|((was, _), (is, _))| {
            let wanted = was.saturating_sub(checked.first_of_source());
            is.saturating_sub(times.first_micros()).abs_diff(wanted) > tolerance
        });
        if let Some(late) = late {
            return wrong(format!("subtitle {late} of track {number} is not at its time"));
        }
        // A packet that was copied lasts as long as it says; of one that does not say, nobody knows.
        let short = was
            .times
            .iter()
            .zip(&is.times)
            .position(|((_, was), (_, is))| as_text && *was > 0 && was.abs_diff(*is) > tolerance);
        if let Some(short) = short {
            return wrong(format!(
                "subtitle {short} of track {number} is not shown as long as in the source"
            ));
        }
        if was.content.finalize() != is.content.finalize() {
            let what = if as_text { "in its words" } else { "bit for bit" };
            return wrong(format!("subtitle track {number} is not the source's {what}"));
        }
    }
    Ok(())
}

fn tracks(tools: &Tools, packets: &Packets<'_>) -> Outcome<Vec<Track>> {
    let mut tracks = vec![Track::default(); packets.streams.len()];
    let is_empty = |packet: &Packet| {
        let stream = packets.streams.get(packet.stream);
        let is_filling = packet.bytes <= EMPTY && stream.is_some_and(|stream| stream.codec() == "mov_text");
        if packets.as_text { packet.bytes == 0 } else { is_filling }
    };
    packets.each(tools, "read the subtitles", false, |packet| {
        if let Some(track) = tracks.get_mut(packet.stream).filter(|_| !is_empty(&packet)) {
            track.content.update(&packet.hash);
            track.times.push((packet.micros, packet.lasts));
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
    let source = Packets { path: checked.source, streams: &of_source, excerpt: None, as_text: false };
    let result = Packets { path: checked.result, streams: &of_result, excerpt: None, as_text: false };
    if source.digests(tools, "hash the covers")? == result.digests(tools, "hash the covers")? {
        return Ok(());
    }
    wrong("a cover is not the source's bit for bit")
}
