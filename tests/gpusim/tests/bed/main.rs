//! The simulated driver, its library and its engine, each against a driver of its own in a scratch folder.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods
)]

mod child;
mod driver;
mod engine;
mod nvml;
mod script;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use gpusim::control::{self, Answer, Control, GpuState};
use gpusim::journal::{self, Entry};

/// Two cards: one of 16 GiB, one of 5 GiB.
const CARDS: &str = r#"{"node": "node-a", "seed": 7, "driver_version": "580.95.05", "cards": [
    {"model": "NVIDIA RTX A4000", "total_mib": 16376, "reserved_mib": 300},
    {"model": "NVIDIA T400", "total_mib": 5192}]}"#;

/// A running driver.
pub struct Bed {
    pub folder: tempfile::TempDir,
    daemon: Child,
}

impl Bed {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("config.json"), CARDS).unwrap();
        let daemon = daemon(folder.path());
        Self { folder, daemon }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A program of this package that sees the GPUs that `visible` names.
    pub fn program(&self, exe: &str, visible: &str) -> Command {
        let mut command = Command::new(exe);
        command
            .env("GPUSIM_DIR", self.path())
            .env("NVIDIA_VISIBLE_DEVICES", visible)
            .env("TMPDIR", self.path());
        command
    }

    /// A foreign process that holds memory.
    pub fn hog(&self, gpu: u32, mib: u64) -> Hog {
        hog(self.path(), gpu, mib)
    }

    pub fn control(&self, command: &control::Command) -> Answer {
        control(self.path(), command)
    }

    pub fn list(&self) -> Vec<GpuState> {
        list(self.path())
    }

    pub fn journal(&self) -> Vec<Entry> {
        journal::read(&self.path().join("journal")).unwrap()
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        let _ended = self.daemon.kill();
        let _status = self.daemon.wait();
    }
}

/// Starts the driver of the folder and waits until it answers.
pub fn daemon(folder: &Path) -> Child {
    let at = |name: &str| folder.join(name);
    let child = Command::new(env!("CARGO_BIN_EXE_gpusim"))
        .args(["daemon".as_ref(), "--config".as_ref(), at("config.json").as_os_str()])
        .args(["--driver-dir".as_ref(), folder.as_os_str(), "--control".as_ref(), at("control").as_os_str()])
        .args(["--log".as_ref(), at("journal").as_os_str()])
        .spawn()
        .unwrap();
    eventually("the driver answers", || Control::dial(&at("control")).and_then(|mut c| c.list()).is_ok());
    child
}

pub fn control(folder: &Path, command: &control::Command) -> Answer {
    Control::dial(&folder.join("control")).unwrap().run(command).unwrap()
}

pub fn list(folder: &Path) -> Vec<GpuState> {
    Control::dial(&folder.join("control")).unwrap().list().unwrap()
}

/// A process that is ended with the test: a hog that holds its memory, a second daemon.
pub struct Hog(pub Child);

impl Drop for Hog {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _status = self.0.wait();
    }
}

pub fn hog(folder: &Path, gpu: u32, mib: u64) -> Hog {
    let mut child = Command::new(env!("CARGO_BIN_EXE_gpu-hog"))
        .args(["--gpu", &gpu.to_string(), "--mib", &mib.to_string()])
        .env("GPUSIM_DIR", folder)
        .env("NVIDIA_VISIBLE_DEVICES", "all")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("holding"), "{line:?}");
    Hog(child)
}

/// Waits until something is so, at most ten seconds; how long it took.
pub fn eventually(what: &str, so: impl Fn() -> bool) -> Duration {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < Duration::from_secs(10), "not within ten seconds: {what}");
        sleep(Duration::from_millis(1));
    }
    began.elapsed()
}
