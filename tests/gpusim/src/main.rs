//! `gpusim`: the simulated driver of one node, and a hand on its controls.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use gpusim::card::MIB;
use gpusim::config::NodeConfig;
use gpusim::control::{Answer, Command, Control, GpuState};
use gpusim::daemon;

/// A simulated GPU driver.
#[derive(Debug, Parser)]
#[command(name = "gpusim", version)]
struct Cli {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Be the driver of one node until killed.
    Daemon {
        /// The node's cards, JSON.
        #[arg(long)]
        config: PathBuf,
        /// Folder of the "device": the socket gpusim.sock is made in it.
        #[arg(long)]
        driver_dir: PathBuf,
        /// Socket for commands; keep it out of pods.
        #[arg(long)]
        control: PathBuf,
        /// Log of every event, JSON lines, appended.
        #[arg(long)]
        log: PathBuf,
    },
    /// Steer a running driver.
    Ctl {
        /// Its control socket.
        #[arg(long)]
        control: PathBuf,
        #[command(subcommand)]
        command: Command,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse().what) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gpusim: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(what: What) -> Result<(), Box<dyn std::error::Error>> {
    match what {
        What::Daemon { config, driver_dir, control, log } => {
            let text =
                fs::read_to_string(&config).map_err(|error| format!("{}: {error}", config.display()))?;
            daemon::serve(&NodeConfig::parse(&text)?, &driver_dir, &control, &log)?;
        }
        What::Ctl { control, command } => match Control::dial(&control)?.run(&command)? {
            Answer::Gpus(gpus) => gpus.iter().for_each(show),
            Answer::Done | Answer::Refused(_) => {}
        },
    }
    Ok(())
}

fn show(gpu: &GpuState) {
    let mib = |bytes: u64| bytes.checked_div(MIB).unwrap_or(0);
    println!(
        "{} {} {} {}: {} of {} MiB free, {} MiB held by nobody, health {:?}, need {} %",
        gpu.node,
        gpu.index,
        gpu.uuid,
        gpu.model,
        mib(gpu.free),
        mib(gpu.total),
        mib(gpu.unowned),
        gpu.health,
        gpu.need_percent
    );
    for holder in &gpu.holders {
        println!("    pid {} holds {} MiB", holder.pid, mib(holder.bytes));
    }
}
