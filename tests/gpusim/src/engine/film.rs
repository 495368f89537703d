//! Reading and writing films as the real program does: by OpenCV's rules in, by ffmpeg out; here both through the
//! ffmpeg programs.

use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};

use serde::Deserialize;

use super::picture::Frames;

/// What a container says of its film.
#[derive(Clone, Debug, PartialEq)]
pub struct Film {
    /// Width as shown: turned where the file says so.
    pub width: usize,
    /// Height as shown.
    pub height: usize,
    /// Frames a second, as OpenCV gives it: a decimal.
    pub rate: f64,
    /// Frames that the container states; where it does not, OpenCV's guess from duration and rate.
    pub stated: usize,
}

/// A film that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FilmError {
    /// A program could not be run.
    #[error("run {program}: {source}")]
    Run {
        /// Which.
        program: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The input holds no film.
    #[error("Cannot open video file: {0}")]
    Unreadable(String),
    /// A file could not be written.
    #[error("write frames: {0}")]
    Write(#[from] io::Error),
    /// A program failed.
    #[error("{program} ended with {status}")]
    Failed {
        /// Which.
        program: &'static str,
        /// How.
        status: ExitStatus,
    },
}

#[derive(Deserialize)]
struct Probe {
    #[serde(default)]
    streams: Vec<Stream>,
    #[serde(default)]
    format: Format,
}

#[derive(Default, Deserialize)]
struct Format {
    duration: Option<String>,
}

#[derive(Deserialize)]
struct Stream {
    width: usize,
    height: usize,
    avg_frame_rate: String,
    r_frame_rate: String,
    nb_frames: Option<String>,
    duration: Option<String>,
    #[serde(default)]
    side_data_list: Vec<SideData>,
}

#[derive(Deserialize)]
struct SideData {
    rotation: Option<f64>,
}

/// Looks at the film at `path`.
///
/// # Errors
/// When there is none.
pub fn probe(path: &str) -> Result<Film, FilmError> {
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-select_streams", "v:0", "-show_streams", "-show_format", "-of", "json", path])
        .stdin(Stdio::null())
        .output()
        .map_err(|source| FilmError::Run { program: "ffprobe", source })?;
    let unreadable = || FilmError::Unreadable(path.to_owned());
    let probe: Probe = serde_json::from_slice(&output.stdout).map_err(|_| unreadable())?;
    let stream = probe.streams.into_iter().next().ok_or_else(unreadable)?;
    let rate =
        ratio(&stream.avg_frame_rate).or_else(|| ratio(&stream.r_frame_rate)).ok_or_else(unreadable)?;
    let seconds = stream.duration.or(probe.format.duration).and_then(|text| text.parse::<f64>().ok());
    let guess = seconds.map(|seconds| (seconds * rate).round()).unwrap_or_default();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast saturates")]
    let guess = guess as usize;
    let stated = stream.nb_frames.and_then(|text| text.parse().ok()).unwrap_or(guess);
    let turned = stream.side_data_list.iter().filter_map(|data| data.rotation).any(|degrees| {
        let quarter = degrees.rem_euclid(180.0);
        (45.0..135.0).contains(&quarter)
    });
    let (width, height) = if turned { (stream.height, stream.width) } else { (stream.width, stream.height) };
    if width == 0 || height == 0 || stated == 0 {
        return Err(unreadable());
    }
    Ok(Film { width, height, rate, stated })
}

fn ratio(text: &str) -> Option<f64> {
    let (over, under) = text.split_once('/')?;
    let rate = over.parse::<f64>().ok()? / under.parse::<f64>().ok()?;
    (rate.is_finite() && rate > 0.0).then_some(rate)
}

/// What frames are read from.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// A file.
    Film(&'a str),
    /// All PNG pictures of a folder, by name.
    Pictures(&'a Path),
}

/// Frames as they are decoded, enlarged.
#[derive(Debug)]
pub struct Reader {
    child: Child,
    pipe: ChildStdout,
    frame: usize,
}

impl Reader {
    /// Begins to read frames of `width` x `height` pixels. Every decoded frame counts once, whatever its time; the
    /// file's rotation is applied.
    ///
    /// # Errors
    /// When ffmpeg cannot be run.
    pub fn open(input: Input<'_>, width: usize, height: usize) -> Result<Self, FilmError> {
        let run = |source| FilmError::Run { program: "ffmpeg", source };
        let mut command = Command::new("ffmpeg");
        command.args(["-v", "error", "-nostdin"]);
        match input {
            Input::Film(path) => command.args(["-i", path]),
            Input::Pictures(folder) => {
                command.args(["-f", "image2", "-pattern_type", "glob", "-i"]).arg(folder.join("*.png"))
            }
        };
        let mut child = command
            .args(["-map", "0:v:0", "-fps_mode", "passthrough"])
            .args(["-vf", &format!("scale={width}:{height}:flags=bicubic")])
            .args(["-f", "rawvideo", "-pix_fmt", "rgb24", "-"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(run)?;
        let pipe = child.stdout.take().ok_or_else(|| run(io::ErrorKind::BrokenPipe.into()))?;
        Ok(Self { child, pipe, frame: width.saturating_mul(height).saturating_mul(3) })
    }

    /// At most `limit` frames, bytes of RGB each; a torn last one is left out.
    ///
    /// # Errors
    /// When the pipe breaks.
    pub fn frames(mut self, limit: usize) -> Result<Vec<Vec<u8>>, FilmError> {
        let mut frames = Vec::new();
        while frames.len() < limit {
            let mut frame = vec![0; self.frame];
            match self.pipe.read_exact(&mut frame) {
                Ok(()) => frames.push(frame),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
                Err(error) => return Err(error.into()),
            }
        }
        let _ended_already = self.child.kill();
        let _status = self.child.wait();
        Ok(frames)
    }
}

/// How the output is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoder {
    /// H.264 by libx264, CRF 18.
    H264,
    /// MPEG-4 part 2, as OpenCV writes it: odd sides lose a pixel.
    Mpeg4,
}

/// Encodes the raw frames at `raw` into `path`. No colour tags: ffmpeg's default matrix and range.
///
/// # Errors
/// When ffmpeg cannot be run or fails.
pub fn encode(
    raw: &Path,
    path: &Path,
    frames: &Frames,
    rate: f64,
    encoder: Encoder,
) -> Result<(), FilmError> {
    let mut command = Command::new("ffmpeg");
    command
        .args(["-v", "error", "-nostdin", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24"])
        .args(["-video_size", &format!("{}x{}", frames.width, frames.height)])
        .args(["-framerate", &format!("{rate:.8}")])
        .arg("-i")
        .arg(raw);
    match encoder {
        Encoder::H264 => command.args(["-c:v", "libx264", "-crf", "18", "-pix_fmt", "yuv420p"]),
        Encoder::Mpeg4 => {
            command.args(["-vf", "crop=trunc(iw/2)*2:trunc(ih/2)*2", "-c:v", "mpeg4", "-q:v", "4"])
        }
    };
    let status = command
        .args(["-movflags", "+faststart"])
        .arg(path)
        .stdin(Stdio::null())
        .status()
        .map_err(|source| FilmError::Run { program: "ffmpeg", source })?;
    if status.success() { Ok(()) } else { Err(FilmError::Failed { program: "ffmpeg", status }) }
}

/// Writes frames one behind the other.
///
/// # Errors
/// When there is no room.
pub fn write_raw<'a>(path: &Path, frames: impl Iterator<Item = &'a Vec<f32>>) -> Result<(), FilmError> {
    let mut file = io::BufWriter::new(std::fs::File::create(path)?);
    for frame in frames {
        file.write_all(&super::picture::bytes(frame))?;
    }
    Ok(file.flush()?)
}
