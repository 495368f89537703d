//! An engine, or a neighbour: a process of its own that takes GPU memory of the simulated driver and works for a while.

use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use gpusim::driver::{Driver, DriverError};
use gpusim::engine::torch::{Allocator, out_of_memory};
use tokio::process::{Child, Command};

/// First argument of a process that is to be an engine.
const WORD: &str = "--be-an-engine";

/// What an engine does.
pub struct Work {
    /// UUID of its GPU.
    pub gpu: String,
    /// What it takes of it, bytes.
    pub bytes: u64,
    /// How long it works; `None`: until it is killed.
    pub millis: Option<u64>,
}

/// Starts this program again as an engine; killed when dropped.
pub fn start(socket: &Path, work: &Work) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .arg(WORD)
        .arg(socket)
        .args([&work.gpu, &work.bytes.to_string(), &work.millis.unwrap_or(u64::MAX).to_string()])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// The whole life of an engine, if this process is one.
pub fn main_of_child() -> Option<ExitCode> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, word, socket, gpu, bytes, millis] = &arguments[..] else { return None };
    if word != WORD {
        return None;
    }
    Some(live(Path::new(socket), gpu, bytes.parse().unwrap(), millis.parse().unwrap()))
}

fn live(socket: &Path, gpu: &str, bytes: u64, millis: u64) -> ExitCode {
    let mut driver = Driver::dial(socket, gpu, None).unwrap();
    // As an engine does: the weights first, then what the tiles need.
    let mut held = 0;
    for part in [bytes / 4, bytes - bytes / 4] {
        match driver.alloc(gpu, part) {
            Ok(()) => held += part,
            Err(DriverError::OutOfMemory(out)) => {
                // Inside a container a process does not know its number on the host.
                let allocator = Allocator { allocated: held, reserved: held };
                println!("{}", out_of_memory(part, 0, &out, 0, allocator));
                return ExitCode::FAILURE;
            }
            Err(error) => panic!("{error}"),
        }
    }
    std::thread::sleep(Duration::from_millis(millis));
    ExitCode::SUCCESS
}
