//! Programs that come from the distribution: looked for first, installed or taken with apt by name when missing.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::command::{Run, find_on, system_path};
use crate::progress::Progress;

/// A file that a package brings, and the package, for a full bed. Files without a slash are programs.
const NEEDED: &[(&str, &str)] = &[
    ("runc", "runc"),
    ("buildah", "buildah"),
    ("mmdebstrap", "mmdebstrap"),
    ("nft", "nftables"),
    ("conntrack", "conntrack"),
    ("ip", "iproute2"),
    ("mount", "mount"),
    ("nsenter", "util-linux"),
    ("cc", "gcc"),
    ("/usr/lib/cni/bridge", "containernetworking-plugins"),
    ("/usr/share/keyrings/debian-archive-keyring.gpg", "debian-archive-keyring"),
];

/// Plays alert rules.
const PROMTOOL: &str = "promtool";
/// The package that has it.
const PROMETHEUS: &str = "prometheus";

/// Makes sure that every program of the distribution is there.
///
/// # Errors
/// When something is missing and apt is not there or fails.
pub fn ensure(log: &Path, progress: &Progress) -> Result<()> {
    let path = system_path();
    let mut missing: Vec<&str> = NEEDED
        .iter()
        .filter(|(file, _)| {
            if file.starts_with('/') { !Path::new(file).exists() } else { find_on(&path, file).is_none() }
        })
        .map(|(_, package)| *package)
        .collect();
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.join(" ");
    if find_on(&path, "apt-get").is_none() {
        bail!("the bed needs {names}, and this machine has no apt-get to install them: install them by hand");
    }
    progress.say(format_args!("installing {names} with apt"));
    update(log, progress)?;
    apt()
        .args(["install", "--yes", "--quiet", "--no-install-recommends"])
        .args(missing)
        .long("apt-get install", Duration::from_secs(900), log, progress)
        .with_context(|| format!("install {names}"))
}

/// promtool, with which the alert rules are tested: the one on PATH, or out of its package, of which the rest is a server
/// that an installation would start.
///
/// # Errors
/// When it is missing, and apt is not there or fails.
pub fn promtool(cache: &Path, log: &Path, progress: &Progress) -> Result<PathBuf> {
    let path = system_path();
    let kept = cache.join("tools").join(PROMTOOL);
    if let Some(there) = find_on(&path, PROMTOOL).or_else(|| Some(kept.clone()).filter(|file| file.is_file()))
    {
        return Ok(there);
    }
    if find_on(&path, "apt-get").is_none() {
        bail!(
            "the tests of the alert rules need {PROMTOOL}, and this machine has no apt-get to take it from: put it on PATH"
        );
    }
    progress.say(format_args!("taking {PROMTOOL} out of the package {PROMETHEUS}"));
    let parent = cache.join("tools");
    fs::create_dir_all(&parent).with_context(|| format!("create {}", parent.display()))?;
    let folder = tempfile::tempdir_in(&parent).context("make a folder to unpack in")?;
    // Anybody may take a package, but only root can refresh the lists: else those that are there must do.
    if rustix::process::geteuid().is_root() {
        update(log, progress)?;
    }
    apt()
        .args(["download", "--quiet", PROMETHEUS])
        .dir(folder.path())
        .long("apt-get download", Duration::from_secs(300), log, progress)
        .with_context(|| format!("fetch {PROMETHEUS}, which has {PROMTOOL}; or put {PROMTOOL} on PATH"))?;
    let mut files = fs::read_dir(folder.path()).context("look for the package")?;
    let package = files.next().context("apt-get fetched nothing")?.context("look for the package")?.path();
    Run::new("dpkg-deb")
        .args(["--extract".as_ref(), package.as_os_str(), folder.path().as_os_str()])
        .done()?;
    let program = folder.path().join("usr/bin").join(PROMTOOL);
    fs::rename(&program, &kept)
        .with_context(|| format!("move {} to {}", program.display(), kept.display()))?;
    Ok(kept)
}

fn apt() -> Run {
    Run::new("apt-get").env("DEBIAN_FRONTEND", "noninteractive")
}

fn update(log: &Path, progress: &Progress) -> Result<()> {
    apt()
        .args(["update", "--quiet"])
        .long("apt-get update", Duration::from_secs(300), log, progress)
        .context("fetch the package lists")
}
