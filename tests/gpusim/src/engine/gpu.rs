//! The memory of an engine of PyTorch on its GPU: context, weights, then what the first tile grows to, held until the
//! end; or phase by phase.

use std::thread;
use std::time::Duration;

use crate::control::Spoil;
use crate::driver::{self, Driver, DriverError, Run};

use super::demand::{self, Load};
use super::options::Options;
use super::torch::{Allocator, out_of_memory};

/// Portions in which the weights come.
const WEIGHTS: u64 = 4;
/// Portions in which the first tile grows.
const GROWTH: u64 = 9;
/// Portions in which a phase grows.
const PHASE: u64 = 3;
/// Between two portions.
const PORTION: Duration = Duration::from_millis(230);
/// Of what PyTorch has, so much in a thousand is cached and unused.
const UNUSED_PER_MILLE: u64 = 30;

/// The GPU that the engine works on.
#[derive(Debug)]
pub struct Gpu {
    driver: Driver,
    device: usize,
    uuid: String,
    run: Run,
    allocator: Allocator,
}

/// GPUs that this process sees; none where there is no driver.
#[must_use]
pub fn visible() -> usize {
    dial().and_then(|mut driver| driver.devices()).map_or(0, |devices| devices.len())
}

fn dial() -> Result<Driver, DriverError> {
    Driver::dial(&driver::socket_path(), &driver::visible_devices().unwrap_or_default(), None)
}

impl Gpu {
    /// Takes the visible GPU number `device` into use.
    ///
    /// # Errors
    /// The exception that the program dies of.
    pub fn open(device: usize) -> Result<Self, String> {
        let none = |_| "RuntimeError: No CUDA GPUs are available".to_owned();
        let mut driver = dial().map_err(none)?;
        let devices = driver.devices().map_err(none)?;
        let uuid = devices.get(device).map(|device| device.uuid.clone());
        let uuid = uuid.ok_or("RuntimeError: No CUDA GPUs are available")?;
        let run = driver.begin(&uuid).map_err(|error| fault(&error))?;
        Ok(Self { driver, device, uuid, run, allocator: Allocator::default() })
    }

    /// Makes the context and loads the weights.
    ///
    /// # Errors
    /// The exception that the program dies of.
    pub fn load_weights(&mut self, options: &Options) -> Result<(), String> {
        self.take(demand::CONTEXT)?;
        self.allocator = Allocator::default();
        self.grow(demand::weights(options), WEIGHTS)
    }

    /// Grows to what the run truly needs on this card: the published formula, times the card's own percentage.
    ///
    /// # Errors
    /// The exception that the program dies of.
    pub fn grow_to_peak(&mut self, options: &Options, load: Load) -> Result<(), String> {
        let percent = u64::from(self.run.need_percent);
        let peak = demand::peak(options, load).saturating_mul(percent).checked_div(100).unwrap_or(0);
        self.grow(peak.saturating_sub(demand::weights(options)), GROWTH)
    }

    /// What takes so long usually, on this card.
    #[must_use]
    pub fn paced(&self, usual: Duration) -> Duration {
        usual.saturating_mul(self.run.pace_percent).checked_div(100).unwrap_or(usual)
    }

    /// What goes wrong with the engine's work.
    #[must_use]
    pub fn spoil(&self) -> Spoil {
        self.run.spoil
    }

    /// Grows or shrinks to what a phase truly needs on this card: `bytes`, times the card's own percentage.
    ///
    /// # Errors
    /// The exception that the program dies of.
    pub fn reach(&mut self, bytes: u64) -> Result<(), String> {
        let bytes = bytes.saturating_mul(self.run.need_percent.into()).checked_div(100).unwrap_or(0);
        let held = self.allocator.reserved;
        if let Some(unused) = held.checked_sub(bytes) {
            self.allocator.reserved = bytes;
            return self.driver.free(&self.uuid, unused).map_err(|error| fault(&error));
        }
        self.grow(bytes.saturating_sub(held), PHASE)
    }

    /// One portion after the other.
    #[expect(clippy::disallowed_methods, reason = "a model takes time to load and to grow")]
    fn grow(&mut self, bytes: u64, portions: u64) -> Result<(), String> {
        let portion = bytes.div_ceil(portions.max(1));
        let mut left = bytes;
        while left > 0 {
            thread::sleep(self.paced(PORTION));
            let next = portion.min(left);
            self.take(next)?;
            left = left.saturating_sub(next);
        }
        Ok(())
    }

    fn take(&mut self, bytes: u64) -> Result<(), String> {
        match self.driver.alloc(&self.uuid, bytes) {
            Ok(()) => {
                let reserved = self.allocator.reserved.saturating_add(bytes);
                let unused = reserved.saturating_mul(UNUSED_PER_MILLE).checked_div(1000).unwrap_or(0);
                self.allocator = Allocator { reserved, allocated: reserved.saturating_sub(unused) };
                Ok(())
            }
            Err(DriverError::OutOfMemory(out)) => {
                Err(out_of_memory(bytes, self.device, &out, std::process::id(), self.allocator))
            }
            Err(error) => Err(fault(&error)),
        }
    }

    /// Launches a kernel, so to say.
    ///
    /// # Errors
    /// The exception that the program dies of where the GPU or its driver is gone.
    pub fn work(&mut self) -> Result<(), String> {
        self.driver.memory(&self.uuid).map(drop).map_err(|error| fault(&error))
    }
}

/// PyTorch's exception for a driver that cannot go on.
fn fault(error: &DriverError) -> String {
    let what = match error.fault() {
        driver::Fault::Lost => "CUDA error: GPU is lost",
        driver::Fault::NotLoaded => "CUDA error: driver shutting down",
        driver::Fault::VersionMismatch => {
            "CUDA error: system has unsupported display driver / cuda driver combination"
        }
        driver::Fault::NotFound | driver::Fault::Invalid => "CUDA error: invalid device ordinal",
    };
    format!(
        "torch.AcceleratorError: {what}\nCUDA kernel errors might be asynchronously reported at some other API call, so \
         the stacktrace below might be incorrect.\nFor debugging consider passing CUDA_LAUNCH_BLOCKING=1\nCompile with \
         `TORCH_USE_CUDA_DSA` to enable device-side assertions."
    )
}
