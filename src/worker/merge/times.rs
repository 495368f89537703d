//! When the pictures of the result come: each in whole ticks since the first, the last as long as the source's, the first
//! as long after the start.

use super::join::delay_micros;
use super::verify::{Checked, wrong};
use crate::api::worker::Code;
use crate::worker::failure::{Failure, Outcome};
use crate::worker::ffmpeg::Tools;
use crate::worker::media::{Media, Stream};
use crate::worker::ratio::Ratio;
use crate::worker::refusals::Container;

/// How far sound and pictures may have moved against each other, microseconds, beside a tick of the result.
const DELAY: u64 = 1000;

/// Times of a result's pictures.
#[derive(Clone, Debug)]
pub(super) struct Times {
    base: Ratio,
    /// In ticks, in the order in which they are shown.
    found: Vec<i64>,
}

impl Times {
    /// When the first picture comes, microseconds.
    pub fn first_micros(&self) -> i64 {
        self.base.micros(self.found.first().copied().unwrap_or(0))
    }

    /// How far other things may be from where they belong, microseconds: a thousandth of a second and a tick.
    pub fn tolerance(&self) -> u64 {
        DELAY.saturating_add(self.base.micros(1).unsigned_abs())
    }

    /// Tick at which the result shows its picture number `picture`, counted from its first.
    pub fn tick(&self, picture: u64) -> Option<i64> {
        self.found.get(usize::try_from(picture).ok()?).copied()
    }

    /// As [`Self::tick`], microseconds.
    pub fn micros(&self, picture: u64) -> Option<i64> {
        self.tick(picture).map(|tick| self.base.micros(tick))
    }
}

/// Verifies; the times.
///
/// # Errors
/// [`Code::BadOutput`] with what is wrong.
pub(super) fn verify(tools: &Tools, checked: &Checked<'_>, media: &Media, film: &Stream) -> Outcome<Times> {
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
    let times = Times { base, found };
    end(checked, film, &times)?;
    if media.streams.iter().any(|stream| stream.codec_type == "audio") {
        // The sound says where the first picture belongs, more exactly than the file's start.
        return Ok(times);
    }
    let delay = times.first_micros().saturating_sub(media.start_micros());
    let wanted = delay_micros(index, checked.of_source);
    if delay.abs_diff(wanted) > times.tolerance() {
        return wrong(format!("the first picture comes {delay} us after the start instead of {wanted}"));
    }
    Ok(times)
}

/// The last picture ends where the source's does, if the container says when the film ends. Of Matroska, readers give a
/// stream the length of the whole file if another one has no packet.
fn end(checked: &Checked<'_>, film: &Stream, times: &Times) -> Outcome<()> {
    let end = match (checked.container, film.start_pts, film.duration_ts) {
        (Container::Mkv, ..) => film.noted_end(),
        (_, Some(start), Some(ticks)) => Some(times.base.micros(start.saturating_add(ticks))),
        _ => None,
    };
    let Some(end) = end else { return Ok(()) };
    let index = &checked.work.index;
    let lasts = end.saturating_sub(times.first_micros());
    let wanted = index.base.micros(index.duration());
    if lasts.abs_diff(wanted) > times.tolerance() {
        return wrong(format!("its pictures last {lasts} us instead of {wanted}"));
    }
    Ok(())
}
