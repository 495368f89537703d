//! The programs that go into the images and onto the host, as cargo and the C compiler make them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::bed::Grade;
use crate::command::Run;
use crate::progress::Progress;

/// Longest build on a slow machine.
const LIMIT: Duration = Duration::from_secs(3600);

/// Programs of the workspace that are copied into the build context as they are.
const COPIED: [&str; 5] = ["upscale-controller", "upscale-agent", "upscale-worker", "infer-video", "gpu-hog"];

/// What is in the stand-in for the weights.
pub(super) const MODELS: &str =
    "The stand-in engine needs no weights. This file proves that image volumes are mounted.\n";

/// Where cargo has put the programs.
#[derive(Clone, Debug)]
pub struct Programs {
    folder: PathBuf,
}

impl Programs {
    /// Builds them; quick when nothing has changed.
    ///
    /// # Errors
    /// When cargo fails.
    pub fn build(checkout: &Path, logs: &Path, grade: Grade, progress: &Progress) -> Result<Self> {
        progress.say("building the operator, the agent, the worker and the simulated driver (release)");
        let cargo = || Run::cargo().dir(checkout);
        let log = logs.join("cargo.log");
        cargo()
            .args(["build", "--release", "--package", "video-upscale", "--package", "upscale-agent"])
            .args(["--package", "gpusim", "--package", "gpusim-nvml"])
            .args(if grade == Grade::Plain { ["--package", "pod-runner"].as_slice() } else { &[] })
            .long("cargo build", LIMIT, &log, progress)?;
        let known = cargo().args(["metadata", "--format-version=1", "--no-deps"]).output()?;
        let known: Value = serde_json::from_str(&known).context("understand cargo metadata")?;
        let target =
            known.get("target_directory").and_then(Value::as_str).context("find the target folder")?;
        Ok(Self { folder: Path::new(target).join("release") })
    }

    /// A program or library by its file name.
    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    /// Fills the folder that images are built from.
    ///
    /// # Errors
    /// When a file cannot be copied, or the C compiler fails.
    pub fn collect(&self, checkout: &Path, context: &Path) -> Result<()> {
        fs::create_dir_all(context).with_context(|| format!("create {}", context.display()))?;
        for name in COPIED {
            let (from, to) = (self.path(name), context.join(name));
            fs::copy(&from, &to).with_context(|| format!("copy {} to {}", from.display(), to.display()))?;
        }
        fs::write(context.join("models"), MODELS).context("write the stand-in for the weights")?;
        let source = checkout.join("tests/xtask/pause.c");
        Run::new("cc")
            .args(["-static", "-Os", "-s", "-o"])
            .args([context.join("pause"), source])
            .done()
            .context("compile the program that does nothing")
    }
}
