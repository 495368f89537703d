//! What a pod's volumes are on this machine: claims are the folders behind them, all else lies in the pod's own folder.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::{
    ConfigMap, Container, KeyToPath, PersistentVolume, PersistentVolumeClaim, Pod, Volume, VolumeProjection,
};
use kube::api::Api;
use kube::{Client, ResourceExt};

use crate::account;
use crate::command::of_the_pod;
use crate::config::Config;

/// Makes volumes for one pod.
pub struct Maker<'a> {
    /// The node's client.
    pub client: &'a Client,
    /// What the runner was told.
    pub config: &'a Config,
    /// The pod.
    pub pod: &'a Pod,
    /// Its address.
    pub address: &'a str,
    /// Its folder.
    pub folder: &'a Path,
}

impl Maker<'_> {
    /// Makes them all; the folder of each by name.
    ///
    /// # Errors
    /// When one is of a kind that this runner does not know, or is not there yet.
    pub async fn all(&self) -> Result<BTreeMap<String, PathBuf>> {
        let mut made = BTreeMap::new();
        for volume in self.pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
            let told = || format!("volume {}", volume.name);
            made.insert(volume.name.clone(), self.one(volume).await.with_context(told)?);
        }
        Ok(made)
    }

    async fn one(&self, volume: &Volume) -> Result<PathBuf> {
        if let Some(claim) = &volume.persistent_volume_claim {
            return self.claim(&claim.claim_name).await;
        }
        if let Some(path) = &volume.host_path {
            return Ok(path.path.clone().into());
        }
        if let Some(image) = volume.image.as_ref().and_then(|image| image.reference.as_ref()) {
            let folder = self.config.image(image)?;
            return Ok(folder.with_context(|| format!("there is no image {image} here"))?.root);
        }
        let folder = self.folder.join("volumes").join(&volume.name);
        fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        if let Some(map) = &volume.config_map {
            self.config_map(&map.name, map.items.as_deref(), &folder).await?;
        } else if let Some(projected) = &volume.projected {
            for source in projected.sources.iter().flatten() {
                self.projection(source, &folder).await?;
            }
        } else if volume.empty_dir.is_none() {
            bail!("this runner does not know volumes of its kind");
        }
        Ok(folder)
    }

    async fn claim(&self, name: &str) -> Result<PathBuf> {
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), &self.namespace());
        let claim = claims.get(name).await.with_context(|| format!("find claim {name}"))?;
        let volume = claim.spec.and_then(|spec| spec.volume_name);
        let volume = volume.with_context(|| format!("claim {name} is bound to no volume"))?;
        let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
        let found = volumes.get(&volume).await.with_context(|| format!("find volume {volume}"))?;
        let path = found.spec.and_then(|spec| spec.host_path).map(|host| host.path);
        path.map(PathBuf::from).with_context(|| format!("volume {volume} is no folder of this machine"))
    }

    async fn projection(&self, source: &VolumeProjection, folder: &Path) -> Result<()> {
        if let Some(token) = &source.service_account_token {
            account::token(self.client, self.pod, &folder.join(&token.path)).await?;
        }
        if let Some(map) = &source.config_map {
            self.config_map(&map.name, map.items.as_deref(), folder).await?;
        }
        for item in source.downward_api.iter().flat_map(|api| api.items.iter().flatten()) {
            let field = item.field_ref.as_ref().context("this runner knows fields of the pod only")?;
            let value = of_the_pod(&field.field_path, self.pod, self.address, &self.config.address)?;
            write(&folder.join(&item.path), value.as_bytes())?;
        }
        if source.secret.is_some() || source.cluster_trust_bundle.is_some() {
            bail!("this runner does not know projections of its kind");
        }
        Ok(())
    }

    async fn config_map(&self, name: &str, items: Option<&[KeyToPath]>, folder: &Path) -> Result<()> {
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace());
        let map = maps.get(name).await.with_context(|| format!("find ConfigMap {name}"))?;
        for (key, text) in map.data.iter().flatten() {
            let path = match items {
                None => Some(key),
                Some(items) => items.iter().find(|item| item.key == *key).map(|item| &item.path),
            };
            if let Some(path) = path {
                write(&folder.join(path), text.as_bytes())?;
            }
        }
        Ok(())
    }

    fn namespace(&self) -> String {
        self.pod.namespace().unwrap_or_default()
    }
}

/// Folders behind a container's mounts, by path in the container.
///
/// # Errors
/// When a mount names no volume of the pod, or a folder in it cannot be made.
pub fn mounts(
    container: &Container,
    volumes: &BTreeMap<String, PathBuf>,
) -> Result<BTreeMap<String, PathBuf>> {
    let mut all = BTreeMap::new();
    for mount in container.volume_mounts.iter().flatten() {
        let volume =
            volumes.get(&mount.name).with_context(|| format!("there is no volume {}", mount.name))?;
        let folder = match &mount.sub_path {
            None => volume.clone(),
            Some(sub) => {
                let folder = volume.join(sub);
                fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
                folder
            }
        };
        all.insert(mount.mount_path.trim_end_matches('/').to_owned(), folder);
    }
    Ok(all)
}

pub(crate) fn write(file: &Path, bytes: &[u8]) -> Result<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    }
    fs::write(file, bytes).with_context(|| format!("write {}", file.display()))
}
