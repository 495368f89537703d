//! Refuses a profile that could not be evaluated, with a sentence that says what is wrong and where.

use std::collections::BTreeSet;

use thiserror::Error;

use super::Tile;
use super::render::{Part, Token, parts};
use crate::api::profile::{Engine, Input, Models, Step, UpscaleProfileSpec};
use crate::api::worker::SCRATCH_MOUNT;

/// What is wrong with a profile.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ProfileError {
    /// A word in braces that is no token.
    #[error(
        "{field}: {{{token}}} is no token; known are {{input}} {{output}} {{scratch}} {{models}} {{scale}} {{tile}} {{overlap}} {{frames}} {{outWidth}} {{outHeight}} {{outShort}}"
    )]
    UnknownToken {
        /// Where.
        field: String,
        /// The word.
        token: String,
    },
    /// A token that has no value in this profile.
    #[error("{field}: {token} has no value, as {why}")]
    EmptyToken {
        /// Where.
        field: String,
        /// The token, in braces.
        token: &'static str,
        /// Why it has none.
        why: &'static str,
    },
    /// A tile that cannot be read or used.
    #[error("ladder step {step}, scale {scale}: tile `{tile}` is wrong: {why}")]
    Tile {
        /// Name of the step.
        step: String,
        /// Key of the map.
        scale: String,
        /// The text.
        tile: String,
        /// What a tile must be.
        why: String,
    },
    /// An environment variable that the release sets itself, or no name at all.
    #[error("{field}: environment variable `{name}` is refused: {why}")]
    Environment {
        /// Where.
        field: &'static str,
        /// Its name.
        name: String,
        /// Why.
        why: &'static str,
    },
    /// A number out of its range.
    #[error("{field} is {value}, must be {low} to {high}")]
    Number {
        /// Where.
        field: String,
        /// What it is.
        value: i64,
        /// Least.
        low: i64,
        /// Most.
        high: i64,
    },
    /// A text that is empty, too long or of the wrong form.
    #[error("{field} is wrong: {why}")]
    Text {
        /// Where.
        field: String,
        /// What it must be.
        why: &'static str,
    },
    /// A list with too few or too many entries, or with one twice.
    #[error("{field} is wrong: {why}")]
    List {
        /// Where.
        field: String,
        /// What it must be.
        why: &'static str,
    },
    /// Steps that are no range of the ladder.
    #[error("steps {first} to {last} are no range of the ladder, which has the steps 0 to {end}")]
    Steps {
        /// First step asked for.
        first: i32,
        /// Last step asked for.
        last: i32,
        /// Last step that there is.
        end: i32,
    },
}

/// Whether the profile can be evaluated for every film; the first thing that is wrong, if not.
pub fn check(spec: &UpscaleProfileSpec) -> Result<(), ProfileError> {
    scales(spec)?;
    engine(&spec.engine)?;
    input(&spec.input)?;
    output(spec)?;
    numbers(spec)?;
    failure(spec)?;
    ladder(spec)?;
    templates(spec)?;
    super::steps_allowed(spec, Some(spec.steps.first), spec.steps.last).map(drop)
}

fn scales(spec: &UpscaleProfileSpec) -> Result<(), ProfileError> {
    let distinct: BTreeSet<_> = spec.scales.iter().collect();
    let known = spec.scales.iter().all(|scale| (2..=4).contains(scale));
    if spec.scales.is_empty() || !known || distinct.len() != spec.scales.len() {
        return Err(list("scales", "one or more of 2, 3 and 4, each once"));
    }
    Ok(())
}

fn engine(engine: &Engine) -> Result<(), ProfileError> {
    text("engine.image", &engine.image, 512)?;
    if engine.command.is_empty() || engine.command.len() > 64 || engine.args.len() > 256 {
        return Err(list("engine.command", "1-64 words, and at most 256 arguments"));
    }
    number("engine.user", engine.user, 1, 2_147_483_647)?;
    number("engine.group", engine.group, 1, 2_147_483_647)?;
    environment("engine.env", engine.env.keys())?;
    engine.models.as_ref().map_or(Ok(()), models)
}

fn models(models: &Models) -> Result<(), ProfileError> {
    if models.image.is_some() == models.claim.is_some() {
        return Err(wrong("engine.models", "exactly one of image and claim"));
    }
    let under = |folder: &str| models.path == folder || models.path.starts_with(&format!("{folder}/"));
    let clean = models.path.starts_with('/')
        && models.path.len() > 1
        && models.path.len() <= 256
        && !models.path.split('/').any(|part| part == "..");
    if !clean || [SCRATCH_MOUNT, "/tmp", "/dev", "/proc", "/sys"].into_iter().any(under) {
        return Err(wrong(
            "engine.models.path",
            "an absolute path without .., not below /scratch, /tmp, /dev, /proc, /sys",
        ));
    }
    Ok(())
}

fn input(input: &Input) -> Result<(), ProfileError> {
    number("input.pad", input.pad, 0, 64)?;
    number("input.frames.multiple", input.frames.multiple, 1, 1_000)?;
    number("input.frames.remainder", input.frames.remainder, 0, input.frames.multiple.saturating_sub(1))?;
    number("input.frames.minimum", input.frames.minimum, 1, 1_000)?;
    number("input.context.before", input.context.before, 0, 1_000)?;
    number("input.context.after", input.context.after, 0, 1_000)?;
    number("input.context.leastBefore", input.context.least_before.unwrap_or(0), 0, input.context.before)
}

fn output(spec: &UpscaleProfileSpec) -> Result<(), ProfileError> {
    let path = &spec.output.path;
    text("output.path", path, 256)?;
    if path.split('/').any(|part| part.is_empty() || part == ".." || part == ".") {
        return Err(wrong("output.path", "a relative path without empty parts, . and .."));
    }
    text("output.pixelFormat", &spec.output.pixel_format, 32)?;
    text("output.matrix", &spec.output.matrix, 32)?;
    let scale = spec.scales.iter().min().copied().unwrap_or(2);
    number("output.badBorder", spec.output.bad_border, 0, spec.input.pad.saturating_mul(scale))
}

/// Largest coefficient, bytes per pixel; no engine comes near it.
const MOST_PER_PIXEL: i32 = 1_000_000;
/// Largest fixed amount: one TiB in MiB.
const MOST_MIB: i32 = 1_048_576;

fn numbers(spec: &UpscaleProfileSpec) -> Result<(), ProfileError> {
    let host = &spec.host_memory;
    for (field, value, low, high) in [
        ("tile.multiple", spec.tile.multiple, 1, 4096),
        ("tile.halo", spec.tile.halo, 0, 1024),
        ("gpuMemory.percent", spec.gpu_memory.percent, 1, 1000),
        ("gpuMemory.plusMiB", spec.gpu_memory.plus_mib, 0, MOST_MIB),
        ("hostMemory.baseMiB", host.base_mib, 1, MOST_MIB),
        ("hostMemory.outputPixel", host.output_pixel, 0, MOST_PER_PIXEL),
        ("hostMemory.inputPixelFrame", host.input_pixel_frame, 0, MOST_PER_PIXEL),
        ("hostMemory.outputPixelFrame", host.output_pixel_frame, 0, MOST_PER_PIXEL),
        ("hostMemory.percent", host.percent, 1, 1000),
        ("scratch.inputPixelFrame", spec.scratch.input_pixel_frame, 0, MOST_PER_PIXEL),
        ("scratch.outputPixelFrame", spec.scratch.output_pixel_frame, 0, MOST_PER_PIXEL),
        ("time.startSeconds", spec.time.start_seconds, 0, 86_400),
        ("time.megapixelFrameMillis", spec.time.megapixel_frame_millis, 0, 10_000_000),
        ("time.deadlinePercent", spec.time.deadline_percent, 100, 10_000),
    ] {
        number(field, value, low, high)?;
    }
    Ok(())
}

fn failure(spec: &UpscaleProfileSpec) -> Result<(), ProfileError> {
    let failure = &spec.failure;
    for (field, patterns) in [
        ("failure.outOfMemory", &failure.out_of_memory),
        ("failure.permanent", &failure.permanent),
        ("failure.incompatible", &failure.incompatible),
    ] {
        if patterns.len() > 32 {
            return Err(list(field, "at most 32 patterns"));
        }
        for pattern in patterns {
            text(field, pattern, 200)?;
        }
    }
    for code in &failure.permanent_exit_codes {
        number("failure.permanentExitCodes", *code, 1, 255)?;
    }
    environment("failure.fragmentationEnv", failure.fragmentation_env.keys())
}

fn ladder(spec: &UpscaleProfileSpec) -> Result<(), ProfileError> {
    if spec.ladder.is_empty() || spec.ladder.len() > 16 {
        return Err(list("ladder", "1 to 16 steps"));
    }
    let mut names = BTreeSet::new();
    for step in &spec.ladder {
        text("ladder step name", &step.name, 63)?;
        if !names.insert(step.name.as_str()) {
            return Err(list(&format!("ladder step {}", step.name), "each name once"));
        }
        phases(step)?;
        tiles(spec, step)?;
    }
    let offered = |scale: &i32| {
        let key = scale.to_string();
        spec.ladder.iter().any(|step| step.tiles.as_ref().is_none_or(|tiles| tiles.contains_key(&key)))
    };
    if !spec.scales.iter().all(offered) {
        return Err(list("ladder", "at least one step for each scale offered"));
    }
    Ok(())
}

fn phases(step: &Step) -> Result<(), ProfileError> {
    if step.gpu.is_empty() || step.gpu.len() > 4 {
        return Err(list(&format!("ladder step {}, gpu", step.name), "1 to 4 phases"));
    }
    let at = |field: &str| format!("ladder step {}, {field}", step.name);
    number(&at("hostMiB"), step.host_mib, 0, MOST_MIB)?;
    for phase in &step.gpu {
        number(&at("fixedMiB"), phase.fixed_mib, 0, MOST_MIB)?;
        number(&at("tilePixel"), phase.tile_pixel, 0, MOST_PER_PIXEL)?;
        number(&at("tilePixelFrame"), phase.tile_pixel_frame, 0, MOST_PER_PIXEL)?;
        number(&at("picturePixel"), phase.picture_pixel, 0, MOST_PER_PIXEL)?;
        number(&at("picturePixelFrame"), phase.picture_pixel_frame, 0, MOST_PER_PIXEL)?;
    }
    Ok(())
}

fn tiles(spec: &UpscaleProfileSpec, step: &Step) -> Result<(), ProfileError> {
    for (scale, tile) in step.tiles.iter().flatten() {
        let refuse = |why: String| {
            Err(ProfileError::Tile { step: step.name.clone(), scale: scale.clone(), tile: tile.clone(), why })
        };
        let Some(factor) = spec.scales.iter().find(|known| known.to_string() == *scale) else {
            return refuse("its scale is not one of `scales`".to_owned());
        };
        let Some(parsed) = Tile::parse(tile) else {
            return refuse("it must be size/overlap in pixels, the overlap at most half the size".to_owned());
        };
        let side = super::unsigned(*factor).saturating_mul(u128::from(parsed.size));
        if side.checked_rem(super::unsigned(spec.tile.multiple)) != Some(0) {
            return refuse(format!("size x scale is {side}, no multiple of {}", spec.tile.multiple));
        }
    }
    Ok(())
}

fn templates(spec: &UpscaleProfileSpec) -> Result<(), ProfileError> {
    let tiled = spec.ladder.iter().all(|step| step.tiles.is_some());
    let words = |templates: &[String], field: &str, tiled: bool| {
        templates.iter().try_for_each(|template| template_ok(spec, template, field, tiled))
    };
    words(&spec.engine.command, "engine.command", tiled)?;
    words(&spec.engine.args, "engine.args", tiled)?;
    for (name, value) in &spec.engine.env {
        template_ok(spec, value, &format!("engine.env {name}"), tiled)?;
    }
    for (name, value) in &spec.failure.fragmentation_env {
        template_ok(spec, value, &format!("failure.fragmentationEnv {name}"), tiled)?;
    }
    for step in &spec.ladder {
        words(&step.args, &format!("ladder step {}, args", step.name), step.tiles.is_some())?;
    }
    Ok(())
}

fn template_ok(
    spec: &UpscaleProfileSpec,
    template: &str,
    field: &str,
    tiled: bool,
) -> Result<(), ProfileError> {
    if template.len() > 4096 || template.contains('\0') {
        return Err(wrong(field, "at most 4096 bytes, without NUL"));
    }
    let empty = |token, why| Err(ProfileError::EmptyToken { field: field.to_owned(), token, why });
    for part in parts(template) {
        match part {
            Part::Word(Err(token)) => {
                return Err(ProfileError::UnknownToken { field: field.to_owned(), token: token.to_owned() });
            }
            Part::Word(Ok(Token::Models)) if spec.engine.models.is_none() => {
                return empty("{models}", "the profile has no engine.models");
            }
            Part::Word(Ok(Token::Tile)) if !tiled => {
                return empty("{tile}", "a step without tiles takes the whole picture");
            }
            Part::Word(Ok(Token::Overlap)) if !tiled => {
                return empty("{overlap}", "a step without tiles takes the whole picture");
            }
            Part::Word(Ok(_)) | Part::Text(_) => {}
        }
    }
    Ok(())
}

fn environment<'a>(field: &'static str, names: impl Iterator<Item = &'a String>) -> Result<(), ProfileError> {
    for name in names {
        let refuse = |why| Err(ProfileError::Environment { field, name: name.clone(), why });
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let named = name.bytes().next().is_some_and(|b| !b.is_ascii_digit()) && name.bytes().all(word);
        if !named || name.len() > 128 {
            return refuse("a name is letters, digits and underscores, and begins with no digit");
        }
        if name.starts_with("NVIDIA_") || name == "CUDA_VISIBLE_DEVICES" {
            return refuse("the operator decides which GPU is visible");
        }
        if name.starts_with("LD_") {
            return refuse("the container runtime decides which libraries are loaded");
        }
    }
    Ok(())
}

fn number(
    field: &str,
    value: impl Into<i64>,
    low: impl Into<i64>,
    high: impl Into<i64>,
) -> Result<(), ProfileError> {
    let (value, low, high) = (value.into(), low.into(), high.into());
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(ProfileError::Number { field: field.to_owned(), value, low, high })
}

fn text(field: &str, value: &str, most: usize) -> Result<(), ProfileError> {
    if value.is_empty() || value.len() > most || value.chars().any(char::is_control) {
        return Err(wrong(field, "not empty, not that long, no control characters"));
    }
    Ok(())
}

fn wrong(field: &str, why: &'static str) -> ProfileError {
    ProfileError::Text { field: field.to_owned(), why }
}

fn list(field: &str, why: &'static str) -> ProfileError {
    ProfileError::List { field: field.to_owned(), why }
}

#[cfg(test)]
mod tests;
