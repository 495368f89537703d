//! The command line: the flags that a profile may use, as argparse reads them with `allow_abbrev=False`.

use crate::engine::argparse::{Exit, Given, Kind, Opt, Program, parse};

/// A command line, as far as it changes anything here. Taken and checked but without effect are the folder and the name
/// of the model, seed, noise, colour correction, overlap, and how the model is compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The film.
    pub input: String,
    /// Folder in which the folder of pictures is made.
    pub output: String,
    /// Shorter side of the result, pixels.
    pub resolution: usize,
    /// Pictures that are worked on at once.
    pub batch: u64,
    /// Side of the coder's tiles, output pixels.
    pub encode_tile: u64,
    /// The same on the way back.
    pub decode_tile: u64,
    /// Blocks of the model that lie in host memory.
    pub swapped_blocks: u64,
}

/// Flags with a number.
const NUMBERS: [&str; 15] = [
    "--resolution",
    "--max_resolution",
    "--batch_size",
    "--seed",
    "--skip_first_frames",
    "--load_cap",
    "--chunk_overlap",
    "--prepend_frames",
    "--temporal_overlap",
    "--blocks_to_swap",
    "--vae_encode_tile_size",
    "--vae_encode_tile_overlap",
    "--vae_decode_tile_size",
    "--vae_decode_tile_overlap",
    "--compile_dynamo_cache_size_limit",
];
/// Flags without a value.
const FLAGS: [&str; 12] = [
    "--uniform_batch_size",
    "--chunked_mode",
    "--swap_io_components",
    "--vae_encode_tiled",
    "--vae_decode_tiled",
    "--compile_dit",
    "--compile_vae",
    "--compile_fullgraph",
    "--compile_dynamic",
    "--cache_dit",
    "--cache_vae",
    "--debug",
];
/// Flags with a text, and what it must be one of.
const TEXTS: [(&str, &[&str]); 10] = [
    ("--output", &[]),
    ("--output_format", &["mp4", "png"]),
    ("--model_dir", &[]),
    (
        "--dit_model",
        &[
            "seedvr2_ema_3b_fp16.safetensors",
            "seedvr2_ema_3b_fp8_e4m3fn.safetensors",
            "seedvr2_ema_7b_fp16.safetensors",
        ],
    ),
    ("--color_correction", &["lab", "wavelet", "wavelet_adaptive", "hsv", "adain", "none"]),
    ("--cuda_device", &[]),
    ("--dit_offload_device", &[]),
    ("--vae_offload_device", &[]),
    ("--tensor_offload_device", &[]),
    ("--attention_mode", &["sdpa", "flash_attn"]),
];

impl Options {
    /// Reads a command line.
    ///
    /// # Errors
    /// What the program says where it does not begin: argparse with 2, its own checks with 1. Films as results are not
    /// offered by this stand-in.
    pub fn parse(args: &[String]) -> Result<Self, Exit> {
        let given = parse(&program(), args)?;
        let text = |name: &str| given.get(name).cloned().unwrap_or_default();
        let tile = |side: &str| {
            let size = number(&given, &format!("--vae_{side}_tile_size"), 1024);
            let overlap = number(&given, &format!("--vae_{side}_tile_overlap"), 128);
            let tiled = given.contains_key(format!("--vae_{side}_tiled").as_str());
            if tiled && overlap >= size {
                return Err(refused(&format!(
                    "VAE {side} tile overlap ({overlap}) must be smaller than tile size ({size})"
                )));
            }
            Ok(size)
        };
        let swapped_blocks = number(&given, "--blocks_to_swap", 0);
        if swapped_blocks > 0 && matches!(text("--dit_offload_device").as_str(), "" | "none") {
            return Err(refused("BlockSwap enabled but dit_offload_device='none'."));
        }
        let batch = number(&given, "--batch_size", 5);
        if !super::fills_batches(batch) {
            return Err(refused(&format!("batch_size must be 4n+1 (1, 5, 9, 13...), got {batch}")));
        }
        if text("--output_format") != "png" {
            return Err(refused("this stand-in writes --output_format png only"));
        }
        Ok(Self {
            input: text("input"),
            output: text("--output"),
            resolution: usize::try_from(number(&given, "--resolution", 1080)).unwrap_or(1080),
            batch,
            encode_tile: tile("encode")?,
            decode_tile: tile("decode")?,
            swapped_blocks,
        })
    }
}

fn program() -> Program {
    let opt = |name: &'static str, kind: Kind, choices: &[&str]| Opt {
        name,
        kind,
        choices: choices.iter().map(|choice| (*choice).to_owned()).collect(),
        required: !name.starts_with('-'),
    };
    let options = std::iter::once(opt("input", Kind::Text, &[]))
        .chain(NUMBERS.iter().map(|name| opt(name, Kind::Int, &[])))
        .chain(FLAGS.iter().map(|name| opt(name, Kind::Flag, &[])))
        .chain(TEXTS.iter().map(|(name, choices)| opt(name, Kind::Text, choices)));
    Program { name: "inference_cli.py", abbreviations: false, options: options.collect() }
}

fn refused(text: &str) -> Exit {
    Exit { text: format!("❌ [ERROR] {text}\n"), code: 1 }
}

/// The reader of the command line has seen that it is one.
fn number(given: &Given, name: &str, default: u64) -> u64 {
    given.get(name).and_then(|text| text.trim().parse().ok()).unwrap_or(default)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(text: &str) -> Result<Options, Exit> {
        Options::parse(&text.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn the_profiles_command_line_is_read() {
        let read = options(
            "/scratch/p0/in.mp4 --output /scratch/p0/out --output_format png --model_dir /models --dit_model \
             seedvr2_ema_7b_fp16.safetensors --resolution 112 --uniform_batch_size --temporal_overlap 3 \
             --vae_encode_tiled --vae_decode_tiled --batch_size 21 --vae_encode_tile_size 768 --vae_decode_tile_size 512",
        )
        .unwrap();
        assert_eq!((read.input.as_str(), read.output.as_str()), ("/scratch/p0/in.mp4", "/scratch/p0/out"));
        assert_eq!((read.resolution, read.batch, read.encode_tile, read.decode_tile), (112, 21, 768, 512));
    }

    #[test]
    fn argparse_ends_with_2_and_the_programs_own_checks_with_1() {
        for (line, code) in [
            ("--output o --output_format png", 2),
            ("i --output_format bmp", 2),
            ("i --batch 5 --output_format png", 2),
            ("i --dit_model none --output_format png", 2),
            ("i --output_format png --batch_size 20", 1),
            ("i --output_format png --blocks_to_swap 16", 1),
            ("i --output_format png --vae_encode_tiled --vae_encode_tile_size 64", 1),
        ] {
            assert_eq!(options(line).unwrap_err().code, code, "{line}");
        }
    }
}
