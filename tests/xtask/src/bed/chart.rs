//! The shipped chart, installed as a user would, with the bed's images and the stand-in engine.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::{Bed, OPERATOR_NAMESPACE, RELEASE, TENANT};
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
    let engine = [
        format!("profiles.flashvsr.spec.engine.image={}", bed.image(Image::Engine)),
        format!("profiles.flashvsr.spec.engine.models.image={}", bed.image(Image::Models)),
    ];
    let checkout = bed.checkout();
    Run::new(bed.tools().path("helm")?)
        .args(["upgrade", "--install", RELEASE])
        .args([checkout.join("charts/video-upscale")])
        .args([Path::new("--values"), &checkout.join("tests/xtask/bed-values.yaml")])
        .args(bed.chart_images()?)
        .args(engine.iter().flat_map(|value| ["--set-string", value]))
        .args(["--namespace", OPERATOR_NAMESPACE, "--create-namespace", "--wait", "--timeout", "3m"])
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
    delete_kinds(bed)
}

fn delete_kinds(bed: &Bed) -> Result<()> {
    let kinds = ["videoupscales.upscale.video", "upscaleprofiles.upscale.video"];
    bed.kubectl(&[&["delete", "crd", "--ignore-not-found", "--timeout=60s"], kinds.as_slice()].concat())
        .context("delete our kinds")?;
    Ok(())
}

impl Bed {
    /// Arguments of helm for a release with the programs of this checkout.
    ///
    /// # Errors
    /// When an image has no tag.
    pub fn chart_images(&self) -> Result<Vec<String>> {
        let mut args = Vec::new();
        for (part, image) in OURS {
            let (repository, tag) = self.image(image).rsplit_once(':').context("an image without a tag")?;
            args.push("--set-string".to_owned());
            args.push(format!("{part}.image.repository={repository},{part}.image.tag={tag}"));
        }
        Ok(args)
    }

    /// Takes away the releases that tests have made beside ours, or in its place; they have the label [`TENANT`].
    ///
    /// # Errors
    /// When helm or kubectl fails.
    pub fn releases_of_tests_leave(&self) -> Result<()> {
        let helm = self.tools.path("helm")?;
        let helm = || Run::new(&helm).env("KUBECONFIG", self.kubeconfig());
        let listed = helm().args(["list", "--all-namespaces", "--selector", TENANT, "--output", "json"]);
        let listed: Vec<Listed> =
            serde_json::from_str(&listed.output()?).context("understand the list of releases")?;
        for Listed { name, namespace } in listed {
            helm()
                .args(["uninstall", &name, "--namespace", &namespace, "--wait"])
                .done()
                .with_context(|| format!("uninstall {name}"))?;
            // Where ours belongs the kinds were that release's, too, and ours could not have them.
            if namespace == OPERATOR_NAMESPACE {
                delete_kinds(self)?;
            }
        }
        Ok(())
    }
}

#[derive(Deserialize)]
struct Listed {
    name: String,
    namespace: String,
}
