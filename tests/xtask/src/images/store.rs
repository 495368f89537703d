//! buildah's store of images, in the cache, so that unchanged layers are never built twice.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::command::Run;

/// What statfs calls an overlay file system; another overlay cannot be laid upon it.
const OVERLAY: i64 = 0x794c_7630;

/// The store.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    run: PathBuf,
    driver: &'static str,
}

impl Store {
    /// The store in `cache`; what lives only as long as a call lies in `run`.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn new(cache: &Path, run: &Path) -> Result<Self> {
        let root = cache.join("buildah");
        fs::create_dir_all(&root).with_context(|| format!("create {}", root.display()))?;
        let below = rustix::fs::statfs(&root).context("look at the cache's file system")?.f_type;
        let driver = if below == OVERLAY { "vfs" } else { "overlay" };
        Ok(Self { root: root.join(driver), run: run.join("buildah"), driver })
    }

    /// Whether there is an image of that name.
    pub fn has(&self, reference: &str) -> bool {
        self.call(["inspect", "--type", "image", reference]).succeeds()
    }

    /// Makes an image of one layer from an archive of a root file system.
    ///
    /// # Errors
    /// When buildah fails.
    pub fn commit(&self, tree: &Path, reference: &str) -> Result<()> {
        let container = self.call(["from", "scratch"]).output()?;
        let container = container.trim();
        self.call(["add", "--quiet", container]).args([tree.as_os_str(), OsStr::new("/")]).done()?;
        self.call(["commit", "--quiet", "--rm", "--timestamp", "0", container, reference]).done()
    }

    /// Unpacks the layers of an image into a folder, one over the other.
    ///
    /// # Errors
    /// When buildah or tar fails.
    pub fn unpack(&self, reference: &str, folder: &Path) -> Result<()> {
        let parts = tempfile::tempdir_in(folder).context("make room for the layers")?;
        let target = format!("dir:{}", parts.path().display());
        self.call(["push", "--quiet", "--disable-compression", reference, &target]).done()?;
        let manifest = fs::read(parts.path().join("manifest.json")).context("read the image's manifest")?;
        let manifest: Value = serde_json::from_slice(&manifest).context("understand the image's manifest")?;
        let layers = manifest.get("layers").and_then(Value::as_array).context("find the image's layers")?;
        for layer in layers.iter().filter_map(|layer| layer.get("digest")?.as_str()?.strip_prefix("sha256:"))
        {
            Run::new("tar")
                .args(["--extract", "--file"])
                .args([parts.path().join(layer)])
                .args([OsStr::new("--directory"), folder.as_os_str()])
                .done()?;
        }
        Ok(())
    }

    /// Builds one stage of a Containerfile.
    ///
    /// # Errors
    /// When buildah fails.
    pub fn build(
        &self,
        recipe: &Path,
        stage: &str,
        base: &str,
        reference: &str,
        context: &Path,
    ) -> Result<()> {
        self.call([
            "build",
            "--quiet",
            "--layers",
            "--isolation",
            "chroot",
            "--pull=never",
            "--timestamp",
            "0",
        ])
        .args(["--target", stage, "--tag", reference, "--build-arg", &format!("BASE={base}")])
        .args([OsStr::new("--file"), recipe.as_os_str(), context.as_os_str()])
        .done()
    }

    /// Writes an image into a folder of the OCI image layout, beside what is there.
    ///
    /// # Errors
    /// When buildah fails.
    pub fn push(&self, reference: &str, layout: &Path) -> Result<()> {
        fs::create_dir_all(layout).with_context(|| format!("create {}", layout.display()))?;
        let to = format!("oci:{}:{reference}", layout.display());
        self.call(["push", "--quiet", "--disable-compression", reference, &to]).done()
    }

    /// Removes the images that begin with `prefix` and are not wanted; layers that others use stay.
    ///
    /// # Errors
    /// When buildah fails.
    pub fn keep_only(&self, prefix: &str, wanted: &[String]) -> Result<()> {
        let there = self.call(["images", "--format", "{{.Name}}:{{.Tag}}"]).output()?;
        let old: Vec<&str> = there
            .lines()
            .filter(|name| name.starts_with(prefix) && !wanted.iter().any(|it| it == name))
            .collect();
        if old.is_empty() { Ok(()) } else { self.call(["rmi"]).args(old).done() }
    }

    /// buildah in mounts of its own: what it mounts is gone when it ends.
    fn call<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Run {
        Run::new("unshare")
            .args(["--mount", "--propagation", "private", "--", "buildah", "--storage-driver", self.driver])
            .args([
                OsStr::new("--root"),
                self.root.as_os_str(),
                OsStr::new("--runroot"),
                self.run.as_os_str(),
            ])
            .args(args)
    }
}
