//! Subtitles and covers of the result: every packet the source's bit for bit, or in its words where text was converted;
//! every subtitle at its time. The probe tries conversions and holds them against the source by the same rules.

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
pub struct Track {
    content: Sha256,
    /// When each comes and how long it lasts, microseconds.
    pub times: Vec<(i64, i64)>,
}

/// How two files with the same tracks are held against each other.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Whether one was converted from the other: it has its words, not its bits.
    pub as_text: bool,
    /// How much later everything comes in the second, microseconds.
    pub later: i64,
    /// How far a subtitle may be from its time, microseconds, beside what formats round.
    pub tolerance: u64,
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
    let later = times.first_micros().saturating_sub(checked.first_of_source());
    let rule = Rule { as_text, later, tolerance: times.tolerance() };
    let (was, is) = (tracks(tools, &source)?, tracks(tools, &result)?);
    let numbers = pairs.iter().map(|(number, _)| *number);
    match numbers.zip(was.iter().zip(&is)).find_map(|(number, (was, is))| rule.broken(number, was, is)) {
        Some(how) => wrong(how),
        None => Ok(()),
    }
}

impl Rule {
    /// What is wrong with `is`, which was made of the track `was`, for people; `number`: which it is of all subtitles.
    pub fn broken(&self, number: usize, was: &Track, is: &Track) -> Option<String> {
        if was.times.len() != is.times.len() {
            let (found, wanted) = (is.times.len(), was.times.len());
            return Some(format!("subtitle track {number} has {found} subtitles instead of {wanted}"));
        }
        let tolerance = self.tolerance.saturating_add(ROUNDED);
        let mut both = was.times.iter().zip(&is.times);
        let late = both
            .clone()
            .position(|((was, _), (is, _))| is.saturating_sub(self.later).abs_diff(*was) > tolerance);
        if let Some(late) = late {
            return Some(format!("subtitle {late} of track {number} is not at its time"));
        }
        // A packet that was copied lasts as long as it says; of one that does not say, nobody knows.
        let short =
            both.position(|((_, was), (_, is))| self.as_text && *was > 0 && was.abs_diff(*is) > tolerance);
        if let Some(short) = short {
            return Some(format!("subtitle {short} of track {number} is not shown as long as in the source"));
        }
        let digest = |track: &Track| track.content.clone().finalize();
        let what = if self.as_text { "in its words" } else { "bit for bit" };
        (digest(was) != digest(is)).then(|| format!("subtitle track {number} is not the source's {what}"))
    }
}

/// Reads tracks of subtitles.
///
/// # Errors
/// Those of the program.
pub fn tracks(tools: &Tools, packets: &Packets<'_>) -> Outcome<Vec<Track>> {
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
