//! `upscale-agent`.

use std::process::ExitCode;

fn main() -> ExitCode {
    upscale_agent::program::main()
}
