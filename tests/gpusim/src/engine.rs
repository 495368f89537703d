//! The stand-in for FlashVSR's `infer_video.py`: its command line, frame arithmetic, tiles, memory, messages and exit
//! codes, with a bicubic filter in place of the model.
//!
//! It cannot be told to run out of memory. It asks the driver for what the published formula says, times what the
//! card truly needs, and dies as PyTorch does when the driver refuses; its frames really lie in host memory.

pub mod argparse;
pub mod demand;
pub mod film;
pub mod frames;
pub mod gpu;
pub mod options;
pub mod picture;
pub mod pictures;
pub mod tiles;
pub mod torch;

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::control::Spoil;
use demand::Load;
use film::{Encoder, FilmError, Input};
use gpu::Gpu;
use options::Options;
use picture::{Canvas, Frames};
use tiles::Rect;

/// Shortest time for which the GPU memory is held: no real run is shorter.
const SHORTEST_HOLD: Duration = Duration::from_millis(4_300);
/// Files that `--model_dir` must have.
const WEIGHT_FILES: [&str; 4] = [
    "diffusion_pytorch_model_streaming_dmd.safetensors",
    "LQ_proj_in.ckpt",
    "TCDecoder.ckpt",
    "Wan2.1_VAE.pth",
];

/// Runs the program with `args`, the program's own name left out; the exit code.
#[must_use]
pub fn main(args: &[String]) -> u8 {
    let options = match Options::parse(args, gpu::visible()) {
        Ok(options) => options,
        Err(exit) => {
            if exit.code == 0 {
                print!("{}", exit.text);
            } else {
                eprint!("{}", exit.text);
            }
            return exit.code;
        }
    };
    match run(&options) {
        Ok(()) => 0,
        Err(Death { function, error }) => {
            eprint!("{}", torch::traceback(function, &error));
            1
        }
    }
}

/// What the program dies of: the call in which, and the exception.
struct Death {
    function: &'static str,
    error: String,
}

fn dying_in<E: ToString>(function: &'static str) -> impl Fn(E) -> Death {
    move |error| Death { function, error: error.to_string() }
}

impl From<FilmError> for Death {
    fn from(error: FilmError) -> Self {
        dying_in("read_video(args.input)")(format!("RuntimeError: {error}"))
    }
}

#[expect(clippy::disallowed_methods, reason = "the program says how long it took, and no run is too short")]
fn run(options: &Options) -> Result<(), Death> {
    let began = Instant::now();
    println!("\x1b[36m[FlashVSR]\x1b[0m stand-in without a model: bicubic pictures, simulated GPU memory");
    check(options).map_err(dying_in("init_pipeline(args)"))?;
    let scale = usize::try_from(options.scale).unwrap_or(2);
    let film = film::probe(&options.input)?;
    let size = (film.width.saturating_mul(scale), film.height.saturating_mul(scale));
    let mut read = film::Reader::open(Input::Film(&options.input), size.0, size.1)?.frames(film.stated)?;
    let frames = read.len();
    println!(
        "\x1b[32m[read_video]\x1b[0m Successfully read {frames} frames using OpenCV (fps: {:.2})",
        film.rate
    );
    let Some(last) = read.last().cloned() else {
        return Err(FilmError::Unreadable(options.input.clone()).into());
    };
    read.resize(frames.max(frames::FEWEST), last);

    let mut gpu = Gpu::open(options.device).map_err(dying_in("init_pipeline(args)"))?;
    let held_since = Instant::now();
    gpu.load_weights(options).map_err(dying_in("init_pipeline(args)"))?;
    fail_as_told(gpu.spoil()).map_err(dying_in("flashvsr(pipe, frames, args)"))?;

    let (width, height) = size;
    let values = read.iter().map(|frame| frame.iter().copied().map(f32::from).collect()).collect();
    let enlarged = Frames { width, height, values };
    let mut output = upscale(options, &film, &enlarged, frames, &mut gpu)
        .map_err(dying_in("flashvsr(pipe, frames, args)"))?;
    output.values.truncate(frames::out(frames));
    let shortest_hold = gpu.paced(SHORTEST_HOLD);
    while held_since.elapsed() < shortest_hold {
        thread::sleep(shortest_hold.saturating_sub(held_since.elapsed()));
        gpu.work().map_err(dying_in("flashvsr(pipe, frames, args)"))?;
    }
    save(options, &output, film.rate, gpu.spoil())?;
    println!("\x1b[36m[Total]\x1b[0m Total elapsed time: {}", clock(began.elapsed()));
    Ok(())
}

/// What the program looks at before it reads anything.
fn check(options: &Options) -> Result<(), String> {
    let (tile, overlap) = (options.tile_size, options.tile_overlap);
    if options.tiled_dit && (tile < 1 || overlap.saturating_mul(2) > tile) {
        return Err(format!(
            "ValueError: tile_overlap ({overlap}) must not be more than half of tile_size ({tile})"
        ));
    }
    if options.tiled_dit && overlap < 1 {
        return Err("IndexError: index 0 is out of bounds for dimension 0 with size 0".to_owned());
    }
    // The stand-in needs no weights; a folder that has some must have all, as for the real program.
    let folder = Path::new(&options.model_dir);
    let present = |name: &str| folder.join(name).exists();
    match WEIGHT_FILES.iter().find(|name| !present(name)) {
        Some(missing) if WEIGHT_FILES.iter().any(|name| present(name)) => {
            let path = folder.join(missing);
            Err(format!("FileNotFoundError: [Errno 2] No such file or directory: '{}'", path.display()))
        }
        _ => Ok(()),
    }
}

/// Never ends.
#[expect(clippy::disallowed_methods, reason = "a hung engine sleeps")]
pub(crate) fn hang() -> ! {
    loop {
        thread::sleep(Duration::from_secs(3600));
    }
}

/// Dies as a program of PyTorch, or sleeps for ever, where a test has said so.
pub(crate) fn fail_as_told(spoil: Spoil) -> Result<(), String> {
    match spoil {
        Spoil::Crash => Err("RuntimeError: The size of tensor a (3) must match the size of tensor b (4) at \
                             non-singleton dimension 1"
            .to_owned()),
        Spoil::Incompatible => Err("triton.runtime.errors.OutOfResources: out of resource: shared memory, Required: \
                                    131072, Hardware limit: 101376. Reducing block sizes or `num_stages` may help."
            .to_owned()),
        Spoil::Hang => hang(),
        _ => Ok(()),
    }
}

/// The model's part: by tiles, or the frame cut to multiples of 128.
fn upscale(
    options: &Options,
    film: &film::Film,
    enlarged: &Frames,
    read: usize,
    gpu: &mut Gpu,
) -> Result<Frames, String> {
    let Frames { width, height, .. } = *enlarged;
    let whole = Rect { x: 0, y: 0, width, height };
    let scale = usize::try_from(options.scale).unwrap_or(2);
    let side = |value: i64| usize::try_from(value).unwrap_or(1);
    let (tile, overlap) = (side(options.tile_size), side(options.tile_overlap));
    let grid = if options.tiled_dit {
        tiles::grid(film.width, film.height, tile, overlap, scale)
    } else {
        vec![whole]
    };
    let load = |rect: Rect| {
        let seen = tiles::crop(rect);
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        Load { pixels: count(seen.width.saturating_mul(seen.height)), frames: count(read) }
    };
    if !options.tiled_dit {
        gpu.grow_to_peak(options, load(whole))?;
        gpu.work()?;
        return Ok(enlarged.cut(tiles::crop(whole)));
    }
    let mut canvas = Canvas::new(width, height, enlarged.values.len());
    let total = grid.len();
    for (done, rect) in (1..).zip(grid) {
        if done == 1 {
            gpu.grow_to_peak(options, load(rect))?;
        }
        gpu.work()?;
        canvas.blend(enlarged, rect, overlap.saturating_mul(scale));
        let source = |out: usize| out.checked_div(scale).unwrap_or(out);
        let (x, y) = (source(rect.x), source(rect.y));
        let corner = (x.saturating_add(source(rect.width)), y.saturating_add(source(rect.height)));
        println!(
            "\x1b[36m[FlashVSR]\x1b[0m Processed tile {done}/{total}: ({x},{y})-({},{})",
            corner.0, corner.1
        );
        bar(done, total);
    }
    eprintln!();
    Ok(canvas.finish())
}

/// One state of tqdm's bar.
fn bar(done: usize, total: usize) {
    let part = |of: usize| done.saturating_mul(of).checked_div(total).unwrap_or(0);
    let filled = "█".repeat(part(10));
    eprint!(
        "\rProcessing Tile Batches: {:3}%|{filled:<10}| {done}/{total} [00:00<00:00,  1.00s/it]",
        part(100)
    );
}

/// Writes the frames raw into the temporary folder and encodes them from there; only then is there an output.
fn save(options: &Options, output: &Frames, rate: f64, spoil: Spoil) -> Result<(), Death> {
    let function = "save_video(output, args.output, fps)";
    let path = output_path(options);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(dying_in(function))?;
    }
    if spoil == Spoil::NoOutput {
        return Ok(());
    }
    let raw = std::env::temp_dir().join(format!("tmp{}.rgb", std::process::id()));
    let black: Vec<f32> = output.values.first().map(|frame| vec![0.0; frame.len()]).unwrap_or_default();
    let written = film::write_raw(&raw, told(&output.values, &black, spoil));
    let wanted = if spoil == Spoil::WrongCodec { Encoder::Mpeg4 } else { Encoder::H264 };
    let saved = written.and_then(|()| film::encode(&raw, &path, output, rate, wanted));
    match saved {
        Ok(()) => println!(
            "\x1b[32m[save_video]\x1b[0m Successfully saved video using FFmpeg (H.264): {}",
            path.display()
        ),
        Err(error @ FilmError::Write(_)) => return Err(dying_in(function)(format!("OSError: {error}"))),
        Err(error) => {
            // As the real program: whatever encoder works, and exit 0.
            println!("\x1b[33m[save_video]\x1b[0m FFmpeg failed ({error}), falling back to OpenCV");
            film::encode(&raw, &path, output, rate, Encoder::Mpeg4).map_err(dying_in(function))?;
        }
    }
    fs::remove_file(&raw).map_err(dying_in(function))?;
    if spoil == Spoil::PartialFile {
        let file = fs::OpenOptions::new().write(true).open(&path).map_err(dying_in(function))?;
        let whole = file.metadata().map_err(dying_in(function))?.len();
        file.set_len(whole.checked_div(2).unwrap_or(0)).map_err(dying_in(function))?;
    }
    println!("Output saved to {}", path.display());
    Ok(())
}

/// The frames in order, spoilt as a test has said.
pub(crate) fn told<'a, T>(frames: &'a [T], black: &'a T, spoil: Spoil) -> impl Iterator<Item = &'a T> {
    let last = frames.len().saturating_sub(1);
    let middle = frames.len().checked_div(2).unwrap_or(0);
    let kept = if spoil == Spoil::TooFewFrames { frames.len().saturating_sub(3) } else { frames.len() };
    (0..kept).filter_map(move |at| match spoil {
        Spoil::BlackFrame if at == middle => Some(black),
        Spoil::DropFrame if at >= middle => frames.get(at.saturating_add(1).min(last)),
        Spoil::RepeatFrame if at == middle => frames.get(at.saturating_sub(1)),
        _ => frames.get(at),
    })
}

fn output_path(options: &Options) -> PathBuf {
    options.output.as_ref().map_or_else(
        || {
            let name = Path::new(&options.input).file_name().map(|name| name.to_string_lossy().into_owned());
            Path::new("/app/output").join(name.unwrap_or_default().replace(".mp4", "_out.mp4"))
        },
        PathBuf::from,
    )
}

/// `1h 2m 3s`.
fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    let part = |by: u64, of: u64| seconds.checked_div(by).and_then(|n| n.checked_rem(of)).unwrap_or(0);
    format!("{}h {}m {}s", part(3600, u64::MAX), part(60, 60), part(1, 60))
}
