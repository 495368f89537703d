//! The worker of a pod: one stage of the video work, then an exit code and a termination message.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use video_upscale::api::worker::{Code, DESTINATION_MOUNT, SCRATCH_MOUNT, SOURCE_MOUNT};
use video_upscale::worker::ffmpeg::Children;
use video_upscale::worker::folder::Mounts;
use video_upscale::worker::run::{Setup, Stage, end, message, run, tell};

/// Does one stage of the video work inside a pod: probe, prepare, finish or merge.
///
/// Ends with an exit code of the worker contract and writes one JSON object about its end.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    stage: StageName,
    #[command(flatten)]
    places: Places,
}

#[derive(Debug, Subcommand)]
enum StageName {
    /// Look whether the film can be upscaled, index it and plan its segments
    Probe(Task),
    /// Prove the GPU, cut a segment for the engine, wait for the GPU's memory
    Prepare(Task),
    /// Check the engine's output, encode the part, publish it
    Finish(Task),
    /// Join the parts, add all other streams, verify, publish the result
    Merge(Task),
}

#[derive(Debug, Args)]
struct Task {
    /// The task: one JSON object
    #[arg(long, value_name = "JSON")]
    task: String,
}

#[derive(Debug, Args)]
struct Places {
    /// ffmpeg, version 6.1 or later; a path, or a name to be found on PATH
    #[arg(long, global = true, value_name = "PROGRAM", default_value = "ffmpeg")]
    ffmpeg: PathBuf,
    /// ffprobe of the same build
    #[arg(long, global = true, value_name = "PROGRAM", default_value = "ffprobe")]
    ffprobe: PathBuf,
    /// Threads per codec and filter
    #[arg(long, global = true, value_name = "COUNT", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    threads: u32,
    /// NVML's library; by default libnvidia-ml.so.1 where the loader finds it
    #[arg(long, global = true, value_name = "FILE")]
    nvml_library: Option<PathBuf>,
    /// Where the message about the end is written
    #[arg(long, global = true, value_name = "FILE", default_value = "/dev/termination-log")]
    termination_log: PathBuf,
    /// Mount of the source claim
    #[arg(long, global = true, value_name = "FOLDER", default_value = SOURCE_MOUNT)]
    source: PathBuf,
    /// Mount of the destination claim
    #[arg(long, global = true, value_name = "FOLDER", default_value = DESTINATION_MOUNT)]
    destination: PathBuf,
    /// Mount of the scratch volume
    #[arg(long, global = true, value_name = "FOLDER", default_value = SCRATCH_MOUNT)]
    scratch: PathBuf,
}

/// Exit code after SIGTERM or SIGINT: never success.
const ENDED: u8 = 143;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new("info"))
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    let arguments = Arguments::parse();
    let (stage, task) = match arguments.stage {
        StageName::Probe(task) => (Stage::Probe, task.task),
        StageName::Prepare(task) => (Stage::Prepare, task.task),
        StageName::Finish(task) => (Stage::Finish, task.task),
        StageName::Merge(task) => (Stage::Merge, task.task),
    };
    let places = arguments.places;
    let children = Children::default();
    let setup = Setup {
        ffmpeg: places.ffmpeg,
        ffprobe: places.ffprobe,
        threads: places.threads,
        nvml: places.nvml_library,
        mounts: Mounts { source: places.source, destination: places.destination, scratch: places.scratch },
        children: children.clone(),
    };
    let (told, code) = tokio::select! {
        biased;
        signal = ended() => {
            children.kill_all();
            (end(Code::Internal, &format!("ended by {signal}")), ENDED)
        }
        worked = tokio::task::spawn_blocking(move || run(stage, &task, &setup)) => {
            let told = worked.unwrap_or_else(|error| end(Code::Internal, &format!("the worker broke: {error}")));
            let code = told.code.exit_code();
            (told, code)
        }
    };
    // Both, as the kubelet keeps the message and people read the log.
    tracing::info!(end = message(&told), "ended");
    if let Err(failure) = tell(&places.termination_log, &told) {
        tracing::error!(%failure, "the message about the end could not be written");
    }
    // Not by returning: a thread that waits for a driver or a disk must not hold the process.
    std::process::exit(code.into())
}

/// Waits for a signal to end; its name. A handler that cannot be installed leaves the signal's own effect, which ends
/// the process as well.
async fn ended() -> &'static str {
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => "SIGTERM",
        _ = int.recv() => "SIGINT",
    }
}
