//! `probe`: looks whether the film can be upscaled and the result written, indexes it in one decode, and plans it.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::time::SystemTime;

use super::colour::{Colour, has_alpha};
use super::deinterlace;
use super::destination::prove_destination;
use super::encoders::prove_encoders;
use super::failure::{Failure, Outcome, on_file};
use super::ffmpeg::Tools;
use super::finish::Encoder;
use super::fit::{prove_fit, prove_texts};
use super::folder::{Mounts, WorkFolder};
use super::index::{FileIdentity, Index, Scan, first_time, scan, shape_change, shape_headers, states_shape};
use super::keyed;
use super::lines::printable;
use super::media::{self, Media};
use super::plan::{Plan, PlanError, Wishes, plan};
use super::publish::{discard, remove_asides, write_json};
use super::range::{Excerpt, TimeRange};
use super::ratio::Ratio;
use super::refusals::{
    Container, check_first_bytes, check_header, check_pictures, check_shape, heard_before, of_result,
};
use super::space::{Volume, encoded_bytes, others_bytes, parts_bytes, prove_room};
use super::sweep::sweep;
use crate::api::worker::{Code, Deinterlace, ProbeFigures, ProbeTask};

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
    media::look_at_packets(tools, &source, &mut media)?;
    let accepted = check_header(&media, &task.source, container)?;
    let mut warnings = accepted.warnings.clone();
    warnings.extend(prove_fit(tools, mounts, &source, &task.source.path, &media, container)?);

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
                && is_made_by(&index, task.source.deinterlace)
                && index.excerpt.map(|excerpt| excerpt.asked) == asked =>
        {
            (index, digest)
        }
        _ => {
            // Of another index, if it is there.
            discard(&folder.keyed());
            let index = make_index(tools, &source, task, &media, file)?;
            let digest = index.write(&folder.index())?;
            (index, digest)
        }
    };
    warnings.extend(index.warnings.iter().cloned());
    index.prove_unchanged(&source, &task.source.path)?;
    prove_texts(tools, mounts, &source, &task.source.path, &media, container, &index)?;
    let scale = choose_scale(task, index.height)?;
    // Parts and result lie there together for a while.
    let film = encoded_bytes(&index, scale, task.encode.quality, index.owned().frames());
    let parts = film.saturating_sub(parts_bytes(&folder));
    let need = film.saturating_add(parts).saturating_add(others_bytes(&media, &index));
    let room = || prove_room(mounts, Volume::Destination, "the film with its parts", need);
    room().or_else(|_| {
        // The copy is of less use than the room that it takes.
        discard(&folder.keyed());
        room()
    })?;
    let plan = make_plan(task, &index, &digest, scale)?;
    prove_encoders(tools, task.engine.kind, &Encoder::of(&index, scale, &task.encode, plan.rate))?;
    if keyed::is_wanted(&index, plan.segments.len()) {
        keyed::make(tools, mounts, &folder, &source, &index, need);
        index.prove_unchanged(&source, &task.source.path)?;
    }
    write_json(&folder.plan(), &plan)?;
    warnings.extend(of_result(&index, container, scale));
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
    // What dead probes of this job left.
    for path in [folder.owner(), folder.index(), folder.keyed(), folder.plan()] {
        remove_asides(&path)?;
    }
    write_json(&folder.owner(), &task.job).map_err(unwritable)
}

fn make_index(
    tools: &Tools,
    source: &Path,
    task: &ProbeTask,
    media: &Media,
    file: FileIdentity,
) -> Outcome<Index> {
    let accepted = check_header(media, &task.source, Container::of(&task.destination)?)?;
    let stream = accepted.stream;
    let mut how = task.source.deinterlace;
    let base = deinterlace::base(how, accepted.base).ok_or_else(|| {
        let text = format!("{}: fields cannot be counted in half of {}", task.source.path, accepted.base);
        Failure::stop(Code::InvalidSource, text)
    })?;
    let excerpt = match TimeRange::of(task) {
        Some(asked) => Some(Excerpt { asked, first: first_time(tools, source, stream.index, base)? }),
        None => None,
    };
    let window = excerpt.map(|excerpt| excerpt.window(base, &media.format.format_name));
    let empty = || match excerpt {
        Some(excerpt) => excerpt.asked.empty(&task.source.path, media.duration_micros()),
        None => Failure::stop(Code::InvalidSource, "the film has no picture"),
    };
    let pixel_format = stream.pix_fmt.as_deref().unwrap_or_default();
    let mut asked = Scan {
        source,
        stream: stream.index,
        deinterlace: how,
        base,
        alpha: has_alpha(pixel_format) && !task.source.drop_alpha,
        // A copied stream is read on after the end of a window.
        headers: shape_headers(media, stream).filter(|_| window.is_none()),
        window: window.as_ref(),
    };
    let mut pictures = scan(tools, &asked)?.ok_or_else(empty)?;
    if how == Deinterlace::Field && matches!(pictures.pts.as_slice(), [first, second] if first == second) {
        // With one frame only nothing says when its second field is shown.
        how = Deinterlace::Frame;
        asked.deinterlace = how;
        pictures = scan(tools, &asked)?.ok_or_else(empty)?;
    }
    if !states_shape(media) && (asked.headers.is_none() || pictures.headers_differ) {
        let change = shape_change(tools, source, stream, how, window.as_ref())?;
        check_shape(&task.source.path, base, change.as_ref())?;
    }
    let whole = window.as_ref().is_none_or(|window| window.to.is_none());
    let header = media.film_micros(stream).filter(|_| whole);
    let (pts, mut warnings) =
        check_pictures(&pictures, &task.source, base, excerpt.map(|excerpt| excerpt.first), header)?;
    let (width, height) = pictures.first.size;
    let pixel_format = pictures.first.format.clone();
    let colour = Colour::of(stream.colour_tags(), height, &pixel_format)
        .ok_or_else(|| Failure::stop(Code::Internal, "the header was accepted without a matrix"))?;
    let mut index = Index {
        v: 1,
        file,
        stream: stream.index,
        codec: stream.codec().to_owned(),
        base,
        deinterlace: how,
        width,
        height,
        colour,
        pixel_format,
        pixel_shape: stream.sample_aspect_ratio.as_deref().and_then(|shape| shape.parse().ok()),
        rotation: stream.turn().degrees,
        mirrored: stream.turn().mirrored,
        last_duration: last_duration(&pts, pictures.last_duration, base, how),
        cuts: pictures.cuts(&pts),
        hashes: pictures.hashes,
        keys: pictures.keys,
        excerpt,
        pts,
        warnings: Vec::new(),
    };
    if index.owned().frames() == 0 {
        return Err(empty());
    }
    let end = index.time(index.frames()).unwrap_or(0);
    match excerpt {
        Some(excerpt) => warnings.extend(excerpt.beyond(base, end)),
        None => warnings.extend(heard_before(media, Container::of(&task.destination)?)),
    }
    index.warnings = warnings;
    Ok(index)
}

/// Whether an index is what a probe makes of its film for that wish; a single frame has no second field.
fn is_made_by(index: &Index, asked: Deinterlace) -> bool {
    index.deinterlace == asked || (asked == Deinterlace::Field && index.frames() == 1)
}

/// Duration of the last picture: as said, else the gap before it, else a 25th of a second. The filter states half a
/// frame's duration for each field, and puts the last field where the gap before it says; that one lasts until the frame
/// ends.
fn last_duration(pts: &[i64], said: i64, base: Ratio, how: Deinterlace) -> i64 {
    match (how, pts) {
        (Deinterlace::Field, [.., first, second]) if said > 0 => {
            return first.saturating_add(said.saturating_mul(2)).saturating_sub(*second).max(1);
        }
        _ if said > 0 => return said,
        _ => {}
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
        quality: task.encode.quality,
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
        let lasts = |pts: &[i64], said| last_duration(pts, said, base, Deinterlace::Off);
        assert_eq!((lasts(&[0, 40], 33), lasts(&[0, 40, 90], 0), lasts(&[7], 0)), (33, 50, 40));
    }

    #[test]
    fn the_last_field_lasts_until_its_frame_ends() {
        let base = "1/2000".parse().unwrap();
        let lasts = |said| last_duration(&[0, 40, 80, 120], said, base, Deinterlace::Field);
        assert_eq!((lasts(40), lasts(500), lasts(1), lasts(0)), (40, 960, 1, 40));
    }
}
