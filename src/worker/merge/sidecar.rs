//! What is written beside the result, and kept in the work folder just before the result is published: what the film was
//! made of, how, and what was verified. Whoever finds the result knows by it whose it is.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::api::worker::{MergeFigures, SegmentRun};
use crate::worker::index::FileIdentity;
use crate::worker::parts::Manifest;
use crate::worker::prepare::Work;
use crate::worker::range::TimeRange;

/// The sidecar.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sidecar {
    /// Version of this format, 1.
    pub v: u32,
    /// UID of the job.
    pub job: String,
    /// Digest of the source's index.
    pub index: String,
    /// The source; unsaid by versions that did not know it, as are all that follow with this remark.
    #[serde(default)]
    pub source: Option<UsedSource>,
    /// Upscaling factor.
    pub scale: u32,
    /// Segments joined.
    pub segments: u32,
    /// Encoder and its settings.
    pub encoder: String,
    /// How the segments were made, in order; see [`Self::source`].
    #[serde(default)]
    pub made: Vec<Made>,
    /// What was verified.
    pub verified: Vec<String>,
    /// What is left out or odd.
    pub warnings: Vec<String>,
    /// The result.
    pub result: MergeFigures,
}

/// The source of a result, and what of it was used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsedSource {
    /// Path on its claim.
    pub path: String,
    /// Which file was there.
    pub file: FileIdentity,
    /// Number of the film's stream.
    pub stream: u32,
    /// Codec of the film.
    pub codec: String,
    /// Width, pixels.
    pub width: u32,
    /// Height, pixels.
    pub height: u32,
    /// Pictures used.
    pub frames: u64,
    /// The range asked for; `None` for the whole film.
    pub range: Option<TimeRange>,
}

/// Segments that follow each other and were made alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// Which.
    pub segments: SegmentRun,
    /// The ladder's step.
    pub step: u32,
    /// Pieces that each was run in.
    pub pieces: u32,
}

/// `<destination>.upscale.json`
pub fn sidecar_path(destination: &Path) -> PathBuf {
    let mut name = destination.as_os_str().to_owned();
    name.push(".upscale.json");
    PathBuf::from(name)
}

impl UsedSource {
    /// The source of a work folder, at `path`.
    pub(super) fn of(work: &Work, path: &str) -> Self {
        let index = &work.index;
        Self {
            path: path.to_owned(),
            file: index.file,
            stream: index.stream,
            codec: index.codec.clone(),
            width: index.width,
            height: index.height,
            frames: index.owned().frames(),
            range: index.excerpt.map(|excerpt| excerpt.asked),
        }
    }
}

impl Made {
    /// How the parts were made.
    pub(super) fn all(manifests: &[Manifest]) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        for Manifest { segment, step, pieces, .. } in manifests {
            match all.last_mut() {
                Some(made) if (made.step, made.pieces) == (*step, *pieces) => made.segments.last = *segment,
                _ => all.push(Self {
                    segments: SegmentRun { first: *segment, last: *segment },
                    step: *step,
                    pieces: *pieces,
                }),
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::plan::Span;

    #[test]
    fn segments_made_alike_are_told_together() {
        let part = |segment, step, pieces| Manifest {
            v: 1,
            index: String::new(),
            round: 0,
            segment,
            owned: Span { start: 0, end: 1 },
            scale: 2,
            attempt: 0,
            step,
            pieces,
            width: 2,
            height: 2,
            encoder: String::new(),
            header: String::new(),
            bytes: 5,
            sha256: String::new(),
        };
        let parts = [part(0, 2, 1), part(1, 2, 1), part(2, 3, 1), part(3, 3, 4), part(4, 2, 1)];
        let told: Vec<_> = Made::all(&parts)
            .iter()
            .map(|made| (made.segments.to_string(), made.step, made.pieces))
            .collect();
        let run = |text: &str, step, pieces| (text.to_owned(), step, pieces);
        assert_eq!(told, [run("0-1", 2, 1), run("2", 3, 1), run("3", 3, 4), run("4", 2, 1)]);
    }

    #[test]
    fn sidecars_of_older_versions_are_read() {
        let text = r#"{"v":1,"job":"u","index":"i","scale":2,"segments":1,"encoder":"e","verified":[],"warnings":[],
            "result":{"frames":1,"bytes":1,"width":1,"height":1,"sha256":"s"}}"#;
        let sidecar: Sidecar = serde_json::from_str(text).unwrap();
        assert_eq!((sidecar.source, sidecar.made.len()), (None, 0));
    }
}
