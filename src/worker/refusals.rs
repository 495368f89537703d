//! Films that are refused, each with its word and its numbers, and what is odd but accepted.
//!
//! Two looks: [`check_header`] before the decode, so that most refusals come at once; [`check_pictures`] after it.

use std::collections::BTreeMap;

use super::colour::{Colour, MATRICES, bits, has_alpha};
use super::failure::{Failure, Outcome};
use super::index::{Index, Pictures, ShapeChange, count};
use super::media::{Media, Stream};
use super::ratio::{Ratio, seconds};
use super::turn::Display;
use crate::api::worker::{Code, Deinterlace, Source};

/// Container of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container {
    /// `.mp4`
    Mp4,
    /// `.mov`
    Mov,
    /// `.mkv`
    Mkv,
}

impl Container {
    /// By the name's ending.
    ///
    /// # Errors
    /// [`Code::Usage`] for any other ending.
    pub fn of(path: &str) -> Outcome<Self> {
        let lower = path.to_ascii_lowercase();
        match lower.rsplit_once('.').map(|(_, ending)| ending) {
            Some("mp4") => Ok(Self::Mp4),
            Some("mov") => Ok(Self::Mov),
            Some("mkv") => Ok(Self::Mkv),
            _ => Err(Failure::stop(Code::Usage, format!("{path} does not end with .mp4, .mov or .mkv"))),
        }
    }

    /// ffmpeg's name of its muxer.
    pub const fn muxer(self) -> &'static str {
        match self {
            Self::Mp4 => "mp4",
            Self::Mov => "mov",
            Self::Mkv => "matroska",
        }
    }

    /// What its muxer rounds the times of all pictures to; `None` if it keeps them.
    const fn tick(self) -> Option<Ratio> {
        match self {
            Self::Mp4 | Self::Mov => None,
            Self::Mkv => Some(Ratio { num: 1, den: 1000 }),
        }
    }

    /// ffmpeg's name of what a stream of text is made into for it; `None` if it holds the stream as it is, or not at all.
    pub fn converts(self, stream: &Stream) -> Option<&'static str> {
        let is_text = stream.codec_type == "subtitle"
            && ["subrip", "ass", "ssa", "webvtt", "mov_text", "text"].contains(&stream.codec());
        if !is_text || self.holds(stream) {
            return None;
        }
        Some(match self {
            Self::Mp4 | Self::Mov => "mov_text",
            // SubRip has no way to write `<`, and loses blanks at the ends of lines.
            Self::Mkv => "ass",
        })
    }

    /// Whether it holds such a stream beside the film as it is.
    fn holds(self, stream: &Stream) -> bool {
        let codec = stream.codec();
        let mp4_sound = ["aac", "mp3", "mp2", "ac3", "eac3", "opus", "flac", "alac", "dts"];
        match (stream.codec_type.as_str(), self) {
            ("audio", Self::Mkv) => codec != "unknown",
            ("audio", Self::Mp4) => mp4_sound.contains(&codec) || codec.starts_with("pcm_"),
            ("audio", Self::Mov) => {
                (mp4_sound.contains(&codec) && !["opus", "flac"].contains(&codec))
                    || codec.starts_with("pcm_")
            }
            ("subtitle", Self::Mkv) => {
                ["subrip", "ass", "webvtt", "hdmv_pgs_subtitle", "dvd_subtitle", "dvb_subtitle"]
                    .contains(&codec)
            }
            ("subtitle", _) => codec == "mov_text",
            ("attachment", container) => container == Self::Mkv,
            ("video", container) => container != Self::Mkv || attached_as(codec).is_some(),
            _ => true,
        }
    }
}

/// Media type and usual name of a cover's codec as a file attached to Matroska, for those that its readers know as
/// covers (`matroskadec.c` of ffmpeg).
pub fn attached_as(codec: &str) -> Option<(&'static str, &'static str)> {
    match codec {
        "mjpeg" => Some(("image/jpeg", "cover.jpg")),
        "png" => Some(("image/png", "cover.png")),
        _ => None,
    }
}

/// The film in a file that may be upscaled, as far as its header tells.
#[derive(Clone, Debug)]
pub struct Accepted<'a> {
    /// Its stream.
    pub stream: &'a Stream,
    /// Its time base.
    pub base: Ratio,
    /// What is odd.
    pub warnings: Vec<String>,
}

/// A refusal: its word, and what was found.
pub(super) fn refuse<T>(word: &str, text: impl std::fmt::Display) -> Outcome<T> {
    Err(Failure::stop(Code::UnsupportedSource, format!("{word}: {text}")))
}

/// Text that is not a film but names others, by its first bytes.
pub fn check_first_bytes(name: &str, bytes: &[u8]) -> Outcome<()> {
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim_start_matches('\u{feff}').trim_start();
    for (start, what) in [("#EXTM3U", "HLS"), ("ffconcat", "concat"), ("<MPD", "DASH"), ("[playlist]", "PLS")]
    {
        if text.starts_with(start) {
            return refuse("Playlist", format!("{name} is a {what} playlist; name the film itself"));
        }
    }
    if text.starts_with("<?xml") && text.contains("<MPD") {
        return refuse("Playlist", format!("{name} is a DASH playlist; name the film itself"));
    }
    Ok(())
}

/// Looks at the header.
///
/// # Errors
/// [`Code::InvalidSource`] without a film in it, [`Code::UnsupportedSource`] with the word of the refusal.
pub fn check_header<'a>(media: &'a Media, source: &Source, container: Container) -> Outcome<Accepted<'a>> {
    let name = &source.path;
    let stream = choose(media, source)?;
    let invalid =
        |what: &str| Failure::stop(Code::InvalidSource, format!("{name}: the video stream has no {what}"));
    if let Some(encrypted) = media.streams.iter().find(|stream| stream.is_encrypted()) {
        let (kind, number) = (&encrypted.codec_type, encrypted.index);
        return refuse(
            "Encrypted",
            format!("{kind} stream {number} of {name} is encrypted; name a film without DRM"),
        );
    }
    let height =
        stream.height.filter(|height| (1..=32_768).contains(height)).ok_or_else(|| invalid("size"))?;
    stream.width.filter(|width| (1..=32_768).contains(width)).ok_or_else(|| invalid("size"))?;
    let format =
        stream.pix_fmt.as_deref().ok_or_else(|| invalid("pixel format that this ffmpeg can decode"))?;
    let base = stream.base().ok_or_else(|| invalid("time base"))?;

    let transfer = stream.color_transfer.as_deref().unwrap_or_default();
    if ["smpte2084", "arib-std-b67"].contains(&transfer) {
        return refuse(
            "HighDynamicRange",
            format!("{name} has transfer {transfer}; only standard range is upscaled"),
        );
    }
    if stream.has_side_data("DOVI") || ["dvhe", "dvh1"].contains(&stream.codec_tag_string.as_str()) {
        return refuse(
            "HighDynamicRange",
            format!("{name} is Dolby Vision; only standard range is upscaled"),
        );
    }
    let Some(colour) = Colour::of(stream.colour_tags(), height, format) else {
        let matrix = stream.color_space.as_deref().unwrap_or_default();
        let known = MATRICES.map(|(matrix, _)| matrix).join(", ");
        let why =
            format!("{name} has matrix {matrix}; only {known} and RGB are read exactly; convert it first");
        if ["ictcp", "ipt-c2", "bt2020c"].contains(&matrix) {
            return refuse("HighDynamicRange", why);
        }
        return refuse("ColourMatrix", why);
    };
    let order = stream.field_order.as_deref().unwrap_or("unknown");
    if source.deinterlace == Deinterlace::Off && !["progressive", "unknown"].contains(&order) {
        return refuse("Interlaced", interlaced(name, &format!("its field order is {order}")));
    }
    // What the decode does not look at: a channel beside the pictures, and that of fields.
    let unseen = stream.tag("alpha_mode") == Some("1")
        || (has_alpha(format) && source.deinterlace != Deinterlace::Off);
    if unseen && !source.drop_alpha {
        return refuse("Alpha", format!("{name} has an alpha channel; set input.dropAlpha to lose it"));
    }

    let mut warnings = Vec::new();
    let mut converted: BTreeMap<(&str, &str), Vec<String>> = BTreeMap::new();
    let others =
        media.streams.iter().filter(|other| other.index != stream.index && !other.is_made_again(false));
    for other in others {
        if other.is_film() {
            warnings.push(format!("video stream {} is left out", other.index));
        } else if !["audio", "video", "subtitle", "attachment"].contains(&other.codec_type.as_str()) {
            warnings.push(format!("{} stream {} is left out", other.codec_type, other.index));
        } else if let Some(codec) = container.converts(other) {
            converted.entry((other.codec(), codec)).or_default().push(other.index.to_string());
        } else if !container.holds(other) {
            return refuse(
                "StreamsDoNotFit",
                format!(
                    "{} stream {} ({}) does not fit into {}; end the destination's name with that of the source or .mkv",
                    if other.is_cover() { "cover" } else { &other.codec_type },
                    other.index,
                    other.codec(),
                    container.muxer()
                ),
            );
        }
    }
    for ((from, to), streams) in converted {
        let streams = streams.join(", ");
        warnings.push(format!(
            "subtitle stream {streams} is converted from {from} to {to}: texts and times stay, layout may not"
        ));
    }
    if stream.closed_captions > 0 {
        warnings.push("closed captions inside the pictures are left out".to_owned());
    }
    if bits(format) > 8 {
        warnings.push(format!("{} bits per component are upscaled in 8", bits(format)));
    }
    if let Some(Display::Distorts(turn)) = stream.display() {
        warnings.push(format!(
            "its display matrix stretches or slants; kept as a turn of {turn} only; convert the film first to keep all"
        ));
    }
    warnings.extend(colour.warning());
    match source.deinterlace {
        Deinterlace::Off => {}
        Deinterlace::Frame => warnings.push("deinterlaced by bwdif: one picture per frame".to_owned()),
        Deinterlace::Field => warnings.push("deinterlaced by bwdif: one picture per field".to_owned()),
    }
    Ok(Accepted { stream, base, warnings })
}

fn choose<'a>(media: &'a Media, source: &Source) -> Outcome<&'a Stream> {
    let name = &source.path;
    let films: Vec<&Stream> = media.streams.iter().filter(|stream| stream.is_film()).collect();
    let numbers = || films.iter().map(|film| film.index.to_string()).collect::<Vec<_>>().join(", ");
    match (source.video_stream, films.as_slice()) {
        (_, []) => Err(Failure::stop(
            Code::InvalidSource,
            format!("{name}: no video stream found ({} streams)", media.streams.len()),
        )),
        (None, [only]) => Ok(only),
        (None, _) => refuse(
            "SeveralVideoStreams",
            format!(
                "{name} has {} video streams ({}); name one in input.videoStream",
                films.len(),
                numbers()
            ),
        ),
        (Some(wanted), _) => films.iter().find(|film| film.index == wanted).copied().ok_or_else(|| {
            Failure::stop(
                Code::InvalidSource,
                format!("{name}: stream {wanted} is not a video stream; there are {}", numbers()),
            )
        }),
    }
}

fn interlaced(name: &str, how: &str) -> String {
    format!("{name} is interlaced ({how}); set input.deinterlace to Frame or Field")
}

/// Refuses a film the shape of whose pixels changes.
///
/// # Errors
/// [`Code::UnsupportedSource`] with the word of the refusal.
pub fn check_shape(name: &str, base: Ratio, change: Option<&ShapeChange>) -> Outcome<()> {
    let Some(ShapeChange { from, to, at }) = change else { return Ok(()) };
    let at = at.map_or_else(String::new, |at| format!(" at {} s", seconds(base.micros(at))));
    refuse(
        "FormatChanges",
        format!(
            "{name} changes the shape of its pixels from {from} to {to}{at}; cut it there and upscale the pieces"
        ),
    )
}

/// Looks at the pictures; their times and what is odd. `first`: time of the film's first picture, if it is not the first
/// of these. `header_micros`: how long the film lasts by its header, if that is known and these go to its end.
///
/// # Errors
/// [`Code::UnsupportedSource`] with the word of the refusal.
pub fn check_pictures(
    pictures: &Pictures,
    source: &Source,
    base: Ratio,
    first: Option<i64>,
    header_micros: Option<i64>,
) -> Outcome<(Vec<i64>, Vec<String>)> {
    let name = &source.path;
    let total = count(pictures.pts.len());
    if let Some((number, other)) = &pictures.differs {
        let ((w, h), (x, y)) = (pictures.first.size, other.size);
        return refuse(
            "FormatChanges",
            format!(
                "{name} changes from {w}x{h} {} to {x}x{y} {} at picture {number}",
                pictures.first.format, other.format
            ),
        );
    }
    if pictures.interlaced.saturating_mul(20) > total {
        return refuse(
            "Interlaced",
            interlaced(name, &format!("{} of {total} pictures", pictures.interlaced)),
        );
    }
    if let Some(time) = pictures.transparent {
        let (format, at) = (&pictures.first.format, seconds(base.micros(time)));
        return refuse(
            "Alpha",
            format!(
                "{name} has an alpha channel ({format}) that is not all opaque at {at} s; set input.dropAlpha to lose it"
            ),
        );
    }
    let mut times: Vec<i64> = Vec::with_capacity(pictures.pts.len());
    for pts in &pictures.pts {
        let number = times.len();
        match (pts, times.last()) {
            (None, _) => return refuse("BrokenTimes", format!("picture {number} of {name} has no time")),
            (Some(time), Some(before)) if time <= before => {
                return refuse(
                    "BrokenTimes",
                    format!("picture {number} of {name} is not later than the one before it"),
                );
            }
            (Some(time), _) => times.push(*time),
        }
    }
    let mut warnings = Vec::new();
    let first = first.or(times.first().copied()).unwrap_or(0);
    let last = times.last().copied().unwrap_or(0);
    let shown = base.micros(last.saturating_sub(first).saturating_add(pictures.last_duration));
    if let Some(header) = header_micros {
        // Before damage, as decoders complain of a file cut short as well, and this says more of it. Headers are not exact;
        // only a film that stops well before its header says is told of.
        let missing = header.saturating_sub(shown);
        if missing > 1_000_000 && missing > header / 20 {
            let told = format!(
                "the header says {:.1} s, {:.1} s can be decoded",
                header as f64 / 1e6,
                shown as f64 / 1e6
            );
            if source.strict {
                return refuse("Truncated", format!("{name}: {told}"));
            }
            warnings.push(told);
        }
    }
    let complaints = pictures.complaints.lines;
    if complaints > 0 {
        let said = pictures.complaints.summary();
        if source.strict {
            return refuse("Damaged", format!("{name}: {complaints} messages of the decoder: {said}"));
        }
        warnings.push(format!("{complaints} messages of the decoder: {said}"));
    }
    Ok((times, warnings))
}

/// Sound that the source says to drop at the beginning, and that is heard in the result: what codecs put before the first
/// sample. Readers of MP4 find it in a list of edits; ffmpeg's writer of Matroska tells of it only where the codec's header
/// does, as that of Opus.
pub fn heard_before(media: &Media, container: Container) -> Vec<String> {
    let sound = media.streams.iter().filter(|stream| stream.codec_type == "audio");
    let heard = sound.filter(|stream| stream.dropped_samples > stream.initial_padding);
    let told = heard.map(|stream| {
        let (index, dropped) = (stream.index, stream.dropped_samples);
        format!("{dropped} samples before the beginning of audio stream {index}, which the source hides, can be heard")
    });
    told.filter(|_| container == Container::Mkv).collect()
}

/// What is odd about the result of a film that is upscaled by `scale`.
pub fn of_result(index: &Index, container: Container, scale: u32) -> Vec<String> {
    let mut warnings = Vec::new();
    if [index.width, index.height].iter().any(|side| !side.saturating_mul(scale).is_multiple_of(2)) {
        warnings.push("odd size: the result is 4:4:4, which not every player shows".to_owned());
    }
    if let Some(tick) = container.tick().filter(|tick| !index.is_exact_in(*tick)) {
        warnings.push(format!(
            "times of pictures are rounded to {tick} s, all that {} keeps; .mp4 keeps {} s",
            container.muxer(),
            index.base
        ));
    }
    warnings
}

#[cfg(test)]
mod tests;
