//! The simulated GPU driver beside a bench, and the stand-in engines that run on it: the programs of `tests/gpusim`.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::OnceLock;

use crate::bench::program;

/// MiB of a card on which many small runs have room side by side.
const ROOMY: u32 = 16_777_216;

/// Where cargo has put the programs.
#[derive(Debug)]
pub struct Programs {
    folder: PathBuf,
    /// The stand-in for NVML.
    pub nvml: PathBuf,
}

impl Programs {
    /// Builds them, once: cargo hands tests no path of another package's programs.
    fn build() -> &'static Self {
        static BUILT: OnceLock<Programs> = OnceLock::new();
        BUILT.get_or_init(|| {
            let folder = Path::new(env!("CARGO_BIN_EXE_upscale-worker")).parent().unwrap().to_owned();
            // Cargo's folder of the profile dev is named otherwise.
            let profile = folder.file_name().filter(|name| *name != "debug").unwrap_or("dev".as_ref());
            let status = Command::new(program("CARGO", "cargo"))
                .args(["build", "--quiet", "-p", "gpusim", "-p", "gpusim-nvml", "--profile"])
                .arg(profile)
                .arg("--target-dir")
                .arg(folder.parent().unwrap())
                .status()
                .unwrap();
            assert!(status.success(), "the simulated driver does not build");
            Self { nvml: folder.join("libnvidia_ml.so"), folder }
        })
    }

    /// A program by its name.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// A running driver with one card.
pub struct Driver {
    folder: tempfile::TempDir,
    daemon: Child,
    /// The programs that know it.
    pub programs: &'static Programs,
    /// The card.
    pub uuid: String,
}

impl Driver {
    /// Starts one whose card has room for all.
    pub fn start() -> Self {
        Self::with_card_of(ROOMY)
    }

    /// Starts one whose card has so many MiB.
    pub fn with_card_of(mib: u32) -> Self {
        let programs = Programs::build();
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        // Nobody watches its memory grow here.
        let card = serde_json::json!({"model": "NVIDIA H200", "total_mib": mib, "pace_percent": 5});
        let config = serde_json::json!({"node": "node-a", "cards": [card]});
        std::fs::write(at("config.json"), config.to_string()).unwrap();
        let mut daemon = Command::new(programs.path("gpusim"))
            .args(["daemon".as_ref(), "--config".as_ref(), at("config.json").as_os_str()])
            .args(["--driver-dir".as_ref(), folder.path().as_os_str()])
            .args(["--control".as_ref(), at("control").as_os_str(), "--log".as_ref(), at("log").as_os_str()])
            .spawn()
            .unwrap();
        while UnixStream::connect(at("control")).is_err() {
            assert!(daemon.try_wait().unwrap().is_none(), "the simulated driver has ended");
            std::thread::yield_now();
        }
        let mut driver = Self { folder, daemon, programs, uuid: String::new() };
        let told = driver.control(&["list"]);
        driver.uuid = told.split_whitespace().nth(2).unwrap().to_owned();
        driver
    }

    /// Steers it; what it says.
    pub fn control(&self, words: &[&str]) -> String {
        let mut command = Command::new(self.programs.path("gpusim"));
        command.args(["ctl", "--control"]).arg(self.folder.path().join("control")).args(words);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Lets a program see the card.
    pub fn show_to<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env("GPUSIM_DIR", self.folder.path()).env("NVIDIA_VISIBLE_DEVICES", &self.uuid)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ended = self.daemon.kill();
        let _status = self.daemon.wait();
    }
}
