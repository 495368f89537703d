//! The one decode: hashes from standard output, what each picture is from the log of the `showinfo` filter.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::count;
use crate::api::worker::Code;
use crate::worker::failure::{Failure, Outcome};
use crate::worker::ffmpeg::{Invocation, Said, Tools};
use crate::worker::plan::SceneCut;
use crate::worker::range::Window;
use crate::worker::ratio::Ratio;

/// Most pictures that a film may have.
const MAX_PICTURES: usize = 50_000_000;

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
    let (Some(pts), Some(hash)) = (fields.nth(2), fields.nth(2)) else { return HashLine::Other };
    HashLine::Picture { pts: pts.parse().ok(), hash: hash.to_owned() }
}

/// Times and hashes that an ffmpeg with a `framehash` output on its standard output tells.
///
/// # Errors
/// Those of the run; [`Code::Internal`] if the times are in another base than `base`.
pub fn read_hashes(
    run: &Invocation,
    purpose: &'static str,
    base: Ratio,
    heard: impl FnMut(&str) -> bool + Send + 'static,
) -> Outcome<(Vec<Option<i64>>, Vec<String>, Said)> {
    let (mut times, mut hashes, mut wrong_base) = (Vec::new(), Vec::new(), None);
    let said = run.lines_hearing(
        purpose,
        |line| {
            match read_hash_line(line) {
                HashLine::Base(told) if told != base => wrong_base = Some(told),
                HashLine::Picture { pts, hash } => {
                    times.push(pts);
                    hashes.push(hash);
                }
                HashLine::Base(_) | HashLine::Other => {}
            }
            times.len() < MAX_PICTURES
        },
        heard,
    )?;
    match wrong_base {
        Some(told) => {
            Err(Failure::stop(Code::Internal, format!("{purpose}: times in {told} instead of {base}")))
        }
        None => Ok((times, hashes, said)),
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
fn read_seen(line: &str) -> Option<Seen> {
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

/// What the filters tell of a scene cut, line by line.
#[derive(Clone, Copy, Debug, PartialEq)]
enum CutLine {
    /// The picture's time, ticks.
    Time(i64),
    /// Its score, 0-100.
    Score(f64),
}

/// Reads a line of the `metadata` filter behind `scdet`; `None` if it is neither time nor score.
fn read_cut(line: &str) -> Option<CutLine> {
    if let Some((_, score)) = line.split_once("lavfi.scd.score=") {
        return score.trim().parse().ok().map(CutLine::Score);
    }
    let (_, told) = line.split_once("frame:")?;
    let (_, time) = told.split_once("pts:")?;
    time.split_whitespace().next()?.parse().ok().map(CutLine::Time)
}

/// A film's pictures as the decode told them.
#[derive(Clone, Debug)]
pub struct Pictures {
    /// Presentation times; `None` where there is none.
    pub pts: Vec<Option<i64>>,
    /// Hashes, hex.
    pub hashes: Vec<String>,
    /// Numbers of pictures that a decoder can start at.
    pub keys: Vec<u64>,
    /// Time and strength of those that begin a scene.
    pub scenes: Vec<(i64, u16)>,
    /// How many are interlaced.
    pub interlaced: u64,
    /// The first picture.
    pub first: Seen,
    /// The first picture of another size or format than the first one, with its number.
    pub differs: Option<(u64, Seen)>,
    /// Duration of the last picture, ticks; 0 if unsaid.
    pub last_duration: i64,
    /// Complaints of demuxer and decoder.
    pub complaints: Said,
}

impl Pictures {
    /// Where scenes begin, by number, given the times of all pictures.
    pub fn cuts(&self, pts: &[i64]) -> Vec<SceneCut> {
        let number = |time| pts.binary_search(time).ok().map(count);
        self.scenes
            .iter()
            .filter_map(|(time, strength)| Some(SceneCut { frame: number(time)?, strength: *strength }))
            .collect()
    }
}

#[derive(Debug, Default)]
struct Tally {
    count: u64,
    keys: Vec<u64>,
    /// Time of the picture whose score comes next.
    scene: Option<i64>,
    scenes: Vec<(i64, u16)>,
    interlaced: u64,
    first: Option<Seen>,
    differs: Option<(u64, Seen)>,
    last_duration: i64,
}

impl Tally {
    fn add_cut(&mut self, told: CutLine) {
        match told {
            CutLine::Time(time) => self.scene = Some(time),
            CutLine::Score(score) => {
                let strength = (score.clamp(0.0, 100.0) * 100.0).round() as u16;
                self.scenes.extend(self.scene.take().map(|time| (time, strength)));
            }
        }
    }

    fn add(&mut self, seen: Seen) {
        let number = self.count;
        self.count = number.saturating_add(1);
        if seen.key {
            self.keys.push(number);
        }
        if seen.interlaced {
            self.interlaced = self.interlaced.saturating_add(1);
        }
        self.last_duration = seen.duration;
        match &self.first {
            None => self.first = Some(seen),
            Some(first)
                if self.differs.is_none() && (first.size, &first.format) != (seen.size, &seen.format) =>
            {
                self.differs = Some((number, seen));
            }
            Some(_) => {}
        }
    }
}

/// Filters that tell what each picture is, and on a small copy of it where scenes begin: points of the picture are
/// enough for that and cost a hundredth of the decode. Every picture of the small copy must reach its end: where a filter
/// keeps some back, ffmpeg collects as many of the others until the next one comes.
const LOOK: &str = "split[shown][small];\
    [small]scale=160:90:flags=neighbor,format=gray,scdet,\
    metadata=mode=print:key=lavfi.scd.score:value=10:function=greater,nullsink;\
    [shown]showinfo=checksum=0";

/// Time of the film's first picture.
///
/// # Errors
/// [`Code::InvalidSource`] if nothing decodes, [`Code::UnsupportedSource`] if it has no time.
pub fn first_time(tools: &Tools, source: &Path, stream: u32, base: Ratio) -> Outcome<i64> {
    let mut run = tools.ffmpeg();
    run.args(["-copyts", "-noautorotate"]).input(source);
    run.args(["-map", &format!("0:{stream}"), "-frames:v", "1", "-fps_mode", "passthrough"]);
    run.args(["-enc_time_base", &base.to_string(), "-f", "framehash", "-hash", "murmur3", "pipe:1"]);
    let (times, _, said) =
        read_hashes(&run, "read the first picture", base, |_| false).map_err(undecodable)?;
    let first = times.first().ok_or_else(|| nothing_decodes(&said))?;
    first.ok_or_else(|| Failure::stop(Code::UnsupportedSource, "BrokenTimes: the first picture has no time"))
}

fn undecodable(failure: Failure) -> Failure {
    match failure {
        Failure::Tool { said, ended, .. } => Failure::stop(
            Code::InvalidSource,
            format!("the video stream cannot be decoded: ffmpeg {ended}: {said}"),
        ),
        other => other,
    }
}

fn nothing_decodes(said: &Said) -> Failure {
    Failure::stop(
        Code::InvalidSource,
        format!("the video stream has no picture that decodes: {}", said.summary()),
    )
}

/// Decodes the film, or a window of it, once. `None` if there is no picture in the window.
///
/// # Errors
/// [`Code::InvalidSource`] if nothing decodes.
pub fn scan(
    tools: &Tools,
    source: &Path,
    stream: u32,
    base: Ratio,
    window: Option<&Window>,
) -> Outcome<Option<Pictures>> {
    let mut run = tools.ffmpeg_saying("level+info");
    run.args(["-copyts", "-noautorotate"]);
    if let Some(start) = window.and_then(|window| window.seek.as_deref()) {
        run.args(["-seek_timestamp", "1", "-ss", start]);
    }
    run.input(source);
    let trim = window.map_or_else(String::new, |window| {
        let end = window.to.map_or_else(String::new, |to| format!(":end_pts={to}"));
        format!("trim=start_pts={}{end},", window.from)
    });
    run.args(["-map", &format!("0:{stream}"), "-vf", &format!("{trim}{LOOK}")]);
    run.args(["-fps_mode", "passthrough"]);
    run.args(["-enc_time_base", &base.to_string(), "-f", "framehash", "-hash", "murmur3", "pipe:1"]);
    let tally = Arc::new(Mutex::new(Tally::default()));
    let writer = Arc::clone(&tally);
    let heard = move |line: &str| {
        if let Some(seen) = read_seen(line) {
            writer.lock().unwrap_or_else(PoisonError::into_inner).add(seen);
        } else if let Some(told) = read_cut(line) {
            writer.lock().unwrap_or_else(PoisonError::into_inner).add_cut(told);
        }
        !(line.contains("[error]") || line.contains("[fatal]"))
    };
    let (pts, hashes, complaints) = read_hashes(&run, "index the film", base, heard).map_err(undecodable)?;
    let tally = std::mem::take(&mut *tally.lock().unwrap_or_else(PoisonError::into_inner));
    let Some(first) = tally.first else {
        return if window.is_some() { Ok(None) } else { Err(nothing_decodes(&complaints)) };
    };
    // Of pictures of another size none is hashed; that they come is all that counts then.
    if tally.differs.is_none() && tally.count != count(hashes.len()) {
        return Err(Failure::stop(
            Code::Internal,
            format!("the decode told {} pictures and {} hashes", tally.count, hashes.len()),
        ));
    }
    Ok(Some(Pictures {
        pts,
        hashes,
        keys: tally.keys,
        scenes: tally.scenes,
        interlaced: tally.interlaced,
        first,
        differs: tally.differs,
        last_duration: tally.last_duration,
        complaints,
    }))
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
        for line in ["#tb 0: 0/1", "#software: x", "0, 1", ""] {
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
    fn scene_cuts_are_read_and_numbered() {
        let lines = [
            "[Parsed_scdet_4 @ 0x5] [info] lavfi.scd.score: 35.1, lavfi.scd.time: 0.08",
            "[Parsed_metadata_5 @ 0x6] [info] frame:0    pts:1024    pts_time:0.08",
            "[Parsed_metadata_5 @ 0x6] [info] lavfi.scd.mafd=35.080",
            "[Parsed_metadata_5 @ 0x6] [info] lavfi.scd.score=35.129",
            "[Parsed_metadata_5 @ 0x6] [info] lavfi.scd.time=0.08",
        ];
        let mut tally = Tally::default();
        lines.iter().filter_map(|line| read_cut(line)).for_each(|told| tally.add_cut(told));
        assert_eq!(tally.scenes, [(1024, 3513)]);
        assert_eq!(read_cut("  Stream #0:0frame:3    pts:512     pts_time:0.04"), Some(CutLine::Time(512)));
        assert_eq!(read_cut("[Parsed_showinfo_0 @ 0x7f] [info] n:   4 pts:   2048 "), None);
        assert_eq!(read_seen("[Parsed_metadata_5 @ 0x6] [info] frame:0    pts:1024    pts_time:0.08"), None);
    }

    #[test]
    fn the_first_change_of_size_is_kept() {
        let seen = |width: u32| Seen {
            key: width == 1,
            interlaced: false,
            size: (width, 1),
            format: "gray".to_owned(),
            duration: i64::from(width),
        };
        let mut tally = Tally::default();
        for width in [1, 1, 2, 3] {
            tally.add(seen(width));
        }
        assert_eq!((tally.count, tally.keys.as_slice(), tally.last_duration), (4, [0, 1].as_slice(), 3));
        assert_eq!(tally.differs.unwrap().0, 2);
    }
}
