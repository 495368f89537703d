//! Writes the custom resource definitions to `crds/`, or to the folder that is named.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use video_upscale::api::crds;

/// Writes the custom resource definitions.
#[derive(Parser)]
#[command(name = "crdgen", version)]
struct Options {
    /// Folder to write to.
    #[arg(default_value = "crds")]
    folder: PathBuf,
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Crd(#[from] crds::CrdError),
    #[error("write {path}: {source}", path = path.display())]
    Write { path: PathBuf, source: std::io::Error },
}

fn main() -> ExitCode {
    match write(&Options::parse().folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

fn write(folder: &PathBuf) -> Result<(), Failure> {
    std::fs::create_dir_all(folder).map_err(|source| Failure::Write { path: folder.clone(), source })?;
    for crd in crds::all()? {
        let path = folder.join(crd.file_name());
        let yaml = crd.yaml()?;
        std::fs::write(&path, yaml).map_err(|source| Failure::Write { path: path.clone(), source })?;
        println!("{}", path.display());
    }
    Ok(())
}
