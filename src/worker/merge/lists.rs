//! Small files of one run: lists for ffmpeg, covers, text tried in a container. They lie in a folder of their own on the scratch volume
//! and go with the run.

use std::path::{Path, PathBuf};

use crate::worker::failure::{Outcome, on_file};

/// The folder; it is removed when dropped.
#[derive(Debug)]
pub struct Lists(PathBuf);

impl Lists {
    /// Makes an empty one below `scratch`.
    pub fn make(scratch: &Path) -> Outcome<Self> {
        let folder = scratch.join(format!("lists-{:016x}", rand::random::<u64>()));
        std::fs::create_dir_all(&folder).map_err(on_file("create", &folder))?;
        Ok(Self(folder))
    }

    /// Where it lies.
    pub fn folder(&self) -> &Path {
        &self.0
    }

    /// Writes a file of that name; its path.
    pub fn write(&self, name: &str, text: &str) -> Outcome<PathBuf> {
        let path = self.0.join(name);
        std::fs::write(&path, text).map_err(on_file("write", &path))?;
        Ok(path)
    }
}

impl Drop for Lists {
    fn drop(&mut self) {
        // Else it goes with the volume.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
