//! Folders of PNG pictures, as engines without films read and write them; both through the ffmpeg program.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::film::FilmError;
use crate::control::Spoil;

/// What a PNG file begins with.
const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

/// Names of the files of a folder, sorted.
///
/// # Errors
/// When the folder cannot be read.
pub fn names(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = fs::read_dir(folder)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<io::Result<Vec<String>>>()?;
    names.sort();
    Ok(names)
}

/// Width and height of a PNG file by its header; `None` if it is none.
#[must_use]
pub fn size(path: &Path) -> Option<(usize, usize)> {
    let mut header = [0; 24];
    fs::File::open(path).ok()?.read_exact(&mut header).ok()?;
    let side = |from: usize| {
        let bytes = header.get(from..from.saturating_add(4))?.try_into().ok()?;
        usize::try_from(u32::from_be_bytes(bytes)).ok()
    };
    if header.starts_with(SIGNATURE) { Some((side(16)?, side(20)?)) } else { None }
}

/// Writes frames of RGB, one file for each name.
///
/// # Errors
/// When ffmpeg cannot be run or fails, or a file cannot be named.
pub fn write<'a>(
    folder: &Path,
    names: &[String],
    frames: impl Iterator<Item = &'a [u8]>,
    size: (usize, usize),
) -> Result<(), FilmError> {
    let run = |source| FilmError::Run { program: "ffmpeg", source };
    let mut child = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24"])
        .args(["-video_size", &format!("{}x{}", size.0, size.1), "-i", "pipe:0"])
        .args(["-f", "image2", "-start_number", "0", "-compression_level", "1"])
        .arg(folder.join("writing-%08d.png"))
        .stdin(Stdio::piped())
        .spawn()
        .map_err(run)?;
    let mut pipe = child.stdin.take().ok_or_else(|| run(io::ErrorKind::BrokenPipe.into()))?;
    for frame in frames {
        pipe.write_all(frame)?;
    }
    drop(pipe);
    let status = child.wait().map_err(run)?;
    if !status.success() {
        return Err(FilmError::Failed { program: "ffmpeg", status });
    }
    for (number, name) in names.iter().enumerate() {
        let written = folder.join(format!("writing-{number:08}.png"));
        if written.exists() {
            fs::rename(written, folder.join(name))?;
        }
    }
    Ok(())
}

/// Files among `names` that the engine fails to write as a test has said.
#[must_use]
pub fn lost(names: &[String], spoil: Spoil) -> &[String] {
    let kept = match spoil {
        Spoil::NoOutput => 0,
        Spoil::TooFewFrames => names.len().saturating_sub(3),
        _ => names.len(),
    };
    names.get(kept..).unwrap_or_default()
}

/// Spoils the file in the middle as a test has said: half of it, or a picture of another kind under its name.
///
/// # Errors
/// When it cannot be written.
pub fn spoil(folder: &Path, names: &[String], spoil: Spoil) -> Result<(), FilmError> {
    let Some(name) = names.get(names.len().checked_div(2).unwrap_or(0)) else { return Ok(()) };
    let path = folder.join(name);
    match spoil {
        Spoil::PartialFile => {
            let file = fs::OpenOptions::new().write(true).open(&path)?;
            let whole = file.metadata()?.len();
            file.set_len(whole.checked_div(2).unwrap_or(0))?;
        }
        Spoil::WrongCodec => as_jpeg(&path)?,
        _ => {}
    }
    Ok(())
}

fn as_jpeg(path: &Path) -> Result<(), FilmError> {
    let other: PathBuf = path.with_extension("jpg");
    let status = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-y", "-i"])
        .arg(path)
        .args(["-pix_fmt", "yuvj420p"])
        .arg(&other)
        .status()
        .map_err(|source| FilmError::Run { program: "ffmpeg", source })?;
    if !status.success() {
        return Err(FilmError::Failed { program: "ffmpeg", status });
    }
    Ok(fs::rename(other, path)?)
}
