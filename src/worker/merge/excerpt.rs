//! What of the source's other streams belongs to a range: packets of sound that begin in it, whole and as they are;
//! subtitles that are shown in it; chapters, shifted. Pure.
//!
//! Everything is decided in whole ticks of each stream, so ranges that follow each other share no packet and lose none.

use super::chapters::Chapter;
use crate::worker::index::Index;
use crate::worker::media::{Media, Stream};
use crate::worker::ratio::Ratio;

/// How far the source is read behind a range, microseconds.
const READ_ON_US: i64 = 10_000_000;

/// A range of the source, from its first owned picture to the end of the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Excerpt {
    base: Ratio,
    start: i64,
    end: i64,
}

impl Excerpt {
    /// The range of a film; `None` if all of it is used.
    pub fn of(index: &Index) -> Option<Self> {
        index.excerpt?;
        let owned = index.owned();
        Some(Self { base: index.base, start: index.time(owned.start)?, end: index.time(owned.end)? })
    }

    /// Time of the first owned picture, microseconds: by so much the source is shifted to the front.
    pub fn start_micros(&self) -> i64 {
        self.base.micros(self.start)
    }

    /// Length, microseconds.
    pub fn length_micros(&self) -> i64 {
        self.base.micros(self.end).saturating_sub(self.start_micros())
    }

    /// How long after its start nothing more is read, microseconds. What comes between its end and that is dropped
    /// packet by packet; streams are seldom further apart in a file.
    pub fn read_micros(&self) -> i64 {
        self.length_micros().saturating_add(READ_ON_US)
    }

    /// The bitstream filter that lets through what belongs to the range, for a stream in that time base that is read as the
    /// source states its times, or shifted by [`Self::start_micros`]. `None` for streams without times.
    pub fn filter(&self, stream: &Stream, base: Ratio, shifted: bool) -> Option<String> {
        let shift = if shifted { base.ticks_nearest(self.start_micros()) } else { 0 };
        let tick = |time| self.base.ceil_in(time, base).saturating_sub(shift);
        let (from, to) = (tick(self.start), tick(self.end));
        match stream.codec_type.as_str() {
            "audio" => Some(format!("noise=drop='lt(pts,{from})+gte(pts,{to})'")),
            // One that is shown already when the range begins, begins with it.
            "subtitle" => Some(format!(
                "noise=drop='lte(pts+duration,{from})*lt(pts,{from})+gte(pts,{to})',\
                 setts=pts='max(PTS,{from})':dts='max(DTS,{from})':\
                 duration='if(lt(PTS,{from}),DURATION-({from}-PTS),DURATION)'"
            )),
            _ => None,
        }
    }

    /// The source's chapters in the range, clipped, since its first owned picture.
    pub(super) fn chapters(&self, media: &Media) -> impl Iterator<Item = Chapter> {
        let (start, length) = (self.start_micros(), self.length_micros());
        Chapter::all(media).filter_map(move |chapter| chapter.within(start, length))
    }

    /// The same as a file of ffmpeg's metadata format.
    pub fn chapters_file(&self, media: &Media) -> String {
        let mut text = ";FFMETADATA1\n".to_owned();
        for Chapter { start, end, tags } in self.chapters(media) {
            text.push_str(&format!("[CHAPTER]\nTIMEBASE=1/1000000\nSTART={start}\nEND={end}\n"));
            for (name, value) in tags {
                text.push_str(&format!("{}={}\n", escaped(&name), escaped(&value)));
            }
        }
        text
    }
}

/// A word of the metadata format, in which five characters have a meaning.
fn escaped(text: &str) -> String {
    text.chars()
        .filter(|c| *c != '\0' && *c != '\r')
        .flat_map(|c| ['=', ';', '#', '\\', '\n'].contains(&c).then_some('\\').into_iter().chain([c]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn media(text: &str) -> Media {
        serde_json::from_str(text).unwrap()
    }

    /// The second of two seconds at 25 pictures a second.
    const SECOND: fn() -> Excerpt = || Excerpt { base: Ratio { num: 1, den: 25 }, start: 25, end: 50 };

    #[test]
    fn packets_are_chosen_in_ticks_of_their_stream() {
        let media = media(
            r#"{"streams":[{"codec_type":"audio","time_base":"1/44100"},{"codec_type":"subtitle","time_base":"1/1000"},
            {"codec_type":"attachment","time_base":"1/90000"},{"codec_type":"audio"}]}"#,
        );
        let of = |excerpt: Excerpt, stream: &Stream, shifted| excerpt.filter(stream, stream.base()?, shifted);
        let filter = |stream: usize, shifted| of(SECOND(), &media.streams[stream], shifted);
        assert_eq!(filter(0, false).unwrap(), "noise=drop='lt(pts,44100)+gte(pts,88200)'");
        assert_eq!(filter(0, true).unwrap(), "noise=drop='lt(pts,0)+gte(pts,44100)'");
        assert!(filter(1, true).unwrap().contains("lte(pts+duration,0)*lt(pts,0)+gte(pts,1000)"));
        assert_eq!((filter(2, true), filter(3, true)), (None, None));
        // A time that is no tick of the stream: both ranges around it speak of the same tick.
        let ntsc = Excerpt { base: Ratio { num: 1001, den: 30_000 }, start: 1, end: 2 };
        let next = Excerpt { start: 2, end: 3, ..ntsc };
        assert_eq!(of(ntsc, &media.streams[0], false).unwrap(), "noise=drop='lt(pts,1472)+gte(pts,2943)'");
        assert!(of(next, &media.streams[0], false).unwrap().contains("lt(pts,2943)"));
    }

    #[test]
    fn chapters_are_clipped_shifted_and_escaped() {
        let media = media(
            r#"{"chapters":[
            {"time_base":"1/1000","start":0,"end":500,"tags":{"title":"before"}},
            {"time_base":"1/1000","start":500,"end":1500,"tags":{"title":"a=b;c\nSTART=7"}},
            {"time_base":"1/1000","start":1500,"end":9000},
            {"time_base":"1/1000","start":2000,"end":9000},{"time_base":"0/0","start":0,"end":1},7]}"#,
        );
        assert_eq!(
            SECOND().chapters_file(&media),
            ";FFMETADATA1\n\
             [CHAPTER]\nTIMEBASE=1/1000000\nSTART=0\nEND=500000\ntitle=a\\=b\\;c\\\nSTART\\=7\n\
             [CHAPTER]\nTIMEBASE=1/1000000\nSTART=500000\nEND=1000000\n"
        );
    }
}
