//! The part: owned pictures of all pieces, cropped, converted from the engine's colour to the source's, each at its own
//! time, encoded once with settings that are the same for every part of the film.

use std::path::Path;

use super::output::Output;
use crate::api::profile::OutputKind;
use crate::api::worker::{Encode, EncodeCodec, EncodePreset};
use crate::worker::colour::{Colour, scale_name};
use crate::worker::expression::by_number;
use crate::worker::failure::{Outcome, on_file};
use crate::worker::ffmpeg::Tools;
use crate::worker::folder::Mounts;
use crate::worker::index::Index;
use crate::worker::plan::Span;
use crate::worker::ratio::Ratio;

/// Widest picture that goes into H.264 unasked; players stop there.
const H264_WIDEST: u32 = 4096;

/// How a film is encoded.
#[derive(Clone, Debug)]
pub struct Encoder {
    /// Width of the result.
    pub width: u32,
    /// Height of the result.
    pub height: u32,
    codec: EncodeCodec,
    preset: &'static str,
    quality: u32,
    rate: Ratio,
    pixel_format: &'static str,
    colour: Colour,
}

impl Encoder {
    /// Encoder for the result of a film.
    pub fn of(index: &Index, scale: u32, encode: &Encode, rate: Ratio) -> Self {
        let (width, height) = (index.width.saturating_mul(scale), index.height.saturating_mul(scale));
        let wide = if width > H264_WIDEST { EncodeCodec::Hevc } else { EncodeCodec::H264 };
        let odd = !width.is_multiple_of(2) || !height.is_multiple_of(2);
        Self {
            width,
            height,
            codec: encode.codec.unwrap_or(wide),
            preset: match encode.preset {
                EncodePreset::Fast => "veryfast",
                EncodePreset::Medium => "medium",
                EncodePreset::Slow => "slow",
            },
            quality: encode.quality,
            rate,
            // Colour at half size needs even sides; a picture is never cropped.
            pixel_format: if odd { "yuv444p" } else { "yuv420p" },
            colour: index.colour.of_result(height),
        }
    }

    /// One line for the manifest.
    pub fn described(&self) -> String {
        let codec = match self.codec {
            EncodeCodec::H264 => "libx264",
            EncodeCodec::Hevc => "libx265",
        };
        format!("{codec} crf={} preset={} {} fps={}", self.quality, self.preset, self.pixel_format, self.rate)
    }

    /// Options of the encoder. The rate is said outright, as encoders take 1/time base for it, state a level that no
    /// player has, and spend their bits wrongly. Without B-pictures, decoding and showing have one order: an MP4 file
    /// states durations as differences of decoding times, so only then is the duration of every picture, the last one
    /// above all, what it says, and parts join without a gap.
    pub fn options(&self, threads: u32) -> Vec<String> {
        let Self { preset, quality, rate, .. } = self;
        let mut options: Vec<String> = Vec::new();
        let mut add = |pairs: &[(&str, &str)]| {
            for (name, value) in pairs {
                options.extend([(*name).to_owned(), (*value).to_owned()]);
            }
        };
        let (threads, quality) = (threads.to_string(), quality.to_string());
        match self.codec {
            EncodeCodec::H264 => add(&[
                ("-c:v", "libx264"),
                ("-threads", &threads),
                ("-x264-params", &format!("fps={rate}:bframes=0")),
            ]),
            EncodeCodec::Hevc => add(&[
                ("-c:v", "libx265"),
                ("-tag:v", "hvc1"),
                ("-x265-params", &format!("fps={rate}:bframes=0:info=0:pools={threads}:log-level=error")),
            ]),
        }
        add(&[("-preset", *preset), ("-crf", &quality), ("-pix_fmt", self.pixel_format)]);
        add(&[("-colorspace", &self.colour.matrix), ("-color_range", &self.colour.range)]);
        add(&[("-color_primaries", &self.colour.primaries), ("-color_trc", self.colour.transfer_option())]);
        options
    }

    /// What must come before a crop at odd numbers of a picture with colour at half size, which is rounded otherwise.
    fn before_crop(&self, output: &Output) -> &'static str {
        let even = [self.width, self.height, output.border].iter().all(|side| side.is_multiple_of(2));
        if even || output.read_as.is_empty() { "" } else { "format=yuv444p," }
    }

    /// The filter graph over all pieces.
    fn graph(&self, index: &Index, owned: Span, outputs: &[Output]) -> String {
        let mut graph = String::new();
        let used = (0u32..).zip(outputs).filter(|(_, output)| output.owned > 0);
        let mut labels = String::new();
        let mut count = 0u32;
        for (number, output) in used {
            let end = output.skip.saturating_add(output.owned);
            graph.push_str(&format!(
                "[{number}:v:0]trim=start_frame={}:end_frame={end},settb=1/25,setpts=N,{}crop={}:{}:{border}:{border}[p{number}];\n",
                output.skip,
                self.before_crop(output),
                self.width,
                self.height,
                border = output.border,
            ));
            labels.push_str(&format!("[p{number}]"));
            count = count.saturating_add(1);
        }
        let read_as = outputs.first().map(|output| output.read_as.as_str()).unwrap_or_default();
        let read_as = if read_as.is_empty() { String::new() } else { format!("{read_as}:") };
        let Colour { matrix, range, primaries, transfer, .. } = &self.colour;
        let shape = index.pixel_shape.map_or_else(|| "1/1".to_owned(), |shape| shape.to_string());
        let times = by_number(&index.times_from_zero(owned.start, owned.end));
        graph.push_str(&format!(
            "{labels}concat=n={count}:v=1:a=0,\
             scale={read_as}out_color_matrix={}:out_range={range}:flags=accurate_rnd+full_chroma_int+full_chroma_inp,\
             format={},setsar={shape},\
             setparams=range={range}:colorspace={matrix}:color_primaries={primaries}:color_trc={transfer},\
             settb={},setpts='{times}'[v]\n",
            scale_name(matrix).unwrap_or("bt709"),
            self.pixel_format,
            index.base,
        ));
        graph
    }
}

/// Encodes a part into `target`.
#[expect(clippy::too_many_arguments, reason = "one call, each argument another thing")]
pub fn encode(
    tools: &Tools,
    mounts: &Mounts,
    index: &Index,
    owned: Span,
    outputs: &[Output],
    kind: OutputKind,
    encoder: &Encoder,
    target: &Path,
) -> Outcome<()> {
    let file = mounts.scratch.join("part.graph");
    std::fs::write(&file, encoder.graph(index, owned, outputs)).map_err(on_file("write", &file))?;
    let last = index
        .time(owned.end)
        .zip(index.time(owned.end.saturating_sub(1)))
        .map_or(1, |(end, start)| end.saturating_sub(start));
    let mut run = tools.ffmpeg();
    for output in outputs {
        output.input(&mut run, kind);
    }
    run.args([tools.graph_option()]).args([&file]);
    run.args(["-map", "[v]", "-fps_mode", "passthrough", "-enc_time_base", &index.base.to_string()]);
    run.args(encoder.options(tools.threads()));
    // The duration of the last packet must be said, or the file's edit list hides the last picture.
    run.args(["-bsf:v", &format!("setts=pts=PTS:dts=DTS:duration={last}")]);
    run.args(["-video_track_timescale", &index.base.den.to_string(), "-f", "mp4"]).file(target);
    run.run("encode the part")?;
    std::fs::remove_file(&file).map_err(on_file("remove", &file))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::index::tests::film;
    use std::path::PathBuf;

    const ENCODE: Encode = Encode { codec: None, quality: 16, preset: EncodePreset::Medium };

    fn output(skip: u64, owned: u64) -> Output {
        Output {
            path: PathBuf::new(),
            pattern: String::new(),
            read_as: "in_color_matrix=bt601:in_range=tv".to_owned(),
            skip,
            owned,
            border: 8,
        }
    }

    #[test]
    fn wide_results_go_into_hevc_unless_asked() {
        let mut index = film(&[0], "1/25", 1);
        let described =
            |index: &Index, encode: &Encode| Encoder::of(index, 4, encode, index.rate()).described();
        assert_eq!(described(&index, &ENCODE), "libx264 crf=16 preset=medium yuv420p fps=25/1");
        index.width = 1025;
        assert!(described(&index, &ENCODE).starts_with("libx265 "));
        let asked = Encode { codec: Some(EncodeCodec::H264), ..ENCODE };
        assert!(described(&index, &asked).starts_with("libx264 "));
    }

    #[test]
    fn odd_results_keep_their_size() {
        let mut index = film(&[0], "1/25", 1);
        index.width = 33;
        let encoder = Encoder::of(&index, 3, &ENCODE, index.rate());
        assert_eq!((encoder.width, encoder.pixel_format), (99, "yuv444p"));
    }

    #[test]
    fn crops_are_exact_at_odd_numbers_too() {
        let mut index = film(&[0], "1/25", 1);
        index.width = 33;
        let encoder = Encoder::of(&index, 3, &ENCODE, index.rate());
        let graph =
            |output: &Output| encoder.graph(&index, Span { start: 0, end: 1 }, std::slice::from_ref(output));
        assert!(graph(&output(0, 1)).contains(",format=yuv444p,crop=99:"), "{}", graph(&output(0, 1)));
        let rgb = Output { read_as: String::new(), ..output(0, 1) };
        assert!(graph(&rgb).contains("setpts=N,crop=99:"), "{}", graph(&rgb));
    }

    #[test]
    fn pieces_are_trimmed_joined_and_timed() {
        let index = film(&[5, 45, 95, 135], "1/1000", 40);
        let encoder = Encoder::of(&index, 2, &ENCODE, index.rate());
        let outputs = [output(1, 1), output(0, 0), output(2, 1)];
        let graph = encoder.graph(&index, Span { start: 1, end: 3 }, &outputs);
        assert!(graph.contains("[0:v:0]trim=start_frame=1:end_frame=2,"), "{graph}");
        assert!(graph.contains("[2:v:0]trim=start_frame=2:end_frame=3,"), "{graph}");
        assert!(graph.contains("[p0][p2]concat=n=2"), "{graph}");
        assert!(graph.contains("crop=128:72:8:8") && graph.contains("setpts='if(lt(N,1),0,50)'"), "{graph}");
    }
}
