//! Lines in which ffmpeg tells of pictures: those of its `framehash` output, and those of filters in its log. Pure.

use crate::worker::ratio::Ratio;

/// A line of ffmpeg's `framehash` output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashLine {
    /// Time base of what follows.
    Base(Ratio),
    /// A picture.
    Picture {
        /// Presentation time; `None` if it has none.
        pts: Option<i64>,
        /// Hash, hex.
        hash: String,
    },
    /// A header of the stream that is told beside the pictures: its hash, hex.
    Header(String),
    /// Anything else.
    Other,
}

/// Reads one line of `framehash`.
pub fn read_hash_line(line: &str) -> HashLine {
    if let Some(base) = line.strip_prefix("#tb 0:") {
        return base.trim().parse().map_or(HashLine::Other, HashLine::Base);
    }
    if line.starts_with('#') {
        return HashLine::Other;
    }
    let mut fields = line.split(',').map(str::trim);
    let (Some(stream), Some(pts), Some(hash)) = (fields.next(), fields.nth(1), fields.nth(2)) else {
        return HashLine::Other;
    };
    match stream {
        "0" => HashLine::Picture { pts: pts.parse().ok(), hash: hash.to_owned() },
        _ => HashLine::Header(hash.to_owned()),
    }
}

/// What `showinfo` tells of a picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Whether a decoder can start here.
    pub key: bool,
    /// Whether it is woven of two fields.
    pub interlaced: bool,
    /// Width and height, pixels.
    pub size: (u32, u32),
    /// ffmpeg's name of its pixel format.
    pub format: String,
    /// Ticks; 0 if unsaid.
    pub duration: i64,
}

/// What `showinfo` says of a picture in a line of ffmpeg's log, from its time on. The filter's name does not always stand
/// before it: the muxer tells of its streams in another thread, piece by piece, and a line that begins within such a piece
/// comes without.
///
/// Public for the tests that read films.
pub fn told_of_picture(line: &str) -> Option<&str> {
    let (before, told) = line.split_once(" pts:")?;
    let number = before.trim_end_matches(|c: char| c.is_ascii_digit());
    (number.len() < before.len() && number.trim_end().ends_with("n:")).then_some(told)
}

/// Reads a line of `showinfo`; `None` if it is not about a picture.
pub(super) fn read_seen(line: &str) -> Option<Seen> {
    let told = told_of_picture(line)?;
    let field = |name: &str| told.split_once(name).map(|(_, rest)| rest.trim_start());
    let word = |name: &str| field(name)?.split_whitespace().next();
    let (width, height) = word(" s:")?.split_once('x')?;
    Some(Seen {
        key: word(" iskey:")? == "1",
        interlaced: word(" i:")? != "P",
        size: (width.parse().ok()?, height.parse().ok()?),
        format: word(" fmt:")?.to_owned(),
        duration: word(" duration:").and_then(|text| text.parse().ok()).unwrap_or(0),
    })
}

/// What the filters beside the pictures tell of one, line by line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum MarkLine {
    /// The picture's time, ticks.
    Time(i64),
    /// It begins a scene, by that score, 0-100.
    Scene(f64),
    /// It shows something behind it.
    Transparent,
}

/// Reads a line of the `metadata` filters; `None` if it says nothing of that.
pub(super) fn read_mark(line: &str) -> Option<MarkLine> {
    if let Some((_, score)) = line.split_once("lavfi.scd.score=") {
        return score.trim().parse().ok().map(MarkLine::Scene);
    }
    if line.contains("lavfi.signalstats.YMIN=") {
        return Some(MarkLine::Transparent);
    }
    let (_, told) = line.split_once("frame:")?;
    let (_, time) = told.split_once("pts:")?;
    time.split_whitespace().next()?.parse().ok().map(MarkLine::Time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn framehash_lines_are_read() {
        assert_eq!(read_hash_line("#tb 0: 1/12800"), HashLine::Base("1/12800".parse().unwrap()));
        assert_eq!(
            read_hash_line("0,        512,       1024,      512,    86400, a2dea9"),
            HashLine::Picture { pts: Some(1024), hash: "a2dea9".to_owned() }
        );
        assert_eq!(
            read_hash_line("0, NOPTS, NOPTS, 1, 2, ab"),
            HashLine::Picture { pts: None, hash: "ab".to_owned() }
        );
        let header = HashLine::Header("ab".to_owned());
        assert_eq!(read_hash_line("1, 0, 3600, 3600, 12, ab, S=1, 1, cd"), header);
        for line in ["#tb 0: 0/1", "#tb 1: 1/25", "#software: x", "0, 1", ""] {
            assert_eq!(read_hash_line(line), HashLine::Other, "{line}");
        }
    }

    #[test]
    fn showinfo_lines_are_read() {
        let line = "[Parsed_showinfo_0 @ 0x7f] [info] n:   4 pts:   2048 pts_time:0.16    duration:    512 \
                    duration_time:0.04    fmt:yuv420p cl:left sar:1/1 s:320x180 i:P iskey:1 type:I ";
        let seen = read_seen(line).unwrap();
        assert_eq!(
            seen,
            Seen {
                key: true,
                interlaced: false,
                size: (320, 180),
                format: "yuv420p".to_owned(),
                duration: 512
            }
        );
        assert!(read_seen(&line.replace("i:P", "i:T")).unwrap().interlaced);
        for begun in ["[info]   Stream #0:0", "(eng): Video: rawvideo, 25 fps, ", ""] {
            let within = line.replace("[Parsed_showinfo_0 @ 0x7f] [info] ", begun);
            assert_eq!(read_seen(&within), Some(seen.clone()), "{within}");
        }
        assert_eq!(read_seen("[info] n: 1"), None);
        assert_eq!(read_seen("[Parsed_showinfo_0 @ 0x7f] [info] color_range:unknown"), None);
    }

    #[test]
    fn lines_of_marks_are_read_wherever_they_begin() {
        let line = "[Parsed_metadata_5 @ 0x6] [info] frame:0    pts:1024    pts_time:0.08";
        assert_eq!((read_mark(line), read_seen(line)), (Some(MarkLine::Time(1024)), None));
        assert_eq!(read_mark("  Stream #0:0frame:3    pts:512     pts_time:0.04"), Some(MarkLine::Time(512)));
        assert_eq!(read_mark("[Parsed_showinfo_0 @ 0x7f] [info] n:   4 pts:   2048 "), None);
    }
}
