//! Images without containers: a folder each, with the programs that the image would have, for the runner of a plain bed.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use pod_runner::config::ImageFolder;
use video_upscale::api::worker::{DESTINATION_MOUNT, SCRATCH_MOUNT, SOURCE_MOUNT};

use super::{FilmPrograms, Image, PAUSE_IMAGE, PREFIX, Programs, digest};
use crate::command::{Run, find_on};

/// The oldest ffmpeg that the worker takes.
const OLDEST: (u32, u32) = (6, 1);
/// Name ffmpeg and ffprobe outside PATH.
const NAMED: [(&str, &str); 2] = [("ffmpeg", "UPSCALE_FFMPEG"), ("ffprobe", "UPSCALE_FFPROBE")];

/// The folders as they are now, by image.
#[derive(Clone, Debug)]
pub struct Folders {
    /// Full name and folder of each image.
    pub images: BTreeMap<Image, (String, ImageFolder)>,
}

impl Folders {
    /// Makes what is missing or has changed, below `folder`.
    ///
    /// # Errors
    /// When a file cannot be read or copied.
    pub fn ensure(folder: &Path, programs: &Programs, films: &FilmPrograms) -> Result<Self> {
        let mut images = BTreeMap::new();
        for image in Image::ALL {
            let name = image.name();
            let mut inputs = vec![name.as_bytes().to_vec()];
            if let Some(program) = program(image) {
                let file = programs.path(program);
                inputs.push(fs::read(&file).with_context(|| format!("read {}", file.display()))?);
                inputs.push(format!("{films:?}").into_bytes());
            }
            let tag = digest(inputs);
            let root = folder.join(format!("{name}-{tag}"));
            if !root.exists() {
                fill(&root, image, programs, films)?;
            }
            let of_image =
                ImageFolder { root, entrypoint: entrypoint(image), mount_flags: mount_flags(image) };
            let reference = match image {
                // Manifests that need nothing but a sleeping pod name it without asking.
                Image::Pause => PAUSE_IMAGE.to_owned(),
                _ => format!("{PREFIX}/{name}:{tag}"),
            };
            images.insert(image, (reference, of_image));
        }
        Ok(Self { images })
    }
}

/// The workspace's program in it.
const fn program(image: Image) -> Option<&'static str> {
    match image {
        Image::Pause | Image::Models => None,
        Image::Controller => Some("upscale-controller"),
        Image::Agent => Some("upscale-agent"),
        Image::Worker => Some("upscale-worker"),
        Image::Engine => Some("infer-video"),
        Image::Hog => Some("gpu-hog"),
    }
}

fn entrypoint(image: Image) -> Vec<String> {
    let words = match image {
        Image::Pause => vec!["sleep", "infinity"],
        _ => program(image).into_iter().collect(),
    };
    words.into_iter().map(str::to_owned).collect()
}

fn mount_flags(image: Image) -> BTreeMap<String, String> {
    let flags: &[(&str, &str)] = match image {
        Image::Worker => &[
            (SOURCE_MOUNT, "--source"),
            (DESTINATION_MOUNT, "--destination"),
            (SCRATCH_MOUNT, "--scratch"),
            ("/dev/termination-log", "--termination-log"),
        ],
        _ => &[],
    };
    flags.iter().map(|(mount, flag)| ((*mount).to_owned(), (*flag).to_owned())).collect()
}

/// Makes an image's folder, whole or not at all.
fn fill(root: &Path, image: Image, programs: &Programs, films: &FilmPrograms) -> Result<()> {
    let making = root.with_extension("part");
    let bin = making.join("usr/bin");
    fs::create_dir_all(&bin).with_context(|| format!("create {}", bin.display()))?;
    if let Some(program) = program(image) {
        let (from, to) = (programs.path(program), bin.join(program));
        // Whatever lies there may be from a call that was interrupted.
        fs::copy(&from, &to).with_context(|| format!("copy {} to {}", from.display(), to.display()))?;
    }
    if matches!(image, Image::Worker | Image::Engine) {
        for (name, file) in [("ffmpeg", &films.ffmpeg), ("ffprobe", &films.ffprobe)] {
            link(file, &bin.join(name))?;
        }
    }
    if image == Image::Models {
        fs::write(making.join("README"), super::programs::MODELS)
            .context("write the stand-in for the weights")?;
    }
    fs::rename(&making, root).with_context(|| format!("keep {}", root.display()))
}

fn link(to: &Path, from: &Path) -> Result<()> {
    match symlink(to, from) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(error).with_context(|| format!("link {}", from.display()))
        }
        _ => Ok(()),
    }
}

/// ffmpeg and ffprobe of this machine: those that the environment names, else those on PATH.
///
/// # Errors
/// When they are missing or too old; says how to get them.
pub fn film_programs_of_the_machine() -> Result<FilmPrograms> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let [ffmpeg, ffprobe] = NAMED.map(|(program, variable)| found(program, variable, &path));
    let programs = FilmPrograms { ffmpeg: ffmpeg?, ffprobe: ffprobe? };
    let told =
        Run::new(&programs.ffmpeg).args(["-version"]).output().context("ask ffmpeg for its version")?;
    let version = version(&told).with_context(|| format!("find the version in: {told}"))?;
    ensure!(
        version >= OLDEST,
        "{} is version {}.{}: {}",
        programs.ffmpeg.display(),
        version.0,
        version.1,
        how_to_get("ffmpeg", "UPSCALE_FFMPEG")
    );
    Ok(programs)
}

fn found(program: &str, variable: &str, path: &OsStr) -> Result<PathBuf> {
    if let Some(named) = std::env::var_os(variable).map(PathBuf::from) {
        ensure!(named.is_file(), "{variable} names {}, which is no file", named.display());
        return Ok(named);
    }
    match find_on(path, program) {
        Some(file) => Ok(file),
        None => bail!("this machine has no {program}: {}", how_to_get(program, variable)),
    }
}

fn how_to_get(program: &str, variable: &str) -> String {
    let (major, minor) = OLDEST;
    format!(
        "the worker needs ffmpeg {major}.{minor} or later; have it installed (Debian 13: `apt-get install ffmpeg`), or unpack \
         a build of it anywhere and name its {program} in {variable}"
    )
}

/// Version in the first line that ffmpeg prints: `ffmpeg version 7.1.1-1`, or `n7.1` of some builds. Builds of a commit
/// (`N-118193-g...`) are newer than any release.
fn version(told: &str) -> Option<(u32, u32)> {
    let word = told.split_whitespace().nth(2)?;
    if word.starts_with("N-") {
        return Some((u32::MAX, 0));
    }
    let mut numbers = word.trim_start_matches('n').split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next().and_then(|minor| minor.parse().ok()).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ffmpegs_version_is_read_as_builds_write_it() {
        for (told, expected) in [
            ("ffmpeg version 7.1.1-1+b1 Copyright (c) 2000-2025", Some((7, 1))),
            ("ffmpeg version n6.1 Copyright", Some((6, 1))),
            ("ffmpeg version 5.1.6-0+deb12u1 Copyright", Some((5, 1))),
            ("ffmpeg version N-118193-g5f38c82536 Copyright", Some((u32::MAX, 0))),
            ("", None),
        ] {
            assert_eq!(version(told), expected, "{told}");
        }
    }

    #[test]
    fn what_is_missing_is_named_with_how_to_get_it() {
        let error =
            found("ffprobe", "UPSCALE_NO_SUCH_VARIABLE", OsStr::new("/nowhere")).unwrap_err().to_string();
        assert!(error.contains("no ffprobe") && error.contains("apt-get install ffmpeg"), "{error}");
    }
}
