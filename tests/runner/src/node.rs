//! The Node object, and the Lease that says it is alive.

use std::time::Duration;

use anyhow::{Context, Result};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};

use crate::config::Config;

/// Whose fields they are.
const MANAGER: &str = "pod-runner";
/// As kubelets do.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Where kubelets say that they live.
const LEASES: &str = "kube-node-lease";

/// Makes the Node, or brings one that is there to what is true now.
///
/// # Errors
/// When the API server refuses it.
pub async fn register(client: &Client, config: &Config) -> Result<()> {
    let nodes: Api<Node> = Api::all(client.clone());
    let params = PatchParams::apply(MANAGER).force();
    let name = config.node.as_str();
    nodes.patch(name, &params, &Patch::Apply(&object(config))).await.context("register the node")?;
    let space = rustix::fs::statvfs(&config.folder).context("measure the disk")?;
    let bytes = space.f_frsize.saturating_mul(space.f_bavail);
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let status = status(config, bytes, cpus, Timestamp::now());
    nodes.patch_status(name, &params, &Patch::Apply(&status)).await.context("say how the node is")?;
    Ok(())
}

/// Says again and again that the node is alive.
pub async fn stay(client: Client, node: String) {
    let leases: Api<Lease> = Api::namespaced(client, LEASES);
    let params = PatchParams::apply(MANAGER).force();
    let mut turns = tokio::time::interval(HEARTBEAT);
    loop {
        turns.tick().await;
        let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": node},
            "spec": {"holderIdentity": node, "leaseDurationSeconds": 40, "renewTime": micros(Timestamp::now())}});
        if let Err(error) = leases.patch(&node, &params, &Patch::Apply(&lease)).await {
            eprintln!("the node's heartbeat: {error}");
        }
    }
}

fn micros(at: Timestamp) -> String {
    format!("{at:.6}")
}

fn object(config: &Config) -> Value {
    let mut labels = config.labels.clone();
    for (name, value) in [
        ("kubernetes.io/hostname", config.node.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", "amd64"),
    ] {
        labels.insert(name.to_owned(), value.to_owned());
    }
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": config.node, "labels": labels}})
}

fn status(config: &Config, disk_bytes: u64, cpus: usize, now: Timestamp) -> Value {
    let room = json!({
        "cpu": cpus.to_string(), "memory": format!("{}Ki", config.memory_kib),
        "ephemeral-storage": disk_bytes.to_string(), "pods": "110",
    });
    let condition = |kind: &str, holds: &str, reason: &str| {
        json!({"type": kind, "status": holds, "reason": reason, "message": "pods run as processes of this machine",
            "lastHeartbeatTime": now, "lastTransitionTime": now})
    };
    let version = concat!("pod-runner-", env!("CARGO_PKG_VERSION"));
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": config.node}, "status": {
        "capacity": room, "allocatable": room,
        "conditions": [
            condition("Ready", "True", "RunnerReady"),
            condition("MemoryPressure", "False", "NotMeasured"),
            condition("DiskPressure", "False", "NotMeasured"),
            condition("PIDPressure", "False", "NotMeasured"),
        ],
        "addresses": [
            {"type": "InternalIP", "address": config.address}, {"type": "Hostname", "address": config.node},
        ],
        "nodeInfo": {
            "architecture": "amd64", "operatingSystem": "linux", "osImage": "this machine", "kernelVersion": "",
            "machineID": "", "systemUUID": "", "bootID": "", "kubeProxyVersion": "",
            "containerRuntimeVersion": "none://processes", "kubeletVersion": version,
        },
    }})
}
