//! The parts, each verified; those that are missing, damaged, or encoded otherwise than the newest are given up, so that
//! they can be made again.

use std::path::Path;
use std::time::SystemTime;

use crate::api::worker::{Code, MAX_REDO_RUNS, SegmentRun};
use crate::worker::failure::{Failure, Outcome, on_file};
use crate::worker::parts::{self, Manifest};
use crate::worker::prepare::Work;
use crate::worker::publish::{read_bounded, read_json, write_json};

/// How often parts of a film are made again; what damages them after that will not stop doing so.
const MOST_TIMES: u32 = 3;

/// The manifests of all parts, in order.
///
/// # Errors
/// [`Code::BadOutput`] naming the parts that are no good. Up to [`MOST_TIMES`] times they are then removed, and their
/// segments are in `redo`.
pub(super) fn collect(work: &Work, round: u32, redo: &mut Vec<SegmentRun>) -> Outcome<Vec<Manifest>> {
    let mut manifests = Vec::new();
    let mut bad = Vec::new();
    for (segment, _) in (0u32..).zip(&work.plan.segments) {
        match parts::verified(&work.folder, &work.plan, round, segment)? {
            Some(manifest) => manifests.push(manifest),
            None => {
                prove_readable(work, round, segment)?;
                bad.push(segment);
            }
        }
    }
    let how = if bad.is_empty() { "are encoded otherwise than the newest" } else { "are missing or damaged" };
    if bad.is_empty() {
        bad = odd(work, &manifests)?;
    }
    if bad.is_empty() {
        return if manifests.is_empty() {
            Err(Failure::stop(Code::Internal, "the plan has no segment"))
        } else {
            Ok(manifests)
        };
    }
    let text = format!("{} of {} parts {how}: {}", bad.len(), work.plan.segments.len(), told(&bad));
    let times = read_json::<u32>(&work.folder.redone())?.unwrap_or(0);
    if times >= MOST_TIMES {
        let text = format!("{text}; they were made again {times} times");
        return Err(Failure::stop(Code::BadOutput, text));
    }
    let runs: Vec<SegmentRun> = runs(&bad).into_iter().take(MAX_REDO_RUNS).collect();
    write_json(&work.folder.redone(), &times.saturating_add(1))?;
    for segment in runs.iter().flat_map(|run| run.first..=run.last) {
        // A part without its manifest counts as none.
        remove(&work.folder.manifest(round, segment))?;
        remove(&work.folder.part(round, segment))?;
    }
    *redo = runs;
    Err(Failure::stop(Code::BadOutput, format!("{text}; they are removed and must be made again")))
}

/// A volume that does not answer is no damage.
fn prove_readable(work: &Work, round: u32, segment: u32) -> Outcome<()> {
    read_bounded(&work.folder.manifest(round, segment))?;
    let part = work.folder.part(round, segment);
    match std::fs::metadata(&part) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(on_file("look at", &part)(error)),
        _ => Ok(()),
    }
}

/// Parts that cannot be joined to the newest: a part that is made again is made as that one was.
fn odd(work: &Work, manifests: &[Manifest]) -> Outcome<Vec<u32>> {
    let mut newest: Option<(SystemTime, &Manifest)> = None;
    for manifest in manifests {
        let part = work.folder.part(manifest.round, manifest.segment);
        let made =
            std::fs::metadata(&part).and_then(|facts| facts.modified()).map_err(on_file("look at", &part))?;
        if newest.is_none_or(|(before, _)| before <= made) {
            newest = Some((made, manifest));
        }
    }
    let Some((_, newest)) = newest else { return Ok(Vec::new()) };
    let differs = |part: &&Manifest| {
        (&part.header, part.width, part.height) != (&newest.header, newest.width, newest.height)
    };
    Ok(manifests.iter().filter(differs).map(|part| part.segment).collect())
}

fn remove(path: &Path) -> Outcome<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(on_file("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Ascending numbers as runs.
fn runs(numbers: &[u32]) -> Vec<SegmentRun> {
    let mut runs: Vec<SegmentRun> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some(run) if run.last.checked_add(1) == Some(*number) => run.last = *number,
            _ => runs.push(SegmentRun { first: *number, last: *number }),
        }
    }
    runs
}

/// Numbers for people: `0-2, 7`, not all of many.
fn told(numbers: &[u32]) -> String {
    const MOST: usize = 8;
    let all = runs(numbers);
    let mut told: Vec<String> = all.iter().take(MOST).map(ToString::to_string).collect();
    if all.len() > MOST {
        told.push("...".to_owned());
    }
    told.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_told_as_runs() {
        assert_eq!(told(&[0, 1, 2, 7, 9, 10]), "0-2, 7, 9-10");
        assert_eq!(told(&(0..40).step_by(2).collect::<Vec<_>>()), "0, 2, 4, 6, 8, 10, 12, 14, ...");
        assert_eq!(runs(&[]), []);
    }
}
