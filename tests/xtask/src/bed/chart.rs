//! The shipped chart, installed as a user would, with the bed's images and the stand-in engine.

use anyhow::{Context, Result};

use super::{Bed, OPERATOR_NAMESPACE, RELEASE};
use crate::command::Run;
use crate::images::Image;

/// Images whose repository and tag the chart takes apart.
const OURS: [(&str, Image); 3] =
    [("controller", Image::Controller), ("agent", Image::Agent), ("worker", Image::Worker)];

/// Installs or upgrades the release and waits until its pods are ready.
///
/// # Errors
/// When helm fails or a pod does not become ready within 3 minutes.
pub fn install(bed: &Bed) -> Result<()> {
    upgrade(bed, &[])
}

/// The same with other values than the bed's, each `path=value`.
///
/// # Errors
/// As [`install`].
pub fn upgrade(bed: &Bed, more: &[&str]) -> Result<()> {
    bed.progress().say(format_args!("installing the chart as {RELEASE} into {OPERATOR_NAMESPACE}"));
    let mut values = Vec::new();
    for (part, image) in OURS {
        let (repository, tag) = bed.image(image).rsplit_once(':').context("an image without a tag")?;
        values.push(format!("{part}.image.repository={repository}"));
        values.push(format!("{part}.image.tag={tag}"));
    }
    values.push(format!("profiles.flashvsr.spec.engine.image={}", bed.image(Image::Engine)));
    values.push(format!("profiles.flashvsr.spec.engine.models.image={}", bed.image(Image::Models)));
    let checkout = bed.checkout();
    Run::new(bed.tools().path("helm")?)
        .args(["upgrade", "--install", RELEASE])
        .args([checkout.join("charts/video-upscale").as_path(), "--values".as_ref()])
        .args([checkout.join("tests/xtask/bed-values.yaml")])
        .args(["--namespace", OPERATOR_NAMESPACE, "--create-namespace", "--wait", "--timeout", "3m"])
        .args(values.iter().flat_map(|value| ["--set-string", value.as_str()]))
        .args(more.iter().flat_map(|value| ["--set", value]))
        .env("KUBECONFIG", bed.kubeconfig())
        .done()
        .context("install the chart")
}

/// Takes the release away, and our kinds with it, which the chart keeps: the next install finds a cluster that has never
/// seen them.
///
/// # Errors
/// When helm or kubectl fails.
pub fn remove(bed: &Bed) -> Result<()> {
    Run::new(bed.tools().path("helm")?)
        .args(["uninstall", RELEASE, "--namespace", OPERATOR_NAMESPACE, "--ignore-not-found", "--wait"])
        .env("KUBECONFIG", bed.kubeconfig())
        .done()
        .context("uninstall the chart")?;
    let kinds = ["videoupscales.upscale.video", "upscaleprofiles.upscale.video"];
    bed.kubectl(&[&["delete", "crd", "--ignore-not-found", "--timeout=60s"], kinds.as_slice()].concat())
        .context("delete our kinds")?;
    Ok(())
}
