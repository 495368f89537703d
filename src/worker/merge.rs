//! `merge`: verifies every part, joins them, adds all other streams of the source, verifies the result, publishes it
//! with a sidecar that says what was done. Safe when run twice.

mod covers;
mod excerpt;
mod join;
mod sound;
mod verify;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use self::excerpt::Excerpt;
use super::failure::{Failure, Outcome, on_file};
use super::ffmpeg::Tools;
use super::folder::Mounts;
use super::media;
use super::parts::{self, Manifest};
use super::prepare::Work;
use super::publish::{self, Published, digest, read_json, write_json};
use super::refusals::Container;
use super::space::{Volume, prove_room};
use crate::api::worker::{Code, MergeFigures, MergeTask, Verify};

/// What is written beside the result, and kept in the work folder just before the result is published: whoever finds
/// the result knows by it whose it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sidecar {
    /// Version of this format, 1.
    pub v: u32,
    /// UID of the job.
    pub job: String,
    /// Digest of the source's index.
    pub index: String,
    /// Upscaling factor.
    pub scale: u32,
    /// Segments joined.
    pub segments: u32,
    /// Encoder and its settings.
    pub encoder: String,
    /// What was verified.
    pub verified: Vec<String>,
    /// What is left out or odd.
    pub warnings: Vec<String>,
    /// The result.
    pub result: MergeFigures,
}

/// `<destination>.upscale.json`
pub fn sidecar_path(destination: &Path) -> PathBuf {
    let mut name = destination.as_os_str().to_owned();
    name.push(".upscale.json");
    PathBuf::from(name)
}

/// Runs the stage.
pub fn merge(tools: &Tools, mounts: &Mounts, task: &MergeTask) -> Outcome<MergeFigures> {
    let container = Container::of(&task.destination)?;
    let destination = mounts.destination_file(&task.destination)?;
    if let Some(done) = finished(mounts, task, &destination)? {
        return Ok(done);
    }
    if destination.exists() && !task.overwrite {
        let text = format!(
            "{} is there already; remove it or set destination.ifExists: Overwrite",
            task.destination
        );
        return Err(Failure::stop(Code::DestinationExists, text));
    }
    let work = Work::open(mounts, &task.job)?;
    let source = mounts.source_file(&task.source.path)?;
    work.index.prove_unchanged(&source, &task.source.path)?;
    let manifests = collect(&work, task)?;
    let of_source = media::read(tools, &source)?;

    let aside = publish::aside(&destination, &task.job.uid);
    // What an earlier run left would count against this one.
    publish::discard(&aside);
    let parts = manifests.iter().fold(0, |sum: u64, part| sum.saturating_add(part.bytes));
    let need = parts.saturating_add(work.index.other_bytes(of_source.duration_micros()));
    prove_room(mounts, Volume::Destination, "the film", need)?;
    let join = join::Join {
        work: &work,
        manifests: &manifests,
        media: &of_source,
        source: &source,
        container,
        round: task.round,
        excerpt: Excerpt::of(&work.index),
    };
    let made = join.run(tools, &aside).and_then(|()| {
        verify::verify(
            tools,
            &verify::Checked {
                work: &work,
                manifests: &manifests,
                source: &source,
                of_source: &of_source,
                result: &aside,
                container,
                full: is_full(task.verify, &work),
            },
        )
    });
    let verified = match made {
        Ok(verified) => verified,
        Err(failure) => {
            publish::discard(&aside);
            return Err(failure);
        }
    };
    work.index.prove_unchanged(&source, &task.source.path)?;
    let (bytes, sha256) = digest(&aside)?;
    let first = manifests.first();
    let result = MergeFigures {
        frames: work.index.owned().frames(),
        bytes,
        width: first.map_or(0, |manifest| manifest.width),
        height: first.map_or(0, |manifest| manifest.height),
        sha256,
    };
    let sidecar = Sidecar {
        v: 1,
        job: task.job.uid.clone(),
        index: work.plan.index.clone(),
        scale: work.plan.scale,
        segments: u32::try_from(manifests.len()).unwrap_or(u32::MAX),
        encoder: first.map(|manifest| manifest.encoder.clone()).unwrap_or_default(),
        verified,
        warnings: join::left_out(&of_source, work.index.stream, work.index.excerpt.is_some()),
        result,
    };
    let published = write_json(&work.folder.result(), &sidecar)
        .and_then(|()| publish::publish(&aside, &destination, task.overwrite));
    if !matches!(published, Ok(Published::Now)) {
        publish::discard(&aside);
    }
    if published? == Published::Taken {
        let text = format!("{} appeared while the film was being made; remove it", task.destination);
        return Err(Failure::stop(Code::DestinationExists, text));
    }
    conclude(mounts, task, &destination, &sidecar)
}

/// The figures of an earlier run of the same job that came to its end, or so far that only the sidecar is missing.
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
    publish::remove_asides(&sidecar_path(destination))?;
    publish::discard(&publish::aside(destination, &task.job.uid));
    let folder = mounts.work_folder(&task.job)?;
    if folder.path().exists() {
        std::fs::remove_dir_all(folder.path()).map_err(on_file("remove", folder.path()))?;
    }
    Ok(sidecar.result.clone())
}

/// The manifests of all parts, each verified.
///
/// # Errors
/// [`Code::BadOutput`] naming those that are missing or differ.
fn collect(work: &Work, task: &MergeTask) -> Outcome<Vec<Manifest>> {
    let mut manifests = Vec::new();
    let mut missing = Vec::new();
    for (segment, _) in (0u32..).zip(&work.plan.segments) {
        match parts::verified(&work.folder, &work.plan, task.round, segment)? {
            Some(manifest) => manifests.push(manifest),
            None => missing.push(segment),
        }
    }
    if let Some(first) = missing.first() {
        let text = format!(
            "{} of {} parts are missing or damaged, the first is {first}",
            missing.len(),
            work.plan.segments.len()
        );
        return Err(Failure::stop(Code::BadOutput, text));
    }
    let Some(first) = manifests.first() else {
        return Err(Failure::stop(Code::Internal, "the plan has no segment"));
    };
    let odd = manifests
        .iter()
        .find(|part| (&part.header, part.width, part.height) != (&first.header, first.width, first.height));
    match odd {
        Some(odd) => Err(Failure::stop(
            Code::BadOutput,
            format!(
                "part {} was encoded otherwise than part {} ({}; {})",
                odd.segment, first.segment, odd.encoder, first.encoder
            ),
        )),
        None => Ok(manifests),
    }
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
