//! The sound of the result: every packet the source's bit for bit, every track in step with the pictures.

use std::collections::BTreeMap;

use super::packets::Packets;
use super::times::Times;
use super::verify::{Checked, Streams, wrong};
use crate::worker::failure::Outcome;
use crate::worker::ffmpeg::Tools;

/// Verifies; how many tracks there are. `times`: those of the result's pictures.
///
/// # Errors
/// [`crate::api::worker::Code::BadOutput`] with what is wrong.
pub(super) fn verify(
    tools: &Tools,
    checked: &Checked<'_>,
    found: &Streams<'_>,
    times: &Times,
) -> Outcome<usize> {
    let excerpt = checked.excerpt();
    let (of_source, of_result) = (found.of_source("audio"), found.of_result("audio"));
    if of_source.is_empty() && of_result.is_empty() {
        return Ok(0);
    }
    let source =
        Packets { path: checked.source, streams: &of_source, excerpt: excerpt.as_ref(), as_text: false };
    let result = Packets { path: checked.result, streams: &of_result, excerpt: None, as_text: false };
    let (was, is) = (source.digests(tools, "hash the sound")?, result.digests(tools, "hash the sound")?);
    if was != is {
        let differs = was.iter().zip(&is).position(|(a, b)| a != b).unwrap_or(was.len().min(is.len()));
        return wrong(format!(
            "sound track {differs} is not the source's bit for bit ({:?})",
            checked.container
        ));
    }
    in_step(tools, checked, times, &source, &result)?;
    Ok(is.len())
}

/// The first packet of every track comes as long before or after the first picture as in the source. Not the starts of
/// the files are held against each other: formats differ in whether that includes what a decoder drops at the beginning.
fn in_step(
    tools: &Tools,
    checked: &Checked<'_>,
    times: &Times,
    source: &Packets<'_>,
    result: &Packets<'_>,
) -> Outcome<()> {
    let (of_source, of_result) = (starts(tools, source)?, starts(tools, result)?);
    for (track, begin) in &of_result {
        let found = begin.saturating_sub(times.first_micros());
        let wanted = of_source.get(track).map(|begin| begin.saturating_sub(checked.first_of_source()));
        if wanted.is_none_or(|wanted| wanted.abs_diff(found) > times.tolerance()) {
            let wanted = wanted.map_or_else(|| "never".to_owned(), |wanted| format!("{wanted} us"));
            return wrong(format!(
                "sound track {track} begins {found} us after the first picture instead of {wanted}"
            ));
        }
    }
    Ok(())
}

/// When the first packet of each sound track comes, microseconds, by the track's number.
fn starts(tools: &Tools, packets: &Packets<'_>) -> Outcome<BTreeMap<usize, i64>> {
    let mut starts = BTreeMap::new();
    packets.each(tools, "read when the sound begins", true, |packet| {
        starts.entry(packet.stream).or_insert(packet.micros);
    })?;
    Ok(starts)
}
