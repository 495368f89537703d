//! `probe`: looks whether the film can be upscaled and the result written, indexes it in one decode, and plans it.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::time::SystemTime;

use super::colour::Colour;
use super::destination::prove_destination;
use super::failure::{Failure, Outcome, on_file};
use super::ffmpeg::Tools;
use super::fit::prove_fit;
use super::folder::{Mounts, WorkFolder};
use super::index::{FileIdentity, Index, first_time, scan, shape_change};
use super::lines::printable;
use super::media::{self, Media};
use super::plan::{Plan, PlanError, Wishes, plan};
use super::publish::write_json;
use super::range::{Excerpt, TimeRange};
use super::refusals::{Container, check_first_bytes, check_header, check_pictures, check_shape};
use super::space::{Volume, encoded_bytes, others_bytes, parts_bytes, prove_room};
use super::sweep::sweep;
use crate::api::worker::{Code, ProbeFigures, ProbeTask};

/// Most warnings in the figures, and most characters of one.
const WARNINGS: (usize, usize) = (10, 120);

/// Runs the stage. `now` is for sweeping dead work folders.
pub fn probe(tools: &Tools, mounts: &Mounts, task: &ProbeTask, now: SystemTime) -> Outcome<ProbeFigures> {
    let container = Container::of(&task.destination)?;
    let source = mounts.source_file(&task.source.path)?;
    prove_destination(mounts, &task.destination, task.overwrite, &task.job.uid)?;
    let file = FileIdentity::of(&source)?;
    check_first_bytes(&task.source.path, &first_bytes(&source)?)?;
    let mut media = read_header(tools, &source, &task.source.path)?;
    media::look_for_encryption(tools, &source, &mut media)?;
    let accepted = check_header(&media, &task.source, container)?;
    prove_fit(tools, &source, &task.source.path, &media, container)?;
    let mut warnings = accepted.warnings.clone();

    for folder in sweep(mounts, &task.job, &task.live_jobs, now) {
        tracing::info!(folder, "removed the work folder of a job that is gone");
    }
    let folder = mounts.work_folder(&task.job)?;
    make_work_folder(&folder, task)?;

    let asked = TimeRange::of(task);
    let (index, digest) = match Index::read(&folder.index()) {
        // An earlier probe of this job came as far as this.
        Ok(Some((index, digest)))
            if index.file == file
                && index.stream == accepted.stream.index
                && index.excerpt.map(|excerpt| excerpt.asked) == asked =>
        {
            (index, digest)
        }
        _ => {
            let (index, more) = make_index(tools, &source, task, &media, file)?;
            warnings.extend(more);
            let digest = index.write(&folder.index())?;
            (index, digest)
        }
    };
    index.prove_unchanged(&source, &task.source.path)?;
    let scale = choose_scale(task, index.height)?;
    // Parts and result lie there together for a while.
    let film = encoded_bytes(&index, scale, index.owned().frames());
    let parts = film.saturating_sub(parts_bytes(&folder));
    let need = film.saturating_add(parts).saturating_add(others_bytes(&media, &index));
    prove_room(mounts, Volume::Destination, "the film with its parts", need)?;
    let plan = make_plan(task, &index, &digest, scale)?;
    write_json(&folder.plan(), &plan)?;
    if !index.width.saturating_mul(scale).is_multiple_of(2)
        || !index.height.saturating_mul(scale).is_multiple_of(2)
    {
        warnings.push("odd size: the result is 4:4:4, which not every player shows".to_owned());
    }
    Ok(figures(&index, &plan, scale, warnings))
}

fn figures(index: &Index, plan: &Plan, scale: u32, warnings: Vec<String>) -> ProbeFigures {
    let micros = index.base.micros(index.duration());
    ProbeFigures {
        segments: u32::try_from(plan.segments.len()).unwrap_or(u32::MAX),
        frames: index.owned().frames(),
        longest_read: plan.longest_read,
        longest_owned: plan.longest_owned(),
        width: index.width,
        height: index.height,
        scale,
        frame_rate: plan.rate.to_string(),
        codec: index.codec.clone(),
        duration_ms: u64::try_from(micros / 1000).unwrap_or(0),
        warnings: warnings.iter().take(WARNINGS.0).map(|warning| printable(warning, WARNINGS.1)).collect(),
    }
}

fn first_bytes(source: &Path) -> Outcome<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(source).map_err(on_file("open", source))?;
    file.take(4096).read_to_end(&mut bytes).map_err(on_file("read", source))?;
    Ok(bytes)
}

fn read_header(tools: &Tools, source: &Path, name: &str) -> Outcome<Media> {
    match media::read(tools, source) {
        Err(Failure::Tool { said, .. }) => {
            let bytes = first_bytes(source)?;
            let text = !bytes.is_empty()
                && bytes.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace());
            let about = match bytes.len() {
                0 => "the file is empty".to_owned(),
                _ if text => "first bytes: text".to_owned(),
                _ => printable(said.trim(), 160),
            };
            Err(Failure::stop(Code::InvalidSource, format!("{name}: no video found ({about})")))
        }
        other => other,
    }
}

fn make_work_folder(folder: &WorkFolder, task: &ProbeTask) -> Outcome<()> {
    let unwritable = |failure: Failure| match failure.code() {
        Code::Io => Failure::stop(Code::DestinationNotWritable, format!("the destination claim: {failure}")),
        _ => failure,
    };
    std::fs::create_dir_all(folder.parts())
        .map_err(on_file("create", &folder.parts()))
        .map_err(unwritable)?;
    write_json(&folder.owner(), &task.job).map_err(unwritable)
}

fn make_index(
    tools: &Tools,
    source: &Path,
    task: &ProbeTask,
    media: &Media,
    file: FileIdentity,
) -> Outcome<(Index, Vec<String>)> {
    let accepted = check_header(media, &task.source, Container::of(&task.destination)?)?;
    let (stream, base) = (accepted.stream, accepted.base);
    let excerpt = match TimeRange::of(task) {
        Some(asked) => Some(Excerpt { asked, first: first_time(tools, source, stream.index, base)? }),
        None => None,
    };
    let window = excerpt.map(|excerpt| excerpt.window(base, &media.format.format_name));
    let empty = || match excerpt {
        Some(excerpt) => excerpt.asked.empty(&task.source.path, media.duration_micros()),
        None => Failure::stop(Code::InvalidSource, "the film has no picture"),
    };
    let change = shape_change(tools, source, media, stream, window.as_ref())?;
    check_shape(&task.source.path, base, change.as_ref())?;
    let pictures = scan(tools, source, stream.index, base, window.as_ref())?.ok_or_else(empty)?;
    let header = media.duration_micros().filter(|_| window.as_ref().is_none_or(|window| window.to.is_none()));
    let (pts, mut warnings) =
        check_pictures(&pictures, &task.source, base, excerpt.map(|excerpt| excerpt.first), header)?;
    let (width, height) = pictures.first.size;
    let pixel_format = pictures.first.format.clone();
    let colour = Colour::of(stream.colour_tags(), height, &pixel_format)
        .ok_or_else(|| Failure::stop(Code::Internal, "the header was accepted without a matrix"))?;
    let index = Index {
        v: 1,
        file,
        stream: stream.index,
        codec: stream.codec().to_owned(),
        base,
        width,
        height,
        colour,
        pixel_format,
        pixel_shape: stream.sample_aspect_ratio.as_deref().and_then(|shape| shape.parse().ok()),
        rotation: stream.rotation(),
        last_duration: last_duration(&pts, pictures.last_duration, base),
        cuts: pictures.cuts(&pts),
        hashes: pictures.hashes,
        keys: pictures.keys,
        excerpt,
        pts,
    };
    if index.owned().frames() == 0 {
        return Err(empty());
    }
    let end = index.time(index.frames()).unwrap_or(0);
    warnings.extend(excerpt.and_then(|excerpt| excerpt.beyond(base, end)));
    Ok((index, warnings))
}

/// Duration of the last picture: as said, else the gap before it, else a 25th of a second.
fn last_duration(pts: &[i64], said: i64, base: super::ratio::Ratio) -> i64 {
    if said > 0 {
        return said;
    }
    match pts {
        [.., before, last] => last.saturating_sub(*before).max(1),
        _ => (0.04 / base.value()).round().clamp(1.0, 1e9) as i64,
    }
}

fn choose_scale(task: &ProbeTask, height: u32) -> Outcome<u32> {
    let usual = if height < 720 { 4 } else { 2 };
    let offered = |scale: &&u32| (2..=4).contains(*scale);
    let scale = match task.scale {
        Some(scale) => Some(scale).filter(|scale| task.scales.contains(scale) && (2..=4).contains(scale)),
        None => task.scales.iter().filter(offered).copied().min_by_key(|scale| scale.abs_diff(usual)),
    };
    scale.ok_or_else(|| {
        Failure::stop(
            Code::Usage,
            format!("scale {:?} is not among those offered: {:?}", task.scale, task.scales),
        )
    })
}

fn make_plan(task: &ProbeTask, index: &Index, digest: &str, scale: u32) -> Outcome<Plan> {
    let wishes = Wishes {
        index: digest,
        film: index.frames(),
        owned: index.owned(),
        cuts: &index.cuts,
        rate: index.rate(),
        width: index.width,
        height: index.height,
        scale,
        engine: &task.engine,
        host_memory: task.host_memory,
        host_budget_bytes: task.host_budget_bytes,
        segment_frames: task.segment_frames,
        gpus: task.gpus,
        start_seconds: task.start_seconds,
        megapixel_frame_millis: task.megapixel_frame_millis,
    };
    plan(&wishes).map_err(|error| {
        let code = match error {
            PlanError::DoesNotFit { .. } | PlanError::SegmentTooLong { .. } | PlanError::TooMany { .. } => {
                Code::DoesNotFit
            }
            PlanError::NoRule => Code::Usage,
            PlanError::Empty => Code::InvalidSource,
        };
        Failure::stop(code, error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_picture_lasts_as_said_or_as_the_one_before() {
        let base = "1/1000".parse().unwrap();
        assert_eq!(last_duration(&[0, 40], 33, base), 33);
        assert_eq!(last_duration(&[0, 40, 90], 0, base), 50);
        assert_eq!(last_duration(&[7], 0, base), 40);
    }
}
