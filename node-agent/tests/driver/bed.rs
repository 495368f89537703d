//! A simulated driver in a scratch folder, the agent's program over it, and a server with one Node.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
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
use gpusim::library::without;
use gpusim::script::{Script, Twist, calls};
use serde_json::{Value, json};
use video_upscale::api::keys;
use video_upscale::api::report::{Heartbeat, Report, read};

/// Two cards: one of 16 GiB, one of 5 GiB.
pub const CARDS: &str = r#"{"node": "node-a", "seed": 7, "cards": [
    {"model": "NVIDIA RTX A4000", "total_mib": 16376, "reserved_mib": 300},
    {"model": "NVIDIA T400", "total_mib": 5192}]}"#;

/// Names the driver's folder to a test that runs a second time, as a child: see [`alone`].
const FOLDER: &str = "AGENT_TEST_FOLDER";

/// Folder of the simulated driver's programs and library: cargo hands tests no path of another package's.
static BUILT: LazyLock<PathBuf> = LazyLock::new(|| {
    let built = Path::new(env!("CARGO_BIN_EXE_upscale-agent")).parent().unwrap().to_owned();
    if std::env::var_os(FOLDER).is_some() {
        return built;
    }
    let status = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()))
        .args(["build", "--quiet", "-p", "gpusim", "--bin", "gpusim", "--bin", "gpu-hog"])
        .args(["-p", "gpusim-nvml", "--lib"])
        .args(built.ends_with("release").then_some("--release"))
        .arg("--target-dir")
        .arg(built.parent().unwrap())
        .status()
        .unwrap();
    assert!(status.success(), "the simulated driver does not build");
    built
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
    folder: PathBuf,
    _own: Option<(Running, tempfile::TempDir)>,
}

/// Runs `look` over a driver of `cards` in a process of its own, since a process has one driver's library and keeps
/// it. `test` is the name of the calling test with its module.
pub fn alone(test: &str, cards: &str, look: impl FnOnce(&Bed)) {
    if let Some(folder) = std::env::var_os(FOLDER) {
        return look(&Bed { folder: folder.into(), _own: None });
    }
    let bed = Bed::with(cards);
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(FOLDER, &bed.folder)
        .env("GPUSIM_DIR", &bed.folder)
        .env("NVIDIA_VISIBLE_DEVICES", "all")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && text.contains("1 passed"), "{test}: {text}");
    assert!(!text.contains("panicked"), "{test}: a thread panicked: {text}");
}

impl Bed {
    pub fn start() -> Self {
        Self::with(CARDS)
    }

    /// A driver of other cards.
    pub fn with(cards: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        fs::write(at("config.json"), cards).unwrap();
        let daemon = Command::new(BUILT.join("gpusim"))
            .args(["daemon", "--config", &at("config.json"), "--driver-dir", &at("")])
            .args(["--control", &at("control"), "--log", &at("journal")])
            .spawn()
            .unwrap();
        let bed = Self { folder: folder.path().to_owned(), _own: Some((Running(daemon), folder)) };
        eventually("the driver answers", || {
            Control::dial(&bed.path("control")).is_ok_and(|mut control| control.list().is_ok())
        });
        bed
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The driver's library.
    pub fn library(&self) -> PathBuf {
        BUILT.join("libnvidia_ml.so")
    }

    /// A library that lacks `symbols`, as an old driver's does.
    pub fn library_without(&self, symbols: &[&str]) -> PathBuf {
        let copy = without(&fs::read(self.library()).unwrap(), symbols).unwrap();
        let path = self.path(&format!("lib-without-{}-of-{}.so", symbols[0], symbols.len()));
        fs::write(&path, copy).unwrap();
        path
    }

    /// From now on the library answers as `script` says.
    pub fn plays(&self, script: &Script) {
        script.play(&self.folder).unwrap();
    }

    /// From now on the GPU of index `gpu` says of itself what `twist` says.
    pub fn twists(&self, gpu: u32, twist: Twist) {
        self.plays(&Script { gpus: [(gpu, twist)].into(), log: true, ..Script::default() });
    }

    /// Calls of the library so far.
    pub fn calls(&self) -> Vec<String> {
        calls(&self.folder)
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

    /// Another process takes memory of a GPU and keeps it until it is killed.
    pub fn hog(&self, gpu: usize, mib: u64) -> Running {
        let mut hog = Command::new(BUILT.join("gpu-hog"));
        hog.args(["--gpu", &gpu.to_string(), "--mib", &mib.to_string()]);
        hog.env("GPUSIM_DIR", &self.folder).env("NVIDIA_VISIBLE_DEVICES", "all");
        let hog = Running(hog.stdin(Stdio::null()).spawn().unwrap());
        let holds = |pid: u32| {
            let gpus = Control::dial(&self.path("control")).unwrap().list().unwrap();
            gpus[gpu].holders.iter().any(|holder| holder.pid == pid)
        };
        eventually("the hog holds its memory", || holds(hog.0.id()));
        hog
    }

    /// A process that the kernel knows by the name of an MPS server, which it cuts to 15 characters.
    pub fn mps_server(&self) -> Running {
        let program = self.path("nvidia-cuda-mps-server");
        fs::copy("/bin/sleep", &program).unwrap();
        Running(Command::new(program).arg("600").stdin(Stdio::null()).spawn().unwrap())
    }

    pub fn agent(&self, arguments: &[&str]) -> Command {
        self.agent_over(&self.library(), arguments)
    }

    /// The program over another library.
    pub fn agent_over(&self, library: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_upscale-agent"));
        command
            .arg("--nvml-library")
            .arg(library)
            .args(arguments)
            .env("GPUSIM_DIR", &self.folder)
            .env("NVIDIA_VISIBLE_DEVICES", "all");
        command
    }

    /// One sample, as JSON, and the program's exit code.
    pub fn once(&self) -> (Report, i32) {
        self.once_over(&self.library())
    }

    /// One sample over another library.
    pub fn once_over(&self, library: &Path) -> (Report, i32) {
        Self::told_by(self.agent_over(library, &["--once", "-o", "json"]))
    }

    /// What a program that prints one sample says.
    pub fn told_by(mut program: Command) -> (Report, i32) {
        let output: Output = program.output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!told.contains("panicked"), "{told}");
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(
            !text.contains(&u64::MAX.to_string()),
            "a value that is not available was told as one: {text}"
        );
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
pub fn eventually(what: &str, so: impl FnMut() -> bool) -> Duration {
    within(Duration::from_secs(30), what, so)
}

/// Waits until something is so, at most as long as said; how long it took.
pub fn within(limit: Duration, what: &str, mut so: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < limit, "not within {limit:?}: {what}");
        sleep(Duration::from_millis(20));
    }
    began.elapsed()
}

/// A port that is free at the moment.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// What the agent answers over HTTP; empty if nobody listens.
pub fn ask(port: u16, path: &str) -> String {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return String::new() };
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
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
