//! The controller's own program, on a way to the API server that a test has laid.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::json;

/// Starts it for a release and the one namespace of its jobs. Its files lie in `folder` and carry its name.
/// `more` are further flags.
pub fn start(folder: &Path, name: &str, way: SocketAddr, release: &str, jobs: &str, more: &[&str]) -> Child {
    let kubeconfig = folder.join(format!("kubeconfig-{name}"));
    let config = json!({"apiVersion": "v1", "kind": "Config", "current-context": "proxy",
        "clusters": [{"name": "proxy", "cluster": {"server": format!("http://{way}")}}],
        "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "nobody"}}],
        "users": [{"name": "nobody", "user": {}}]});
    std::fs::write(&kubeconfig, config.to_string()).unwrap();
    let log = File::options().append(true).create(true).open(log(folder, name)).unwrap();
    Command::new(env!("CARGO_BIN_EXE_upscale-controller"))
        .args(["--namespace", release, "--watch-namespaces", jobs])
        .args(["--worker-image=played:1", "--runtime-class=", "--listen=127.0.0.1:0"])
        .args(["--pod-name", name])
        .args(more)
        .arg("--profiles-dir")
        .arg(folder.join("no-profiles"))
        .env("KUBECONFIG", &kubeconfig)
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .stdin(Stdio::null())
        .spawn()
        .unwrap()
}

/// What it has to say.
pub fn log(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("controller-{name}.log"))
}
