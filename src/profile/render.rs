//! Fills the tokens of an engine's command line and environment.

use std::collections::BTreeMap;

use super::{Picture, Tiling, engine_output, step_of, tile_at};
use crate::api::profile::UpscaleProfileSpec;
use crate::api::worker::{SCRATCH_MOUNT, piece_input, piece_output};

/// A token of the profile's arguments and environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Token {
    /// `{input}`: the piece's file or folder.
    Input,
    /// `{output}`: where the piece's result goes.
    Output,
    /// `{scratch}`: the scratch volume.
    Scratch,
    /// `{models}`: mount of the models.
    Models,
    /// `{scale}`
    Scale,
    /// `{tile}`: source pixels.
    Tile,
    /// `{overlap}`: source pixels.
    Overlap,
    /// `{frames}`: frames read.
    Frames,
    /// `{outWidth}`: pixels written per line.
    OutWidth,
    /// `{outHeight}`: lines written.
    OutHeight,
    /// `{outShort}`: the smaller of both.
    OutShort,
}

impl Token {
    const ALL: [(Self, &'static str); 11] = [
        (Self::Input, "input"),
        (Self::Output, "output"),
        (Self::Scratch, "scratch"),
        (Self::Models, "models"),
        (Self::Scale, "scale"),
        (Self::Tile, "tile"),
        (Self::Overlap, "overlap"),
        (Self::Frames, "frames"),
        (Self::OutWidth, "outWidth"),
        (Self::OutHeight, "outHeight"),
        (Self::OutShort, "outShort"),
    ];

    fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, name)| *name == word).map(|(token, _)| *token)
    }
}

/// A part of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    /// Text as it stands.
    Text(&'a str),
    /// A word in braces: a token, or `Err` if we do not know it.
    Word(Result<Token, &'a str>),
}

/// Splits a template. Only letters in braces are a token; other braces (JSON, for one) are text.
pub(super) fn parts(template: &str) -> impl Iterator<Item = Part<'_>> {
    let mut rest = template;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        if let Some((word, after)) = word_at(rest) {
            rest = after;
            return Some(Part::Word(Token::parse(word).ok_or(word)));
        }
        let end = rest
            .char_indices()
            .skip(1)
            .map(|(at, _)| at)
            .find(|at| rest.get(*at..).and_then(word_at).is_some())
            .unwrap_or(rest.len());
        let (text, after) = rest.split_at_checked(end)?;
        rest = after;
        Some(Part::Text(text))
    })
}

/// The word that the text begins with if it is one in braces, and what follows.
fn word_at(text: &str) -> Option<(&str, &str)> {
    let (word, after) = text.strip_prefix('{')?.split_once('}')?;
    let letters = !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphabetic());
    letters.then_some((word, after))
}

/// One engine run of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Its number, from 0.
    pub number: u32,
    /// Most frames that it reads.
    pub frames: u32,
    /// Whether the profile's environment against fragmentation is added.
    pub fragmentation_env: bool,
}

/// A command line with all tokens filled in, as the engine shall see it. Kubernetes expands `$(NAME)` in each of these
/// strings, so whoever puts them into a pod doubles every `$`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// Program and first arguments.
    pub command: Vec<String>,
    /// The engine's arguments, then the step's.
    pub args: Vec<String>,
    /// Environment.
    pub env: BTreeMap<String, String>,
}

/// Fills the profile's command line for one piece at a step. `None` if the step is not offered for the picture, or a
/// token has no value there (`check` refuses such profiles).
pub fn render(spec: &UpscaleProfileSpec, step: u32, picture: &Picture, piece: Piece) -> Option<Rendered> {
    let values = Values { spec, tiling: tile_at(spec, step, picture)?, picture, piece };
    let all = |templates: &[String]| -> Option<Vec<String>> {
        templates.iter().map(|template| values.fill(template)).collect()
    };
    let mut args = all(&spec.engine.args)?;
    args.extend(all(&step_of(spec, step)?.args)?);
    let mut env = BTreeMap::new();
    let fragmentation = piece.fragmentation_env.then_some(&spec.failure.fragmentation_env);
    for (name, template) in spec.engine.env.iter().chain(fragmentation.into_iter().flatten()) {
        env.insert(name.clone(), values.fill(template)?);
    }
    Some(Rendered { command: all(&spec.engine.command)?, args, env })
}

struct Values<'a> {
    spec: &'a UpscaleProfileSpec,
    tiling: Tiling,
    picture: &'a Picture,
    piece: Piece,
}

impl Values<'_> {
    fn fill(&self, template: &str) -> Option<String> {
        let mut filled = String::with_capacity(template.len());
        for part in parts(template) {
            match part {
                Part::Text(text) => filled.push_str(text),
                Part::Word(token) => filled.push_str(&self.value(token.ok()?)?),
            }
        }
        Some(filled)
    }

    fn value(&self, token: Token) -> Option<String> {
        let (width, height) = self.picture.output();
        let tile = match self.tiling {
            Tiling::Whole => None,
            Tiling::Tiles(tile) => Some(tile),
        };
        Some(match token {
            Token::Input => piece_input(self.spec.input.kind, self.piece.number),
            Token::Output => piece_output(&engine_output(self.spec), self.piece.number),
            Token::Scratch => SCRATCH_MOUNT.to_owned(),
            Token::Models => self.spec.engine.models.as_ref()?.path.clone(),
            Token::Scale => self.picture.scale.to_string(),
            Token::Tile => tile?.size.to_string(),
            Token::Overlap => tile?.overlap.to_string(),
            Token::Frames => self.piece.frames.to_string(),
            Token::OutWidth => width.to_string(),
            Token::OutHeight => height.to_string(),
            Token::OutShort => width.min(height).to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::profile::testdata::{flashvsr, realesrgan, seedvr2};

    const PIECE: Piece = Piece { number: 0, frames: 101, fragmentation_env: false };

    fn line(spec: &UpscaleProfileSpec, step: u32, picture: &Picture, piece: Piece) -> String {
        let rendered = render(spec, step, picture, piece).unwrap();
        [rendered.command, rendered.args].concat().join(" ")
    }

    #[test]
    fn three_engines_that_have_nothing_in_common_render() {
        let spec = flashvsr();
        assert_eq!(
            line(&spec, 4, &Picture::of(&spec, 1920, 1080, 2), PIECE),
            "python /app/FlashVSR_Ultra_Fast/infer_video.py --input /scratch/p0/in.mp4 \
             --output /scratch/p0/out/out.mp4 --model_dir /models --device cuda:0 --scale 2 --tiled_dit True \
             --tile_size 512 --tile_overlap 64 --mode tiny-long --kv_ratio 2.0"
        );
        let spec = realesrgan();
        assert_eq!(
            line(&spec, 1, &Picture::of(&spec, 640, 360, 3), Piece { number: 1, ..PIECE }),
            "/app/realesrgan-ncnn-vulkan -i /scratch/p1/in -o /scratch/p1/out -s 3 -t 200 -m /app/models \
             -n realesr-animevideov3 -g 0 -j 1:1:2"
        );
        let spec = seedvr2();
        let text = line(&spec, 1, &Picture::of(&spec, 641, 361, 2), PIECE);
        assert!(text.starts_with(
            "python /app/inference_cli.py /scratch/p0/in.mp4 --output /scratch/p0/out --output_format png"
        ));
        assert!(text.contains(" --resolution 724 "), "{text}");
        assert!(text.ends_with(" --batch_size 21 --vae_encode_tile_size 768 --vae_decode_tile_size 768"));
    }

    #[test]
    fn the_environment_against_fragmentation_comes_only_when_asked_for() {
        let spec = flashvsr();
        let picture = Picture::of(&spec, 1920, 1080, 2);
        let env =
            |fragmentation_env| render(&spec, 3, &picture, Piece { fragmentation_env, ..PIECE }).unwrap().env;
        assert_eq!(env(false).get("HOME").map(String::as_str), Some("/scratch"));
        assert_eq!(env(false).get("PYTORCH_CUDA_ALLOC_CONF"), None);
        assert_eq!(env(true)["PYTORCH_CUDA_ALLOC_CONF"], "expandable_segments:True");
    }

    #[test]
    fn braces_that_hold_no_letters_are_text() {
        let all: Vec<_> = parts(r#"{"a":{}}{scale}x{ scale }{frob}"#).collect();
        assert_eq!(
            all,
            vec![
                Part::Text(r#"{"a":{}}"#),
                Part::Word(Ok(Token::Scale)),
                Part::Text("x{ scale }"),
                Part::Word(Err("frob")),
            ]
        );
    }

    proptest! {
        #[test]
        fn splitting_loses_nothing(template in "[{}a-z é$]{0,60}") {
            let mut back = String::new();
            for part in parts(&template) {
                match part {
                    Part::Text(text) => back.push_str(text),
                    Part::Word(Err(word)) => back.push_str(&format!("{{{word}}}")),
                    Part::Word(Ok(token)) => {
                        let name = Token::ALL.iter().find(|(known, _)| *known == token).unwrap().1;
                        back.push_str(&format!("{{{name}}}"));
                    }
                }
            }
            prop_assert_eq!(back, template);
        }
    }
}
