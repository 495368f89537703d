//! The controller: configuration, log, clients, loops, shutdown, exit code.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use video_upscale::config::Config;
use video_upscale::{controllers, telemetry};

/// Passes in flight and the lead get that long to end, altogether.
const LIMIT: Duration = Duration::from_secs(15);

#[tokio::main]
async fn main() -> ExitCode {
    let config = Config::parse();
    telemetry::start_log(config.log_format, &config.log_level);
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let loops = controllers::run(config, stopped);
    tokio::pin!(loops);
    let outcome = tokio::select! {
        outcome = &mut loops => outcome,
        () = asked_to_stop() => {
            tracing::info!("stopping");
            stop.send_replace(true);
            tokio::time::timeout(LIMIT, loops).await.unwrap_or(Ok(()))
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "ended");
            ExitCode::FAILURE
        }
    }
}

/// Ends when the process is asked to: SIGTERM or SIGINT. Without signal handlers it never does, and is killed.
async fn asked_to_stop() {
    let (Ok(mut term), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = interrupt.recv() => {}
    }
}
