//! The stand-in for `realesrgan-ncnn-vulkan`: its command line, folders, messages and exit codes, with a bicubic filter
//! in place of the model. After xinntao/Real-ESRGAN-ncnn-vulkan, `src/main.cpp`.
//!
//! Once it works on pictures it ends with 0 whatever happens: a picture that cannot be read or written is told and left
//! out; where the driver refuses memory the result is whatever its memory held, which is black.

mod getopt;

use std::fs;
use std::path::Path;

use crate::control::Spoil;
use crate::driver::{self, Device, Driver, DriverError, Run};
use crate::engine::film::{FilmError, Input, Reader};
use crate::engine::{pictures, told};
use getopt::{Options, USAGE};

/// What ends the program with an exit code of its own.
const MISTAKE: u8 = 255;
/// Bytes that the driver takes for device and model.
const FIXED: u64 = 400 << 20;
/// Bytes of a tile's output pixel.
const TILE_PIXEL: u64 = 2600;
/// Side of the tiles that the program chooses itself where there is much memory.
const LARGEST_OWN_TILE: usize = 200;
/// Source pixels that are added on each side of a tile.
const HALO: usize = 10;

/// Runs the program with `args`, the program's own name left out; the exit code.
#[must_use]
pub fn main(args: &[String]) -> u8 {
    let Some(options) = Options::parse(args) else {
        eprint!("{USAGE}");
        return MISTAKE;
    };
    match run(&options) {
        Ok(()) => 0,
        Err(said) => {
            eprintln!("{said}");
            MISTAKE
        }
    }
}

fn run(options: &Options) -> Result<(), String> {
    options.check()?;
    let (input, output) = (Path::new(&options.input), Path::new(&options.output));
    let single = "inputpath and outputpath must be either file or directory at the same time";
    if !input.is_dir() || !output.is_dir() {
        return Err(single.to_owned());
    }
    let names = pictures::names(input).map_err(|_| format!("opendir failed {}", input.display()))?;
    if !options.models.contains("models") {
        return Err("unknown model dir type".to_owned());
    }
    let invalid = || "invalid gpu device".to_owned();
    let mut gpu = Gpu::open(options.gpu).ok_or_else(invalid)?;
    eprintln!("[{} {}]  queueC=2[8]  queueG=0[16]  queueT=1[2]", options.gpu, gpu.device.model);
    die_as_told(gpu.run.spoil)?;
    let held = gpu.hold(FIXED);
    if let Some(error) = enlarge(options, &names, &mut gpu, held).err() {
        // Whatever goes wrong with pictures is told and passed over.
        eprintln!("{error}");
    }
    Ok(())
}

/// All pictures of the folder.
fn enlarge(options: &Options, names: &[String], gpu: &mut Gpu, held: bool) -> Result<(), FilmError> {
    let (input, output) = (Path::new(&options.input), Path::new(&options.output));
    let (good, bad): (Vec<&String>, Vec<&String>) =
        names.iter().partition(|name| pictures::size(&input.join(name)).is_some());
    for name in bad {
        eprintln!("decode image {} failed", input.join(name).display());
    }
    let Some(size) = good.first().and_then(|name| pictures::size(&input.join(name))) else { return Ok(()) };
    let (width, height) = (size.0.saturating_mul(options.scale), size.1.saturating_mul(options.scale));
    let read = Reader::open(Input::Pictures(input), width, height)?.frames(good.len())?;
    let wanted = if options.tile == 0 { LARGEST_OWN_TILE } else { options.tile };
    let side = |side: usize| {
        let tile = side.min(wanted).saturating_add(HALO.saturating_mul(2));
        u64::try_from(tile.saturating_mul(options.scale)).unwrap_or(u64::MAX)
    };
    let tile = side(size.0).saturating_mul(side(size.1)).saturating_mul(TILE_PIXEL);
    let held = held && gpu.hold(tile);
    let black = vec![0; width.saturating_mul(height).saturating_mul(3)];
    let written: Vec<String> =
        good.iter().map(|name| Path::new(name).with_extension("png").display().to_string()).collect();
    let spoil = gpu.run.spoil;
    let frames = told(&read, &black, if spoil == Spoil::TooFewFrames { Spoil::None } else { spoil });
    let frames = frames.map(|frame| {
        if !held {
            eprintln!("vkAllocateMemory failed -2");
        }
        eprintln!("100.00%");
        if held { frame.as_slice() } else { black.as_slice() }
    });
    pictures::write(output, &written, frames, (width, height))?;
    for name in pictures::lost(&written, spoil) {
        let path = output.join(name);
        fs::remove_file(&path)?;
        eprintln!("encode image {} failed", path.display());
    }
    pictures::spoil(output, &written, spoil)
}

/// Dies or sleeps for ever where a test has said so.
fn die_as_told(spoil: Spoil) -> Result<(), String> {
    match spoil {
        Spoil::Crash => loop {
            // The runtime catches the first one, to tell of overflown stacks.
            let own = rustix::process::getpid();
            let _the_end = rustix::process::kill_process(own, rustix::process::Signal::SEGV);
        },
        Spoil::Incompatible => Err("vkCreateDevice failed -7\ninvalid gpu device".to_owned()),
        Spoil::Hang => crate::engine::hang(),
        _ => Ok(()),
    }
}

/// The card and what this process holds of it.
struct Gpu {
    driver: Driver,
    device: Device,
    run: Run,
}

impl Gpu {
    /// The visible GPU of that number.
    fn open(number: usize) -> Option<Self> {
        let visible = driver::visible_devices().unwrap_or_default();
        let mut driver = Driver::dial(&driver::socket_path(), &visible, None).ok()?;
        let device = driver.devices().ok()?.into_iter().nth(number)?;
        let run = driver.begin(&device.uuid).ok()?;
        Some(Self { driver, device, run })
    }

    /// Takes what truly is needed on this card; whether there was so much.
    fn hold(&mut self, bytes: u64) -> bool {
        let bytes = bytes.saturating_mul(self.run.need_percent.into()).checked_div(100).unwrap_or(0);
        match self.driver.alloc(&self.device.uuid, bytes) {
            Ok(()) => true,
            Err(DriverError::OutOfMemory(_) | DriverError::Fault(_) | DriverError::Gone(_)) => false,
        }
    }
}
