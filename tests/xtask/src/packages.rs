//! Programs that come from the distribution: looked for first, installed with apt by name when missing.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::command::{Run, find_on, system_path};
use crate::progress::Progress;

/// A file that a package brings, and the package. Files without a slash are programs.
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
    let apt = || Run::new("apt-get").env("DEBIAN_FRONTEND", "noninteractive");
    apt()
        .args(["update", "--quiet"])
        .long("apt-get update", Duration::from_secs(300), log, progress)
        .context("fetch the package lists")?;
    apt()
        .args(["install", "--yes", "--quiet", "--no-install-recommends"])
        .args(missing)
        .long("apt-get install", Duration::from_secs(900), log, progress)
        .with_context(|| format!("install {names}"))
}
