//! Takes away what a bed has made on the machine, whatever state it is in: half up, killed, or from before a reboot.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::mount::{UnmountFlags, unmount};

use super::layout::Layout;
use super::network;
use super::process_set::ProcessSet;
use super::record::{Record, boot};
use crate::progress::Progress;

/// Ends every process and removes every mount, namespace, interface and control group; puts settings of the machine
/// back. The folder with the volumes stays.
///
/// # Errors
/// When something cannot be ended or removed.
pub fn machine(layout: &Layout, processes: &ProcessSet, progress: &Progress) -> Result<()> {
    let record = Record::read(&layout.record())?.unwrap_or_default();
    processes.clear(progress)?;
    network::clear(layout);
    for mount in mounts_below(&[&layout.run, &layout.state])? {
        // Busy mounts go when their last user does; all users have been ended above.
        unmount(&mount, UnmountFlags::DETACH).with_context(|| format!("unmount {}", mount.display()))?;
    }
    remove(&layout.run)?;
    if record.boot == boot()? {
        for (file, value) in &record.settings {
            fs::write(file, value).with_context(|| format!("put {} back", file.display()))?;
        }
    }
    for folder in record.folders.iter().rev() {
        match fs::remove_dir(folder) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty) => {}
            Err(error) => return Err(error).with_context(|| format!("remove {}", folder.display())),
        }
    }
    Ok(())
}

/// Removes what the bed has stored, except for its volumes.
///
/// # Errors
/// When a file cannot be removed.
pub fn storage(layout: &Layout) -> Result<()> {
    let entries = match fs::read_dir(&layout.state) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("list {}", layout.state.display())),
    };
    for entry in entries {
        let path = entry.with_context(|| format!("list {}", layout.state.display()))?.path();
        if path != layout.volumes() {
            remove(&path)?;
        }
    }
    Ok(())
}

/// Removes a folder with all that is in it, or a file; neither need be there.
///
/// # Errors
/// When it cannot be removed.
pub fn remove(path: &Path) -> Result<()> {
    let done = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match done {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// What a bed has left on the machine; empty after `down`.
///
/// # Errors
/// When the machine's state cannot be read.
pub fn residue(layout: &Layout, processes: &ProcessSet) -> Result<Vec<String>> {
    let mut left: Vec<String> =
        network::left(layout).into_iter().map(|link| format!("interface {link}")).collect();
    left.extend(processes.left()?);
    left.extend(
        mounts_below(&[&layout.run, &layout.state])?.iter().map(|path| format!("mount {}", path.display())),
    );
    let files = [&layout.run, &layout.state].into_iter().filter(|path| path.exists());
    left.extend(files.map(|path| format!("folder {}", path.display())));
    left.extend(processes_of(layout)?);
    Ok(left)
}

/// Processes that still use a file of the bed, or whose command line names one.
fn processes_of(layout: &Layout) -> Result<Vec<String>> {
    let marks = [layout.run.to_string_lossy(), layout.state.to_string_lossy()];
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").context("list /proc")?.filter_map(Result::ok) {
        let name = entry.file_name();
        let Ok(pid) = name.to_string_lossy().parse::<u32>() else { continue };
        if pid == std::process::id() {
            continue;
        }
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if marks.iter().any(|mark| line.contains(mark.as_ref())) {
            found.push(format!("process {pid} ({})", line.trim()));
        }
    }
    Ok(found)
}

/// Mount points at or below the folders, the deepest first.
fn mounts_below(folders: &[&Path]) -> Result<Vec<PathBuf>> {
    let text = fs::read_to_string("/proc/self/mountinfo").context("read /proc/self/mountinfo")?;
    let mut found: Vec<PathBuf> = text
        .lines()
        .filter_map(|line| line.split(' ').nth(4).map(unescaped))
        .filter(|mount| folders.iter().any(|folder| mount.starts_with(folder)))
        .collect();
    found.sort();
    found.reverse();
    Ok(found)
}

/// A path as mountinfo writes it: blanks and the like as a backslash and three octal digits.
fn unescaped(text: &str) -> PathBuf {
    let mut path = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        path.push_str(before);
        let (digits, behind) = after.split_at_checked(3).unwrap_or((after, ""));
        match u8::from_str_radix(digits, 8) {
            Ok(byte) => path.push(char::from(byte)),
            Err(_) => path.push_str(digits),
        }
        rest = behind;
    }
    path.push_str(rest);
    path.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_with_blanks_are_found_again() {
        assert_eq!(unescaped("/home/my\\040name/x\\011y"), PathBuf::from("/home/my name/x\ty"));
        assert_eq!(unescaped("/plain"), PathBuf::from("/plain"));
    }

    #[test]
    fn removing_what_is_not_there_is_no_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x");
        remove(&file).unwrap();
        fs::write(&file, "").unwrap();
        remove(&file).unwrap();
        assert!(!file.exists());
    }
}
