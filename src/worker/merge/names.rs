//! Languages, titles, flags and tags: what the result says of its streams and of itself. Matroska keeps them all, so
//! there they must be the source's; other containers have fields for some of them only, so what they lose is told.

use std::collections::BTreeMap;

use serde_json::Value;

use super::verify::{Checked, Streams, wrong};
use crate::worker::failure::Outcome;
use crate::worker::lines::printable;
use crate::worker::media::{Media, Stream};

/// Tags that muxers write on their own.
const OWN_TAGS: [&str; 6] =
    ["major_brand", "minor_version", "compatible_brands", "encoder", "duration", "creation_time"];
/// Most that is told of tags, and most characters of one.
const TOLD: (usize, usize) = (20, 120);

/// Verifies; what is said otherwise.
///
/// # Errors
/// [`crate::api::worker::Code::BadOutput`] with what is wrong.
pub(super) fn verify(
    checked: &Checked<'_>,
    media: &Media,
    film: &Stream,
    streams: &Streams<'_>,
) -> Outcome<Vec<String>> {
    let source = checked.of_source.streams.iter().find(|stream| stream.index == checked.work.index.stream);
    let others = ["audio", "subtitle"].into_iter().flat_map(|kind| streams.pairs(kind));
    let mut told = Vec::new();
    for (was, is) in source.map(|source| (source, film)).into_iter().chain(others) {
        told.extend(differences(was, is));
    }
    if checked.keeps_names()
        && let Some(first) = told.first()
    {
        return wrong(first);
    }
    told.extend(lost(&checked.of_source.format.tags, &media.format.tags));
    told.truncate(TOLD.0);
    Ok(told.iter().map(|text| printable(text, TOLD.1)).collect())
}

/// What is said otherwise of a stream.
pub fn differences(was: &Stream, is: &Stream) -> Vec<String> {
    let named = |stream: &'_ Stream, name: &str| {
        stream.tag(name).filter(|value| *value != "und").unwrap_or_default().to_owned()
    };
    let said = ["language", "title"].map(|name| (name, named(was, name), named(is, name)));
    let flags = [("flags", was.flags(), is.flags())];
    let differing = said.into_iter().chain(flags).filter(|(_, was, is)| was != is);
    let kind = &was.codec_type;
    differing
        .map(|(what, was_said, said)| {
            format!("{what} of {kind} stream {}: {said:?} instead of {was_said:?}", was.index)
        })
        .collect()
}

/// Tags of the file that the result does not have.
fn lost(was: &BTreeMap<String, Value>, is: &BTreeMap<String, Value>) -> Vec<String> {
    let kept = |name: &str, value: &Value| {
        is.iter().any(|(other, said)| other.eq_ignore_ascii_case(name) && said == value)
    };
    was.iter()
        .filter(|(name, value)| !OWN_TAGS.contains(&name.to_lowercase().as_str()) && !kept(name, value))
        .map(|(name, _)| format!("tag {name} is not kept"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_otherwise_is_told() {
        let stream = |text: &str| serde_json::from_str::<Stream>(text).unwrap();
        let was = stream(
            r#"{"index":2,"codec_type":"audio","tags":{"language":"deu","title":"a"},"disposition":{"default":1}}"#,
        );
        assert_eq!(differences(&was, &was), [""; 0]);
        let is = stream(r#"{"index":1,"codec_type":"audio","tags":{"LANGUAGE":"und","TITLE":"a"}}"#);
        assert_eq!(
            differences(&was, &is),
            [
                "language of audio stream 2: \"\" instead of \"deu\"",
                "flags of audio stream 2: \"0\" instead of \"default\""
            ]
        );
    }

    #[test]
    fn lost_tags_are_told_but_those_that_muxers_write() {
        let tags = |text: &str| serde_json::from_str::<BTreeMap<String, Value>>(text).unwrap();
        let was = tags(r#"{"title":"a","ENCODER":"x","artist":"b","major_brand":"isom"}"#);
        assert_eq!(lost(&was, &tags(r#"{"TITLE":"a"}"#)), ["tag artist is not kept"]);
    }
}
