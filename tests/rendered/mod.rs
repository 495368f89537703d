//! The chart as helm renders it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// The role that has one name in a cluster, whoever installs it.
pub const GPU_VIEWER: &str = "upscale-gpu-viewer";

/// The repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The chart's folder.
pub fn chart() -> PathBuf {
    repository().join("charts/video-upscale")
}

/// Runs helm: the program that the variable `HELM` names, else the one on PATH.
pub fn helm<A: Into<OsString>>(args: impl IntoIterator<Item = A>) -> Output {
    #[expect(clippy::disallowed_methods, reason = "the edge of the tests")]
    let program = std::env::var_os("HELM").unwrap_or_else(|| "helm".into());
    Command::new(&program).args(args.into_iter().map(Into::into)).output().unwrap_or_else(|error| {
        panic!(
            "cannot run {}: {error}. Put helm 4 on PATH or name it in the variable HELM; `cargo xtask test` does both",
            program.display()
        )
    })
}

/// What `helm template` makes of the chart, or what it complains of.
pub fn template(release: &str, namespace: &str, more: &[&str]) -> Result<Vec<Value>, String> {
    let chart = chart();
    let args = ["template", release, chart.to_str().unwrap(), "--namespace", namespace];
    let output = helm(args.into_iter().chain(more.iter().copied()));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if !output.status.success() {
        return Err(text(&output.stderr));
    }
    Ok(text(&output.stdout)
        .split("\n---\n")
        .map(|document| {
            serde_saphyr::from_str::<Value>(document).unwrap_or_else(|error| panic!("{error} in {document}"))
        })
        .filter(|object| !object.is_null())
        .collect())
}
