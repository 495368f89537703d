//! `gpu-hog`: a foreign process that holds GPU memory until it is killed.

use std::io;
use std::process::ExitCode;

use clap::Parser;
use gpusim::card::{Gpu, MIB};
use gpusim::driver::{self, Driver};

/// Holds memory of a simulated GPU until killed.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    /// UUID, or index among the GPUs that this process sees.
    #[arg(long)]
    gpu: Gpu,
    /// How much, MiB.
    #[arg(long)]
    mib: u64,
}

fn main() -> ExitCode {
    match hold(&Cli::parse()) {
        Ok(never) => match never {},
        Err(error) => {
            eprintln!("gpu-hog: {error}");
            ExitCode::FAILURE
        }
    }
}

fn hold(cli: &Cli) -> Result<std::convert::Infallible, Box<dyn std::error::Error>> {
    // A process outside any container sees every GPU.
    let visible = driver::visible_devices().unwrap_or_else(|| "all".to_owned());
    let mut driver = Driver::dial(&driver::socket_path(), &visible, None)?;
    let devices = driver.devices()?;
    let device = match &cli.gpu {
        Gpu::Index(index) => devices.get(usize::try_from(*index)?),
        Gpu::Uuid(uuid) => devices.iter().find(|device| device.uuid == *uuid),
    };
    let device =
        device.ok_or_else(|| format!("GPU {} is not among the {} visible ones", cli.gpu, devices.len()))?;
    driver.alloc(&device.uuid, cli.mib.saturating_mul(MIB))?;
    println!("holding {} MiB of {} {} as pid {}", cli.mib, device.model, device.uuid, std::process::id());
    let driver_gone = driver.wait_gone();
    Err(Box::new(io::Error::other(format!("memory is gone with the driver: {driver_gone}"))))
}
