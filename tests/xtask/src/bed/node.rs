//! A node: its own containerd, kubelet and kube-proxy, in its own network and mount namespaces, so that each finds the
//! usual paths (`/var/lib/kubelet`, `/run/containerd`) and none finds the other's or the machine's.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::Bed;
use super::containerd;
use super::daemon::Daemon;
use super::layout::{Layout, NODES};
use super::network::pin;
use super::pki::Authority;
use crate::command::Run;

/// Folders of the machine over which a node lays its own, and the names of those.
const OWN_FOLDERS: [(&str, &str); 6] = [
    ("/var/lib/containerd", "containerd"),
    ("/run/containerd", "containerd-run"),
    ("/var/lib/kubelet", "kubelet"),
    ("/var/lib/cni", "cni"),
    ("/var/log/pods", "log-pods"),
    ("/var/log/containers", "log-containers"),
];

/// Kernel settings that a kubelet changes for the whole machine.
pub const KERNEL_SETTINGS: [&str; 6] = [
    "/proc/sys/vm/overcommit_memory",
    "/proc/sys/vm/panic_on_oom",
    "/proc/sys/kernel/panic",
    "/proc/sys/kernel/panic_on_oops",
    "/proc/sys/kernel/keys/root_maxkeys",
    "/proc/sys/kernel/keys/root_maxbytes",
];

/// Memory of the machine that no pod gets: control plane, kubelets, the user's own programs.
const KEPT_KIB: u64 = 2 << 20;

/// Folders of the machine that are missing and have to be made, parents first.
pub fn missing_folders() -> Vec<PathBuf> {
    let mut missing: Vec<PathBuf> = OWN_FOLDERS
        .iter()
        .flat_map(|(folder, _)| Path::new(folder).ancestors())
        .filter(|folder| !folder.exists())
        .map(Path::to_owned)
        .collect();
    missing.sort();
    missing.dedup();
    missing
}

/// A call inside a node's network and mounts.
pub fn enter(layout: &Layout, node: &str) -> Run {
    let network = format!("--net={}", layout.network_namespace(node).display());
    let mounts = format!("--mount={}", layout.mount_namespace(node).display());
    Run::new("nsenter").args([network.as_str(), mounts.as_str(), "--"])
}

/// Name of a node's kubelet among the bed's processes.
pub fn kubelet(node: &str) -> String {
    format!("kubelet-{node}")
}

/// Starts node number `at` up to its kubelet; it becomes Ready some seconds later.
///
/// # Errors
/// When a mount cannot be made, a file not be written or a process not be started.
pub fn start(bed: &mut Bed, authority: &Authority, at: usize, name: &str) -> Result<()> {
    mounts(&bed.layout, name)?;
    let addresses = bed.addresses();
    let (network, mounts) = (bed.layout.network_namespace(name), bed.layout.mount_namespace(name));
    let path = super::search_path(&bed.tools)?;
    let config = containerd::configure(bed, at, name)?;
    let daemon = |kind: &str, bed: &Bed| -> Result<Daemon> {
        Ok(Daemon::new(format!("{kind}-{name}"), &bed.tools.path(kind)?).env("PATH", &path))
    };
    let containerd = daemon("containerd", bed)?.flag("config", config).inside(&network, Some(&mounts));
    bed.start(containerd)?;

    let node_user = format!("system:node:{name}");
    let kubelet_client = authority.client(&format!("kubelet-{name}"), &node_user, Some("system:nodes"))?;
    let kubelet_kubeconfig = bed.layout.pki().join(format!("kubelet-{name}.kubeconfig"));
    authority.kubeconfig(&kubelet_kubeconfig, &addresses.api_server(), &kubelet_client)?;
    let address = addresses.node(at);
    let serving =
        authority.server(&format!("kubelet-{name}-serving"), &[name.to_owned(), address.clone()])?;
    let kubelet_config = bed.layout.node(name).join("kubelet.json");
    let settings = kubelet_settings(
        &format!("/{}/{name}", bed.layout.control_group()),
        &address,
        &authority.certificate(),
        (&serving.certificate, &serving.key),
        reserved_kib(total_kib()?),
    );
    write(&kubelet_config, &settings)?;
    bed.wait(&format!("containerd of {name}"), Duration::from_secs(30), || {
        Ok(bed.ctr(name)?.args(["version"]).succeeds().then_some(()))
    })?;
    let kubelet = daemon("kubelet", bed)?
        .flag("config", kubelet_config)
        .flag("kubeconfig", kubelet_kubeconfig)
        .flag("hostname-override", name)
        .flag("node-labels", "nvidia.com/gpu.present=true")
        .flag("node-ip", &address)
        .flag("root-dir", "/var/lib/kubelet")
        .inside(&network, Some(&mounts));
    bed.start(kubelet)?;

    let proxy_client = authority.client(&format!("kube-proxy-{name}"), "system:kube-proxy", None)?;
    let proxy_kubeconfig = bed.layout.pki().join(format!("kube-proxy-{name}.kubeconfig"));
    authority.kubeconfig(&proxy_kubeconfig, &addresses.api_server(), &proxy_client)?;
    let proxy_config = bed.layout.node(name).join("kube-proxy.json");
    write(&proxy_config, &proxy_settings(name, &address, &addresses.cluster(), &proxy_kubeconfig))?;
    bed.start(daemon("kube-proxy", bed)?.flag("config", proxy_config).inside(&network, None))
}

/// Makes the node's mount namespace and lays its folders over the machine's.
fn mounts(layout: &Layout, name: &str) -> Result<()> {
    let file = layout.mount_namespace(name);
    pin("mount", &file, &["--propagation", "private"])?;
    for (place, own) in OWN_FOLDERS {
        let own = layout.node(name).join(own);
        fs::create_dir_all(&own).with_context(|| format!("create {}", own.display()))?;
        enter(layout, name).args(["mount", "--bind"]).args([own.as_path(), Path::new(place)]).done()?;
    }
    // Mounts that containerd makes must reach the kubelet's pods and the other way round.
    enter(layout, name).args(["mount", "--make-rshared", "/"]).done()
}

/// What the node keeps from its pods, of a machine with `total` memory: half of what pods may have is the other's.
fn reserved_kib(total: u64) -> u64 {
    let nodes = u64::try_from(NODES.len()).unwrap_or(1);
    let share = total.saturating_sub(KEPT_KIB).checked_div(nodes).unwrap_or(0);
    total.saturating_sub(share)
}

/// What pods of one node may have together, KiB.
///
/// # Errors
/// When the machine's memory cannot be read.
pub fn share_kib() -> Result<u64> {
    let total = total_kib()?;
    Ok(total.saturating_sub(reserved_kib(total)))
}

/// The machine's memory.
fn total_kib() -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo").context("read /proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:")).context("find MemTotal")?;
    line.trim().trim_end_matches(" kB").parse().with_context(|| format!("read MemTotal:{line}"))
}

fn kubelet_settings(
    group: &str,
    address: &str,
    authority: &Path,
    (certificate, key): (&Path, &Path),
    reserved: u64,
) -> Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": address,
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": authority},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": certificate,
        "tlsPrivateKeyFile": key,
        "containerRuntimeEndpoint": format!("unix://{}", containerd::SOCKET),
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": group,
        "failCgroupV1": false,
        "failSwapOn": false,
        // The bed shares its machine: nothing is evicted, and no process of the bed becomes harder to kill.
        "enforceNodeAllocatable": [],
        "evictionHard": {},
        "oomScoreAdj": 0,
        "imageGCHighThresholdPercent": 100,
        "makeIPTablesUtilChains": false,
        "systemReserved": {"memory": format!("{reserved}Ki")},
    })
}

fn proxy_settings(name: &str, address: &str, cluster: &str, kubeconfig: &Path) -> Value {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "hostnameOverride": name,
        "bindAddress": address,
        "clusterCIDR": cluster,
        "clientConnection": {"kubeconfig": kubeconfig},
        // The table of connections belongs to the machine.
        "conntrack": {"maxPerCore": 0, "min": 0},
        "oomScoreAdj": 0,
    })
}

fn write(file: &Path, settings: &Value) -> Result<()> {
    fs::write(file, serde_json::to_vec_pretty(settings)?).with_context(|| format!("write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_nodes_never_promise_more_than_the_machine_has() {
        for total in [3 << 20, 8 << 20, 24 << 20, 512 << 20] {
            let promised = 2 * (total - reserved_kib(total));
            assert!(promised <= total - KEPT_KIB, "{total}");
        }
        assert_eq!(reserved_kib(1 << 20), 1 << 20, "a machine too small has room for no pod");
    }
}
