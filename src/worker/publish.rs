//! Files appear whole or not at all: written aside, flushed, renamed. And what is known of them: digest, free space.

mod aside;

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use super::failure::{Failure, Outcome, on_file};
use crate::api::worker::Code;

pub use aside::{Aside, aside, remove_asides};

/// Largest JSON file that is read, bytes.
const MAX_JSON_BYTES: u64 = 64 * 1024 * 1024;

/// What became of a file that was to be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// It has its final name.
    Now,
    /// Another file has that name; ours is untouched.
    Taken,
}

/// Writes a small file whole: aside, flushed, renamed over what is there.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Outcome<()> {
    let mut aside = Aside::create(path, &std::process::id().to_string())?;
    aside.write(bytes)?;
    aside.publish(path, true).map(|_| ())
}

/// Removes a file that nobody is to use, if it is there. What came before counts more than that it cannot be removed:
/// it is overwritten later, or goes with its folder.
pub fn discard(path: &Path) {
    let _ = std::fs::remove_file(path);
}

/// As [`write_whole`], JSON.
pub fn write_json(path: &Path, value: &impl Serialize) -> Outcome<()> {
    let mut bytes = serde_json::to_vec_pretty(value)
        .map_err(|error| Failure::stop(Code::Internal, format!("write {}: {error}", path.display())))?;
    bytes.push(b'\n');
    write_whole(path, &bytes)
}

/// Reads JSON; `None` if no file is there.
///
/// # Errors
/// [`Code::Io`] if it cannot be read, [`Code::Internal`] if it is not what it should be.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Outcome<Option<T>> {
    let Some(bytes) = read_bounded(path)? else { return Ok(None) };
    let value = serde_json::from_slice(&bytes)
        .map_err(|error| Failure::stop(Code::Internal, format!("{} is damaged: {error}", path.display())))?;
    Ok(Some(value))
}

/// Reads a small file; `None` if it is not there.
pub fn read_bounded(path: &Path) -> Outcome<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(on_file("open", path)(error)),
    };
    let mut bytes = Vec::new();
    file.take(MAX_JSON_BYTES).read_to_end(&mut bytes).map_err(on_file("read", path))?;
    Ok(Some(bytes))
}

/// Gives a finished file its final name, flushed. Without `replace` an existing file stays.
pub fn publish(finished: &Path, path: &Path, replace: bool) -> Outcome<Published> {
    File::open(finished).and_then(|file| file.sync_all()).map_err(on_file("flush", finished))?;
    if replace {
        std::fs::rename(finished, path).map_err(on_file("rename to", path))?;
        flush_folder(path)?;
        return Ok(Published::Now);
    }
    match rustix::fs::renameat_with(CWD, finished, CWD, path, RenameFlags::NOREPLACE) {
        Ok(()) => {}
        Err(Errno::EXIST) => return Ok(Published::Taken),
        // Network file systems often cannot; a hard link refuses an existing name just as well.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => match std::fs::hard_link(finished, path) {
            Ok(()) => std::fs::remove_file(finished).map_err(on_file("remove", finished))?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(Published::Taken),
            Err(error) => return Err(on_file("link", path)(error)),
        },
        Err(error) => return Err(on_file("rename to", path)(error.into())),
    }
    flush_folder(path)?;
    Ok(Published::Now)
}

fn flush_folder(path: &Path) -> Outcome<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(on_file("flush", folder))
}

/// Size and SHA-256 (hex) of a file.
pub fn digest(path: &Path) -> Outcome<(u64, String)> {
    let mut file = File::open(path).map_err(on_file("open", path))?;
    let mut hash = Sha256::new();
    let mut bytes: u64 = 0;
    let mut chunk = vec![0; 1 << 20];
    loop {
        let count = match file.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(on_file("read", path)(error)),
        };
        hash.update(chunk.get(..count).unwrap_or_default());
        bytes = bytes.saturating_add(count.try_into().unwrap_or(0));
    }
    Ok((bytes, hex(&hash.finalize())))
}

/// SHA-256 of bytes, hex.
pub fn digest_of(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes that the volume of `path` still takes from us.
pub fn free_bytes(path: &Path) -> Outcome<u64> {
    let volume = rustix::fs::statvfs(path).map_err(|error| on_file("measure", path)(error.into()))?;
    Ok(volume.f_bavail.saturating_mul(volume.f_frsize))
}

/// Bytes for people: `1.9Gi`, `3.0Mi`, `12Ki`.
pub fn human(bytes: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(1 << 40, "Ti"), (1 << 30, "Gi"), (1 << 20, "Mi"), (1 << 10, "Ki")];
    for (unit, name) in UNITS {
        if bytes >= unit {
            return format!("{:.1}{name}", bytes as f64 / unit as f64);
        }
    }
    format!("{bytes} bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_existing_file_is_only_replaced_when_asked() {
        let root = tempfile::tempdir().unwrap();
        let (new, old) = (root.path().join("new"), root.path().join("old"));
        std::fs::write(&new, "new").unwrap();
        std::fs::write(&old, "old").unwrap();
        assert_eq!(publish(&new, &old, false).unwrap(), Published::Taken);
        assert_eq!(std::fs::read_to_string(&old).unwrap(), "old");
        assert_eq!(publish(&new, &old, true).unwrap(), Published::Now);
        assert_eq!(std::fs::read_to_string(&old).unwrap(), "new");
        assert!(!new.exists());
        std::fs::write(&new, "new").unwrap();
        assert_eq!(publish(&new, &root.path().join("free"), false).unwrap(), Published::Now);
    }

    #[test]
    fn a_file_that_cannot_be_written_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        let taken = root.path().join("taken");
        std::fs::create_dir_all(taken.join("inner")).unwrap();
        assert!(write_whole(&taken, b"x").is_err());
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1);
    }

    #[test]
    fn json_is_written_whole_and_read_back() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("x.json");
        assert_eq!(read_json::<Vec<u32>>(&path).unwrap(), None);
        write_json(&path, &[1, 2]).unwrap();
        assert_eq!(read_json::<Vec<u32>>(&path).unwrap(), Some(vec![1, 2]));
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1);
        std::fs::write(&path, "[1").unwrap();
        assert_eq!(read_json::<Vec<u32>>(&path).unwrap_err().code(), Code::Internal);
    }

    #[test]
    fn digests_are_those_of_sha256sum() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("x");
        std::fs::write(&path, "abc").unwrap();
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest(&path).unwrap(), (3, expected.to_owned()));
        assert_eq!(digest_of(b"abc"), expected);
        assert!(free_bytes(root.path()).unwrap() > 0);
    }

    #[test]
    fn sizes_read_well() {
        for (bytes, text) in [(5, "5 bytes"), (2048, "2.0Ki"), (2_040_109_466, "1.9Gi")] {
            assert_eq!(human(bytes), text);
        }
    }
}
