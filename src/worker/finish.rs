//! `finish`: proves that the engine's output is what it read, only larger; encodes the owned pictures as a part with
//! the source's colour and times; publishes the part with its manifest.

mod encode;
mod output;

use super::failure::{Failure, Outcome, on_file};
use super::ffmpeg::Tools;
use super::folder::Mounts;
use super::index::{Hashed, Index, read_hashes};
use super::parts::{self, Manifest};
use super::prepare::Work;
use super::publish::{self, Published, digest, write_json};
use super::space::{Volume, encoded_bytes, prove_room};
use crate::api::worker::{Code, FinishFigures, FinishTask};

pub use encode::{Encoder, encode};
pub use output::{Output, prove};

/// Runs the stage.
pub fn finish(tools: &Tools, mounts: &Mounts, task: &FinishTask) -> Outcome<FinishFigures> {
    let work = Work::open(mounts, &task.job)?;
    if let Some(manifest) = parts::verified(&work.folder, &work.plan, task.round, task.segment)? {
        return Ok(figures(&manifest));
    }
    if task.scale != work.plan.scale {
        let text = format!("scale {} is asked for, the plan is made for {}", task.scale, work.plan.scale);
        return Err(Failure::stop(Code::Usage, text));
    }
    let owned = work.segment(task.segment)?;
    let pieces = work.pieces(task.segment, task.pieces, &task.engine)?;
    let outputs = (0u32..)
        .zip(&pieces)
        .map(|(number, piece)| prove(tools, mounts, &work.index, task, number, piece))
        .collect::<Outcome<Vec<Output>>>()?;

    let parts = work.folder.parts();
    std::fs::create_dir_all(&parts).map_err(on_file("create", &parts))?;
    let part = work.folder.part(task.round, task.segment);
    // Attempts before this one were given up.
    publish::remove_asides(&part)?;
    publish::remove_asides(&work.folder.manifest(task.round, task.segment))?;
    let need = encoded_bytes(&work.index, task.scale, task.encode.quality, owned.frames());
    prove_room(mounts, Volume::Destination, "the part", need)?;
    let aside = publish::aside(&part, &format!("{}-{}", task.attempt, std::process::id()));
    let encoder = Encoder::of(&work.index, task.scale, &task.encode, work.plan.rate);
    let made = encode(tools, mounts, &work.index, owned, &outputs, task.output.kind, &encoder, &aside)
        .and_then(|()| prove_part(tools, &work.index, owned, &aside));
    let header = match made {
        Ok(header) => header,
        Err(failure) => {
            publish::discard(&aside);
            return Err(failure);
        }
    };
    let (bytes, sha256) = digest(&aside)?;
    let manifest = Manifest {
        v: 1,
        index: work.plan.index.clone(),
        round: task.round,
        segment: task.segment,
        owned,
        scale: task.scale,
        attempt: task.attempt,
        step: task.step,
        pieces: task.pieces,
        width: encoder.width,
        height: encoder.height,
        encoder: encoder.described(),
        header,
        bytes,
        sha256,
    };
    if publish::publish(&aside, &part, false)? == Published::Taken {
        if let Some(first) = parts::verified(&work.folder, &work.plan, task.round, task.segment)? {
            std::fs::remove_file(&aside).map_err(on_file("remove", &aside))?;
            return Ok(figures(&first));
        }
        // A part whose manifest was never written, or that is damaged: nobody counts on it.
        publish::publish(&aside, &part, true)?;
    }
    if let Err(failure) = write_json(&work.folder.manifest(task.round, task.segment), &manifest) {
        // Without its manifest it only takes room that the next attempt needs.
        publish::discard(&part);
        return Err(failure);
    }
    Ok(figures(&manifest))
}

fn figures(manifest: &Manifest) -> FinishFigures {
    FinishFigures {
        frames: u32::try_from(manifest.owned.frames()).unwrap_or(u32::MAX),
        bytes: manifest.bytes,
        sha256: manifest.sha256.clone(),
        millis: 0,
    }
}

/// Decodes the part: as many pictures as owned, each at its time. The digest of its codec header.
fn prove_part(
    tools: &Tools,
    index: &Index,
    owned: super::plan::Span,
    part: &std::path::Path,
) -> Outcome<String> {
    let mut run = tools.ffmpeg();
    run.args(["-copyts"]).input(part);
    run.args(["-map", "0:v:0", "-fps_mode", "passthrough", "-enc_time_base", &index.base.to_string()]);
    run.hashes().args(["pipe:1"]);
    let Hashed { times, said, .. } = read_hashes(&run, "prove the part", index.base, |_| false)?;
    let wrong = |text: String| Failure::stop(Code::Internal, format!("the part is wrong: {text}"));
    if said.lines > 0 {
        return Err(wrong(said.summary()));
    }
    let expected = index.times_from_zero(owned.start, owned.end);
    if times.len() != expected.len() {
        return Err(wrong(format!("{} pictures decode instead of {}", times.len(), expected.len())));
    }
    if let Some(number) = times.iter().zip(&expected).position(|(time, wanted)| *time != Some(*wanted)) {
        return Err(wrong(format!("picture {number} is not at its time")));
    }
    let media = super::media::read(tools, part)?;
    let header = media.film().and_then(|film| film.extradata_hash.clone());
    header.ok_or_else(|| wrong("it has no codec header".to_owned()))
}
