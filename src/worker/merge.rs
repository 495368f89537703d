//! `merge`: verifies every part, joins them, adds all other streams of the source, verifies the result, publishes it
//! with a sidecar that says what was done. Safe when run twice, also at once.

mod chapters;
mod collect;
mod covers;
pub(super) mod excerpt;
mod facts;
mod join;
pub(super) mod lists;
pub(super) mod names;
pub(super) mod packets;
mod pictures;
mod sidecar;
mod sound;
pub(super) mod texts;
mod times;
mod verify;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use self::excerpt::Excerpt;
use self::sidecar::UsedSource;
use self::verify::{Checked, Verified};
use super::failure::{Failure, Outcome, on_file};
use super::ffmpeg::Tools;
use super::folder::{Mounts, WorkFolder};
use super::media::{self, Media};
use super::parts::Manifest;
use super::prepare::Work;
use super::publish::{self, Aside, Published, digest, human, read_json, write_json};
use super::refusals::{self, Container, check_header};
use super::space::{Volume, others_bytes, prove_room};
use crate::api::worker::{Code, MergeFigures, MergeTask, SegmentRun, Verify, WORK_FOLDER};

pub use join::{carry, copied};
pub use sidecar::{Made, Sidecar, sidecar_path};

/// Runs the stage. `redo`: segments whose parts were no good and are removed, after an end with [`Code::BadOutput`].
pub fn merge(
    tools: &Tools,
    mounts: &Mounts,
    task: &MergeTask,
    redo: &mut Vec<SegmentRun>,
) -> Outcome<MergeFigures> {
    let destination = mounts.destination_file(&task.destination)?;
    if let Some(done) = finished(mounts, task, &destination)? {
        return Ok(done);
    }
    let merged = begin(tools, mounts, task, &destination, redo).and_then(|merge| merge.run(&destination));
    let Err(failure) = merged else { return merged };
    // Another run of this job may have come to its end meanwhile, and removed what this one worked with.
    if let Ok(Some(done)) = finished(mounts, task, &destination) {
        redo.clear();
        return Ok(done);
    }
    let folder = mounts.work_folder(&task.job)?;
    Err(Failure::stop(failure.code(), format!("{failure}{}", what_stays(&folder))))
}

/// A merge with all that it needs.
struct Merge<'a> {
    tools: &'a Tools,
    mounts: &'a Mounts,
    task: &'a MergeTask,
    container: Container,
    source: PathBuf,
    of_source: Media,
    work: Work,
    manifests: Vec<Manifest>,
}

fn begin<'a>(
    tools: &'a Tools,
    mounts: &'a Mounts,
    task: &'a MergeTask,
    destination: &Path,
    redo: &mut Vec<SegmentRun>,
) -> Outcome<Merge<'a>> {
    let container = Container::of(&task.destination)?;
    if destination.exists() && !task.overwrite {
        return Err(taken(task, "is there already; remove it or set destination.ifExists: Overwrite"));
    }
    let work = Work::open(mounts, &task.job)?;
    let source = mounts.source_file(&task.source.path)?;
    work.index.prove_unchanged(&source, &task.source.path)?;
    let manifests = collect::collect(&work, task.round, redo)?;
    let of_source = media::read(tools, &source)?;
    Ok(Merge { tools, mounts, task, container, source, of_source, work, manifests })
}

impl Merge<'_> {
    fn run(&self, destination: &Path) -> Outcome<MergeFigures> {
        let task = self.task;
        // What dead runs left would count against this one.
        let folder = &self.work.folder;
        for path in [destination, &sidecar_path(destination), &folder.result(), &folder.redone()] {
            publish::remove_asides(path)?;
        }
        // All parts are there: nothing is cut any more.
        publish::discard(&folder.keyed());
        self.prove_room()?;
        let made = Aside::create(destination, &task.job.uid)?;
        let verified = self.make(made.path())?;
        self.work.index.prove_unchanged(&self.source, &task.source.path)?;
        let sidecar = self.sidecar(made.path(), verified)?;
        write_json(&self.work.folder.result(), &sidecar)?;
        if made.publish(destination, task.overwrite)? == Published::Taken {
            return Err(taken(task, "appeared while the film was being made; remove it"));
        }
        conclude(self.mounts, task, destination, &sidecar)
    }

    fn prove_room(&self) -> Outcome<()> {
        let parts = self.manifests.iter().fold(0, |sum: u64, part| sum.saturating_add(part.bytes));
        let need = parts.saturating_add(others_bytes(&self.of_source, &self.work.index));
        prove_room(self.mounts, Volume::Destination, "the film", need)
    }

    /// Joins the parts as `target` and verifies it.
    fn make(&self, target: &Path) -> Outcome<Verified> {
        let join = join::Join {
            work: &self.work,
            manifests: &self.manifests,
            media: &self.of_source,
            source: &self.source,
            container: self.container,
            round: self.task.round,
            excerpt: Excerpt::of(&self.work.index),
        };
        join.run(self.tools, &self.mounts.scratch, target)?;
        let checked = Checked {
            work: &self.work,
            manifests: &self.manifests,
            source: &self.source,
            of_source: &self.of_source,
            result: target,
            container: self.container,
            full: is_full(self.task.verify, &self.work),
        };
        verify::verify(self.tools, &checked)
    }

    fn sidecar(&self, made: &Path, verified: Verified) -> Outcome<Sidecar> {
        let (bytes, sha256) = digest(made)?;
        let first = self.manifests.first();
        let index = &self.work.index;
        Ok(Sidecar {
            v: 1,
            job: self.task.job.uid.clone(),
            index: self.work.plan.index.clone(),
            source: Some(UsedSource::of(&self.work, &self.task.source.path)),
            scale: self.work.plan.scale,
            segments: u32::try_from(self.manifests.len()).unwrap_or(u32::MAX),
            encoder: first.map(|manifest| manifest.encoder.clone()).unwrap_or_default(),
            made: Made::all(&self.manifests),
            verified: verified.done,
            warnings: self.warnings(verified.warnings),
            result: MergeFigures {
                frames: index.owned().frames(),
                bytes,
                width: first.map_or(0, |manifest| manifest.width),
                height: first.map_or(0, |manifest| manifest.height),
                sha256,
            },
        })
    }

    /// What is left out or odd: of the source, and of the result.
    fn warnings(&self, of_result: Vec<String>) -> Vec<String> {
        let index = &self.work.index;
        // The probe has accepted the header.
        let accepted = check_header(&self.of_source, &self.task.source, self.container);
        let mut warnings = accepted.map(|accepted| accepted.warnings).unwrap_or_default();
        warnings.extend(index.warnings.iter().cloned());
        warnings.extend(refusals::of_result(index, self.container, self.work.plan.scale));
        let left_out = join::left_out(&self.of_source, index.stream, index.excerpt.is_some());
        for warning in left_out.into_iter().chain(of_result) {
            if !warnings.contains(&warning) {
                warnings.push(warning);
            }
        }
        warnings
    }
}

fn taken(task: &MergeTask, text: &str) -> Failure {
    Failure::stop(Code::DestinationExists, format!("{} {text}", task.destination))
}

/// The figures of another run of the same job that came to its end, or so far that only the sidecar is missing.
fn finished(mounts: &Mounts, task: &MergeTask, destination: &Path) -> Outcome<Option<MergeFigures>> {
    if !destination.is_file() {
        return Ok(None);
    }
    let folder = mounts.work_folder(&task.job)?;
    for path in [sidecar_path(destination), folder.result()] {
        let Ok(Some(sidecar)) = read_json::<Sidecar>(&path) else { continue };
        if sidecar.job != task.job.uid {
            continue;
        }
        let (bytes, sha256) = digest(destination)?;
        if (bytes, &sha256) == (sidecar.result.bytes, &sidecar.result.sha256) {
            return conclude(mounts, task, destination, &sidecar).map(Some);
        }
    }
    Ok(None)
}

/// Writes the sidecar and removes the work folder.
fn conclude(
    mounts: &Mounts,
    task: &MergeTask,
    destination: &Path,
    sidecar: &Sidecar,
) -> Outcome<MergeFigures> {
    write_json(&sidecar_path(destination), sidecar)?;
    // What runs that were killed here left beside the result.
    for path in [destination, &sidecar_path(destination)] {
        publish::remove_asides(path)?;
    }
    let folder = mounts.work_folder(&task.job)?;
    match fs::remove_dir_all(folder.path()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(on_file("remove", folder.path())(error)),
        _ => Ok(sidecar.result.clone()),
    }
}

/// What a merge that failed leaves, for people; nothing if nothing is left.
fn what_stays(folder: &WorkFolder) -> String {
    let files = [folder.path(), &folder.parts()]
        .map(Path::to_owned)
        .into_iter()
        .filter_map(|path| fs::read_dir(path).ok());
    let facts = files.flatten().flatten().filter_map(|entry| entry.metadata().ok());
    let bytes =
        facts.filter(fs::Metadata::is_file).fold(0, |sum: u64, facts| sum.saturating_add(facts.len()));
    if bytes == 0 {
        return String::new();
    }
    let name = folder.path().file_name().unwrap_or_default().to_string_lossy();
    format!("; {} stay in {WORK_FOLDER}/{name} on the destination claim", human(bytes))
}

/// Longest film that is verified in full unasked, microseconds.
const FULL_UP_TO: i64 = 20 * 60 * 1_000_000;

fn is_full(verify: Verify, work: &Work) -> bool {
    match verify {
        Verify::Cheap => false,
        Verify::Full => true,
        Verify::Auto => work.index.base.micros(work.index.duration()) <= FULL_UP_TO,
    }
}
