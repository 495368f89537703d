//! When the job will probably end.

use std::time::Duration;

use jiff::Timestamp;

use super::draft::Draft;
use super::film::Film;
use super::status::whole_seconds;
use crate::controllers::video_upscale::memory::{after, since};
use crate::fleet::claim::Grant;
use crate::profile::Measured;

/// An estimate is made at most this often, and moves only by more than twice that.
const PERIOD: Duration = Duration::from_secs(60);

/// Says it, in whole minutes; not at all while nothing is known.
pub fn tell(draft: &mut Draft<'_>, film: &Film<'_>) {
    let fresh = draft.memory.estimated.filter(|(at, _)| since(*at, draft.now) < PERIOD);
    let told = draft.status.estimated_completion_time.as_ref().map(|told| told.0);
    let end = match fresh {
        Some((_, end)) => end,
        None => {
            let Some(remaining) = remaining(draft, film) else { return };
            let new = whole_minute(after(draft.now, remaining));
            let moved = |old: &Timestamp| since(*old, new).max(since(new, *old)) > PERIOD.saturating_mul(2);
            let end = told.filter(|old| !moved(old)).unwrap_or(new);
            draft.memory.estimated = Some((draft.now, end));
            end
        }
    };
    draft.status.estimated_completion_time = Some(whole_seconds(end));
}

fn whole_minute(end: Timestamp) -> Timestamp {
    let minutes = end.as_second().saturating_add(59) / 60;
    Timestamp::from_second(minutes.saturating_mul(60)).unwrap_or(end)
}

/// The time for what is left on the GPUs that run, as measured; without a measurement, at the pace so far.
fn remaining(draft: &Draft<'_>, film: &Film<'_>) -> Option<Duration> {
    let done = draft.done.len();
    let left = film.total.saturating_sub(done).saturating_sub(draft.failed.len());
    let grants = draft.observed.claims.iter().filter(|claim| claim.quarantined.is_none());
    let grants: Vec<&Grant> = grants.filter_map(|claim| claim.grant.as_ref()).collect();
    let per_second: Option<f64> = grants.iter().map(|grant| Some(1.0 / seconds(draft, film, grant)?)).sum();
    if let Some(per_second) = per_second.filter(|per_second| *per_second > 0.0) {
        // Those that run are half done on average.
        let running = u32::try_from(grants.len()).unwrap_or(u32::MAX).min(left);
        let segments = f64::from(left) - f64::from(running) / 2.0;
        return Duration::try_from_secs_f64(segments / per_second).ok();
    }
    let start = draft.status.start_time.as_ref().filter(|_| done > 0)?;
    let passed = since(start.0, draft.now).as_secs_f64();
    Duration::try_from_secs_f64(passed * f64::from(left) / f64::from(done)).ok()
}

/// How long the engine takes for a segment on such a GPU at such a step, if that was measured, there or elsewhere.
fn seconds(draft: &Draft<'_>, film: &Film<'_>, grant: &Grant) -> Option<f64> {
    let paces = &draft.observed.paces;
    let here = paces.of(&grant.gpu_model, grant.step, film.start_seconds());
    let measured = match here {
        Measured { megapixel_frame_millis: None, .. } => paces.slowest(grant.step, film.start_seconds()),
        here => here,
    };
    let start = f64::from(measured.start_seconds?);
    let millis = f64::from(measured.megapixel_frame_millis?);
    let megapixels = film.picture.output_pixels() as f64 / 1e6;
    Some((start + megapixels * f64::from(film.lengths.read) * millis / 1e3).max(1.0))
}
