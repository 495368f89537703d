//! The one decode: hashes from standard output, what each picture is from the log of the `showinfo` filter.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::count;
use super::told::{HashLine, MarkLine, Seen, read_hash_line, read_mark, read_seen};
use crate::api::worker::{Code, Deinterlace};
use crate::worker::deinterlace;
use crate::worker::failure::{Failure, Outcome};
use crate::worker::ffmpeg::{Invocation, Said, Tools};
use crate::worker::plan::SceneCut;
use crate::worker::range::Window;
use crate::worker::ratio::Ratio;

/// Most pictures that a film may have.
const MAX_PICTURES: usize = 50_000_000;

/// What `framehash` tells of a film.
#[derive(Clone, Debug, Default)]
pub struct Hashed {
    /// Presentation times; `None` where there is none.
    pub times: Vec<Option<i64>>,
    /// Hashes of the pictures, hex.
    pub hashes: Vec<String>,
    /// Whether headers that were told beside the pictures differ.
    pub headers_differ: bool,
    /// Complaints.
    pub said: Said,
}

/// What an ffmpeg with a `framehash` output on its standard output tells.
///
/// # Errors
/// Those of the run; [`Code::Internal`] if the times are in another base than `base`.
pub fn read_hashes(
    run: &Invocation,
    purpose: &'static str,
    base: Ratio,
    heard: impl FnMut(&str) -> bool + Send + 'static,
) -> Outcome<Hashed> {
    let mut hashed = Hashed::default();
    let (mut header, mut wrong_base) = (None, None);
    hashed.said = run.lines_hearing(
        purpose,
        |line| {
            match read_hash_line(line) {
                HashLine::Base(told) if told != base => wrong_base = Some(told),
                HashLine::Picture { pts, hash } => {
                    hashed.times.push(pts);
                    hashed.hashes.push(hash);
                }
                HashLine::Header(hash) => {
                    hashed.headers_differ |= *header.get_or_insert_with(|| hash.clone()) != hash;
                }
                HashLine::Base(_) | HashLine::Other => {}
            }
            hashed.times.len() < MAX_PICTURES
        },
        heard,
    )?;
    match wrong_base {
        Some(told) => {
            Err(Failure::stop(Code::Internal, format!("{purpose}: times in {told} instead of {base}")))
        }
        None => Ok(hashed),
    }
}

/// A film's pictures as the decode told them.
#[derive(Clone, Debug)]
pub struct Pictures {
    /// Presentation times; `None` where there is none.
    pub pts: Vec<Option<i64>>,
    /// Hashes, hex.
    pub hashes: Vec<String>,
    /// Whether the stream's headers that were asked for differ.
    pub headers_differ: bool,
    /// Numbers of pictures that a decoder can start at.
    pub keys: Vec<u64>,
    /// Time and strength of those that begin a scene.
    pub scenes: Vec<(i64, u16)>,
    /// How many are interlaced.
    pub interlaced: u64,
    /// Time of the first that shows anything behind it, ticks.
    pub transparent: Option<i64>,
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
    /// Time of the picture that the next mark is about.
    marked: Option<i64>,
    scenes: Vec<(i64, u16)>,
    interlaced: u64,
    transparent: Option<i64>,
    first: Option<Seen>,
    differs: Option<(u64, Seen)>,
    last_duration: i64,
}

impl Tally {
    fn add_mark(&mut self, told: MarkLine) {
        match told {
            MarkLine::Time(time) => self.marked = Some(time),
            MarkLine::Scene(score) => {
                let strength = (score.clamp(0.0, 100.0) * 100.0).round() as u16;
                self.scenes.extend(self.marked.take().map(|time| (time, strength)));
            }
            MarkLine::Transparent => self.transparent = self.transparent.or(self.marked.take()),
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

/// Filters that tell on a small copy of each picture where scenes begin: points of the picture are enough for that and
/// cost a hundredth of the decode. Every picture of the small copy must reach its end: where a filter keeps some back,
/// ffmpeg collects as many of the others until the next one comes.
const LOOK: &str = "[small]scale=160:90:flags=neighbor,format=gray,scdet,\
    metadata=mode=print:key=lavfi.scd.score:value=10:function=greater";
/// The filter that tells what each picture is.
const SHOW: &str = "[shown]showinfo=checksum=0";

/// Filters that tell, on a copy of the alpha channel, which pictures show anything behind them.
const LOOK_THROUGH: &str = "[alpha]alphaextract,format=gray,signalstats,\
    metadata=mode=print:key=lavfi.signalstats.YMIN:value=254.5:function=less,nullsink;";

/// Time of the film's first picture.
///
/// # Errors
/// [`Code::InvalidSource`] if nothing decodes, [`Code::UnsupportedSource`] if it has no time.
pub fn first_time(tools: &Tools, source: &Path, stream: u32, base: Ratio) -> Outcome<i64> {
    let mut run = tools.ffmpeg();
    run.args(["-copyts", "-noautorotate"]).input(source);
    run.args(["-map", &format!("0:{stream}"), "-frames:v", "1", "-fps_mode", "passthrough"]);
    run.args(["-enc_time_base", &base.to_string()]).hashes().args(["pipe:1"]);
    let found = read_hashes(&run, "read the first picture", base, |_| false).map_err(undecodable)?;
    let first = found.times.first().ok_or_else(|| nothing_decodes(&found.said))?;
    first.ok_or_else(|| Failure::stop(Code::UnsupportedSource, "BrokenTimes: the first picture has no time"))
}

fn undecodable(failure: Failure) -> Failure {
    match failure {
        Failure::Tool { ref said, ref ended, .. } if failure.is_of_content() => Failure::stop(
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

/// A decode to be made.
#[derive(Clone, Copy, Debug)]
pub struct Scan<'a> {
    /// The film.
    pub source: &'a Path,
    /// Number of its stream.
    pub stream: u32,
    /// What becomes of its frames.
    pub deinterlace: Deinterlace,
    /// Time base of the pictures.
    pub base: Ratio,
    /// Whether its alpha channel is looked at; it has one. Not where frames are taken apart.
    pub alpha: bool,
    /// Which units of the stream are told beside the pictures, as ffmpeg's filter `filter_units` takes them.
    pub headers: Option<&'static str>,
    /// What of it is wanted; `None` for all.
    pub window: Option<&'a Window>,
}

impl Scan<'_> {
    /// Arguments that make the pictures the first stream of the output.
    fn pictures(&self) -> Vec<String> {
        let trim = self.window.map_or_else(String::new, |window| {
            let end = window.to.map_or_else(String::new, |to| format!(":end_pts={to}"));
            format!("trim=start_pts={}{end},", window.from)
        });
        if self.deinterlace != Deinterlace::Off {
            // A filter that gives its last picture at the end, as that for fields does, must not stand before a branch that
            // ends in nothing: ffmpeg 7.1 aborts.
            let fields = deinterlace::filter(self.deinterlace, self.base);
            let graph = format!(
                "[0:{}]{fields}{trim}split[shown][small];{LOOK}[scenes];{SHOW}[pictures]",
                self.stream
            );
            return ["-filter_complex", &graph, "-map", "[pictures]"].map(str::to_owned).to_vec();
        }
        let (split, through) = match self.alpha {
            true => ("split=3[shown][small][alpha];", LOOK_THROUGH),
            false => ("split[shown][small];", ""),
        };
        let graph = format!("{trim}{split}{through}{LOOK},nullsink;{SHOW}");
        ["-map", &format!("0:{}", self.stream), "-filter:0", &graph].map(str::to_owned).to_vec()
    }
}

/// Decodes the film, or a window of it, once. `None` if there is no picture in the window.
///
/// # Errors
/// [`Code::InvalidSource`] if nothing decodes, [`Code::Io`] if the file cannot be read.
pub fn scan(tools: &Tools, asked: &Scan<'_>) -> Outcome<Option<Pictures>> {
    let mut run = tools.ffmpeg_saying("level+info");
    run.args(["-copyts", "-noautorotate"]);
    if let Some(start) = asked.window.and_then(|window| window.seek.as_deref()) {
        run.args(["-seek_timestamp", "1", "-ss", start]);
    }
    run.input(asked.source);
    run.args(asked.pictures());
    run.args(["-fps_mode:0", "passthrough", "-enc_time_base:0", &asked.base.to_string()]);
    if let Some(units) = asked.headers {
        run.args([
            "-map",
            &format!("0:{}", asked.stream),
            "-c:1",
            "copy",
            "-bsf:1",
            &format!("filter_units=pass_types={units}"),
        ]);
        // Headers are few; pictures do not wait for the next one.
        run.args(["-max_interleave_delta", "1"]);
    }
    run.hashes().args(["pipe:1"]);
    if asked.deinterlace != Deinterlace::Off {
        run.args(["-map", "[scenes]", "-fps_mode", "passthrough", "-enc_time_base", &asked.base.to_string()]);
        run.args(["-f", "null", "pipe:1"]);
    }
    let tally = Arc::new(Mutex::new(Tally::default()));
    let writer = Arc::clone(&tally);
    let heard = move |line: &str| {
        if let Some(seen) = read_seen(line) {
            writer.lock().unwrap_or_else(PoisonError::into_inner).add(seen);
        } else if let Some(told) = read_mark(line) {
            writer.lock().unwrap_or_else(PoisonError::into_inner).add_mark(told);
        }
        !(line.contains("[error]") || line.contains("[fatal]"))
    };
    let found = read_hashes(&run, "index the film", asked.base, heard).map_err(undecodable)?;
    let Hashed { times, hashes, headers_differ, said: complaints } = found;
    if complaints.is_of_reading() {
        let text = format!("the film cannot be read to its end: {}", complaints.summary());
        return Err(Failure::stop(Code::Io, text));
    }
    let tally = std::mem::take(&mut *tally.lock().unwrap_or_else(PoisonError::into_inner));
    let Some(first) = tally.first else {
        return if asked.window.is_some() { Ok(None) } else { Err(nothing_decodes(&complaints)) };
    };
    // Of pictures of another size none is hashed; that they come is all that counts then.
    if tally.differs.is_none() && tally.count != count(hashes.len()) {
        return Err(Failure::stop(
            Code::Internal,
            format!("the decode told {} pictures and {} hashes", tally.count, hashes.len()),
        ));
    }
    // Both fields of a frame say that a decoder can start there; it starts at the first.
    let first_field =
        |number: &u64| deinterlace::per_frame(asked.deinterlace) == 1 || number.is_multiple_of(2);
    Ok(Some(Pictures {
        pts: times,
        hashes,
        headers_differ,
        keys: tally.keys.into_iter().filter(first_field).collect(),
        scenes: tally.scenes,
        interlaced: tally.interlaced,
        transparent: tally.transparent,
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
    fn scene_cuts_are_read_and_numbered() {
        let lines = [
            "[Parsed_scdet_4 @ 0x5] [info] lavfi.scd.score: 35.1, lavfi.scd.time: 0.08",
            "[Parsed_metadata_5 @ 0x6] [info] frame:0    pts:1024    pts_time:0.08",
            "[Parsed_metadata_5 @ 0x6] [info] lavfi.scd.mafd=35.080",
            "[Parsed_metadata_5 @ 0x6] [info] lavfi.scd.score=35.129",
            "[Parsed_metadata_5 @ 0x6] [info] lavfi.scd.time=0.08",
        ];
        let mut tally = Tally::default();
        lines.iter().filter_map(|line| read_mark(line)).for_each(|told| tally.add_mark(told));
        assert_eq!((tally.scenes.as_slice(), tally.transparent), ([(1024, 3513)].as_slice(), None));
        let lines = [
            "[Parsed_metadata_4 @ 0x6] [info] frame:3    pts:2048    pts_time:0.16",
            "[Parsed_metadata_4 @ 0x6] [info] lavfi.signalstats.YMIN=77",
        ];
        lines.iter().filter_map(|line| read_mark(line)).for_each(|told| tally.add_mark(told));
        assert_eq!((tally.scenes.len(), tally.transparent), (1, Some(2048)));
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
