//! How large a status may become, whatever a job has been through.
//!
//! Sets of segments take what they take: at worst 10,000 single numbers, 49 KB. Segments that were tried share the rest
//! of [`SETS_BYTES`] with them, so that no more are begun than there is room for. All else is for people, and goes
//! when there is no room for it.

use std::collections::BTreeMap;

use crate::api::conditions::MAX_MESSAGE;
use crate::api::video_upscale::VideoUpscaleStatus;
use crate::controllers::video_upscale::ladder::History;
use crate::controllers::video_upscale::plan::segments::Segments;

/// Most entries of `tried`.
pub const MOST_TRIED: usize = 1024;
/// Most bytes of a status, as JSON.
pub const MOST_BYTES: usize = 64 * 1024;
/// Most bytes of `done`, `failed` and those of `tried` that are open.
const SETS_BYTES: usize = 52 * 1024;
/// Most bytes of an entry of `tried` with its quotes and comma, or of the range that it becomes.
const ENTRY_BYTES: usize = History::MAX_BYTES + 3;
/// Out-of-memory ends that are kept where room is short.
const FEW_ENDS: usize = 2;
/// Most characters of a message where room is short.
const SHORT_MESSAGE: usize = 80;

/// How many segments may be open at once, tried or on their way: at least 90.
pub fn room(done: &Segments, failed: &Segments) -> usize {
    let sets = done.to_string().len().saturating_add(failed.to_string().len());
    (SETS_BYTES.saturating_sub(sets) / ENTRY_BYTES).min(MOST_TRIED)
}

/// The entries of `tried`: all that are open, then as many that were given up as there are places.
pub fn tried(all: &BTreeMap<u32, History>, failed: &Segments) -> Vec<String> {
    let (given_up, open): (Vec<_>, Vec<_>) =
        all.values().partition(|history| failed.contains(history.segment));
    let mut kept: Vec<&History> = open.into_iter().chain(given_up).take(MOST_TRIED).collect();
    kept.sort_by_key(|history| history.segment);
    kept.into_iter().map(ToString::to_string).collect()
}

/// Makes a status fit, by what is worth least: histories of segments that were given up, then what is for people only.
pub fn fit(status: &mut VideoUpscaleStatus, failed: &Segments) {
    let is_open =
        |entry: &String| entry.parse::<History>().is_ok_and(|history| !failed.contains(history.segment));
    let cuts: [&dyn Fn(&mut VideoUpscaleStatus); 4] = [
        &|status| status.tried.retain(is_open),
        &|status| {
            if let Some(ends) = &mut status.out_of_memory {
                ends.recent.truncate(FEW_ENDS);
            }
        },
        &|status| {
            if let Some(video) = &mut status.video {
                video.warnings.clear();
            }
        },
        &|status| cut_messages(status, SHORT_MESSAGE),
    ];
    for cut in cuts {
        if bytes(status) <= MOST_BYTES {
            return;
        }
        cut(status);
    }
}

/// A status that no API server refuses for its size or its texts: the facts that cannot be seen again, and words.
pub fn short(status: &VideoUpscaleStatus) -> VideoUpscaleStatus {
    let mut short = status.clone();
    short.out_of_memory = None;
    short.estimated_completion_time = None;
    if let Some(video) = &mut short.video {
        video.warnings.clear();
    }
    short.tried.truncate(MOST_TRIED);
    cut_messages(&mut short, SHORT_MESSAGE);
    short
}

fn cut_messages(status: &mut VideoUpscaleStatus, most: usize) {
    for condition in &mut status.conditions {
        let plain = |c: char| if c.is_ascii_graphic() { c } else { ' ' };
        condition.message = condition.message.chars().map(plain).take(most.min(MAX_MESSAGE)).collect();
    }
}

fn bytes(status: &VideoUpscaleStatus) -> usize {
    serde_json::to_vec(status).map_or(usize::MAX, |json| json.len())
}
