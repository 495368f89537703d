//! What is left of us on the cluster.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use kube::core::ObjectMeta;
use serde::Deserialize;
use video_upscale::api::keys;

use crate::bed::{Bed, TENANT, TENANT_PREFIX};
use crate::gpu::HOG;

/// Parts of names and annotations that are ours.
const OURS: [&str; 2] = [keys::GROUP, "video-upscale"];

#[derive(Deserialize)]
struct List {
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    kind: String,
    metadata: ObjectMeta,
}

impl Item {
    /// Whether one of our names, labels or annotations is on it, and no test made it.
    fn is_ours(&self) -> bool {
        let ObjectMeta { name, namespace, labels, annotations, .. } = &self.metadata;
        let of_a_test = labels.iter().any(|labels| labels.contains_key(TENANT) || labels.contains_key(HOG))
            || namespace.as_ref().is_some_and(|name| name.starts_with(TENANT_PREFIX));
        let notes = labels.iter().chain(annotations).flatten().flat_map(|(key, value)| [key, value]);
        let mut words = notes.chain(name);
        !of_a_test && words.any(|word| OURS.iter().any(|name| word.contains(name)))
    }
}

/// All objects of all kinds that are ours.
pub fn left(bed: &Bed) -> Result<BTreeSet<String>> {
    let kinds = bed.kubectl(&["api-resources", "--verbs=list", "--output=name"])?;
    // Events tell of the past, and go by themselves.
    let kinds: Vec<&str> = kinds.lines().filter(|kind| !kind.starts_with("events")).collect();
    let all = bed.kubectl(&["get", &kinds.join(","), "--all-namespaces", "--output=json"])?;
    let all: List = serde_json::from_str(&all).context("read what is left")?;
    let ours = all.items.iter().filter(|item| item.is_ours());
    Ok(ours
        .map(|item| format!("{} {}", item.kind, item.metadata.name.as_deref().unwrap_or_default()))
        .collect())
}
