//! Images on their way into the nodes: an OCI image layout, sent without the parts that a node already has.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::command::Run;

const NAME: &str = "org.opencontainers.image.ref.name";

/// The names of the images in a layout.
///
/// # Errors
/// When its index cannot be read.
pub fn references(layout: &Path) -> Result<BTreeSet<String>> {
    Ok(index(layout)?
        .map(|index| manifests(&index).filter_map(name).map(str::to_owned).collect())
        .unwrap_or_default())
}

/// Takes other images out of a layout, and the parts that nobody needs any more.
///
/// # Errors
/// When it cannot be read or written.
pub fn keep_only(layout: &Path, wanted: &[String]) -> Result<()> {
    let Some(mut index) = index(layout)? else { return Ok(()) };
    if let Some(list) = index.get_mut("manifests").and_then(Value::as_array_mut) {
        list.retain(|manifest| name(manifest).is_some_and(|name| wanted.iter().any(|it| it == name)));
    }
    fs::write(layout.join("index.json"), index.to_string()).context("write the layout's index")?;
    let blobs = layout.join("blobs");
    let mut needed = BTreeSet::new();
    for part in manifests(&index).filter_map(digest_of) {
        let file = blobs.join(&part);
        let text = fs::read(&file).with_context(|| format!("read {}", file.display()))?;
        let manifest: Value =
            serde_json::from_slice(&text).with_context(|| format!("understand {}", file.display()))?;
        let layers = manifest.get("layers").and_then(Value::as_array).into_iter().flatten();
        needed.extend(layers.chain(manifest.get("config")).filter_map(digest_of));
        needed.insert(part);
    }
    for part in parts(layout)?.into_iter().filter(|part| !needed.contains(part)) {
        let file = blobs.join(part);
        fs::remove_file(&file).with_context(|| format!("remove {}", file.display()))?;
    }
    Ok(())
}

/// The parts of a layout: `sha256/<digest>`.
///
/// # Errors
/// When it cannot be listed.
pub fn parts(layout: &Path) -> Result<Vec<String>> {
    let folder = layout.join("blobs/sha256");
    let entries = fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))?;
    let names = entries.map(|entry| Ok(format!("sha256/{}", entry?.file_name().to_string_lossy())));
    names.collect::<Result<_>>().with_context(|| format!("list {}", folder.display()))
}

/// Sends a layout into a node, except for the parts in `known`. `ctr` is a call of ctr in that node.
///
/// # Errors
/// When ctr refuses it.
pub fn import(layout: &Path, known: &[String], ctr: Run) -> Result<()> {
    let mut tar = Command::new("tar");
    tar.arg("--directory").arg(layout);
    for part in known.iter().filter(|part| part.starts_with("sha256/")) {
        tar.arg(format!("--exclude=./blobs/{part}"));
    }
    let mut tar = tar
        .args(["--create", "--file=-", "."])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("start tar")?;
    let archive = tar.stdout.take().context("read what tar writes")?;
    let imported = ctr.args(["--namespace", "k8s.io", "images", "import", "-"]).read_from(archive).done();
    let packed = tar.wait().context("wait for tar")?;
    imported?;
    if !packed.success() {
        bail!("tar of {} ended with {packed}", layout.display());
    }
    Ok(())
}

fn index(layout: &Path) -> Result<Option<Value>> {
    match fs::read(layout.join("index.json")) {
        Ok(text) => serde_json::from_slice(&text).map(Some).context("understand the layout's index"),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).context("read the layout's index"),
    }
}

fn manifests(index: &Value) -> impl Iterator<Item = &Value> {
    index.get("manifests").and_then(Value::as_array).into_iter().flatten()
}

/// The part that a descriptor points to: `sha256/<digest>`.
fn digest_of(descriptor: &Value) -> Option<String> {
    Some(descriptor.get("digest")?.as_str()?.replacen(':', "/", 1))
}

fn name(manifest: &Value) -> Option<&str> {
    manifest.get("annotations")?.get(NAME)?.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_layout_keeps_what_is_wanted_and_its_parts() {
        let folder = tempfile::tempdir().unwrap();
        assert!(references(folder.path()).unwrap().is_empty());
        let blobs = folder.path().join("blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        for (manifest, layer) in [("m1", "l1"), ("m2", "l2")] {
            let text =
                json!({"config": {"digest": "sha256:c"}, "layers": [{"digest": format!("sha256:{layer}")}]});
            fs::write(blobs.join(manifest), text.to_string()).unwrap();
            fs::write(blobs.join(layer), "").unwrap();
        }
        fs::write(blobs.join("c"), "").unwrap();
        let named = |name: &str, digest: &str| json!({"digest": digest, "annotations": {NAME: name}});
        let index =
            json!({"schemaVersion": 2, "manifests": [named("a:1", "sha256:m1"), named("a:2", "sha256:m2")]});
        fs::write(folder.path().join("index.json"), index.to_string()).unwrap();
        keep_only(folder.path(), &["a:2".to_owned()]).unwrap();
        assert_eq!(references(folder.path()).unwrap(), ["a:2".to_owned()].into());
        let mut left = parts(folder.path()).unwrap();
        left.sort();
        assert_eq!(left, ["sha256/c", "sha256/l2", "sha256/m2"]);
    }
}
