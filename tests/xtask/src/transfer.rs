//! Files into and out of the bed's volumes, named as a manifest names them: a claim and a path in it.

use std::fs;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};

use crate::bed::Bed;

/// `CLAIM:PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Name of the claim.
    pub claim: String,
    /// Path in its volume; relative, without `..`.
    pub path: PathBuf,
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (claim, path) = text.split_once(':').ok_or("write CLAIM:PATH, for example media:in/film.mp4")?;
        let path = Path::new(path.trim_start_matches('/'));
        if claim.is_empty() || path.as_os_str().is_empty() {
            return Err("write CLAIM:PATH, for example media:in/film.mp4".to_owned());
        }
        if path.components().any(|part| !matches!(part, Component::Normal(_))) {
            return Err(format!("{} leaves the volume", path.display()));
        }
        Ok(Self { claim: claim.to_owned(), path: path.to_owned() })
    }
}

/// Copies a file of this machine into a volume; pods may read and write it.
///
/// # Errors
/// When there is no such claim, or the file cannot be copied.
pub fn put(bed: &Bed, local: &Path, namespace: &str, place: &Place) -> Result<PathBuf> {
    ensure!(local.is_file(), "{} is no file", local.display());
    let volume = bed.volume_path(namespace, &place.claim)?;
    let to = volume.join(&place.path);
    let Some(folder) = to.parent() else { bail!("{} has no folder", to.display()) };
    fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    fs::copy(local, &to).with_context(|| format!("copy {} to {}", local.display(), to.display()))?;
    let made = to.ancestors().take_while(|path| *path != volume);
    for path in made {
        bed.grade().hand_over(path)?;
    }
    Ok(to)
}

/// Copies a file out of a volume; into a folder it goes under its own name.
///
/// # Errors
/// When there is no such claim or file, or it cannot be copied.
pub fn get(bed: &Bed, namespace: &str, place: &Place, local: &Path) -> Result<PathBuf> {
    let from = bed.volume_path(namespace, &place.claim)?.join(&place.path);
    ensure!(from.is_file(), "there is no file {} on claim {namespace}/{}", place.path.display(), place.claim);
    let to = match place.path.file_name() {
        Some(name) if local.is_dir() => local.join(name),
        _ => local.to_owned(),
    };
    fs::copy(&from, &to).with_context(|| format!("copy {} to {}", from.display(), to.display()))?;
    Ok(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_claim_and_a_path_inside_it() {
        let place: Place = "media:in/film.mp4".parse().unwrap();
        assert_eq!(place, Place { claim: "media".into(), path: "in/film.mp4".into() });
        assert_eq!("media:/film.mp4".parse::<Place>().unwrap().path, Path::new("film.mp4"));
        for bad in ["film.mp4", "media:", ":film.mp4", "media:../x", "media:a/../../x", "media:/"] {
            assert!(bad.parse::<Place>().is_err(), "{bad}");
        }
    }
}
