//! Where files lie: the mounts, the job's work folder on the destination claim, and paths of tenants held inside
//! their mounts.

use std::path::{Component, Path, PathBuf};

use super::failure::{Failure, Outcome, on_file};
use crate::api::worker::{Code, JobRef, SCRATCH_MOUNT, WORK_FOLDER};

/// The mounts of a pod.
#[derive(Clone, Debug)]
pub struct Mounts {
    /// The source claim, read-only.
    pub source: PathBuf,
    /// The destination claim.
    pub destination: PathBuf,
    /// The pod's scratch volume.
    pub scratch: PathBuf,
}

impl Mounts {
    /// The source file, with links resolved inside the claim.
    ///
    /// # Errors
    /// [`Code::Usage`] for a path that leaves the claim, [`Code::SourceNotFound`] if no file is there.
    pub fn source_file(&self, path: &str) -> Outcome<PathBuf> {
        let wanted = inside(&self.source, path)?;
        let not_found = || {
            let folder = wanted.parent().unwrap_or(&self.source);
            let entries = std::fs::read_dir(folder).map(|entries| entries.take(10_000).count()).ok();
            let about = entries.map_or_else(
                || "its folder is not there either".to_owned(),
                |count| format!("its folder has {count} entries"),
            );
            Failure::stop(
                Code::SourceNotFound,
                format!(
                    "{path} is not on the source claim ({about}); correct the path in a new VideoUpscale"
                ),
            )
        };
        let found = match wanted.canonicalize() {
            Ok(found) => found,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(not_found()),
            Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => return Err(not_found()),
            Err(error) => return Err(on_file("look for", &wanted)(error)),
        };
        held(&self.source, &found, path)?;
        if !found.is_file() {
            return Err(Failure::stop(Code::SourceNotFound, format!("{path} is not a file")));
        }
        Ok(found)
    }

    /// The destination file; its folder is made and held inside the claim.
    ///
    /// # Errors
    /// [`Code::Usage`] for a path that leaves the claim, [`Code::DestinationNotWritable`] if the folder cannot be made.
    pub fn destination_file(&self, path: &str) -> Outcome<PathBuf> {
        let wanted = inside(&self.destination, path)?;
        let (Some(folder), Some(name)) = (wanted.parent(), wanted.file_name()) else {
            return Err(Failure::stop(Code::Usage, format!("{path} is not the path of a file")));
        };
        let unwritable = |error: std::io::Error| {
            let code =
                if super::failure::is_full(&error) { Code::OutOfSpace } else { Code::DestinationNotWritable };
            Failure::stop(
                code,
                format!("the folder of {path} on the destination claim cannot be used: {error}"),
            )
        };
        // A link must not lead out before anything is made behind it.
        let there = folder.ancestors().find(|folder| folder.symlink_metadata().is_ok()).unwrap_or(folder);
        held(&self.destination, &there.canonicalize().map_err(unwritable)?, path)?;
        std::fs::create_dir_all(folder).map_err(unwritable)?;
        let folder = folder.canonicalize().map_err(unwritable)?;
        held(&self.destination, &folder, path)?;
        Ok(folder.join(name))
    }

    /// A path of the contract below the scratch mount, in this pod's scratch volume.
    pub fn scratch_path(&self, path: &str) -> PathBuf {
        let below = Path::new(path).strip_prefix(SCRATCH_MOUNT).unwrap_or(Path::new(path));
        self.scratch.join(below)
    }

    /// The work folder of a job.
    ///
    /// # Errors
    /// [`Code::Usage`] if the UID is not one.
    pub fn work_folder(&self, job: &JobRef) -> Outcome<WorkFolder> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if job.uid.is_empty() || job.uid.len() > 64 || !job.uid.chars().all(plain) {
            return Err(Failure::stop(Code::Usage, "the job's UID is not a UID".to_owned()));
        }
        Ok(WorkFolder(self.destination.join(WORK_FOLDER).join(&job.uid)))
    }
}

/// A relative path of a tenant, joined; nothing in it leads upwards.
fn inside(mount: &Path, path: &str) -> Outcome<PathBuf> {
    let relative = Path::new(path);
    let plain = relative.components().all(|part| matches!(part, Component::Normal(_)));
    if path.is_empty() || path.len() > 1024 || !plain || path.chars().any(char::is_control) {
        return Err(Failure::stop(Code::Usage, format!("{path:?} is not a relative path inside the claim")));
    }
    Ok(mount.join(relative))
}

/// Refuses what links led out of the mount.
fn held(mount: &Path, found: &Path, path: &str) -> Outcome<()> {
    let mount = mount.canonicalize().map_err(on_file("resolve", mount))?;
    if found.starts_with(&mount) {
        return Ok(());
    }
    Err(Failure::stop(Code::Usage, format!("{path} leads out of its claim by a link")))
}

/// The work folder of one job.
#[derive(Clone, Debug)]
pub struct WorkFolder(PathBuf);

impl WorkFolder {
    /// The folder.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Whose it is.
    pub fn owner(&self) -> PathBuf {
        self.0.join("owner.json")
    }

    /// Index of the film.
    pub fn index(&self) -> PathBuf {
        self.0.join("index.json.zst")
    }

    /// Plan of its segments.
    pub fn plan(&self) -> PathBuf {
        self.0.join("plan.json")
    }

    /// A copy of the film with more keyframes, if there has to be one.
    pub fn keyed(&self) -> PathBuf {
        self.0.join("keyed.mkv")
    }

    /// What the merge is about to publish.
    pub fn result(&self) -> PathBuf {
        self.0.join("result.json")
    }

    /// How often the merge has had parts made again.
    pub fn redone(&self) -> PathBuf {
        self.0.join("redone.json")
    }

    /// Folder of the parts.
    pub fn parts(&self) -> PathBuf {
        self.0.join("parts")
    }

    /// A part's film.
    pub fn part(&self, round: u32, segment: u32) -> PathBuf {
        self.parts().join(format!("{round}-{segment:05}.mp4"))
    }

    /// A part's manifest.
    pub fn manifest(&self, round: u32, segment: u32) -> PathBuf {
        self.parts().join(format!("{round}-{segment:05}.json"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mounts(root: &Path) -> Mounts {
        for folder in ["source/in", "destination", "scratch"] {
            std::fs::create_dir_all(root.join(folder)).unwrap();
        }
        Mounts {
            source: root.join("source"),
            destination: root.join("destination"),
            scratch: root.join("scratch"),
        }
    }

    #[test]
    fn paths_cannot_leave_their_claims() {
        let root = tempfile::tempdir().unwrap();
        let mounts = mounts(root.path());
        std::fs::write(root.path().join("secret"), "x").unwrap();
        std::os::unix::fs::symlink(root.path().join("secret"), mounts.source.join("link")).unwrap();
        std::os::unix::fs::symlink(root.path(), mounts.destination.join("up")).unwrap();
        for path in ["", "/etc/passwd", "../secret", "in/../../secret", "a\nb", "link"] {
            assert_eq!(mounts.source_file(path).unwrap_err().code(), Code::Usage, "{path:?}");
        }
        assert_eq!(mounts.destination_file("up/film.mp4").unwrap_err().code(), Code::Usage);
        assert_eq!(mounts.destination_file("up/new/deep/film.mp4").unwrap_err().code(), Code::Usage);
        assert!(!root.path().join("new").exists(), "a folder was made outside");
        assert!(mounts.destination_file("new/deep/film.mp4").is_ok());
        assert_eq!(mounts.destination_file("../film.mp4").unwrap_err().code(), Code::Usage);
    }

    #[test]
    fn missing_sources_are_told_with_what_is_there() {
        let root = tempfile::tempdir().unwrap();
        let mounts = mounts(root.path());
        std::fs::write(mounts.source.join("in/a"), "x").unwrap();
        let error = mounts.source_file("in/film.mp4").unwrap_err();
        assert_eq!(error.code(), Code::SourceNotFound);
        assert!(error.to_string().contains("1 entries"), "{error}");
        assert_eq!(mounts.source_file("in").unwrap_err().code(), Code::SourceNotFound);
        assert_eq!(mounts.source_file("in/a/b").unwrap_err().code(), Code::SourceNotFound);
        assert!(mounts.source_file("in/a").is_ok());
    }

    #[test]
    fn odd_names_are_only_names() {
        let root = tempfile::tempdir().unwrap();
        let mounts = mounts(root.path());
        for name in ["-y", "a 'b' $(c).mp4", "http:x"] {
            std::fs::write(mounts.source.join(name), "x").unwrap();
            assert!(mounts.source_file(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn folders_are_named_by_uids_only() {
        let root = tempfile::tempdir().unwrap();
        let mounts = mounts(root.path());
        let job = |uid: &str| JobRef {
            cluster: String::new(),
            namespace: String::new(),
            name: String::new(),
            uid: uid.to_owned(),
        };
        assert_eq!(mounts.work_folder(&job("../x")).unwrap_err().code(), Code::Usage);
        let folder = mounts.work_folder(&job("0a-1")).unwrap();
        assert!(folder.part(0, 7).ends_with(".upscale/0a-1/parts/0-00007.mp4"));
    }
}
