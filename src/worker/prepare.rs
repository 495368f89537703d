//! `prepare`: proves the GPU, cuts the segment for the engine, and waits for the GPU's memory last.

use std::path::Path;

use super::cut::{Cut, cut, cut_at_once};
use super::failure::{Failure, Outcome, on_file};
use super::ffmpeg::Tools;
use super::folder::{Mounts, WorkFolder};
use super::gpu::Driver;
use super::index::Index;
use super::keyed::index_of_copy;
use super::parts;
use super::plan::{Piece, Plan, Span, pieces};
use super::publish::read_json;
use super::space::{Volume, encoded_bytes, prove_room};
use crate::api::profile::InputKind;
use crate::api::worker::{
    Code, EngineInput, EngineOutput, JobRef, PrepareFigures, PrepareTask, piece_input, piece_output,
};

/// A job's index and plan, read from its work folder.
#[derive(Clone, Debug)]
pub struct Work {
    /// The folder.
    pub folder: WorkFolder,
    /// The film's index.
    pub index: Index,
    /// Its plan.
    pub plan: Plan,
}

impl Work {
    /// Reads index and plan and proves that they belong together.
    ///
    /// # Errors
    /// [`Code::Internal`] if one is missing or they do not belong together.
    pub fn open(mounts: &Mounts, job: &JobRef) -> Outcome<Self> {
        let folder = mounts.work_folder(job)?;
        let missing = |path: &Path| Failure::stop(Code::Internal, format!("{} is missing", path.display()));
        let (index, digest) = Index::read(&folder.index())?.ok_or_else(|| missing(&folder.index()))?;
        let plan: Plan = read_json(&folder.plan())?.ok_or_else(|| missing(&folder.plan()))?;
        let ends = plan.segments.first().zip(plan.segments.last());
        let planned = ends.map(|(first, last)| Span { start: first.start, end: last.end });
        if plan.v != 1 || plan.index != digest || planned != Some(index.owned()) {
            return Err(Failure::stop(Code::Internal, "plan and index do not belong together"));
        }
        Ok(Self { folder, index, plan })
    }

    /// What a segment owns.
    ///
    /// # Errors
    /// [`Code::Usage`] if the plan has no such segment.
    pub fn segment(&self, number: u32) -> Outcome<Span> {
        self.plan.segment(number).ok_or_else(|| {
            Failure::stop(Code::Usage, format!("segment {number} is not one of {}", self.plan.segments.len()))
        })
    }

    /// The pieces of a segment.
    ///
    /// # Errors
    /// [`Code::Usage`] for another number of pieces than 1, 2 or 4, or a frame rule that admits nothing.
    pub fn pieces(&self, segment: u32, count: u32, engine: &EngineInput) -> Outcome<Vec<Piece>> {
        let owned = self.segment(segment)?;
        let allowed = [1, 2, 4].contains(&count).then_some(count);
        allowed.and_then(|count| pieces(owned, count, self.index.frames(), engine)).ok_or_else(|| {
            Failure::stop(Code::Usage, format!("segment {segment} cannot be run in {count} pieces"))
        })
    }
}

/// Runs the stage; `figures` are filled whatever the end.
pub fn prepare(
    tools: &Tools,
    mounts: &Mounts,
    nvml: Option<&Path>,
    task: &PrepareTask,
    figures: &mut PrepareFigures,
) -> Outcome<()> {
    let work = Work::open(mounts, &task.job)?;
    if parts::verified(&work.folder, &work.plan, task.round, task.segment)?.is_some() {
        let text = format!("segment {} of round {} is finished already", task.segment, task.round);
        return Err(Failure::stop(Code::AlreadyDone, text));
    }
    let source = mounts.source_file(&task.source.path)?;
    work.index.prove_unchanged(&source, &task.source.path)?;
    // Before the GPU is kept busy for a part that has no room.
    let Plan { scale, quality, .. } = work.plan;
    let part = encoded_bytes(&work.index, scale, quality, work.segment(task.segment)?.frames());
    prove_room(mounts, Volume::Destination, "the part", part)?;
    let driver = Driver::start(nvml);
    driver.prove_identity(&task.gpu, figures)?;
    figures.frames = cut_segment(tools, mounts, &work, task)?;
    work.index.prove_unchanged(&source, &task.source.path)?;
    driver.wait_for_memory(&task.gpu, figures)
}

/// Cuts all pieces of a segment and makes the engine's output folders; the number of pictures it will read.
pub fn cut_segment(tools: &Tools, mounts: &Mounts, work: &Work, task: &PrepareTask) -> Outcome<u32> {
    let source = mounts.source_file(&task.source.path)?;
    let pieces = work.pieces(task.segment, task.pieces, &task.engine)?;
    let frames = pieces.iter().fold(0, |sum: u64, piece| sum.saturating_add(piece.read.frames()));
    let need = cut_bytes(work, task.engine.kind, frames);
    prove_room(mounts, Volume::Scratch, &format!("the cut of {frames} pictures"), need)?;
    let copy = work.folder.keyed();
    let keyed = copy.is_file().then(|| (copy, index_of_copy(&work.index)));
    for (number, piece) in (0u32..).zip(&pieces) {
        let target = mounts.scratch_path(&piece_input(task.engine.kind, number));
        let folder = target.parent().unwrap_or(&target);
        if folder.exists() {
            // What an earlier start of this container left.
            std::fs::remove_dir_all(folder).map_err(on_file("empty", folder))?;
        }
        std::fs::create_dir_all(folder).map_err(on_file("create", folder))?;
        make_output_folder(mounts, &task.output, number)?;
        let of_film = Cut {
            source: &source,
            name: &task.source.path,
            index: &work.index,
            read: piece.read,
            pad: task.engine.pad,
            kind: task.engine.kind,
            target: &target,
        };
        match &keyed {
            Some((copy, index)) => cut_of_copy(tools, &Cut { source: copy, index, ..of_film }, &of_film)?,
            None => cut(tools, &of_film)?,
        }
        tracing::info!(piece = number, frames = piece.read.frames(), "cut");
    }
    Ok(u32::try_from(frames).unwrap_or(u32::MAX))
}

/// Cuts from the copy with more keyframes; from the film itself if other pictures are found there, or it cannot be read.
fn cut_of_copy(tools: &Tools, of_copy: &Cut<'_>, of_film: &Cut<'_>) -> Outcome<()> {
    match cut_at_once(tools, of_copy) {
        Ok(true) => return Ok(()),
        Err(failure) if failure.code() == Code::OutOfSpace => return Err(failure),
        Ok(false) => {
            tracing::warn!("the copy with more keyframes shows other pictures: the film itself is cut")
        }
        Err(failure) => {
            tracing::warn!(%failure, "the copy with more keyframes is of no use: the film itself is cut")
        }
    }
    cut(tools, of_film)
}

fn make_output_folder(mounts: &Mounts, output: &EngineOutput, piece: u32) -> Outcome<()> {
    let path = mounts.scratch_path(&piece_output(output, piece));
    let folder = match output.kind {
        crate::api::profile::OutputKind::Video => path.parent().unwrap_or(&path),
        crate::api::profile::OutputKind::Pictures => &path,
    };
    std::fs::create_dir_all(folder).map_err(on_file("create", folder))
}

/// A lossless file of the read pictures is seldom larger than half of what they are raw.
fn cut_bytes(work: &Work, kind: InputKind, frames: u64) -> u64 {
    let bytes_per_pixel: u64 = match kind {
        InputKind::Video => 1,
        InputKind::Pictures => 2,
    };
    u64::from(work.index.width)
        .saturating_mul(work.index.height.into())
        .saturating_mul(frames)
        .saturating_mul(bytes_per_pixel)
}
