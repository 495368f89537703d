//! Looking through the library. What a process sees hangs on its environment, so each test that looks runs a second
//! time, as a child with the environment it needs; the child is the one that looks.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;

use crate::Bed;

/// Names the driver's folder to the child.
const FOLDER: &str = "GPUSIM_TEST_FOLDER";

/// The library; the parent has built it.
pub fn library() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let target = Path::new(env!("CARGO_BIN_EXE_gpusim")).ancestors().nth(2).unwrap();
        match folder() {
            Some(_) => target.join("debug/libnvidia_ml.so"),
            None => gpusim::library::build(target).unwrap(),
        }
    })
}

/// The driver's folder, in a child.
pub fn folder() -> Option<PathBuf> {
    std::env::var_os(FOLDER).map(PathBuf::from)
}

/// Runs `look` in a child of its own that sees what `visible` names, against a driver of its own. `test` is the name
/// of the calling test with its module.
pub fn with(test: &str, visible: Option<&str>, look: impl FnOnce(&Path)) {
    if let Some(folder) = folder() {
        return look(&folder);
    }
    library();
    let bed = Bed::start();
    let mut child = Command::new(std::env::current_exe().unwrap());
    match visible {
        Some(visible) => child.env("NVIDIA_VISIBLE_DEVICES", visible),
        None => child.env_remove("NVIDIA_VISIBLE_DEVICES"),
    };
    look_again(&mut child, test, bed.path());
}

/// Runs the test `test` once more through `command`, as the one that looks at the driver in `folder`.
pub fn look_again(command: &mut Command, test: &str, folder: &Path) {
    command.args(["--exact", test, "--nocapture"]).env(FOLDER, folder).env("GPUSIM_DIR", folder);
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(output.status.success() && text.contains("1 passed"), "{test}: {text}");
}

pub fn load() -> Nvml {
    try_load().unwrap()
}

pub fn try_load() -> Result<Nvml, NvmlError> {
    Nvml::builder().lib_path(library().as_os_str()).init()
}
