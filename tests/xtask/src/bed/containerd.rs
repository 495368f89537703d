//! A node's container runtime: plain runc for everybody, and the runtime class `nvidia`, whose containers find the
//! driver's library and the device without asking for it, as NVIDIA's own runtime does it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::Bed;
use crate::command::{Run, find_on, system_path};
use crate::images;

/// containerd's socket as it is called inside a node.
pub const SOCKET: &str = "/run/containerd/containerd.sock";

/// Where programs look for the driver's library.
const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1";

/// Where that library looks for the device.
const DEVICE: &str = "/run/gpusim";

/// Writes a node's configuration; its path is the answer.
///
/// # Errors
/// When a file cannot be written, or runc is not there.
pub fn configure(bed: &Bed, at: usize, name: &str) -> Result<PathBuf> {
    let folder = bed.layout.node(name);
    let networks = folder.join("cni.d");
    fs::create_dir_all(&networks).with_context(|| format!("create {}", networks.display()))?;
    write(&networks.join("10-bed.conflist"), &pod_network(&bed.addresses().pods(at)).to_string())?;
    let plain =
        Run::new(bed.tools.path("ctr")?).args(["oci", "spec"]).output().context("ask for a plain spec")?;
    let plain = serde_json::from_str(&plain).context("understand the plain spec")?;
    let injecting = folder.join("nvidia.json");
    let spec = with_driver(plain, &bed.layout.driver_library(), &bed.layout.device(name))?;
    write(&injecting, &spec.to_string())?;
    let runc = find_on(&system_path(), "runc").context("find runc")?;
    let config = folder.join("containerd.toml");
    write(&config, &settings(&runc, &networks, &injecting))?;
    Ok(config)
}

fn settings(runc: &Path, networks: &Path, injecting: &Path) -> String {
    let (runc, networks, injecting) = (quoted(runc), quoted(networks), quoted(injecting));
    let pause = images::PAUSE_IMAGE;
    format!(
        r#"version = 3
root = "/var/lib/containerd"
state = "/run/containerd"

[grpc]
  address = "{SOCKET}"

[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "{pause}"

[plugins."io.containerd.cri.v1.runtime"]
  # Without CAP_SYS_RESOURCE runc cannot make a process harder to kill than its parent.
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true

[plugins."io.containerd.cri.v1.runtime".cni]
  bin_dirs = ["/usr/lib/cni"]
  conf_dir = {networks}

[plugins."io.containerd.cri.v1.runtime".containerd]
  default_runtime_name = "runc"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
    BinaryName = {runc}

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.nvidia]
  runtime_type = "io.containerd.runc.v2"
  base_runtime_spec = {injecting}
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.nvidia.options]
    BinaryName = {runc}
"#
    )
}

/// A string as TOML and JSON both write it.
fn quoted(path: &Path) -> String {
    Value::from(path.to_string_lossy()).to_string()
}

fn pod_network(pods: &str) -> Value {
    json!({
        "cniVersion": "1.0.0",
        "name": "bed",
        "plugins": [{
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": true,
            "hairpinMode": true,
            "ipam": {"type": "host-local", "ranges": [[{"subnet": pods}]], "routes": [{"dst": "0.0.0.0/0"}]},
        }],
    })
}

/// The plain spec with the driver's two mounts.
fn with_driver(mut plain: Value, library: &Path, device: &Path) -> Result<Value> {
    let process =
        plain.get_mut("process").and_then(Value::as_object_mut).context("the spec has no process")?;
    // The plain spec limits open files to 1024; the runtime's own limit is the one that pods get elsewhere.
    process.remove("rlimits");
    let mounts = plain.get_mut("mounts").and_then(Value::as_array_mut).context("the spec has no mounts")?;
    for (from, to) in [(library, LIBRARY), (device, DEVICE)] {
        mounts.push(json!({
            "source": from, "destination": to, "type": "bind", "options": ["rbind", "ro", "nosuid", "nodev"],
        }));
    }
    Ok(plain)
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_driver_is_added_and_the_limit_on_files_taken_away() {
        let plain = json!({"process": {"rlimits": [{"type": "RLIMIT_NOFILE"}]}, "mounts": [{"destination": "/proc"}]});
        let spec = with_driver(plain, Path::new("/bed/lib.so"), Path::new("/run/bed/device")).unwrap();
        assert!(spec["process"].get("rlimits").is_none());
        let to: Vec<_> =
            spec["mounts"].as_array().unwrap().iter().map(|m| m["destination"].clone()).collect();
        assert_eq!(to, ["/proc", LIBRARY, DEVICE]);
        assert_eq!(spec["mounts"][2]["source"], "/run/bed/device");
    }

    #[test]
    fn a_spec_of_another_form_is_an_error() {
        assert!(with_driver(json!({}), Path::new("/a"), Path::new("/b")).is_err());
    }
}
