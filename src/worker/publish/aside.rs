//! Files in the making: beside the file that they are to become, under a name of one run only, and locked for as long
//! as that run lives. So two runs never write into one file, and what a dead run left is told from what a living one
//! writes.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::{Published, digest_of, discard, publish};
use crate::api::worker::Code;
use crate::worker::failure::{Failure, Outcome, on_file};

/// Longest name that is shown whole in the name of a file in the making, bytes. With mark, UID and number it stays below
/// the 255 bytes of file systems.
const SHOWN: usize = 120;
/// Characters of the digest that stands for a longer name.
const DIGEST: usize = 32;

/// A file in the making. It is removed when dropped, unless it was published.
#[derive(Debug)]
pub struct Aside {
    path: PathBuf,
    file: File,
}

impl Aside {
    /// Makes an empty one beside `path`; `who` makes it.
    pub fn create(path: &Path, who: &str) -> Outcome<Self> {
        let path = aside(path, &format!("{who}-{:016x}", rand::random::<u64>()));
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).open(&path).map_err(on_file("create", &path))?;
        // Where a file system has no locks, whoever tidies up removes a living run's file, and to publish it fails then.
        let _ = file.try_lock();
        Ok(Self { path, file })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes all of it, flushed.
    pub fn write(&mut self, bytes: &[u8]) -> Outcome<()> {
        self.file.write_all(bytes).map_err(on_file("write", &self.path))?;
        self.file.sync_all().map_err(on_file("flush", &self.path))
    }

    /// Gives it its final name, flushed. Without `replace` an existing file stays.
    ///
    /// # Errors
    /// [`Code::Io`] too if the file under its name is no longer the one that was made.
    pub fn publish(self, path: &Path, replace: bool) -> Outcome<Published> {
        let named = std::fs::symlink_metadata(&self.path).map_err(on_file("look at", &self.path))?;
        let held = self.file.metadata().map_err(on_file("look at", &self.path))?;
        if (named.dev(), named.ino()) != (held.dev(), held.ino()) {
            let text = format!("{} was replaced while it was made", self.path.display());
            return Err(Failure::stop(Code::Io, text));
        }
        publish(&self.path, path, replace)
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        // Once it is published, nothing has this name.
        discard(&self.path);
    }
}

/// A name beside `path` that no finished file has; names that are too long to be shown whole are shown by their digest.
pub fn aside(path: &Path, who: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let shown = if name.len() > SHOWN {
        digest_of(name.as_bytes()).chars().take(DIGEST).collect()
    } else {
        name.into_owned()
    };
    path.with_file_name(format!(".{shown}.partial-{who}"))
}

/// Removes what runs that ended too early have left aside of `path`; what a living run writes stays.
pub fn remove_asides(path: &Path) -> Outcome<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let aside = aside(path, "");
    let beginning = aside.file_name().unwrap_or_default().as_encoded_bytes();
    for entry in std::fs::read_dir(folder).map_err(on_file("list", folder))? {
        let entry = entry.map_err(on_file("list", folder))?;
        if entry.file_name().as_encoded_bytes().starts_with(beginning) && !is_held(&entry.path()) {
            discard(&entry.path());
        }
    }
    Ok(())
}

/// Whether a living run holds the file.
fn is_held(path: &Path) -> bool {
    let mut options = OpenOptions::new();
    // A stranger's pipe under such a name must not hold us up, nor a link lead elsewhere.
    let careful = OFlags::NONBLOCK.union(OFlags::NOFOLLOW).bits();
    let opened = options.read(true).write(true).custom_flags(careful.cast_signed()).open(path);
    opened.is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn only_what_dead_runs_left_aside_of_a_file_is_removed() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a.mp4");
        let held = Aside::create(&path, "1").unwrap();
        for name in
            [aside(&path, "1-7"), aside(&path, ""), aside(&root.path().join("b.mp4"), "1"), path.clone()]
        {
            std::fs::write(name, "x").unwrap();
        }
        remove_asides(&path).unwrap();
        let own = held.path().file_name().unwrap().to_str().unwrap().to_owned();
        assert_eq!(names(root.path()), [own.as_str(), ".b.mp4.partial-1", "a.mp4"]);
        drop(held);
        assert_eq!(names(root.path()), [".b.mp4.partial-1", "a.mp4"]);
    }

    #[test]
    fn two_runs_never_make_one_file() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a.mp4");
        let (first, second) = (Aside::create(&path, "1").unwrap(), Aside::create(&path, "1").unwrap());
        assert_ne!(first.path(), second.path());
        std::fs::write(first.path(), "first").unwrap();
        std::fs::write(second.path(), "sec").unwrap();
        assert_eq!(first.publish(&path, false).unwrap(), Published::Now);
        assert_eq!(second.publish(&path, false).unwrap(), Published::Taken);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "first");
        assert_eq!(names(root.path()), ["a.mp4"]);
    }

    #[test]
    fn a_file_put_in_the_place_of_ones_own_is_not_published() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a.mp4");
        let made = Aside::create(&path, "1").unwrap();
        std::fs::write(root.path().join("other"), "half").unwrap();
        std::fs::rename(root.path().join("other"), made.path()).unwrap();
        assert_eq!(made.publish(&path, true).unwrap_err().code(), Code::Io);
        assert!(!path.exists());
    }

    #[test]
    fn long_names_have_short_ones_aside() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join(format!("{}.mp4", "\u{e9}".repeat(120)));
        let made = Aside::create(&path, &"u".repeat(64)).unwrap();
        assert_eq!(made.publish(&path, false).unwrap(), Published::Now);
    }
}
