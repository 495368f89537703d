//! Whether the result can be written where it is to lie: tried, not guessed, before any GPU works for it.

use std::io;
use std::path::Path;

use super::failure::{Failure, Outcome};
use super::folder::Mounts;
use super::merge::sidecar_path;
use super::publish::{Aside, human, remove_asides};
use crate::api::worker::Code;

/// Makes a file of every kind that the merge of the job `uid` makes beside the result at `name`, and removes it again;
/// and what dead runs have left there. `overwrite`: whether a result that lies there is to be replaced.
///
/// # Errors
/// [`Code::DestinationExists`], [`Code::DestinationNotWritable`] or [`Code::OutOfSpace`] with what is wrong.
pub fn prove_destination(mounts: &Mounts, name: &str, overwrite: bool, uid: &str) -> Outcome<()> {
    let destination = mounts.destination_file(name)?;
    let sidecar = sidecar_path(&destination);
    for (path, replaced) in [(&destination, overwrite), (&sidecar, true)] {
        free_or_replaced(path, name, replaced)?;
    }
    for path in [&destination, &sidecar] {
        let tried = remove_asides(path).and_then(|()| Aside::create(path, uid));
        tried.map_err(|failure| refused(name, failure))?;
    }
    Ok(())
}

/// Refuses what lies there already, unless it is a file that is to be replaced.
fn free_or_replaced(path: &Path, name: &str, replaced: bool) -> Outcome<()> {
    let facts = match std::fs::symlink_metadata(path) {
        Ok(facts) if facts.is_file() && replaced => return Ok(()),
        Ok(facts) => facts,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(not_writable(name, &error)),
    };
    let what = path.file_name().unwrap_or_default().to_string_lossy();
    let (code, advice) = if facts.is_file() {
        (Code::DestinationExists, "set destination.ifExists: Overwrite or remove it")
    } else {
        (Code::DestinationNotWritable, "it is not a file; choose another path")
    };
    let text = format!("{name} is there already ({what}, {}); {advice}", human(facts.len()));
    Err(Failure::stop(code, text))
}

fn refused(name: &str, failure: Failure) -> Failure {
    match failure {
        Failure::File { source, .. } if !super::failure::is_full(&source) => not_writable(name, &source),
        other => other,
    }
}

fn not_writable(name: &str, error: &io::Error) -> Failure {
    let advice = match error.kind() {
        io::ErrorKind::InvalidFilename => {
            "choose a shorter name: with the 13 bytes of .upscale.json it must have at most 255"
        }
        _ => "let the pods' user write there, or choose another path",
    };
    Failure::stop(Code::DestinationNotWritable, format!("{name} cannot be written ({error}); {advice}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proved(root: &Path, path: &str, overwrite: bool) -> Result<(), Code> {
        let folder = || root.to_owned();
        let mounts = Mounts { source: folder(), destination: folder(), scratch: folder() };
        prove_destination(&mounts, path, overwrite, "uid").map_err(|failure| failure.code())
    }

    #[test]
    fn what_cannot_be_written_is_told_before_work_begins() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        std::fs::write(at("there.mp4"), "x").unwrap();
        std::fs::create_dir_all(at("folder.mp4")).unwrap();
        std::fs::create_dir_all(at("beside.mp4.upscale.json")).unwrap();
        std::fs::write(at("file"), "x").unwrap();
        std::fs::write(at(".out.mp4.partial-gone-1"), "left by a dead run").unwrap();
        let before = std::fs::read_dir(root.path()).unwrap().count();
        let long = |bytes: usize| format!("{}.mp4", "n".repeat(bytes - 4));
        for (path, overwrite, expected) in [
            ("there.mp4", false, Err(Code::DestinationExists)),
            ("there.mp4", true, Ok(())),
            ("folder.mp4", true, Err(Code::DestinationNotWritable)),
            ("beside.mp4", false, Err(Code::DestinationNotWritable)),
            ("file/out.mp4", false, Err(Code::DestinationNotWritable)),
            (&long(243), false, Err(Code::DestinationNotWritable)),
            (&long(242), false, Ok(())),
            ("out.mp4", false, Ok(())),
        ] {
            assert_eq!(proved(root.path(), path, overwrite), expected, "{path}");
        }
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), before - 1, "only what was left is gone");
    }
}
