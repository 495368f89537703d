//! Whether the shape of a film's pixels changes on the way. ffmpeg's filters are told the first shape for all pictures, so
//! they do not see it. In broadcasts, the headers that state the shape are told beside the pictures: as long as they are
//! equal, so is the shape. Else this takes a look of its own; it decodes keyframes only, as no codec changes its shape
//! between them.

use std::path::Path;

use crate::api::worker::Deinterlace;
use crate::worker::deinterlace::per_frame;
use crate::worker::failure::Outcome;
use crate::worker::ffmpeg::Tools;
use crate::worker::media::{Media, Stream, is_format};
use crate::worker::range::Window;
use crate::worker::ratio::Ratio;

/// Containers that state one shape for all pictures, which players obey.
const STATES_SHAPE: [&str; 2] = ["mov", "matroska"];

/// Whether a file states one shape for all pictures.
pub fn states_shape(media: &Media) -> bool {
    is_format(&media.format.format_name, &STATES_SHAPE)
}

/// The units of a broadcast's stream that state the shape, as ffmpeg's filter `filter_units` takes them: sequence
/// parameter sets of H.264 (ITU-T H.264, table 7-1) and HEVC (H.265, table 7-1), sequence headers of MPEG-2 (H.262, table
/// 6-1). `None` for others, whose units that filter does not know or whose headers lie elsewhere.
pub fn shape_headers(media: &Media, stream: &Stream) -> Option<&'static str> {
    match stream.codec() {
        _ if !is_format(&media.format.format_name, &["mpegts", "mpeg"]) => None,
        "h264" => Some("7"),
        "hevc" => Some("33"),
        "mpeg2video" => Some("179"),
        _ => None,
    }
}

/// A change of shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShapeChange {
    /// Shape by the header.
    pub from: Ratio,
    /// The first other shape.
    pub to: Ratio,
    /// Time of the picture that has it, ticks of the index; `None` if it has none.
    pub at: Option<i64>,
}

/// Looks for the first change of shape in a film, or in a window of it. `deinterlace`: what the index is made with.
///
/// # Errors
/// Those of the program.
pub fn shape_change(
    tools: &Tools,
    source: &Path,
    stream: &Stream,
    deinterlace: Deinterlace,
    window: Option<&Window>,
) -> Outcome<Option<ShapeChange>> {
    let mut run = tools.ffprobe();
    run.args(["-skip_frame", "nokey", "-select_streams", &stream.index.to_string()]);
    run.args(["-show_entries", "frame=pts,sample_aspect_ratio", "-of", "csv=p=0"]).input(source);
    let from = shape(stream.sample_aspect_ratio.as_deref().unwrap_or_default());
    let ticks = i64::try_from(per_frame(deinterlace)).unwrap_or(1);
    let mut change = None;
    run.lines("look at the shape of pixels", |line| {
        let told = read_shape(line).map(|(at, to)| (at.map(|at| at.saturating_mul(ticks)), to));
        let other = told.filter(|(at, to)| *to != from && is_in(window, *at));
        if let (Some((at, to)), None) = (other, &change) {
            change = Some(ShapeChange { from, to, at });
        }
        true
    })?;
    Ok(change)
}

fn is_in(window: Option<&Window>, at: Option<i64>) -> bool {
    let (Some(window), Some(at)) = (window, at) else { return true };
    at >= window.from && window.to.is_none_or(|to| at < to)
}

/// Reads `216000,16:11`. `None` for other lines.
fn read_shape(line: &str) -> Option<(Option<i64>, Ratio)> {
    let mut fields = line.split(',');
    let (at, told) = (fields.next()?, fields.next()?);
    Some((at.parse().ok(), shape(told)))
}

/// A shape as told; one that is not told is a square.
fn shape(told: &str) -> Ratio {
    told.parse().unwrap_or(Ratio { num: 1, den: 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_read_and_unsaid_ones_are_square() {
        let square = Ratio { num: 1, den: 1 };
        assert_eq!(read_shape("216000,16:11"), Some((Some(216_000), Ratio { num: 16, den: 11 })));
        for unsaid in ["N/A,N/A", "N/A,0:1,", "N/A,1:1,H.26[45] User Data"] {
            assert_eq!(read_shape(unsaid), Some((None, square)), "{unsaid}");
        }
        assert_eq!(read_shape(""), None);
    }

    #[test]
    fn only_the_window_counts() {
        let window = Window { seek: None, from: 10, to: Some(20) };
        assert_eq!([9, 10, 19, 20].map(|at| is_in(Some(&window), Some(at))), [false, true, true, false]);
        assert!(is_in(None, Some(7)) && is_in(Some(&window), None));
    }
}
