//! Finished parts: a film of the owned pictures, and a manifest that says what it is. The part gets its name first, the
//! manifest after it; so a part with a manifest that fits it is whole.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::failure::Outcome;
use super::folder::WorkFolder;
use super::plan::{Plan, Span};
use super::publish::{digest, read_json};

/// What a finished part is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this format, 1.
    pub v: u32,
    /// Digest of the film's index.
    pub index: String,
    /// Round.
    pub round: u32,
    /// Segment.
    pub segment: u32,
    /// What it owns.
    pub owned: Span,
    /// Upscaling factor.
    pub scale: u32,
    /// Attempt that made it.
    pub attempt: u32,
    /// Ladder step that made it.
    pub step: u32,
    /// Pieces it was run in.
    pub pieces: u32,
    /// Width, pixels.
    pub width: u32,
    /// Height, pixels.
    pub height: u32,
    /// Encoder and its settings.
    pub encoder: String,
    /// SHA-256 of the codec's header.
    pub header: String,
    /// Size, bytes.
    pub bytes: u64,
    /// SHA-256 of the part.
    pub sha256: String,
}

impl Manifest {
    /// Whether it is of that plan's segment.
    fn is_of(&self, plan: &Plan, round: u32, segment: u32) -> bool {
        self.v == 1
            && self.index == plan.index
            && self.scale == plan.scale
            && (self.round, self.segment) == (round, segment)
            && plan.segment(segment) == Some(self.owned)
    }
}

/// The manifest of a segment's part, if a whole and right part is there: of this plan, of the size and digest that the
/// manifest says.
pub fn verified(folder: &WorkFolder, plan: &Plan, round: u32, segment: u32) -> Outcome<Option<Manifest>> {
    let Ok(Some(manifest)) = read_json::<Manifest>(&folder.manifest(round, segment)) else { return Ok(None) };
    let part = folder.part(round, segment);
    if !manifest.is_of(plan, round, segment) || !has_size(&part, manifest.bytes) {
        return Ok(None);
    }
    let (bytes, sha256) = digest(&part)?;
    Ok(((bytes, &sha256) == (manifest.bytes, &manifest.sha256)).then_some(manifest))
}

fn has_size(path: &Path, bytes: u64) -> bool {
    std::fs::metadata(path).is_ok_and(|facts| facts.is_file() && facts.len() == bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::worker::JobRef;
    use crate::worker::folder::Mounts;
    use crate::worker::publish::write_json;

    #[test]
    fn only_a_whole_part_of_this_plan_counts() {
        let root = tempfile::tempdir().unwrap();
        let mounts = Mounts {
            source: root.path().to_owned(),
            destination: root.path().to_owned(),
            scratch: root.path().to_owned(),
        };
        let text = |text: &str| text.to_owned();
        let job = JobRef { cluster: text("c"), namespace: text("n"), name: text("j"), uid: text("u") };
        let folder = mounts.work_folder(&job).unwrap();
        std::fs::create_dir_all(folder.parts()).unwrap();
        let owned = Span { start: 0, end: 5 };
        let plan = Plan {
            v: 1,
            index: text("i"),
            scale: 2,
            quality: 16,
            rate: "25/1".parse().unwrap(),
            longest_read: 21,
            segments: vec![owned],
        };
        let found = |plan: &Plan| verified(&folder, plan, 0, 0).unwrap();
        assert_eq!(found(&plan), None);
        std::fs::write(folder.part(0, 0), "film").unwrap();
        let (bytes, sha256) = digest(&folder.part(0, 0)).unwrap();
        let manifest = Manifest {
            v: 1,
            index: text("i"),
            round: 0,
            segment: 0,
            owned,
            scale: 2,
            attempt: 1,
            step: 2,
            pieces: 1,
            width: 8,
            height: 8,
            encoder: text("x264"),
            header: text("h"),
            bytes,
            sha256,
        };
        write_json(&folder.manifest(0, 0), &manifest).unwrap();
        assert_eq!(found(&plan), Some(manifest));
        assert_eq!(found(&Plan { index: text("other"), ..plan.clone() }), None);
        assert_eq!(found(&Plan { scale: 4, ..plan.clone() }), None);
        std::fs::write(folder.part(0, 0), "fil!").unwrap();
        assert_eq!(found(&plan), None);
        std::fs::write(folder.manifest(0, 0), "{").unwrap();
        assert_eq!(found(&plan), None);
    }
}
