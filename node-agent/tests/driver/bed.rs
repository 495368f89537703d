//! A simulated driver in a scratch folder, the agent's program over it, and a server with one Node.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, LazyLock, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use gpusim::control::{self, Control};
use gpusim::driver::{Driver, SOCKET};
use serde_json::{Value, json};
use video_upscale::api::keys;
use video_upscale::api::report::{Heartbeat, Report, read};

const CARDS: &str = r#"{"node": "node-a", "seed": 7, "cards": [
    {"model": "NVIDIA RTX A4000", "total_mib": 16376, "reserved_mib": 300},
    {"model": "NVIDIA T400", "total_mib": 5192}]}"#;

/// Folder of the simulated driver's programs and library: cargo hands tests no path of another package's.
static BUILT: LazyLock<PathBuf> = LazyLock::new(|| {
    let target = Path::new(env!("CARGO_BIN_EXE_upscale-agent")).ancestors().nth(2).unwrap().to_owned();
    let status = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()))
        .args(["build", "--quiet", "-p", "gpusim", "--bin", "gpusim", "-p", "gpusim-nvml", "--lib"])
        .arg("--target-dir")
        .arg(&target)
        .status()
        .unwrap();
    assert!(status.success(), "the simulated driver does not build");
    target.join("debug")
});

/// A program that ends with the test.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _status = self.0.wait();
    }
}

/// A running driver.
pub struct Bed {
    folder: tempfile::TempDir,
    _daemon: Running,
}

impl Bed {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        fs::write(at("config.json"), CARDS).unwrap();
        let daemon = Command::new(BUILT.join("gpusim"))
            .args(["daemon", "--config", &at("config.json"), "--driver-dir", &at("")])
            .args(["--control", &at("control"), "--log", &at("journal")])
            .spawn()
            .unwrap();
        let bed = Self { _daemon: Running(daemon), folder };
        eventually("the driver answers", || {
            Control::dial(&bed.path("control")).is_ok_and(|mut control| control.list().is_ok())
        });
        bed
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn control(&self, command: &control::Command) {
        Control::dial(&self.path("control")).unwrap().run(command).unwrap();
    }

    /// This test's own process takes memory of a GPU and keeps it as long as the value lives.
    pub fn hold(&self, gpu: usize, bytes: u64) -> Driver {
        let mut driver = Driver::dial(&self.path(SOCKET), "all", None).unwrap();
        let uuid = driver.devices().unwrap()[gpu].uuid.clone();
        driver.alloc(&uuid, bytes).unwrap();
        driver
    }

    pub fn agent(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_upscale-agent"));
        command
            .arg("--nvml-library")
            .arg(BUILT.join("libnvidia_ml.so"))
            .args(arguments)
            .env("GPUSIM_DIR", self.folder.path())
            .env("NVIDIA_VISIBLE_DEVICES", "all");
        command
    }

    /// One sample, as JSON.
    pub fn once(&self) -> (Report, i32) {
        let output: Output = self.agent(&["--once", "-o", "json"]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        (serde_json::from_str(&text).unwrap(), output.status.code().unwrap())
    }
}

/// A server with one Node, in a thread of its own.
#[derive(Clone, Default)]
pub struct Server {
    annotations: Arc<Mutex<BTreeMap<String, Value>>>,
}

impl Server {
    /// Starts it and writes a kubeconfig that leads to it.
    pub fn start(kubeconfig: &Path) -> Self {
        let server = Self::default();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "x",
            "clusters": [{"name": "x", "cluster": {"server": url}}],
            "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
            "users": [{"name": "x", "user": {}}],
        });
        fs::write(kubeconfig, config.to_string()).unwrap();
        let node = get(Self::node).patch(Self::patch);
        let router = Router::new().route("/api/v1/nodes/node-a", node).with_state(server.clone());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                axum::serve(listener, router).await.unwrap();
            });
        });
        server
    }

    async fn node(State(server): State<Self>) -> impl IntoResponse {
        let annotations = server.annotations.lock().unwrap().clone();
        let node = json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
                          "metadata": {"name": "node-a", "annotations": annotations}});
        ([(header::CONTENT_TYPE, "application/json")], node.to_string())
    }

    async fn patch(State(server): State<Self>, body: String) -> impl IntoResponse {
        let patch: Value = serde_json::from_str(&body).unwrap();
        for (key, value) in patch["metadata"]["annotations"].as_object().unwrap() {
            server.annotations.lock().unwrap().insert(key.clone(), value.clone());
        }
        Self::node(State(server)).await
    }

    /// What a reader finds, if it is there and sound.
    pub fn read(&self) -> Option<(Report, Heartbeat)> {
        let annotations = self.annotations.lock().unwrap();
        read(annotations.get(keys::REPORT)?.as_str()?, annotations.get(keys::HEARTBEAT)?.as_str()?).ok()
    }
}

/// Waits until something is so, at most half a minute; how long it took.
pub fn eventually(what: &str, so: impl Fn() -> bool) -> Duration {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < Duration::from_secs(30), "not within thirty seconds: {what}");
        sleep(Duration::from_millis(20));
    }
    began.elapsed()
}

/// A port that is free at the moment.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Starts the agent for good.
pub fn publishing(bed: &Bed, kubeconfig: &Path, port: u16) -> Running {
    let listen = format!("127.0.0.1:{port}");
    let arguments =
        ["--node-name", "node-a", "--namespace", "ops", "--spread-seconds", "0", "--listen", &listen];
    let mut command = bed.agent(&arguments);
    command.arg("--state-dir").arg(bed.path(""));
    Running(command.env("KUBECONFIG", kubeconfig).stderr(Stdio::null()).spawn().unwrap())
}
