//! What the runner is told.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// A node to be played, and what its pods find.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    /// Name of the node.
    pub node: String,
    /// Its labels, beside those that every node has.
    pub labels: BTreeMap<String, String>,
    /// Its address; a loopback one.
    pub address: String,
    /// The first three numbers of its pods' addresses: `127.70.1`.
    pub pods: String,
    /// The node's own kubeconfig.
    pub kubeconfig: PathBuf,
    /// Address of the API server.
    pub server: String,
    /// Where the pods' own files go.
    pub folder: PathBuf,
    /// Where their output goes.
    pub logs: PathBuf,
    /// The images: [`Images`] as JSON; read anew for each pod.
    pub images: PathBuf,
    /// Memory that pods may request, KiB.
    pub memory_kib: u64,
    /// What containers of a runtime class get that may see a GPU.
    pub driver: BTreeMap<String, String>,
    /// Variables that every process gets.
    pub every: BTreeMap<String, String>,
}

/// Images by their full name.
pub type Images = BTreeMap<String, ImageFolder>;

/// An image as a folder of this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageFolder {
    /// Its root: programs lie in `usr/bin`.
    pub root: PathBuf,
    /// What runs where the container says nothing.
    pub entrypoint: Vec<String>,
    /// Flags by which its program is told where a mount lies, by the mount's path in the container.
    pub mount_flags: BTreeMap<String, String>,
}

impl Config {
    /// Reads it.
    ///
    /// # Errors
    /// When the file cannot be read or understood.
    pub fn read(file: &Path) -> Result<Self> {
        read(file)
    }

    /// An image; none of that name on this machine.
    ///
    /// # Errors
    /// When the list of images cannot be read or understood.
    pub fn image(&self, name: &str) -> Result<Option<ImageFolder>> {
        Ok(read::<Images>(&self.images)?.remove(name))
    }
}

fn read<T: serde::de::DeserializeOwned>(file: &Path) -> Result<T> {
    let text = fs::read(file).with_context(|| format!("read {}", file.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("understand {}", file.display()))
}
