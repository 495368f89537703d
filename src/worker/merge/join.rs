//! Joining by stream copy: parts behind each other at exact times, then every other stream of the source untouched, but for
//! text that the container holds in another format only.

use std::collections::BTreeMap;
use std::path::Path;

use super::covers::Covers;
use super::excerpt::Excerpt;
use super::lists::Lists;
use super::packets::TEXT_BASE;
use crate::worker::failure::Outcome;
use crate::worker::ffmpeg::{Invocation, Tools};
use crate::worker::index::Index;
use crate::worker::media::{Media, Stream};
use crate::worker::parts::Manifest;
use crate::worker::prepare::Work;
use crate::worker::refusals::Container;
use crate::worker::turn::Turn;

/// How far the muxer lets packets that it holds be apart, microseconds, before it writes them though a stream has none:
/// what it holds is so much of the film at most, not all of it.
const APART_US: &str = "10000000";

/// Streams that are read through an input of their own. ffmpeg reads a file on until all of its streams have had a packet
/// or have ended, and keeps the films of other inputs waiting meanwhile: with a cover, a font or a late subtitle beside
/// the sound, all sound would come before the pictures in the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Sound,
    Subtitles,
    /// Covers, attached files.
    Still,
}

impl Kind {
    fn of(stream: &Stream) -> Self {
        match stream.codec_type.as_str() {
            "audio" => Self::Sound,
            "subtitle" => Self::Subtitles,
            _ => Self::Still,
        }
    }
}

/// A result to be made.
#[derive(Clone, Copy, Debug)]
pub struct Join<'a> {
    /// Index, plan, parts.
    pub work: &'a Work,
    /// The parts, in order.
    pub manifests: &'a [Manifest],
    /// The source's header.
    pub media: &'a Media,
    /// The source.
    pub source: &'a Path,
    /// Container of the result.
    pub container: Container,
    /// Round whose parts are joined.
    pub round: u32,
    /// The range that is used; `None` for the whole film.
    pub excerpt: Option<Excerpt>,
}

impl Join<'_> {
    /// Writes the result to `target`; lists lie below `scratch` meanwhile.
    pub fn run(&self, tools: &Tools, scratch: &Path, target: &Path) -> Outcome<()> {
        let lists = Lists::make(scratch)?;
        let index = &self.work.index;
        let (attached, copied): (Vec<&Stream>, Vec<&Stream>) = copied(self.media, index.stream)
            .partition(|stream| stream.is_cover() && self.container == Container::Mkv);
        let covers = Covers::take(tools, self.source, lists.folder(), &attached)?;
        let mut run = tools.ffmpeg();
        self.inputs(&mut run, &lists, &copied)?;
        run.args(["-c", "copy", "-max_interleave_delta", APART_US]);
        covers.attach(&mut run, &copied);
        let film = self.media.streams.iter().find(|stream| stream.index == index.stream);
        for (number, stream) in (0u32..).zip(film.into_iter().chain(copied)) {
            carry(&mut run, self.container, number, stream);
        }
        // A time code is that of the film's first picture, which a range has not.
        let time_code = self.excerpt.is_none().then_some("timecode");
        for name in ["language", "title", "handler_name"].into_iter().chain(time_code) {
            if let Some(text) = film.and_then(|film| film.tag(name)) {
                run.args(["-metadata:s:v:0", &format!("{name}={text}")]);
            }
        }
        run.args(["-bsf:v:0", &times_of_parts(index)]);
        match self.container {
            Container::Mp4 | Container::Mov => {
                let scale = index.base.den.to_string();
                run.args([
                    "-video_track_timescale",
                    &scale,
                    "-movie_timescale",
                    &movie_scale(index.base.den),
                ]);
                if self.media.format.tags.keys().any(|tag| tag.starts_with("com.")) {
                    run.args(["-movflags", "use_metadata_tags"]);
                }
            }
            Container::Mkv => {
                run.args(["-default_mode", "passthrough"]);
            }
        }
        run.args(["-f", self.container.muxer()]).file(target);
        run.run("join the parts").map(|_| ())
    }

    /// Inputs and streams. Of a whole film the parts are moved to where the source has its pictures. For a range the
    /// source is moved to where the parts are, at zero, and what lies outside is dropped packet by packet.
    fn inputs(&self, run: &mut Invocation, lists: &Lists, copied: &[&Stream]) -> Outcome<()> {
        let list = lists.write("join.txt", &self.list())?;
        let of_source = match &self.excerpt {
            None => {
                let delay = delay_micros(&self.work.index, self.media);
                run.args(["-itsoffset", &format!("{delay}us")]);
                None
            }
            Some(excerpt) => {
                run.args(["-copyts"]);
                Some(format!("{}us", excerpt.start_micros().saturating_neg()))
            }
        };
        self.parts(run, &list);
        let mut number = 1u32;
        let mut places = BTreeMap::new();
        for kind in [Kind::Sound, Kind::Subtitles, Kind::Still] {
            // The first is there always, for names and chapters.
            if kind != Kind::Sound && copied.iter().all(|stream| Kind::of(stream) != kind) {
                continue;
            }
            // Still pictures have no time, but would be moved with the others.
            if let Some(offset) = of_source.as_ref().filter(|_| kind != Kind::Still) {
                run.args(["-itsoffset", offset]);
            }
            run.input(self.source);
            places.insert(kind, number);
            number = number.saturating_add(1);
        }
        let mut chapters = 1;
        if let Some(excerpt) = &self.excerpt {
            let file = lists.write("chapters.txt", &excerpt.chapters_file(self.media))?;
            run.args(["-f", "ffmetadata"]).input(&file);
            chapters = number;
        }
        run.args(["-map", "0:v:0"]);
        for (output, stream) in (1u32..).zip(copied) {
            let input = places.get(&Kind::of(stream)).copied().unwrap_or(1);
            run.args(["-map", &format!("{input}:{}", stream.index)]);
            let converted = self.container.converts(stream).map(|_| TEXT_BASE);
            let base = converted.or_else(|| stream.base());
            if let Some(filter) = self.excerpt.and_then(|excerpt| excerpt.filter(stream, base?, true)) {
                run.args([&format!("-bsf:{output}"), &filter]);
            }
        }
        run.args(["-map_metadata", "1", "-map_chapters", &chapters.to_string()]);
        if let Some(excerpt) = &self.excerpt {
            run.args(["-t", &format!("{}us", excerpt.read_micros())]);
        }
        Ok(())
    }

    /// The parts as an input.
    fn parts<'r>(&self, run: &'r mut Invocation, list: &Path) -> &'r mut Invocation {
        let turn = self.work.index.turn();
        if turn != Turn::default() {
            run.args(["-display_rotation", &turn.degrees.to_string()]);
        }
        if turn.mirrored {
            run.args(["-display_hflip"]);
        }
        run.args(["-f", "concat", "-safe", "0"]).input(list)
    }

    /// The list of parts with exact durations: differences of rounded absolute times, so that nothing adds up.
    fn list(&self) -> String {
        let index = &self.work.index;
        let since_start = |frame: u64| {
            let first = index.time(index.owned().start).unwrap_or(0);
            index.base.micros(index.time(frame).unwrap_or(first).saturating_sub(first))
        };
        let mut list = "ffconcat version 1.0\n".to_owned();
        for part in self.manifests {
            let path = self.work.folder.part(self.round, part.segment);
            let micros = since_start(part.owned.end).saturating_sub(since_start(part.owned.start));
            list.push_str(&format!("file {}\nduration {micros}us\n", quoted(&path)));
        }
        list
    }
}

/// Times by the durations that the parts state, which are whole ticks: the list speaks of microseconds only, and joining
/// forgets the duration of the last packet. In the base of the parts, a tick is that of the source divided by its numerator.
fn times_of_parts(index: &Index) -> String {
    let last = index.last_owned_duration().saturating_mul(index.base.num.into());
    format!(
        "setts=pts='if(N,PREV_OUTPTS+PREV_INDURATION,PTS)':dts='if(N,PREV_OUTDTS+PREV_INDURATION,DTS)':\
         duration='if(eq(N,{}),{last},DURATION)'",
        index.owned().frames().saturating_sub(1)
    )
}

/// First picture's time after the start of the file: what keeps sound and pictures together. None in a range, in which
/// nothing comes before the first picture.
pub fn delay_micros(index: &Index, media: &Media) -> i64 {
    if index.excerpt.is_some() {
        return 0;
    }
    index.base.micros(index.time(0).unwrap_or(0)).saturating_sub(media.start_micros())
}

/// A time scale for the whole file that the film's divides, so that delays are exact; at least a thousandth.
fn movie_scale(den: u32) -> String {
    let times = 1000u32.div_ceil(den.max(1));
    den.saturating_mul(times).to_string()
}

/// Says how a stream goes into a container as stream number `number`, where all are copied: with its flags, and as text that
/// the container holds.
pub fn carry(run: &mut Invocation, container: Container, number: u32, stream: &Stream) {
    run.args([&format!("-disposition:{number}"), &stream.flags()]);
    if let Some(codec) = container.converts(stream) {
        run.args([&format!("-c:{number}"), codec]);
    }
}

/// The source's streams that go into the result as they are, or as text that its container holds.
pub fn copied(media: &Media, film: u32) -> impl Iterator<Item = &Stream> {
    media.streams.iter().filter(move |stream| {
        stream.index != film
            && (stream.is_cover()
                || ["audio", "subtitle", "attachment"].contains(&stream.codec_type.as_str()))
    })
}

/// What is left out of a film, or of a range of it, for people.
pub fn left_out(media: &Media, film: u32, range: bool) -> Vec<String> {
    let taken: Vec<u32> = copied(media, film).map(|stream| stream.index).chain([film]).collect();
    let left =
        media.streams.iter().filter(|stream| !taken.contains(&stream.index) && !stream.is_made_again(range));
    left.map(|stream| format!("{} stream {} is left out", stream.codec_type, stream.index)).collect()
}

/// A path as the list takes it.
fn quoted(path: &Path) -> String {
    format!("'file:{}'", path.to_string_lossy().replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_movie_scale_is_a_multiple_of_the_films() {
        for (den, scale) in [(12_800, "12800"), (25, "1000"), (24, "1008"), (1000, "1000"), (999, "1998")] {
            assert_eq!(movie_scale(den), scale);
        }
    }

    #[test]
    fn names_are_quoted() {
        assert_eq!(quoted(Path::new("/a'b/c d")), r"'file:/a'\''b/c d'");
    }

    #[test]
    fn data_and_second_films_are_left_out() {
        let media: Media = serde_json::from_str(
            r#"{"streams":[{"index":0,"codec_type":"video"},{"index":1,"codec_type":"audio"},
            {"index":2,"codec_type":"data"},{"index":3,"codec_type":"video","disposition":{"attached_pic":1}},
            {"index":4,"codec_type":"video"},
            {"index":5,"codec_type":"data","tags":{"timecode":"01:02:03:04"}}]}"#,
        )
        .unwrap();
        assert_eq!(copied(&media, 0).map(|stream| stream.index).collect::<Vec<_>>(), [1, 3]);
        let left = ["data stream 2 is left out", "video stream 4 is left out", "data stream 5 is left out"];
        assert_eq!(left_out(&media, 0, false), left[..2]);
        assert_eq!(left_out(&media, 0, true), left);
    }
}
