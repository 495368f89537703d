//! What a file's header says, by ffprobe: streams, tags, chapters. A stranger's words: bounded, every field optional.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::colour::Tags;
use super::failure::Outcome;
use super::ffmpeg::Tools;
use super::ratio::Ratio;
use super::turn::{Display, Turn};

/// A file's header.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Media {
    /// Its streams, by number.
    #[serde(default)]
    pub streams: Vec<Stream>,
    /// Its container.
    #[serde(default)]
    pub format: Format,
    /// Its chapters.
    #[serde(default)]
    pub chapters: Vec<serde_json::Value>,
}

/// A container.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Format {
    /// ffmpeg's names, by comma.
    #[serde(default)]
    pub format_name: String,
    /// Time of the earliest stream, seconds.
    pub start_time: Option<String>,
    /// Seconds.
    pub duration: Option<String>,
    /// Tags.
    #[serde(default)]
    pub tags: BTreeMap<String, serde_json::Value>,
}

/// A stream.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Stream {
    /// Number among all streams.
    #[serde(default)]
    pub index: u32,
    /// `video`, `audio`, `subtitle`, `attachment`, `data`.
    #[serde(default)]
    pub codec_type: String,
    /// ffmpeg's short name.
    pub codec_name: Option<String>,
    /// Four characters that the container calls it by.
    #[serde(default)]
    pub codec_tag_string: String,
    /// Pixels.
    pub width: Option<u32>,
    /// Pixels.
    pub height: Option<u32>,
    /// ffmpeg's name.
    pub pix_fmt: Option<String>,
    /// `16:11`
    pub sample_aspect_ratio: Option<String>,
    /// `tv`, `pc`
    pub color_range: Option<String>,
    /// Matrix.
    pub color_space: Option<String>,
    /// Transfer.
    pub color_transfer: Option<String>,
    /// Primaries.
    pub color_primaries: Option<String>,
    /// `progressive`, `tt`, ...
    pub field_order: Option<String>,
    /// 1 if pictures carry closed captions, as far as ffmpeg has looked.
    #[serde(default)]
    pub closed_captions: u32,
    /// `1/12800`
    pub time_base: Option<String>,
    /// In the time base.
    pub start_pts: Option<i64>,
    /// In the time base.
    pub duration_ts: Option<i64>,
    /// Bits a second, if the file says.
    pub bit_rate: Option<String>,
    /// Samples before the beginning that its codec needs and its header says to drop.
    #[serde(default)]
    pub initial_padding: u32,
    /// Digest of the codec's header, if asked for.
    pub extradata_hash: Option<String>,
    /// Flags.
    #[serde(default)]
    pub disposition: BTreeMap<String, i32>,
    /// Tags.
    #[serde(default)]
    pub tags: BTreeMap<String, serde_json::Value>,
    /// Side data.
    #[serde(default)]
    pub side_data_list: Vec<BTreeMap<String, serde_json::Value>>,
    /// Whether some of its packets are encrypted, as [`look_at_packets`] found.
    #[serde(skip)]
    pub has_encrypted_packets: bool,
    /// Samples that the file says to drop, as [`look_at_packets`] found.
    #[serde(skip)]
    pub dropped_samples: u32,
}

impl Stream {
    /// Whether it is the picture on the cover.
    pub fn is_cover(&self) -> bool {
        self.codec_type == "video" && self.disposition.get("attached_pic").is_some_and(|set| *set != 0)
    }

    /// Whether it is a film.
    pub fn is_film(&self) -> bool {
        self.codec_type == "video" && !self.is_cover()
    }

    /// Whether it is a time code: a stream in some containers, a name of the film in others, made again from the name.
    fn is_time_code(&self) -> bool {
        self.codec_type == "data" && self.tag("timecode").is_some()
    }

    /// Whether it holds the titles of chapters, which are told beside the streams as well: a track of MP4 and MOV, of which
    /// ffmpeg makes data.
    fn holds_chapters(&self) -> bool {
        self.codec_type == "data" && self.codec_tag_string == "text"
    }

    /// Whether the result's muxer makes it again by itself. A time code is that of the film's first picture, which a `range`
    /// has not.
    pub fn is_made_again(&self, range: bool) -> bool {
        self.holds_chapters() || (self.is_time_code() && !range)
    }

    /// ffmpeg's short name of its codec.
    pub fn codec(&self) -> &str {
        self.codec_name.as_deref().unwrap_or("unknown")
    }

    /// A tag's text.
    pub fn tag(&self, name: &str) -> Option<&str> {
        self.tags.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).and_then(|(_, value)| value.as_str())
    }

    /// Bits a second, as the container or a tag that muxers of Matroska write says.
    pub fn bits_per_second(&self) -> Option<u64> {
        let said = self.bit_rate.as_deref().or_else(|| self.tag("BPS")).or_else(|| self.tag("BPS-eng"));
        said?.parse().ok()
    }

    /// The flags that are set, as ffmpeg's `-disposition` takes them.
    pub fn flags(&self) -> String {
        let set: Vec<&str> =
            self.disposition.iter().filter(|(_, set)| **set != 0).map(|(name, _)| name.as_str()).collect();
        if set.is_empty() { "0".to_owned() } else { set.join("+") }
    }

    /// Whether it has a title, or a flag beside that of the usual stream.
    pub fn is_marked(&self) -> bool {
        self.tag("title").is_some() || !["0", "default"].contains(&self.flags().as_str())
    }

    /// What its tags say of colour.
    pub fn colour_tags(&self) -> Tags<'_> {
        Tags {
            matrix: said(self.color_space.as_ref()),
            range: said(self.color_range.as_ref()),
            primaries: said(self.color_primaries.as_ref()),
            transfer: said(self.color_transfer.as_ref()),
        }
    }

    /// How long it lasts, microseconds: as the container says, or as the program that wrote it noted.
    fn duration_micros(&self) -> Option<i64> {
        let base = self.base()?;
        let noted =
            || Some(self.noted_end()?.saturating_sub(base.micros(self.start_pts.unwrap_or(0)).max(0)));
        self.duration_ts.map(|ticks| base.micros(ticks)).or_else(noted).filter(|micros| *micros > 0)
    }

    /// When it ends, microseconds, as programs that write Matroska note; some note its length, which is less.
    pub fn noted_end(&self) -> Option<i64> {
        clock_micros(self.tag("DURATION")?)
    }

    /// Its time base.
    pub fn base(&self) -> Option<Ratio> {
        self.time_base.as_deref()?.parse().ok()
    }

    /// What players do to its pictures, if the header says.
    pub fn display(&self) -> Option<Display> {
        Display::of(self.side_data_list.iter().find_map(|data| data.get("displaymatrix")?.as_str())?)
    }

    /// How players turn its pictures.
    pub fn turn(&self) -> Turn {
        self.display().map(Display::turn).unwrap_or_default()
    }

    /// Whether it is encrypted: by its packets, its four characters, or the key that Matroska names.
    pub fn is_encrypted(&self) -> bool {
        self.has_encrypted_packets
            || ["encv", "enca", "drmi", "drms"].contains(&self.codec_tag_string.as_str())
            || self.tag("enc_key_id").is_some()
            || self.has_side_data("Encryption")
    }

    /// Whether one of its side data has a name that contains `part`.
    pub fn has_side_data(&self, part: &str) -> bool {
        self.side_data_list
            .iter()
            .filter_map(|data| data.get("side_data_type")?.as_str())
            .any(|name| name.contains(part))
    }
}

fn said(tag: Option<&String>) -> Option<&str> {
    tag.map(String::as_str).filter(|tag| !matches!(*tag, "unknown" | "unspecified" | "reserved" | ""))
}

impl Media {
    /// Whether the file is one of Matroska.
    pub fn is_matroska(&self) -> bool {
        is_format(&self.format.format_name, &["matroska"])
    }

    /// The film among the streams.
    pub fn film(&self) -> Option<&Stream> {
        self.streams.iter().find(|stream| stream.is_film())
    }

    /// Time of the earliest stream, microseconds; 0 if unsaid.
    pub fn start_micros(&self) -> i64 {
        micros(self.format.start_time.as_deref()).unwrap_or(0)
    }

    /// How long a film lasts by the header, microseconds. Where only the container's length is known, nobody can tell the
    /// film's from that of sound that goes on after it.
    pub fn film_micros(&self, film: &Stream) -> Option<i64> {
        let timed = |stream: &&Stream| {
            ["video", "audio", "subtitle", "data"].contains(&stream.codec_type.as_str()) && !stream.is_cover()
        };
        let whole = self.duration_micros();
        match film.duration_micros() {
            // An edit list shortens what a stream states.
            Some(own) => Some(whole.map_or(own, |whole| own.min(whole))),
            None if self.streams.iter().filter(timed).count() == 1 => {
                whole.map(|micros| micros.saturating_sub(self.start_micros().max(0)))
            }
            None => None,
        }
    }

    /// Duration of the container, microseconds.
    pub fn duration_micros(&self) -> Option<i64> {
        micros(self.format.duration.as_deref())
    }
}

/// A time like `00:01:02.500000000` in microseconds.
fn clock_micros(text: &str) -> Option<i64> {
    let mut parts = text.splitn(3, ':');
    let (hours, minutes) = (parts.next()?.parse::<u32>().ok()?, parts.next()?.parse::<u32>().ok()?);
    let whole = i64::from(hours).saturating_mul(60).saturating_add(minutes.into()).saturating_mul(60_000_000);
    Some(whole.saturating_add(micros(parts.next())?))
}

/// Seconds with decimals in microseconds.
fn micros(seconds: Option<&str>) -> Option<i64> {
    let seconds: f64 = seconds?.parse().ok()?;
    let micros = (seconds * 1e6).round();
    (micros.abs() < 9e15).then_some(micros as i64)
}

/// Containers that are read. Playlists and scripts, which name other files, are not among them.
pub const CONTAINERS: &str =
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg,mxf,gif,nut,ivf,wtv";

/// Reads a header.
pub fn read(tools: &Tools, path: &Path) -> Outcome<Media> {
    let mut run = tools.ffprobe();
    run.args(["-format_whitelist", CONTAINERS, "-show_format", "-show_streams", "-show_chapters"]);
    run.args(["-show_data_hash", "sha256", "-of", "json"]);
    run.input(path);
    run.json("read the header")
}

/// Whether ffprobe's name of a format, which is several by comma, has one of these.
pub fn is_format(format_name: &str, names: &[&str]) -> bool {
    format_name.split(',').any(|name| names.contains(&name))
}

/// How much of a file is looked at, seconds: protected films may begin with packets that are not encrypted.
const CLEAR_LEAD: &str = "%+60";

/// Notes what the header of an MP4 file does not tell of its streams, but packets do: encryption, as ffprobe names such a
/// stream by the codec below it; samples of sound that are not to be heard.
///
/// # Errors
/// Those of the program.
pub fn look_at_packets(tools: &Tools, path: &Path, media: &mut Media) -> Outcome<()> {
    if !is_format(&media.format.format_name, &["mov"]) {
        return Ok(());
    }
    let mut run = tools.ffprobe();
    run.args(["-read_intervals", CLEAR_LEAD, "-of", "csv=p=0"]);
    run.args(["-show_entries", "packet=stream_index:packet_side_data=side_data_type,skip_samples"])
        .input(path);
    run.lines("look at the packets", |line| {
        if let Some(told) = told_of_packet(line)
            && let Some(stream) = media.streams.iter_mut().find(|stream| stream.index == told.stream)
        {
            stream.has_encrypted_packets |= told.encrypted;
            stream.dropped_samples = stream.dropped_samples.saturating_add(told.dropped);
        }
        true
    })?;
    Ok(())
}

/// What is told beside a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Told {
    stream: u32,
    encrypted: bool,
    dropped: u32,
}

/// By a line of ffprobe, `1,Encryption info,Skip Samples,1024`; `None` where nothing is told.
fn told_of_packet(line: &str) -> Option<Told> {
    let (number, data) = line.split_once(',')?;
    let dropped = data.split_once("Skip Samples,").and_then(|(_, rest)| rest.split(',').next()?.parse().ok());
    let encrypted = data.contains("Encryption info");
    Some(Told { stream: number.parse().ok()?, encrypted, dropped: dropped.unwrap_or(0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_with_nothing_in_them_are_read() {
        let media: Media = serde_json::from_str(r#"{"streams":[{}],"format":{}}"#).unwrap();
        assert!(media.film().is_none());
        assert_eq!((media.start_micros(), media.duration_micros()), (0, None));
    }

    #[test]
    fn a_film_lasts_as_long_as_its_own_stream() {
        let lasts = |film: &str, others: &str| {
            let film = format!(r#"{{"codec_type":"video","time_base":"1/1000"{film}}}"#);
            let text =
                format!(r#"{{"streams":[{film}{others}],"format":{{"duration":"9.5","start_time":"0.5"}}}}"#);
            let media: Media = serde_json::from_str(&text).unwrap();
            media.film_micros(media.film().unwrap())
        };
        let sound = r#",{"codec_type":"audio"}"#;
        assert_eq!(lasts(r#","duration_ts":4000"#, sound), Some(4_000_000));
        assert_eq!(lasts(r#","duration_ts":99000"#, sound), Some(9_500_000));
        let noted = r#","start_pts":500,"tags":{"DURATION":"00:00:04.500000000"}"#;
        assert_eq!(lasts(noted, sound), Some(4_000_000));
        assert_eq!(lasts("", sound), None);
        assert_eq!(lasts("", r#",{"codec_type":"attachment"}"#), Some(9_000_000));
        assert_eq!(lasts(r#","tags":{"DURATION":"soon"}"#, ""), Some(9_000_000));
        assert_eq!(clock_micros("01:01:01.5"), Some(3_661_500_000));
    }

    #[test]
    fn what_is_told_of_packets_is_read() {
        let told = |stream, encrypted, dropped| Some(Told { stream, encrypted, dropped });
        for (line, wanted) in [
            ("0,Encryption info", told(0, true, 0)),
            ("1,Encryption info,Skip Samples,1024", told(1, true, 1024)),
            ("2,Skip Samples,1105,x", told(2, false, 1105)),
            ("2,Skip Samples,-7", told(2, false, 0)),
            ("3", None),
            ("x,Encryption info", None),
        ] {
            assert_eq!(told_of_packet(line), wanted, "{line}");
        }
    }

    #[test]
    fn covers_are_not_films_and_flags_are_told() {
        let media: Media = serde_json::from_str(
            r#"{"streams":[{"index":0,"codec_type":"video","disposition":{"attached_pic":1}},
            {"index":1,"codec_type":"video","disposition":{"default":1,"forced":1,"dub":0},"tags":{"LANGUAGE":"deu"},
             "side_data_list":[{"side_data_type":"Display Matrix","rotation":-90,
              "displaymatrix":"\n00000000: 0 65536 0\n00000001: -65536 0 0\n00000002: 0 0 1073741824\n"}],"color_space":"unknown"}]}"#,
        )
        .unwrap();
        let film = media.film().unwrap();
        assert_eq!((film.index, film.flags().as_str(), film.turn().degrees), (1, "default+forced", -90));
        assert_eq!((film.tag("language"), film.colour_tags().matrix), (Some("deu"), None));
    }
}
