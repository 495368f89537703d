//! What is in the cluster before any chart: the runtime class, and a tenant with a claim that both nodes can mount.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::grade::Grade;
use super::{Bed, TENANT_NAMESPACE};

/// User and group that pods of the operator run as, where they run in containers.
const POD_USER: u32 = 65_532;

/// What the volume claims to hold; nothing measures it.
const SIZE: &str = "100Gi";

/// Makes them, and waits until pods can be made in the tenant's namespace.
///
/// # Errors
/// When the API server refuses one.
pub fn apply(bed: &Bed) -> Result<()> {
    let folder = bed.volumes().join(TENANT_NAMESPACE).join(TENANT_NAMESPACE);
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    bed.grade.hand_over(&folder)?;
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o775)).context("open the volume's folder")?;
    let items = [runtime_class(), namespace(TENANT_NAMESPACE)].into_iter();
    let items: Vec<Value> = items.chain(volume(TENANT_NAMESPACE, TENANT_NAMESPACE, &folder)).collect();
    bed.apply(&json!({"apiVersion": "v1", "kind": "List", "items": items}))?;
    bed.wait("the tenant's namespace", Duration::from_secs(30), || {
        let account = bed.kubectl(&["get", "serviceaccount", "default", "-n", TENANT_NAMESPACE]);
        Ok(account.is_ok().then_some(()))
    })?;
    bed.wait("the tenant's claim to be bound", Duration::from_secs(30), || {
        let args = ["get", "pvc", TENANT_NAMESPACE, "-n", TENANT_NAMESPACE, "-o", "jsonpath={.status.phase}"];
        Ok((bed.kubectl(&args)? == "Bound").then_some(()))
    })
}

impl Grade {
    /// Lets pods of the operator own a file or folder of a volume.
    ///
    /// # Errors
    /// When its owner cannot be changed.
    pub fn hand_over(self, path: &Path) -> Result<()> {
        match self {
            Self::Full => chown(path, Some(POD_USER), Some(POD_USER))
                .with_context(|| format!("hand over {}", path.display())),
            // Its processes are the user's own.
            Self::Plain => Ok(()),
        }
    }
}

/// The folder behind a claim.
///
/// # Errors
/// When there is no such claim, or its volume is no folder of the machine.
pub fn volume_path(bed: &Bed, namespace: &str, claim: &str) -> Result<PathBuf> {
    let args = ["get", "pvc", claim, "-n", namespace, "-o", "jsonpath={.spec.volumeName}"];
    let volume = bed.kubectl(&args).with_context(|| format!("find claim {namespace}/{claim}"))?;
    let args = ["get", "pv", &volume, "-o", "jsonpath={.spec.hostPath.path}"];
    let path = bed.kubectl(&args).with_context(|| format!("find the volume of {namespace}/{claim}"))?;
    anyhow::ensure!(!path.is_empty(), "claim {namespace}/{claim} is bound to no folder of this machine");
    Ok(path.into())
}

fn runtime_class() -> Value {
    json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "nvidia"}, "handler": "nvidia"})
}

/// A namespace.
pub fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

fn volume(namespace: &str, claim: &str, folder: &Path) -> [Value; 2] {
    let name = format!("{namespace}-{claim}");
    let modes = json!(["ReadWriteMany"]);
    [
        json!({
            "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name},
            "spec": {
                "capacity": {"storage": SIZE}, "accessModes": modes, "storageClassName": "",
                "persistentVolumeReclaimPolicy": "Retain",
                "claimRef": {"namespace": namespace, "name": claim},
                "hostPath": {"path": folder, "type": "Directory"},
            },
        }),
        json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": claim, "namespace": namespace},
            "spec": {
                "accessModes": modes, "storageClassName": "", "volumeName": name,
                "resources": {"requests": {"storage": SIZE}},
            },
        }),
    ]
}
