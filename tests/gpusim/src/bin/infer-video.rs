//! `infer-video`: the stand-in engine under its own name, or as the `python` that is told to run `infer_video.py`.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args: Vec<String> =
        std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
    // `python [-u] /app/FlashVSR_Ultra_Fast/infer_video.py ...`: what stands before the script is the interpreter's.
    let is_script = |arg: &String| Path::new(arg).extension().is_some_and(|extension| extension == "py");
    let interpreter_only =
        args.iter().position(|arg| !arg.starts_with('-')).filter(|at| args.get(*at).is_some_and(is_script));
    if let Some(script) =
        interpreter_only.filter(|script| args.iter().take(*script).all(|arg| !arg.starts_with("--")))
    {
        args.drain(..=script);
    }
    ExitCode::from(gpusim::engine::main(&args))
}
