//! The root file system of the worker's images: Debian 13 with ffmpeg, made from packages by mmdebstrap, once.
//! Where a registry is at hand the Containerfile starts from `debian:trixie-slim` instead.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::store::Store;
use super::{PREFIX, digest};
use crate::command::Run;
use crate::progress::Progress;

const SUITE: &str = "trixie";
const INCLUDED: &str = "ffmpeg";
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// ffmpeg and ffprobe, as programs of this machine.
#[derive(Clone, Debug)]
pub struct FilmPrograms {
    /// Path of ffmpeg.
    pub ffmpeg: PathBuf,
    /// Path of ffprobe.
    pub ffprobe: PathBuf,
}

/// Its name and tag, without the prefix.
pub fn name() -> String {
    format!("base:{}", digest([SUITE, INCLUDED]))
}

/// Makes the image if the store has not got it.
///
/// # Errors
/// When the packages cannot be fetched or the image not be made.
pub fn ensure(store: &Store, cache: &Path, name: &str, progress: &Progress) -> Result<()> {
    let reference = format!("{PREFIX}/{name}");
    if store.has(&reference) {
        return Ok(());
    }
    let folder = cache.join("images");
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let tree = folder.join(format!("{}.tar", name.replace(':', "-")));
    if !tree.exists() {
        let mirror = mirror()?;
        progress
            .say(format_args!("making a Debian 13 root with ffmpeg from {mirror}, once; takes about 70 s"));
        let making = tree.with_extension("part");
        Run::new("mmdebstrap")
            .args(["--variant=essential", "--format=tar"])
            .args([format!("--include={INCLUDED}").as_str(), SUITE])
            .args([making.as_os_str()])
            .args([format!("deb [signed-by={KEYS}] {mirror} {SUITE} main")])
            .long("mmdebstrap", Duration::from_secs(1800), &folder.join("mmdebstrap.log"), progress)?;
        fs::rename(&making, &tree).with_context(|| format!("keep {}", tree.display()))?;
    }
    progress.say("making the base image from it");
    store.commit(&tree, &reference)?;
    fs::remove_file(&tree).with_context(|| format!("remove {}", tree.display()))
}

/// The image's own ffmpeg and ffprobe, to be called on the host: unpacked once, with a wrapper each that takes the
/// image's loader and libraries, as the host's may be older.
///
/// # Errors
/// When the image cannot be unpacked.
pub fn programs(store: &Store, cache: &Path) -> Result<FilmPrograms> {
    let name = name();
    let tree = cache.join("images").join(name.replace(':', "-"));
    if !tree.exists() {
        let making = tree.with_extension("part");
        fs::create_dir_all(&making).with_context(|| format!("create {}", making.display()))?;
        store.unpack(&format!("{PREFIX}/{name}"), &making)?;
        fs::rename(&making, &tree).with_context(|| format!("keep {}", tree.display()))?;
    }
    let wrapper = |program: &str| {
        let libraries = tree.join("usr/lib/x86_64-linux-gnu");
        let places =
            ["", "pulseaudio", "blas", "lapack"].map(|part| libraries.join(part).display().to_string());
        let text = format!(
            "#!/bin/sh\nexec '{}' --library-path '{}' '{}' \"$@\"\n",
            libraries.join("ld-linux-x86-64.so.2").display(),
            places.join(":"),
            tree.join("usr/bin").join(program).display()
        );
        let file = cache.join("images").join(program);
        fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).context("make it a program")?;
        Ok::<_, anyhow::Error>(file)
    };
    Ok(FilmPrograms { ffmpeg: wrapper("ffmpeg")?, ffprobe: wrapper("ffprobe")? })
}

/// The mirror of the machine's own apt sources.
fn mirror() -> Result<String> {
    let folder = fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().filter_map(Result::ok);
    let files = folder.map(|entry| entry.path()).chain([Path::new("/etc/apt/sources.list").to_owned()]);
    let texts: Vec<String> = files.filter_map(|file| fs::read_to_string(file).ok()).collect();
    let found = texts.iter().find_map(|text| debian_mirror(text)).map(str::to_owned);
    found.context("find a mirror of Debian in the machine's apt sources; add one, as the images are made from its packages")
}

/// The first address of Debian's main archive in a sources file, of either format.
fn debian_mirror(text: &str) -> Option<&str> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.starts_with('#'))
        .flat_map(str::split_whitespace)
        .filter(|word| word.starts_with("http://") || word.starts_with("https://"))
        .find(|word| word.trim_end_matches('/').ends_with("/debian"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_own_mirror_is_found_in_both_formats() {
        let new = "Types: deb\n# http://old.example/debian\nURIs: http://mirror.example/debian/\nSuites: bookworm\n";
        assert_eq!(debian_mirror(new), Some("http://mirror.example/debian/"));
        let old = "deb [arch=amd64] https://mirror.example/debian bookworm main\n";
        assert_eq!(debian_mirror(old), Some("https://mirror.example/debian"));
        assert_eq!(debian_mirror("deb http://security.example/debian-security bookworm main"), None);
    }
}
