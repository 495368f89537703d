//! Writes the custom resource definitions to `crds/`, or to the folder that is named, and their reference to
//! `docs/reference.md`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use video_upscale::api::{crds, reference};

/// Writes the custom resource definitions and their reference.
#[derive(Parser)]
#[command(name = "crdgen", version)]
struct Options {
    /// Folder to write to.
    #[arg(default_value = "crds")]
    folder: PathBuf,
    /// Page to write with every field.
    #[arg(long, default_value = "docs/reference.md")]
    reference: PathBuf,
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Crd(#[from] crds::CrdError),
    #[error("write {path}: {source}", path = path.display())]
    Write { path: PathBuf, source: std::io::Error },
}

fn main() -> ExitCode {
    match write(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

fn write(options: &Options) -> Result<(), Failure> {
    let folder = &options.folder;
    std::fs::create_dir_all(folder).map_err(|source| Failure::Write { path: folder.clone(), source })?;
    let crds = crds::all()?;
    for crd in &crds {
        put(&folder.join(crd.file_name()), &crd.yaml()?)?;
    }
    put(&options.reference, &reference::markdown(&crds))
}

fn put(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text).map_err(|source| Failure::Write { path: path.to_owned(), source })?;
    println!("{}", path.display());
    Ok(())
}
