//! One bridge on the host, one network namespace and one cable per node; every pod is reached through its node.

use std::net::TcpListener;
use std::path::Path;

use anyhow::{Context, Result};

use super::grade::Grade;
use super::layout::{Addresses, Layout, NODES, free_addresses, free_loopback};
use crate::command::Run;

/// A network that no route of the machine touches; for a plain bed loopback addresses on which nobody serves.
///
/// # Errors
/// When all are taken.
pub fn choose(layout: &Layout, grade: Grade) -> Result<Addresses> {
    if grade == Grade::Plain {
        let free = |host: &str| [2379, 6443].iter().all(|port| TcpListener::bind((host, *port)).is_ok());
        return free_loopback(&layout.id, free).context("all of 127.64.0.1 to 127.250.0.1 are in use");
    }
    let routes = Run::new("ip").args(["-o", "route", "show", "table", "all"]).output()?;
    let routes: Vec<&str> = routes.split_whitespace().collect();
    free_addresses(&layout.id, &routes).context("all of 10.64.0.0 to 10.250.0.0 is in use on this machine")
}

/// Makes the bridge, the namespaces and the routes.
///
/// # Errors
/// When the machine does not let its network be changed.
pub fn make(layout: &Layout, addresses: Addresses) -> Result<()> {
    let bridge = layout.bridge();
    let host = addresses.host();
    ip(&["link", "add", &bridge, "type", "bridge"])?;
    ip(&["address", "add", &format!("{host}/24"), "dev", &bridge])?;
    ip(&["link", "set", &bridge, "up"])?;
    for (at, node) in NODES.iter().enumerate() {
        let namespace = layout.network_namespace(node);
        pin("net", &namespace, &[])?;
        let cable = layout.cable(at);
        let file = namespace.to_string_lossy();
        ip(&["link", "add", &cable, "type", "veth", "peer", "name", "eth0", "netns", &file])?;
        ip(&["link", "set", &cable, "master", &bridge, "up"])?;
        let inside = |words: &[&str]| enter(&namespace).args(words).done();
        inside(&["ip", "link", "set", "lo", "up"])?;
        inside(&["ip", "address", "add", &format!("{}/24", addresses.node(at)), "dev", "eth0"])?;
        inside(&["ip", "link", "set", "eth0", "up"])?;
        inside(&["ip", "route", "add", "default", "via", &host])?;
        inside(&["sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward"])?;
        for other in (0..NODES.len()).filter(|other| *other != at) {
            inside(&["ip", "route", "add", &addresses.pods(other), "via", &addresses.node(other)])?;
        }
        ip(&["route", "add", &addresses.pods(at), "via", &addresses.node(at)])?;
    }
    Ok(())
}

/// Removes what is visible on the host; the namespaces go with the files that hold them.
pub fn clear(layout: &Layout) {
    let cables = (0..NODES.len()).map(|at| layout.cable(at));
    for link in cables.chain([layout.bridge()]) {
        // What was never made, or is gone already, cannot be deleted: `residue` tells what really stays.
        let _not_there = Run::new("ip").args(["link", "delete", &link]).done();
    }
}

/// What is left of it on the host.
pub fn left(layout: &Layout) -> Vec<String> {
    let cables = (0..NODES.len()).map(|at| layout.cable(at));
    cables.chain([layout.bridge()]).filter(|link| Path::new("/sys/class/net").join(link).exists()).collect()
}

/// Makes a namespace that `file` holds.
///
/// # Errors
/// When the machine lets no namespaces be made.
pub fn pin(kind: &str, file: &Path, options: &[&str]) -> Result<()> {
    std::fs::File::create(file).with_context(|| format!("create {}", file.display()))?;
    let held = format!("--{kind}={}", file.display());
    Run::new("unshare").args([held.as_str()]).args(options).args(["true"]).done()
}

/// A call inside a node's network.
pub fn enter(namespace: &Path) -> Run {
    Run::new("nsenter").args([format!("--net={}", namespace.display()).as_str(), "--"])
}

fn ip(words: &[&str]) -> Result<()> {
    Run::new("ip").args(words).done()
}
