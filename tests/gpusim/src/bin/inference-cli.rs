//! `inference-cli`: the stand-in for SeedVR2's `inference_cli.py`; told the script's path first, as `python` is, or not.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args: Vec<String> =
        std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
    if args.first().is_some_and(|first| Path::new(first).extension().is_some_and(|ending| ending == "py")) {
        args.remove(0);
    }
    ExitCode::from(gpusim::seedvr2::main(&args))
}
