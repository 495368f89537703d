//! The result verified before it gets its name. Always: streams, size, shape, colour tags, every time, the packets of all
//! sound, subtitles and covers, attached files, names, chapters, and pictures of its beginning, its end and every join;
//! in full, every picture against its own source picture.

use std::path::Path;

use super::excerpt::Excerpt;
use super::join::copied;
use super::{chapters, facts, names, pictures, sound, texts, times};
use crate::api::worker::Code;
use crate::worker::failure::{Failure, Outcome};
use crate::worker::ffmpeg::Tools;
use crate::worker::media::{self, Media, Stream};
use crate::worker::parts::Manifest;
use crate::worker::prepare::Work;
use crate::worker::refusals::Container;

/// What is verified.
#[derive(Clone, Copy, Debug)]
pub struct Checked<'a> {
    /// Index and plan.
    pub work: &'a Work,
    /// The parts.
    pub manifests: &'a [Manifest],
    /// The source.
    pub source: &'a Path,
    /// Its header.
    pub of_source: &'a Media,
    /// The result.
    pub result: &'a Path,
    /// Its container.
    pub container: Container,
    /// Whether every picture is compared.
    pub full: bool,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Verified {
    /// What was verified, for the sidecar.
    pub done: Vec<String>,
    /// What the container of the result says otherwise than the source, for people.
    pub warnings: Vec<String>,
}

impl Checked<'_> {
    /// The range that is used; `None` for the whole film.
    pub(super) fn excerpt(&self) -> Option<Excerpt> {
        Excerpt::of(&self.work.index)
    }

    /// When the first picture that is used comes in the source, microseconds.
    pub(super) fn first_of_source(&self) -> i64 {
        let index = &self.work.index;
        index.base.micros(index.time(index.owned().start).unwrap_or(0))
    }

    /// Whether source and result are Matroska, which keeps all that is said of a stream.
    pub(super) fn keeps_names(&self) -> bool {
        self.of_source.is_matroska() && self.container == Container::Mkv
    }
}

pub(super) fn wrong<T>(text: impl std::fmt::Display) -> Outcome<T> {
    Err(Failure::stop(Code::BadOutput, format!("the joined film is wrong: {text}")))
}

/// The streams beside the film, of the source and of the result, those of a kind in the same order.
#[derive(Clone, Debug)]
pub(super) struct Streams<'a> {
    source: Vec<&'a Stream>,
    result: Vec<&'a Stream>,
}

impl<'a> Streams<'a> {
    /// Of the same number and codecs, but for text that was converted.
    fn of(checked: &Checked<'a>, media: &'a Media, film: &Stream) -> Outcome<Self> {
        let source: Vec<&Stream> = copied(checked.of_source, checked.work.index.stream).collect();
        let result: Vec<&Stream> = copied(media, film.index).collect();
        let kinds = |streams: &[&Stream]| {
            let codec = |stream: &Stream| {
                let converted = checked.container.converts(stream);
                format!("{} {}", stream.codec_type, converted.unwrap_or(stream.codec()))
            };
            let mut kinds: Vec<String> = streams.iter().map(|stream| codec(stream)).collect();
            kinds.sort();
            kinds
        };
        let (found, wanted) = (kinds(&result), kinds(&source));
        if found != wanted {
            return wrong(format!("it has {found:?} beside the film, the source has {wanted:?}"));
        }
        Ok(Self { source, result })
    }

    /// The source's of a type.
    pub fn of_source(&self, codec_type: &str) -> Vec<&'a Stream> {
        self.source.iter().filter(|stream| stream.codec_type == codec_type).copied().collect()
    }

    /// The result's of a type.
    pub fn of_result(&self, codec_type: &str) -> Vec<&'a Stream> {
        self.result.iter().filter(|stream| stream.codec_type == codec_type).copied().collect()
    }

    /// Those of a type, each of the source with its copy.
    pub fn pairs(&self, codec_type: &str) -> Vec<(&'a Stream, &'a Stream)> {
        self.of_source(codec_type).into_iter().zip(self.of_result(codec_type)).collect()
    }
}

/// Verifies.
///
/// # Errors
/// [`Code::BadOutput`] with what is wrong.
pub fn verify(tools: &Tools, checked: &Checked<'_>) -> Outcome<Verified> {
    let media = media::read(tools, checked.result)?;
    let Some(film) = media.film() else { return wrong("it has no video stream") };
    let streams = Streams::of(checked, &media, film)?;
    facts::verify(checked, film)?;
    facts::attachments(&streams)?;
    let mut warnings = names::verify(checked, &media, film, &streams)?;
    let times = times::verify(tools, checked, &media, film)?;
    warnings.extend(chapters::verify(checked, &media, &times)?);
    let tracks = sound::verify(tools, checked, &streams, &times)?;
    let texts = texts::verify(tools, checked, &streams, &times)?;
    texts::covers(tools, checked, &streams)?;
    let all = ["streams", "size", "shape", "colour tags", "names", "attached files", "times", "chapters"];
    let mut done: Vec<String> = all.map(str::to_owned).into();
    for (count, what) in [(tracks, "sound"), (texts, "subtitles")] {
        if count > 0 {
            done.push(format!("{what} of {count} tracks"));
        }
    }
    if checked.full {
        pictures::all(tools, checked)?;
        done.push("pictures".to_owned());
    } else {
        pictures::some(tools, checked, &times)?;
        done.push("pictures of the first and the last second and of every join".to_owned());
    }
    Ok(Verified { done, warnings })
}
