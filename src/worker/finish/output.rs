//! What the engine wrote, proved: there, of the right kind and size, and picture by picture what it read.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::api::profile::{CodecName, OutputKind, Range};
use crate::api::worker::{Code, EngineOutput, FinishTask, piece_input, piece_output};
use crate::profile::Picture;
use crate::worker::colour::scale_name;
use crate::worker::compare::{RAW, films, shrink};
use crate::worker::cut;
use crate::worker::failure::{Failure, Outcome, on_file};
use crate::worker::ffmpeg::{Invocation, Tools};
use crate::worker::folder::Mounts;
use crate::worker::index::{HashLine, Index, read_hash_line};
use crate::worker::media;
use crate::worker::plan::Piece;

/// Most pictures in a folder.
const MAX_FILES: usize = 200_000;
/// Most that hashes of a cut's pictures take, bytes: some 100 each.
const MAX_HASHES_BYTES: u64 = 64 << 20;

/// A piece's output that was proved.
#[derive(Clone, Debug)]
pub struct Output {
    /// A video file, or a folder.
    pub path: PathBuf,
    /// Pattern of the pictures in the folder.
    pub pattern: String,
    /// How its colours are read, as arguments of the `scale` filter; empty for RGB.
    pub read_as: String,
    /// Number of its pictures before the owned ones.
    pub skip: u64,
    /// Owned pictures.
    pub owned: u64,
    /// Output pixels to drop at the left and at the top.
    pub border: u32,
}

impl Output {
    /// Appends it as an input.
    pub fn input(&self, run: &mut Invocation, kind: OutputKind) {
        match kind {
            OutputKind::Video => {
                run.input(&self.path);
            }
            OutputKind::Pictures => {
                // A pattern is matched against plain paths; ours begins with a slash, so no protocol can hide in it.
                run.args(["-framerate", "25", "-f", "image2", "-pattern_type", "glob"]);
                run.args(["-protocol_whitelist", "file", "-i"]).args([self.path.join(&self.pattern)]);
            }
        }
    }
}

fn bad<T>(number: u32, text: impl std::fmt::Display) -> Outcome<T> {
    Err(Failure::stop(Code::BadOutput, format!("the engine's output of piece {number}: {text}")))
}

/// Proves the output of a piece.
///
/// # Errors
/// [`Code::BadOutput`] with what is wrong.
pub fn prove(
    tools: &Tools,
    mounts: &Mounts,
    index: &Index,
    task: &FinishTask,
    number: u32,
    piece: &Piece,
) -> Outcome<Output> {
    let path = mounts.scratch_path(&piece_output(&task.output, number));
    let picture =
        Picture { width: index.width, height: index.height, scale: task.scale, pad: task.engine.pad };
    match task.output.kind {
        OutputKind::Video => prove_video(tools, &path, &task.output, picture.output(), number)?,
        OutputKind::Pictures => prove_pictures(&path, &task.output.path, picture.output(), number)?,
    }
    let read_as = match task.output.kind {
        OutputKind::Pictures => String::new(),
        OutputKind::Video => read_as(&task.output).ok_or_else(|| {
            Failure::stop(Code::Usage, format!("the profile's matrix {} cannot be read", task.output.matrix))
        })?,
    };
    let output = Output {
        path,
        pattern: task.output.path.clone(),
        read_as,
        skip: piece.owned.start.saturating_sub(piece.read.span.start),
        owned: piece.owned.frames(),
        border: task.engine.pad.saturating_mul(task.scale),
    };
    compare_with_input(tools, mounts, task, number, piece, &output)?;
    Ok(output)
}

fn read_as(output: &EngineOutput) -> Option<String> {
    if output.pixel_format.starts_with("gbr") || output.pixel_format.starts_with("rgb") {
        return Some(String::new());
    }
    let range = match output.range {
        Range::Limited => "tv",
        Range::Full => "pc",
    };
    Some(format!("in_color_matrix={}:in_range={range}", scale_name(&output.matrix)?))
}

fn prove_video(
    tools: &Tools,
    path: &Path,
    asked: &EngineOutput,
    size: (u32, u32),
    number: u32,
) -> Outcome<()> {
    if !path.is_file() {
        return bad(number, format!("{} is not there", asked.path));
    }
    let media = match media::read(tools, path) {
        Err(Failure::Tool { said, .. }) => return bad(number, format!("it is not a video: {said}")),
        other => other?,
    };
    let Some(film) = media.film() else { return bad(number, "it has no video stream") };
    let codec = match asked.codec {
        CodecName::H264 => "h264",
        CodecName::Hevc => "hevc",
        CodecName::Ffv1 => "ffv1",
    };
    let format = film.pix_fmt.as_deref().unwrap_or("unknown");
    if film.codec() != codec || format != asked.pixel_format {
        return bad(
            number,
            format!(
                "it is {} {format} instead of {codec} {}; its encoder failed",
                film.codec(),
                asked.pixel_format
            ),
        );
    }
    let found = (film.width.unwrap_or(0), film.height.unwrap_or(0));
    prove_size(found, size, number)
}

fn prove_size(found: (u32, u32), wanted: (u32, u32), number: u32) -> Outcome<()> {
    if found == wanted {
        return Ok(());
    }
    bad(number, format!("it is {}x{} instead of {}x{}", found.0, found.1, wanted.0, wanted.1))
}

/// The folder of a pattern like `in/in_*.png`, and what its names begin and end with. `None` without exactly one star, or
/// if it is in the folder's name.
fn parts_of(pattern: &str) -> Option<(&str, &str, &str)> {
    let (before, ending) = pattern.split_once('*')?;
    let (folder, beginning) = before.rsplit_once('/').unwrap_or(("", before));
    (!ending.contains(['*', '/'])).then_some((folder, beginning, ending))
}

/// Every picture of a pattern below a folder has the size; ffmpeg would stretch odd ones without a word.
fn prove_pictures(folder: &Path, pattern: &str, size: (u32, u32), number: u32) -> Outcome<()> {
    let Some((below, beginning, ending)) = parts_of(pattern) else {
        let text = format!("the profile's pattern {pattern} is not a path with one star in its last part");
        return Err(Failure::stop(Code::Usage, text));
    };
    let folder = folder.join(below);
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) => return bad(number, format!("its folder cannot be read: {error}")),
    };
    let mut found = 0usize;
    for entry in entries.take(MAX_FILES) {
        let entry = entry.map_err(on_file("read", &folder))?;
        let name = entry.file_name();
        let named = name.to_string_lossy();
        let is_one = named.strip_prefix(beginning).is_some_and(|rest| rest.ends_with(ending))
            && !named.starts_with('.');
        if !is_one {
            continue;
        }
        found = found.saturating_add(1);
        match png_size(&entry.path()) {
            Some(of_file) => prove_size(of_file, size, number)?,
            None => return bad(number, format!("{} is not a PNG file", entry.path().display())),
        }
    }
    if found == 0 { bad(number, format!("no file is like {pattern}")) } else { Ok(()) }
}

/// Width and height of a PNG file by its header.
fn png_size(path: &Path) -> Option<(u32, u32)> {
    let mut header = [0; 24];
    File::open(path).ok()?.read_exact(&mut header).ok()?;
    let (start, size) = header.split_at(16);
    let (width, height) = size.split_at(4);
    let side = |bytes: &[u8]| Some(u32::from_be_bytes(bytes.try_into().ok()?));
    start.starts_with(b"\x89PNG\r\n\x1a\n").then_some((side(width)?, side(height)?))
}

/// Holds each picture against what the engine read; both padded, so that they show the same. What it read is proved to be
/// what was cut first: else its output says nothing about the engine.
fn compare_with_input(
    tools: &Tools,
    mounts: &Mounts,
    task: &FinishTask,
    number: u32,
    piece: &Piece,
    output: &Output,
) -> Outcome<()> {
    let mut made = tools.ffmpeg();
    output.input(&mut made, task.output.kind);
    made.args(["-map", "0:v:0", "-vf", &shrink(&output.read_as)]).args(RAW);
    let input = mounts.scratch_path(&piece_input(task.engine.kind, number));
    let again = input.with_extension("again.framehash");
    let mut expected = tools.ffmpeg();
    cut::input(&mut expected, task.engine.kind, &input);
    cut::hash_again(&mut expected, task.engine.kind, &again);
    expected.args(["-map", "0:v:0", "-vf", &shrink("")]).args(RAW);
    let what = format!("the engine's output of piece {number}");
    let compared = films(&made, &expected, piece.read.frames(), Code::BadOutput, &what);
    let handed_on = hashes(&cut::handed_on(&input))?;
    let found = match hashes(&again) {
        Ok(found) => found,
        // It was not even begun.
        Err(failure) => return Err(compared.err().unwrap_or(failure)),
    };
    let wrong = |text: String| {
        Failure::stop(
            Code::Internal,
            format!("the engine's input of piece {number} is not what was cut: {text}"),
        )
    };
    if let Some(picture) = found.iter().zip(&handed_on).position(|(found, handed)| found != handed) {
        return Err(wrong(format!("picture {picture} is another one")));
    }
    compared?;
    if found.len() != handed_on.len() {
        return Err(wrong(format!("{} pictures instead of {}", found.len(), handed_on.len())));
    }
    Ok(())
}

/// Hashes of pictures in a file.
fn hashes(path: &Path) -> Outcome<Vec<String>> {
    let mut text = String::new();
    let file = File::open(path).map_err(on_file("open", path))?;
    file.take(MAX_HASHES_BYTES).read_to_string(&mut text).map_err(on_file("read", path))?;
    let hash = |line| match read_hash_line(line) {
        HashLine::Picture { hash, .. } => Some(hash),
        _ => None,
    };
    Ok(text.lines().filter_map(hash).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(pixel_format: &str, matrix: &str) -> EngineOutput {
        EngineOutput {
            kind: OutputKind::Video,
            path: "out.mp4".to_owned(),
            codec: CodecName::H264,
            pixel_format: pixel_format.to_owned(),
            matrix: matrix.to_owned(),
            range: Range::Limited,
            bad_border: 1,
        }
    }

    #[test]
    fn colours_are_read_as_the_profile_says() {
        let told = |format, matrix| read_as(&asked(format, matrix));
        assert_eq!(told("yuv420p", "smpte170m").unwrap(), "in_color_matrix=bt601:in_range=tv");
        assert_eq!(told("gbrp", "gbr").unwrap(), "");
        assert_eq!(told("yuv420p", "nonsense"), None);
    }

    #[test]
    fn folders_are_proved_file_by_file() {
        let root = tempfile::tempdir().unwrap();
        let prove =
            |pattern: &str| prove_pictures(root.path(), pattern, (3, 2), 0).map_err(|error| error.code());
        assert_eq!(prove("*.png"), Err(Code::BadOutput));
        for pattern in ["a*b*c", "a.png", "a*/b.png"] {
            assert_eq!(prove(pattern), Err(Code::Usage), "{pattern}");
        }
        let png = |width: u8| {
            let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".to_vec();
            bytes.extend([0, 0, 0, width, 0, 0, 0, 2]);
            bytes
        };
        std::fs::write(root.path().join("1.png"), png(3)).unwrap();
        std::fs::write(root.path().join("notes.txt"), "x").unwrap();
        assert_eq!(prove("*.png"), Ok(()));
        std::fs::write(root.path().join("2.png"), png(4)).unwrap();
        assert_eq!(prove("*.png"), Err(Code::BadOutput));
        std::fs::write(root.path().join("2.png"), "").unwrap();
        assert_eq!(prove("*.png"), Err(Code::BadOutput));
        assert_eq!(prove("1*.png"), Ok(()), "the other does not begin like that");
        assert_eq!(prove("in/in_*.png"), Err(Code::BadOutput));
        std::fs::create_dir(root.path().join("in")).unwrap();
        std::fs::write(root.path().join("in/in_00000.png"), png(3)).unwrap();
        std::fs::write(root.path().join("in/other.png"), "").unwrap();
        assert_eq!(prove("in/in_*.png"), Ok(()));
    }
}
