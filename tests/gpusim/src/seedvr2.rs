//! The stand-in for SeedVR2's `inference_cli.py`: its command line, names of files, phases of memory, messages and exit
//! codes, with a bicubic filter in place of the model. After numz/ComfyUI-SeedVR2_VideoUpscaler, `inference_cli.py`.
//!
//! The real program hands the work to a second process and waits for its result without an end: when that process dies,
//! of memory for one, its traceback is all that is ever heard. So does this one; the pod's deadline ends it.

mod demand;
mod options;

use std::fs;
use std::path::{Path, PathBuf};

use crate::engine::argparse::Exit;
use crate::engine::film::{self, FilmError, Input, Reader};
use crate::engine::gpu::{self, Gpu};
use crate::engine::{fail_as_told, hang, pictures, told};
use options::Options;

/// Runs the program with `args`, the program's own name left out; the exit code.
#[must_use]
pub fn main(args: &[String]) -> u8 {
    let options = match Options::parse(args) {
        Ok(options) => options,
        Err(Exit { text, code }) => {
            eprint!("{text}");
            return code;
        }
    };
    match run(&options) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("❌ [ERROR] Error during processing: {error}");
            eprintln!("Traceback (most recent call last):\n{error}");
            1
        }
    }
}

fn run(options: &Options) -> Result<(), String> {
    let said = |error: FilmError| format!("ValueError: {error}");
    let input = Path::new(&options.input);
    if !input.exists() {
        return Err(format!("FileNotFoundError: Input path not found: {}", options.input));
    }
    if gpu::visible() == 0 {
        return Err("RuntimeError: No CUDA GPUs are available".to_owned());
    }
    println!("🎬 Processing video: {}", input.file_name().unwrap_or_default().display());
    let film = film::probe(&options.input).map_err(said)?;
    let size = larger((film.width, film.height), options.resolution);
    let reader = Reader::open(Input::Film(&options.input), size.0, size.1).map_err(said)?;
    let read = reader.frames(usize::MAX).map_err(said)?;
    // The program fills a batch up to 4n + 1 pictures and cuts it back: work that is thrown away. Whoever hands it films by
    // its profile's rule never makes it do so; this one says when it is made to.
    if !u64::try_from(read.len()).is_ok_and(fills_batches) {
        return Err(format!("ValueError: {} pictures are not 4n + 1", read.len()));
    }
    let mut gpu = in_second_process(Gpu::open(0));
    in_second_process(work(options, size, &mut gpu));
    let spoil = gpu.spoil();
    let folder = folder(options, input);
    let stem = input.file_stem().unwrap_or_default().display().to_string();
    let names: Vec<String> = (0..read.len()).map(|number| format!("{stem}_{number:05}.png")).collect();
    let black = vec![0; size.0.saturating_mul(size.1).saturating_mul(3)];
    let written = fs::create_dir_all(&folder)
        .map_err(FilmError::from)
        .and_then(|()| {
            let frames = told(&read, &black, spoil).map(Vec::as_slice);
            pictures::write(&folder, &names, frames, size)
        })
        .and_then(|()| {
            let there = |name: &&String| folder.join(name).exists();
            for name in pictures::lost(&names, spoil).iter().filter(there) {
                fs::remove_file(folder.join(name))?;
            }
            pictures::spoil(&folder, &names, spoil)
        });
    written.map_err(|error| format!("OSError: {error}"))?;
    println!("📁 PNG frames saved in directory: {}", folder.display());
    Ok(())
}

/// Phases one after the other: the picture's coder, the model, the coder again.
fn work(options: &Options, size: (usize, usize), gpu: &mut Gpu) -> Result<(), String> {
    let side = |side: usize| u64::try_from(side).unwrap_or(u64::MAX);
    let pixels = side(size.0).saturating_mul(side(size.1));
    fail_as_told(gpu.spoil())?;
    gpu.reach(demand::coder(options.encode_tile))?;
    gpu.reach(demand::model(options.batch, options.swapped_blocks, pixels))?;
    gpu.reach(demand::coder(options.decode_tile))?;
    gpu.work()
}

/// What the second process does; where it dies the first one waits for ever.
fn in_second_process<T>(outcome: Result<T, String>) -> T {
    match outcome {
        Ok(value) => value,
        Err(error) => {
            eprintln!("Process Process-1:\nTraceback (most recent call last):\n{error}");
            hang()
        }
    }
}

/// Whether the model takes so many pictures as they are: 4n + 1.
fn fills_batches(pictures: u64) -> bool {
    pictures % 4 == 1
}

/// The size at which the shorter side is `resolution`, both sides even.
fn larger(size: (usize, usize), resolution: usize) -> (usize, usize) {
    let short = size.0.min(size.1).max(1);
    let side = |side: usize| {
        let exact = side.saturating_mul(resolution).checked_div(short).unwrap_or(0);
        exact.saturating_sub(exact & 1).max(2)
    };
    (side(size.0), side(size.1))
}

/// A folder named after the film, in the folder that is asked for.
fn folder(options: &Options, input: &Path) -> PathBuf {
    Path::new(&options.output).join(input.file_stem().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_one_more_than_a_multiple_of_four() {
        assert!([1, 5, 21, 45].into_iter().all(fills_batches));
        assert!(![0, 4, 6, 20].into_iter().any(fills_batches));
    }

    #[test]
    fn the_shorter_side_is_as_asked_and_both_are_even() {
        assert_eq!(larger((96, 56), 112), (192, 112));
        assert_eq!(larger((56, 96), 112), (112, 192));
        assert_eq!(larger((641, 361), 722), (1282, 722));
    }
}
