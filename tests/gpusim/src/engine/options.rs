//! The whole flag list of the real program.

use super::argparse::{Exit, Given, Kind, Opt, Program, parse};

/// Decoder and memory plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Small decoder, frames on the GPU.
    Tiny,
    /// Small decoder, frames on the host.
    TinyLong,
    /// Full decoder.
    Full,
}

/// A command line, as far as it changes anything here. Taken and checked but without effect on picture or memory
/// are: `--color_fix`, `--sparse_ratio`, `--local_range`, `--seed`, `--attention_mode`, `--multi_gpu`,
/// `--adaptive_batch_size`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The film.
    pub input: String,
    /// Where to; none: as the real program makes it up.
    pub output: Option<String>,
    /// Folder of the weights.
    pub model_dir: String,
    /// Decoder and memory plan.
    pub mode: Mode,
    /// Times larger: 2, 3 or 4.
    pub scale: u32,
    /// The full decoder works by tiles.
    pub tiled_vae: bool,
    /// Every frame is split.
    pub tiled_dit: bool,
    /// Side of a tile, source pixels.
    pub tile_size: i64,
    /// Overlap of tiles, source pixels.
    pub tile_overlap: i64,
    /// The model leaves the GPU before decoding.
    pub unload_dit: bool,
    /// Windows of context, truncated.
    pub kv_ratio: i64,
    /// Twice the memory.
    pub fp32: bool,
    /// It was `auto` or left out, or it is this one of the visible GPUs.
    pub device: usize,
}

impl Options {
    /// Reads a command line where so many GPUs are `visible`.
    ///
    /// # Errors
    /// What argparse says where it does not run the program.
    pub fn parse(args: &[String], visible: usize) -> Result<Self, Exit> {
        let program = Program { name: "infer_video.py", abbreviations: true, options: list(visible) };
        let given = parse(&program, args)?;
        let mode = match text(&given, "--mode", "tiny") {
            "full" => Mode::Full,
            "tiny-long" => Mode::TinyLong,
            _ => Mode::Tiny,
        };
        let device = text(&given, "--device", "cuda:0").strip_prefix("cuda:").and_then(|n| n.parse().ok());
        Ok(Self {
            input: text(&given, "--input", "").to_owned(),
            output: given.get("--output").cloned(),
            model_dir: text(&given, "--model_dir", "/app/models").to_owned(),
            mode,
            scale: number(&given, "--scale", 2),
            tiled_vae: truth(&given, "--tiled_vae", true),
            tiled_dit: truth(&given, "--tiled_dit", false),
            tile_size: number(&given, "--tile_size", 256),
            tile_overlap: number(&given, "--tile_overlap", 24),
            unload_dit: truth(&given, "--unload_dit", false),
            kv_ratio: truncated(number(&given, "--kv_ratio", 3.0)),
            fp32: text(&given, "--precision", "bf16") == "fp32",
            device: device.unwrap_or(0),
        })
    }
}

fn list(visible: usize) -> Vec<Opt> {
    let owned = |choices: &[&str]| choices.iter().map(|choice| (*choice).to_owned()).collect();
    let devices =
        std::iter::once("auto".to_owned()).chain((0..visible).map(|n| format!("cuda:{n}"))).collect();
    let opt = |name, kind, choices: Vec<String>| Opt { name, kind, choices, required: name == "--input" };
    vec![
        opt("--input", Kind::Text, vec![]),
        opt("--output", Kind::Text, vec![]),
        opt("--model_dir", Kind::Text, vec![]),
        opt("--mode", Kind::Text, owned(&["tiny", "tiny-long", "full"])),
        opt("--device", Kind::Text, devices),
        opt("--scale", Kind::Int, owned(&["2", "3", "4"])),
        opt("--color_fix", Kind::Bool, vec![]),
        opt("--tiled_vae", Kind::Bool, vec![]),
        opt("--tiled_dit", Kind::Bool, vec![]),
        opt("--tile_size", Kind::Int, vec![]),
        opt("--tile_overlap", Kind::Int, vec![]),
        opt("--unload_dit", Kind::Bool, vec![]),
        opt("--sparse_ratio", Kind::Float, vec![]),
        opt("--kv_ratio", Kind::Float, vec![]),
        opt("--local_range", Kind::Int, vec![]),
        opt("--seed", Kind::Int, vec![]),
        opt("--precision", Kind::Text, owned(&["fp32", "fp16", "bf16"])),
        opt("--attention_mode", Kind::Text, owned(&["sparse_sage_attention", "block_sparse_attention"])),
        opt("--multi_gpu", Kind::Flag, vec![]),
        opt("--adaptive_batch_size", Kind::Flag, vec![]),
    ]
}

fn text<'a>(given: &'a Given, name: &str, default: &'a str) -> &'a str {
    given.get(name).map_or(default, String::as_str)
}

/// `bool(text)`.
fn truth(given: &Given, name: &str, default: bool) -> bool {
    given.get(name).map_or(default, |text| !text.is_empty())
}

/// The reader of the command line has seen that it is one.
fn number<T: std::str::FromStr>(given: &Given, name: &str, default: T) -> T {
    given.get(name).and_then(|text| text.trim().parse().ok()).unwrap_or(default)
}

#[expect(clippy::cast_possible_truncation, reason = "Python's int() truncates, and a cast saturates")]
fn truncated(number: f64) -> i64 {
    number as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(text: &str, visible: usize) -> Result<Options, Exit> {
        let args: Vec<String> = text.split(' ').map(str::to_owned).collect();
        Options::parse(&args, visible)
    }

    #[test]
    fn any_text_is_true_also_false_and_only_the_empty_one_is_not() {
        let options = options("--input a --tiled_dit False --unload_dit 0", 1).unwrap();
        assert!(options.tiled_dit && options.unload_dit && options.tiled_vae);
        let args = ["--input", "a", "--tiled_vae", ""].map(str::to_owned);
        assert!(!Options::parse(&args, 1).unwrap().tiled_vae);
    }

    #[test]
    fn a_device_that_is_not_visible_is_exit_2_and_one_left_out_is_not() {
        assert_eq!(options("--input a --device cuda:0", 0).unwrap_err().code, 2);
        assert_eq!(options("--input a", 0).unwrap().device, 0);
        assert_eq!(options("--input a --device cuda:1", 2).unwrap().device, 1);
    }

    #[test]
    fn the_context_ratio_is_truncated() {
        assert_eq!(options("--input a --kv_ratio 2.9", 1).unwrap().kv_ratio, 2);
    }
}
