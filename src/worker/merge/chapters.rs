//! Chapters: those of the source, or of a range of it, and whether the result has them.

use serde_json::Value;

use super::times::Times;
use super::verify::{Checked, wrong};
use crate::worker::failure::Outcome;
use crate::worker::media::Media;
use crate::worker::ratio::Ratio;

/// How far a chapter may begin from its time beside what holds for sound, microseconds: formats tell thousandths.
const ROUNDED: u64 = 1000;

/// A chapter.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Chapter {
    /// When it begins, microseconds.
    pub start: i64,
    /// When it ends, microseconds.
    pub end: i64,
    /// Its tags.
    pub tags: Vec<(String, String)>,
}

impl Chapter {
    /// All that a file states, in its order; what cannot be read is left out.
    pub fn all(media: &Media) -> impl Iterator<Item = Self> {
        media.chapters.iter().filter_map(Self::read)
    }

    fn read(chapter: &Value) -> Option<Self> {
        let base: Ratio = chapter.get("time_base")?.as_str()?.parse().ok()?;
        let time = |name: &str| Some(base.micros(chapter.get(name)?.as_i64()?));
        let tags = chapter.get("tags").and_then(Value::as_object).into_iter().flatten();
        let tags = tags.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
        let start = time("start")?;
        Some(Self { start, end: time("end").unwrap_or(start), tags: tags.collect() })
    }

    /// As long before, and cut to what lies from 0 to `length`; `None` if nothing of it does.
    pub fn within(self, start: i64, length: i64) -> Option<Self> {
        let moved = |time: i64| time.saturating_sub(start);
        let (start, end) = (moved(self.start).max(0), moved(self.end).min(length));
        (start < end).then_some(Self { start, end, ..self })
    }

    fn title(&self) -> &str {
        let title = self.tags.iter().find(|(name, _)| name.eq_ignore_ascii_case("title"));
        title.map_or("", |(_, title)| title.as_str())
    }
}

/// Verifies that every chapter is there and begins when the source's does; what is said of them otherwise, where the
/// container does not keep all that is said. `times`: those of the result's pictures.
///
/// # Errors
/// [`crate::api::worker::Code::BadOutput`] with what is wrong.
pub(super) fn verify(checked: &Checked<'_>, media: &Media, times: &Times) -> Outcome<Vec<String>> {
    // Both since their first picture.
    let wanted: Vec<Chapter> = match checked.excerpt() {
        Some(excerpt) => excerpt.chapters(checked.of_source).collect(),
        None => {
            // Before the file's start there is nothing; a chapter that reaches into the film begins with it.
            let (begin, first) = (checked.of_source.start_micros(), checked.first_of_source());
            Chapter::all(checked.of_source)
                .filter(|chapter| chapter.end >= begin)
                .map(|chapter| Chapter { start: chapter.start.max(begin).saturating_sub(first), ..chapter })
                .collect()
        }
    };
    let found: Vec<Chapter> = Chapter::all(media).collect();
    if found.len() != wanted.len() {
        return wrong(format!("{} chapters instead of {}", found.len(), wanted.len()));
    }
    let tolerance = times.tolerance().saturating_add(ROUNDED);
    let mut told = Vec::new();
    for (number, (is, was)) in found.iter().zip(&wanted).enumerate() {
        let begins = is.start.saturating_sub(times.first_micros());
        if begins.abs_diff(was.start) > tolerance {
            let begins = format!(
                "chapter {number} begins {begins} us after the first picture instead of {}",
                was.start
            );
            if checked.keeps_names() {
                return wrong(begins);
            }
            told.push(begins);
        }
        if is.title() != was.title() {
            let title = format!("chapter {number} is called {:?} instead of {:?}", is.title(), was.title());
            if checked.keeps_names() {
                return wrong(title);
            }
            told.push(title);
        }
    }
    Ok(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chapters_are_read_moved_and_cut() {
        let media: Media = serde_json::from_str(
            r#"{"chapters":[{"time_base":"1/1000","start":500,"end":1500,"tags":{"TITLE":"one"}},
            {"time_base":"0/0","start":0,"end":1},7]}"#,
        )
        .unwrap();
        let all: Vec<Chapter> = Chapter::all(&media).collect();
        assert_eq!((all.len(), all[0].title(), all[0].end), (1, "one", 1_500_000));
        let within =
            |start, length| all[0].clone().within(start, length).map(|chapter| (chapter.start, chapter.end));
        assert_eq!(within(400_000, i64::MAX), Some((100_000, 1_100_000)));
        assert_eq!(within(1_000_000, 200_000), Some((0, 200_000)));
        assert_eq!(within(1_500_000, i64::MAX), None);
    }
}
