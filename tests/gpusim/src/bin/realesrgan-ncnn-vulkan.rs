//! `realesrgan-ncnn-vulkan`: the stand-in for a program that reads and writes folders of pictures.

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> =
        std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
    ExitCode::from(gpusim::realesrgan::main(&args))
}
