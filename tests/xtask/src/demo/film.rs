//! What a film file really holds, by decoding it with Debian's ffmpeg (none of the product's code), and whether a
//! result is the source, only larger.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::images::FilmPrograms;

/// A film as decoded.
#[derive(Clone, Debug)]
pub struct Film {
    /// Where it lies.
    pub path: PathBuf,
    /// Width, pixels.
    pub width: u32,
    /// Height, pixels.
    pub height: u32,
    /// Time base of the video stream.
    time_base: (i128, i128),
    /// Presentation times of the pictures that decode, ticks.
    times: Vec<i128>,
    /// Duration of the last picture, ticks; `None` if the file does not say.
    last_duration: Option<i128>,
    /// SHA-256 over the payload of all audio packets; `None` without audio.
    pub audio_sha256: Option<String>,
}

/// The facts of a film that the demo prints.
#[derive(Clone, Debug, Serialize)]
pub struct Facts {
    /// Path as the caller named it.
    pub path: String,
    /// Pictures that decode.
    pub frames: usize,
    /// Width, pixels.
    pub width: u32,
    /// Height, pixels.
    pub height: u32,
    /// SHA-256 over the payload of all audio packets.
    pub audio_sha256: Option<String>,
}

#[derive(Deserialize)]
struct Probe {
    #[serde(default)]
    frames: Vec<Frame>,
    #[serde(default)]
    streams: Vec<Stream>,
}

#[derive(Deserialize)]
struct Frame {
    pts: Option<i64>,
    duration: Option<i64>,
    pkt_duration: Option<i64>,
}

#[derive(Deserialize)]
struct Stream {
    width: u32,
    height: u32,
    time_base: String,
}

impl Film {
    /// Decodes the whole file. Fails if it has no film, or a picture without a time.
    pub fn decode(programs: &FilmPrograms, path: &Path) -> Result<Self> {
        let probe: Probe = serde_json::from_slice(&run(Command::new(&programs.ffprobe)
            .args([
                "-v",
                "error",
                "-select_streams",
                "v:0",
                "-show_entries",
                "stream=width,height,time_base:frame=pts,duration,pkt_duration",
                "-of",
                "json",
            ])
            .arg(path))?)
        .with_context(|| format!("read what ffprobe says of {}", path.display()))?;
        let Some(stream) = probe.streams.first() else { bail!("{} has no film", path.display()) };
        let times = probe
            .frames
            .iter()
            .map(|frame| frame.pts.map(i128::from))
            .collect::<Option<Vec<_>>>()
            .with_context(|| format!("{} has a picture without a time", path.display()))?;
        let last = probe.frames.last();
        let (numerator, denominator) = stream.time_base.split_once('/').context("read the time base")?;
        Ok(Self {
            path: path.to_owned(),
            width: stream.width,
            height: stream.height,
            time_base: (numerator.parse()?, denominator.parse()?),
            last_duration: last.and_then(|f| f.duration.or(f.pkt_duration)).map(i128::from),
            times,
            audio_sha256: audio_sha256(programs, path)?,
        })
    }

    /// Pictures that decode.
    pub fn frames(&self) -> usize {
        self.times.len()
    }

    /// The facts to print.
    pub fn facts(&self) -> Facts {
        Facts {
            path: self.path.display().to_string(),
            frames: self.frames(),
            width: self.width,
            height: self.height,
            audio_sha256: self.audio_sha256.clone(),
        }
    }

    /// Fails, naming the first difference, unless `result` is this film `scale` times as large: as many pictures,
    /// each at its own time, the last ending when this one's does, and the same audio packets.
    pub fn verify_upscaled(&self, result: &Self, scale: u32) -> Result<()> {
        ensure!(
            result.frames() == self.frames(),
            "{} pictures went in, {} came out",
            self.frames(),
            result.frames()
        );
        ensure!(
            (result.width, result.height) == (self.width * scale, self.height * scale),
            "{}x{} times {scale} became {}x{}",
            self.width,
            self.height,
            result.width,
            result.height
        );
        for (number, (source, target)) in self.times.iter().zip(&result.times).enumerate() {
            ensure!(
                self.same_instant(*source, result, *target),
                "picture {number} moved from {} to {}",
                seconds(*source, self.time_base),
                seconds(*target, result.time_base)
            );
        }
        if let (Some(a), Some(b), Some(da), Some(db)) =
            (self.times.last(), result.times.last(), self.last_duration, result.last_duration)
        {
            ensure!(
                self.same_instant(a + da, result, b + db),
                "the last picture ended at {}, now at {}",
                seconds(a + da, self.time_base),
                seconds(b + db, result.time_base)
            );
        }
        ensure!(result.audio_sha256 == self.audio_sha256, "the audio packets differ");
        Ok(())
    }

    fn same_instant(&self, ticks: i128, other: &Self, other_ticks: i128) -> bool {
        let (n, d) = self.time_base;
        let (other_n, other_d) = other.time_base;
        ticks * n * other_d == other_ticks * other_n * d
    }
}

fn seconds(ticks: i128, (n, d): (i128, i128)) -> String {
    format!("{} x {n}/{d} s", ticks)
}

fn audio_sha256(programs: &FilmPrograms, path: &Path) -> Result<Option<String>> {
    let streams = run(Command::new(&programs.ffprobe)
        .args(["-v", "error", "-select_streams", "a", "-show_entries", "stream=index", "-of", "csv=p=0"])
        .arg(path))?;
    if streams.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    let line = run(Command::new(&programs.ffmpeg)
        .args(["-v", "error", "-nostdin", "-i"])
        .arg(path)
        .args(["-map", "0:a", "-c", "copy", "-f", "hash", "-hash", "sha256", "-"]))?;
    let line = String::from_utf8(line).context("read ffmpeg's hash")?;
    Ok(Some(line.trim().trim_start_matches("SHA256=").to_owned()))
}

fn run(command: &mut Command) -> Result<Vec<u8>> {
    let output = command.output().with_context(|| format!("start {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?} ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn film(times: &[i128], base: (i128, i128), last: i128, size: (u32, u32)) -> Film {
        Film {
            path: PathBuf::new(),
            width: size.0,
            height: size.1,
            time_base: base,
            times: times.to_vec(),
            last_duration: Some(last),
            audio_sha256: Some("a".into()),
        }
    }

    #[test]
    fn the_same_film_in_another_time_base_is_the_same() {
        let source = film(&[0, 1, 2], (1, 25), 1, (2, 2));
        let result = film(&[0, 512, 1024], (1, 12_800), 512, (4, 4));
        source.verify_upscaled(&result, 2).unwrap();
    }

    #[test]
    fn every_spoilt_result_is_refused() {
        let source = film(&[0, 1, 2], (1, 25), 1, (2, 2));
        let good = film(&[0, 1, 2], (1, 25), 1, (4, 4));
        let spoilt = [
            film(&[0, 1], (1, 25), 1, (4, 4)),
            film(&[0, 1, 3], (1, 25), 1, (4, 4)),
            film(&[0, 1, 2], (1, 24), 1, (4, 4)),
            film(&[0, 1, 2], (1, 25), 2, (4, 4)),
            film(&[0, 1, 2], (1, 25), 1, (4, 2)),
            Film { audio_sha256: None, ..good.clone() },
        ];
        source.verify_upscaled(&good, 2).unwrap();
        for film in spoilt {
            assert!(source.verify_upscaled(&film, 2).is_err(), "{film:?}");
        }
    }
}
