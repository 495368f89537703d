//! What a film is, read by ffprobe and ffmpeg alone: every picture by its bars and its time, every other stream by its
//! packets and, if it is sound, by what is heard.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use video_upscale::worker::index::told_of_picture;
use video_upscale::worker::ratio::Ratio;

use crate::bars::{self, Patches};
use crate::bench::Bench;

/// What a film is.
#[derive(Clone, Debug)]
pub struct Film {
    /// Width and height, pixels.
    pub size: (usize, usize),
    /// Base of the times.
    pub base: Ratio,
    /// Pictures in the order in which they are shown.
    pub pictures: Vec<Picture>,
    /// Mean colours of the patches over all pictures, read as the tags say.
    pub patches: Patches,
    /// Matrix, range, primaries, transfer as the tags say.
    pub colour: [Option<String>; 4],
    /// The matrix by which players turn and mirror it, as ffprobe tells it.
    pub matrix: Option<String>,
    /// Shape of a pixel.
    pub shape: Option<String>,
    /// ffmpeg's name of the pixel format.
    pub pixel_format: String,
    /// Language, title, timecode and flags.
    pub named: BTreeMap<String, String>,
    /// All other streams but data, in order.
    pub tracks: Vec<Track>,
    /// Start, end and title of each chapter, seconds after the first picture.
    pub chapters: Vec<(f64, f64, String)>,
    /// Tags of the file that are not the container's own, names in lower case.
    pub tags: BTreeMap<String, String>,
}

/// A picture that is shown.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    /// Its number, or what it looks like.
    pub number: Result<u8, String>,
    /// Ticks.
    pub time: i64,
    /// Ticks; 0 if unsaid.
    pub duration: i64,
}

/// Another stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Track {
    /// `audio`, `subtitle`, `attachment`, `cover`
    pub kind: String,
    /// ffmpeg's name.
    pub codec: String,
    /// Hashes of its packets; of its content, if it has none.
    pub packets: Vec<String>,
    /// Seconds from its first packet to the first picture.
    pub delay: Option<f64>,
    /// The same for the first sample that is heard.
    pub heard_delay: Option<f64>,
    /// Hashes of what is heard, in order.
    pub heard: Vec<String>,
    /// Language, title, name of the file, flags.
    pub named: BTreeMap<String, String>,
}

/// Tags of a film as seen by people, and flags of a stream.
const NAMES: [&str; 5] = ["language", "title", "filename", "mimetype", "timecode"];
/// Tags that a muxer writes on its own.
const OWN_TAGS: [&str; 6] =
    ["major_brand", "minor_version", "compatible_brands", "encoder", "duration", "creation_time"];

impl Film {
    /// Reads the film in stream number `stream`, or the first that is no cover.
    pub fn of(bench: &Bench, path: &Path, stream: Option<u32>) -> Self {
        let all = bench
            .ffprobe(&["-show_streams", "-show_format", "-show_chapters", "-show_data_hash", "sha256"], path);
        let streams = all["streams"].as_array().unwrap();
        let is_film = |other: &&Value| match stream {
            Some(wanted) => other["index"] == wanted,
            None => other["codec_type"] == "video" && !is_cover(other),
        };
        let film = streams.iter().find(is_film).unwrap();
        let colour = ["color_space", "color_range", "color_primaries", "color_transfer"]
            .map(|name| film[name].as_str().filter(|tag| *tag != "unknown").map(str::to_owned));
        let pixel_format = film["pix_fmt"].as_str().unwrap().to_owned();
        let height = film["height"].as_u64().unwrap();
        let decoded = Decoded::of(bench, path, film, &read_as(&colour, &pixel_format, height), streams);
        let seconds = |ticks: i64| ticks as f64 * decoded.base.value();
        let first = decoded.pictures.first().map_or(0.0, |picture| seconds(picture.time));
        let tracks = streams
            .iter()
            .filter(|other| other["index"] != film["index"])
            .filter(|other| {
                other["codec_type"] != "data" && (other["codec_type"] != "video" || is_cover(other))
            })
            .map(|other| decoded.track(other, first))
            .collect();
        let time = |chapter: &Value, name: &str| chapter[name].as_str().unwrap().parse::<f64>().unwrap();
        let chapters = all["chapters"].as_array().unwrap().iter();
        let tags = all["format"]["tags"].as_object().into_iter().flatten();
        Self {
            size: decoded.size,
            base: decoded.base,
            patches: decoded.patches,
            colour,
            matrix: film["side_data_list"]
                .as_array()
                .into_iter()
                .flatten()
                .find_map(|data| Some(data["displaymatrix"].as_str()?.to_owned())),
            shape: film["sample_aspect_ratio"].as_str().map(str::to_owned),
            pixel_format,
            named: named(film),
            tracks,
            chapters: chapters
                .map(|chapter| {
                    let title = chapter["tags"]["title"].as_str().unwrap_or_default().to_owned();
                    (time(chapter, "start_time") - first, time(chapter, "end_time") - first, title)
                })
                .collect(),
            tags: tags
                .map(|(name, value)| (name.to_lowercase(), value.as_str().unwrap_or_default().to_owned()))
                .filter(|(name, _)| !OWN_TAGS.contains(&name.as_str()))
                .collect(),
            pictures: decoded.pictures,
        }
    }

    /// Numbers of the pictures; those that cannot be read are left out.
    pub fn numbers(&self) -> Vec<u8> {
        self.pictures.iter().filter_map(|picture| picture.number.clone().ok()).collect()
    }

    /// Ticks from the first picture to the end of the last; where its duration is unsaid it lasts as long as the one
    /// before it, and a single one a 25th of a second.
    pub fn length(&self) -> i64 {
        let (Some(first), Some(last)) = (self.pictures.first(), self.pictures.last()) else { return 0 };
        let before = self.pictures.iter().rev().nth(1);
        let gap = before.map_or((0.04 / self.base.value()).round() as i64, |before| last.time - before.time);
        let lasts = if last.duration > 0 { last.duration } else { gap };
        last.time + lasts - first.time
    }
}

fn is_cover(stream: &Value) -> bool {
    stream["disposition"]["attached_pic"] == 1
}

fn named(stream: &Value) -> BTreeMap<String, String> {
    let tags = stream["tags"].as_object().into_iter().flatten();
    let tags = tags
        .map(|(name, value)| (name.to_lowercase(), value.as_str().unwrap_or_default().to_owned()))
        // Where a container has a field for the language it says "undetermined" in its own way.
        .filter(|(name, value)| NAMES.contains(&name.as_str()) && value != "und");
    let flags = stream["disposition"].as_object().into_iter().flatten();
    let flags = flags.filter(|(_, set)| **set == 1).map(|(name, _)| (name.clone(), "set".to_owned()));
    tags.chain(flags).collect()
}

/// What the tags make of the numbers, as arguments of the `scale` filter; where they say nothing, what players take by
/// the height.
fn read_as(colour: &[Option<String>; 4], pixel_format: &str, height: u64) -> String {
    let [matrix, range, ..] = colour;
    if matrix.as_deref() == Some("gbr")
        || ["rgb", "bgr", "gbr", "pal8"].iter().any(|rgb| pixel_format.starts_with(rgb))
    {
        return String::new();
    }
    let matrix = match matrix.as_deref() {
        Some("bt470bg" | "smpte170m") => "bt601",
        Some("bt2020nc") => "bt2020",
        Some(other) => other,
        None if height >= 720 => "bt709",
        None => "bt601",
    };
    let full = range.as_deref() == Some("pc") || pixel_format.starts_with("yuvj");
    format!("in_color_matrix={matrix}:in_range={}:", if full { "pc" } else { "tv" })
}

/// Ratio of a `1/12800`.
fn ratio(text: &str) -> Ratio {
    text.parse().unwrap()
}

/// What one decode tells.
struct Decoded {
    size: (usize, usize),
    base: Ratio,
    pictures: Vec<Picture>,
    patches: Patches,
    /// By number of the stream: time in seconds and hash of each packet, and of each stretch of sound that is heard.
    packets: BTreeMap<u64, Vec<(f64, String)>>,
    heard: BTreeMap<u64, Vec<(f64, String)>>,
}

impl Decoded {
    fn of(bench: &Bench, path: &Path, film: &Value, read_as: &str, streams: &[Value]) -> Self {
        let base = film["time_base"].as_str().unwrap();
        let (packets, heard) = (bench.root().join("packets"), bench.root().join("heard"));
        let of_kind = |kind: &'static str| streams.iter().filter(move |stream| stream["codec_type"] == kind);
        let number = |stream: &Value| stream["index"].as_u64().unwrap();
        let sound: Vec<u64> = of_kind("audio").map(number).collect();
        let others: Vec<u64> = of_kind("video")
            .filter(|stream| is_cover(stream))
            .chain(of_kind("subtitle"))
            .map(number)
            .collect();
        let mut command = Command::new(&bench.ffmpeg);
        command.args([
            "-nostdin",
            "-y",
            "-hide_banner",
            "-v",
            "level+info",
            "-copyts",
            "-noautorotate",
            "-i",
        ]);
        command.arg(path).args(["-map", &format!("0:{}", film["index"])]);
        command
            .args(["-vf", &format!("showinfo=checksum=0,scale={read_as}flags=accurate_rnd+full_chroma_int")]);
        command.args(["-fps_mode", "passthrough", "-enc_time_base", base]);
        command.args(["-pix_fmt", "rgb24", "-f", "rawvideo", "pipe:1"]);
        // Broadcasts have a header before each packet of AAC, files do not.
        let framed = |stream: &&Value| stream["codec_name"] == "aac" && stream["codec_tag_string"] != "mp4a";
        if !sound.is_empty() || !others.is_empty() {
            for stream in sound.iter().chain(&others) {
                command.args(["-map", &format!("0:{stream}")]);
            }
            for (place, stream) in of_kind("audio").enumerate() {
                if framed(&stream) {
                    command.args([&format!("-bsf:a:{place}"), "aac_adtstoasc"]);
                }
            }
            command.args(["-c", "copy", "-f", "framehash", "-hash", "murmur3"]).arg(&packets);
        }
        if !sound.is_empty() {
            for stream in &sound {
                command.args(["-map", &format!("0:{stream}")]);
            }
            command.args(["-f", "framehash", "-hash", "murmur3"]).arg(&heard);
        }
        let output = command.stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}: {said}");
        let read = |wanted: &Path, streams: &[u64]| {
            if streams.is_empty() {
                BTreeMap::new()
            } else {
                hashes(&std::fs::read_to_string(wanted).unwrap(), streams)
            }
        };
        let all: Vec<u64> = sound.iter().chain(&others).copied().collect();
        let size = ["width", "height"].map(|side| usize::try_from(film[side].as_u64().unwrap()).unwrap());
        let size = (size[0], size[1]);
        let raw: Vec<&[u8]> = output.stdout.chunks(size.0 * size.1 * 3).collect();
        let shown: Vec<(i64, i64)> = said.lines().filter_map(shown).collect();
        assert_eq!(raw.len(), shown.len(), "{}: pictures decoded and told", path.display());
        let mut patches = Patches::default();
        for picture in &raw {
            for (sum, patch) in patches.iter_mut().zip(bars::patches(picture, size)) {
                for (sum, value) in sum.iter_mut().zip(patch) {
                    *sum += value / raw.len() as f64;
                }
            }
        }
        let pictures = raw.iter().zip(shown);
        Self {
            size,
            base: ratio(base),
            pictures: pictures
                .map(|(raw, (time, duration))| Picture { number: bars::read(raw, size), time, duration })
                .collect(),
            patches,
            packets: read(&packets, &all),
            heard: read(&heard, &sound),
        }
    }

    fn track(&self, stream: &Value, first: f64) -> Track {
        let number = stream["index"].as_u64().unwrap();
        let of = |all: &BTreeMap<u64, Vec<(f64, String)>>| all.get(&number).cloned().unwrap_or_default();
        let (packets, heard) = (of(&self.packets), of(&self.heard));
        let delay = |all: &[(f64, String)]| all.first().map(|(time, _)| first - time);
        let hashes = |all: &[(f64, String)]| all.iter().map(|(_, hash)| hash.clone()).collect::<Vec<_>>();
        let content = stream["extradata_hash"].as_str().map(str::to_owned);
        let kind = if is_cover(stream) { "cover" } else { stream["codec_type"].as_str().unwrap() };
        Track {
            kind: kind.to_owned(),
            codec: stream["codec_name"].as_str().unwrap_or("unknown").to_owned(),
            delay: delay(&packets).filter(|_| kind != "cover"),
            packets: if packets.is_empty() { content.into_iter().collect() } else { hashes(&packets) },
            heard_delay: delay(&heard),
            heard: hashes(&heard),
            named: named(stream),
        }
    }
}

/// Time and duration that a line of the filter `showinfo` tells.
fn shown(line: &str) -> Option<(i64, i64)> {
    let told = told_of_picture(line)?;
    let first = |text: &str| text.split_whitespace().next()?.parse().ok();
    let duration = told.split_once(" duration:").and_then(|(_, told)| first(told));
    Some((first(told)?, duration.unwrap_or(0)))
}

/// Times in seconds and hashes by stream, of ffmpeg's `framehash`; `streams` in the order in which they were mapped.
fn hashes(text: &str, streams: &[u64]) -> BTreeMap<u64, Vec<(f64, String)>> {
    let mut bases = BTreeMap::new();
    let mut found: BTreeMap<u64, Vec<(f64, String)>> = BTreeMap::new();
    for line in text.lines() {
        if let Some((place, base)) = line.strip_prefix("#tb ").and_then(|line| line.split_once(": ")) {
            bases.insert(place.parse::<usize>().unwrap(), ratio(base));
        } else if !line.starts_with('#') {
            let fields: Vec<&str> = line.split(',').map(str::trim).collect();
            let place: usize = fields[0].parse().unwrap();
            let time = fields[2].parse::<i64>().unwrap_or(0) as f64 * bases[&place].value();
            found.entry(streams[place]).or_default().push((time, fields[5].to_owned()));
        }
    }
    found
}
