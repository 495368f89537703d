//! The exact cut: reads pictures by number into a lossless RGB file for the engine, and proves by hashes that they are
//! the right ones. That they were stored as they were read is proved when the engine's output is held against them, as
//! that decodes them anyway, and no GPU waits for it: reading back costs a third of a cut (`cargo bench --bench video`).

use std::path::{Path, PathBuf};

use super::deinterlace;
use super::failure::{Failure, Outcome, on_file};
use super::ffmpeg::{Invocation, Tools};
use super::index::{Hashed, Index, read_hashes};
use super::plan::Read;
use super::ratio::seconds;
use crate::api::profile::InputKind;
use crate::api::worker::Code;
use crate::profile::Picture;

/// How many keyframes before the one needed a decoder starts, first and second try; then it starts at the beginning.
/// One or none fails on transport streams and open groups of pictures.
const KEYS_BACK: [usize; 2] = [2, 4];

/// A cut to be made.
#[derive(Clone, Copy, Debug)]
pub struct Cut<'a> {
    /// The film.
    pub source: &'a Path,
    /// Its name, for messages.
    pub name: &'a str,
    /// Its index.
    pub index: &'a Index,
    /// What to read.
    pub read: Read,
    /// Source pixels added on each side.
    pub pad: u32,
    /// A video file or a folder of pictures.
    pub kind: InputKind,
    /// That file or folder.
    pub target: &'a Path,
}

/// Makes a cut.
///
/// # Errors
/// [`Code::InvalidSource`] if the pictures are others than the probe saw, twice alike; [`Code::Io`] if they are others
/// each time, and the errors of the programs.
pub fn cut(tools: &Tools, cut: &Cut<'_>) -> Outcome<()> {
    let expected = expected(cut);
    let mut starts = starts(cut.index, cut.read.span.start);
    // The last one again: what a volume reads wrongly once it may read rightly the next time.
    starts.push(None);
    let mut before = None;
    let mut alike = false;
    for start in starts {
        let Hashed { hashes, said, .. } = select(tools, cut, start.as_deref())?;
        if hashes == expected {
            return Ok(());
        }
        let complaints = said.summary();
        tracing::warn!(start, complaints, "a cut found other pictures; it decodes again, from earlier on");
        alike = before.as_ref() == Some(&hashes) && !said.is_of_reading();
        before = Some(hashes);
    }
    let (span, name) = (cut.read.span, cut.name);
    let (first, last) = (span.start, span.end.saturating_sub(1));
    Err(if alike {
        let text = format!("pictures {first} to {last} of {name} are not those that were indexed");
        Failure::stop(Code::InvalidSource, text)
    } else {
        Failure::stop(
            Code::Io,
            format!("pictures {first} to {last} of {name} are read differently each time"),
        )
    })
}

/// Makes a cut of a film of our own making, in one look; whether it shows the pictures that it should.
///
/// # Errors
/// Those of the programs.
pub fn cut_at_once(tools: &Tools, cut: &Cut<'_>) -> Outcome<bool> {
    let start = starts(cut.index, cut.read.span.start).into_iter().next().flatten();
    Ok(select(tools, cut, start.as_deref())?.hashes == expected(cut))
}

/// Hashes of the pictures that a cut is to be made of.
fn expected<'a>(cut: &Cut<'a>) -> &'a [String] {
    cut.index.hashes_of(cut.read.span.start, cut.read.span.end)
}

/// Seconds to seek to, best first; `None` decodes from the beginning.
pub fn starts(index: &Index, first: u64) -> Vec<Option<String>> {
    let nearest = index.keys.partition_point(|key| *key <= first).checked_sub(1);
    let seek = |back: usize| {
        let key = *index.keys.get(nearest?.checked_sub(back)?)?;
        let (before, at) = (index.time(key.checked_sub(1)?)?, index.time(key)?);
        let double = index.base.micros_floor(before.saturating_add(at));
        Some(seconds(double.div_euclid(2)))
    };
    let mut starts: Vec<Option<String>> = KEYS_BACK.iter().map(|back| seek(*back)).collect();
    starts.push(None);
    starts.dedup();
    starts
}

/// Options of the encoder of a cut: exact RGB.
pub fn encoder(kind: InputKind) -> Vec<String> {
    let options: &[&str] = match kind {
        InputKind::Video => &["-c:v", "libx264rgb", "-qp", "0", "-preset", "ultrafast"],
        InputKind::Pictures => &["-c:v", "png", "-compression_level", "1"],
    };
    options.iter().map(|option| (*option).to_owned()).collect()
}

/// Beside a cut: the hashes of the pictures that were handed to its encoder.
pub fn handed_on(target: &Path) -> PathBuf {
    target.with_extension("framehash")
}

/// Appends a cut as an input.
pub fn input(run: &mut Invocation, kind: InputKind, target: &Path) {
    match kind {
        InputKind::Video => {
            run.input(target);
        }
        InputKind::Pictures => {
            run.args(["-framerate", "25", "-start_number", "0", "-f", "image2"]);
            run.input(&target.join("%08d.png"));
        }
    }
}

/// Output options with which a cut's pictures are hashed as they were handed on, into a file.
pub fn hash_again(run: &mut Invocation, kind: InputKind, file: &Path) {
    run.args(["-map", "0:v:0", "-vf", &format!("format={}", format(kind)), "-fps_mode", "passthrough"]);
    run.args(["-enc_time_base", "1/25"]).hashes().file(file);
}

const fn format(kind: InputKind) -> &'static str {
    match kind {
        InputKind::Video => "gbrp",
        InputKind::Pictures => "rgb24",
    }
}

/// Cuts; what is in the film at that place.
fn select(tools: &Tools, cut: &Cut<'_>, start: Option<&str>) -> Outcome<Hashed> {
    let folder = match cut.kind {
        InputKind::Video => cut.target.parent().unwrap_or(cut.target),
        InputKind::Pictures => cut.target,
    };
    std::fs::create_dir_all(folder).map_err(on_file("create", folder))?;
    let base = cut.index.base.to_string();
    let frames = cut.read.span.frames().to_string();
    let all = cut.read.frames().to_string();
    let mut run = tools.ffmpeg();
    // A stretch of damage is nothing to stop at: the index has it as it is.
    run.args(["-max_error_rate", "1", "-copyts", "-noautorotate", "-display_rotation", "0"]);
    if let Some(start) = start {
        run.args(["-seek_timestamp", "1", "-ss", start]);
    }
    run.input(cut.source).args(["-filter_complex", &graph(cut)]);
    run.args(["-map", "[engine]", "-fps_mode", "passthrough", "-enc_time_base", "1/25", "-frames:v", &all]);
    run.args(["-threads", &tools.threads().to_string()]);
    run.args(encoder(cut.kind));
    match cut.kind {
        InputKind::Video => {
            // The last packet's duration must be said, or the file's edit list hides the last picture.
            run.args([
                "-bsf:v",
                "setts=pts=PTS:dts=DTS:duration=1",
                "-video_track_timescale",
                "25",
                "-f",
                "mp4",
            ]);
            run.file(cut.target);
        }
        InputKind::Pictures => {
            run.args(["-start_number", "0", "-f", "image2"]).file(&cut.target.join("%08d.png"));
        }
    }
    run.args(["-map", "[stored]", "-fps_mode", "passthrough", "-enc_time_base", "1/25", "-frames:v", &all]);
    run.hashes().file(&handed_on(cut.target));
    run.args(["-map", "[shown]", "-fps_mode", "passthrough", "-enc_time_base", &base, "-frames:v", &frames]);
    run.hashes().args(["pipe:1"]);
    read_hashes(&run, "cut the segment", cut.index.base, |_| false)
}

/// The filter graph: select by exact time; hash as decoded; to RGB as the tags say; pad; hash as handed on.
fn graph(cut: &Cut<'_>) -> String {
    let index = cut.index;
    let time = |frame: u64| index.time(frame).unwrap_or(0);
    let (first, last) = (time(cut.read.span.start), time(cut.read.span.end.saturating_sub(1)));
    let format = format(cut.kind);
    let colour = index.colour.read_by_scale();
    let colour = if colour.is_empty() { colour } else { format!("{colour}:") };
    format!(
        "[0:{stream}]{fields}select='between(pts,{first},{last})',split[shown][cut];\
         [cut]settb=1/25,setpts=N,scale={colour}flags=accurate_rnd+full_chroma_int,format={gbrp}{pad}{repeat},\
         format={format},split[engine][stored]",
        stream = index.stream,
        fields = deinterlace::filter(index.deinterlace, index.base),
        gbrp = if padding(cut).is_empty() { format } else { "gbrp" },
        pad = padding(cut),
        repeat = repeat(cut.read),
    )
}

/// Padding by the outermost pixels, so that no edge appears that the film has not.
fn padding(cut: &Cut<'_>) -> String {
    let picture = Picture { width: cut.index.width, height: cut.index.height, scale: 1, pad: cut.pad };
    let (width, height) = picture.padded();
    if (width, height) == (picture.width, picture.height) {
        return String::new();
    }
    let pad = cut.pad;
    let right = width.saturating_sub(picture.width).saturating_sub(pad);
    let bottom = height.saturating_sub(picture.height).saturating_sub(pad);
    format!(
        ",pad={width}:{height}:{pad}:{pad},fillborders=left={pad}:right={right}:top={pad}:bottom={bottom}:mode=smear"
    )
}

/// Repeats of the last picture; only a film that is read to its end has any.
fn repeat(read: Read) -> String {
    if read.repeat == 0 {
        return String::new();
    }
    format!(",trim=end_frame={},tpad=stop_mode=clone:stop={}", read.span.frames(), read.repeat)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::index::tests::film;
    use crate::worker::plan::Span;

    fn of(index: &Index, read: Read, pad: u32) -> String {
        let target = Path::new("/scratch/p0/in.mp4");
        let source = Path::new("/source/film");
        graph(&Cut { source, name: "film", index, read, pad, kind: InputKind::Video, target })
    }

    #[test]
    fn a_cut_starts_two_keyframes_before_the_nearest_or_at_the_beginning() {
        let times: Vec<i64> = (0..100).map(|frame| frame * 512).collect();
        let mut index = film(&times, "1/12800", 512);
        index.keys = vec![0, 12, 24, 36, 48];
        let starts = |first| starts(&index, first);
        assert_eq!(starts(40), [Some("0.460000".to_owned()), None]);
        assert_eq!(starts(60), [Some("0.940000".to_owned()), None]);
        assert_eq!(starts(30), [None]);
        index.keys.extend([60, 72]);
        assert_eq!(
            super::starts(&index, 99),
            [Some("1.900000".to_owned()), Some("0.940000".to_owned()), None]
        );
    }

    #[test]
    fn seeks_before_zero_are_written_right() {
        let mut index = film(&[-3000, -2500, -2000, 0, 40, 80], "1/1000", 40);
        index.keys = vec![0, 1, 2, 3];
        assert_eq!(starts(&index, 3), [Some("-2.750000".to_owned()), None]);
    }

    #[test]
    fn pictures_are_selected_by_time_padded_and_repeated() {
        let index = film(&[7, 47, 87], "1/1000", 40);
        let read = Read { span: Span { start: 1, end: 3 }, repeat: 0 };
        let plain = of(&index, read, 0);
        assert!(plain.contains("between(pts,47,87)") && plain.contains("in_color_matrix=bt601:in_range=tv"));
        assert!(!plain.contains("pad"), "{plain}");
        let padded = of(&index, Read { repeat: 19, ..read }, 4);
        assert!(padded.contains("pad=72:44:4:4,fillborders=left=4:right=4:top=4:bottom=4:mode=smear"));
        assert!(padded.contains("trim=end_frame=2,tpad=stop_mode=clone:stop=19"));
    }
}
