//! A pod's way to the API server: a token that the server has bound to the pod, and a kubeconfig that names it, as the path
//! at which programs look inside a container does not exist here.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::api::{Api, PostParams};
use kube::{Client, ResourceExt};
use serde_json::json;

use crate::volumes::write;

/// Where programs look for their account inside a container.
pub const MOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// How long a token lasts, seconds: longer than any bed, as it is not renewed.
const LASTS: i64 = 30 * 24 * 3600;

/// Asks the API server for a token of the pod's account, bound to the pod, and writes it to `file`.
///
/// # Errors
/// When the API server refuses it or the file cannot be written.
pub async fn token(client: &Client, pod: &Pod, file: &Path) -> Result<()> {
    let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.clone());
    let account = account.context("the pod has no account")?;
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    let request: TokenRequest = serde_json::from_value(json!({"spec": {
        "audiences": [], "expirationSeconds": LASTS,
        "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": pod.name_any(), "uid": pod.uid()},
    }}))
    .context("write the request for a token")?;
    let given = accounts.create_token_request(&account, &PostParams::default(), &request).await;
    let given = given.with_context(|| format!("get a token of {account}"))?;
    let token = given
        .status
        .context("the API server gave no token")?
        .token
        .context("the API server gave an empty token")?;
    write(file, token.as_bytes())
}

/// Writes a kubeconfig that reads the token and authority in `mount`; tells where it lies.
///
/// # Errors
/// When the file cannot be written.
pub fn kubeconfig(server: &str, mount: &Path, namespace: &str) -> Result<PathBuf> {
    let file = mount.join("kubeconfig");
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "pod",
        "clusters": [{"name": "pod",
            "cluster": {"server": server, "certificate-authority": mount.join("ca.crt")}}],
        "users": [{"name": "pod", "user": {"tokenFile": mount.join("token")}}],
        "contexts": [{"name": "pod",
            "context": {"cluster": "pod", "user": "pod", "namespace": namespace}}],
    });
    write(&file, config.to_string().as_bytes())?;
    Ok(file)
}
