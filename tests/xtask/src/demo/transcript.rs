//! What kubectl prints of the demo's job, word by word, in files: for the pages that show it.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

use super::NAMESPACE;
use crate::bed::Bed;

/// A watch that runs until dropped, and where everything goes.
pub struct Transcript<'a> {
    bed: &'a Bed,
    folder: PathBuf,
    watch: Child,
}

impl<'a> Transcript<'a> {
    /// Starts `kubectl get vu -w`; it goes to `watch.txt`.
    ///
    /// # Errors
    /// When the folder cannot be made or kubectl does not start.
    pub fn begin(bed: &'a Bed, folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        let args = ["-n", NAMESPACE, "get", "vu", "-w"];
        let file = create(folder, "watch.txt", &args)?;
        let errors = file.try_clone().context("share the transcript")?;
        let watch = Command::new("kubectl")
            .args(args)
            .envs(bed.tool_environment()?)
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(errors)
            .spawn()
            .context("start kubectl get vu -w")?;
        Ok(Self { bed, folder: folder.to_owned(), watch })
    }

    /// Writes down for what the job waits, to `waiting.txt`.
    ///
    /// # Errors
    /// When kubectl fails or the file cannot be written.
    pub fn waiting(&self) -> Result<()> {
        self.write("waiting.txt", &["-n", NAMESPACE, "get", "vu", "-o", "wide"])
    }

    /// Writes down what is told of the job at its end, to `describe.txt` and `events.txt`.
    ///
    /// # Errors
    /// When kubectl fails or a file cannot be written.
    pub fn end(&self, job: &str) -> Result<()> {
        self.write("describe.txt", &["-n", NAMESPACE, "describe", "vu", job])?;
        let of_job = format!("involvedObject.kind=VideoUpscale,involvedObject.name={job}");
        let by_time = "--sort-by=.metadata.creationTimestamp";
        self.write("events.txt", &["-n", NAMESPACE, "get", "events", "--field-selector", &of_job, by_time])
    }

    fn write(&self, name: &str, args: &[&str]) -> Result<()> {
        let printed = self.bed.kubectl(args)?;
        let mut file = create(&self.folder, name, args)?;
        file.write_all(printed.as_bytes()).with_context(|| format!("write {name}"))
    }
}

/// A file that begins with the command whose words follow.
fn create(folder: &Path, name: &str, args: &[&str]) -> Result<File> {
    let path = folder.join(name);
    let mut file = File::create(&path).with_context(|| format!("create {}", path.display()))?;
    writeln!(file, "$ kubectl {}", args.join(" ")).with_context(|| format!("write {}", path.display()))?;
    Ok(file)
}

impl Drop for Transcript<'_> {
    fn drop(&mut self) {
        // It may have ended by itself; what it said of that is in its file.
        let _ended = self.watch.kill();
        let _ended = self.watch.wait();
    }
}
