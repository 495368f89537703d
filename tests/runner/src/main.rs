//! `pod-runner`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use pod_runner::config::Config;

/// Runs the pods of one node as processes.
#[derive(Parser)]
struct Options {
    /// What it is told, as JSON
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    let told = match Config::read(&Options::parse().config) {
        Ok(config) => pod_runner::run(config).await,
        Err(error) => Err(error),
    };
    let Err(error) = told;
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}
