//! What the worker is told of the engine: what it wants and what it writes.

use crate::api::profile::UpscaleProfileSpec;
use crate::api::worker::{EngineInput, EngineOutput};

/// What the engine wants; with the profile's least context before, if asked for.
pub fn engine_input(spec: &UpscaleProfileSpec, least_context: bool) -> EngineInput {
    let input = &spec.input;
    let before = match input.context.least_before {
        Some(least) if least_context => least.min(input.context.before),
        _ => input.context.before,
    };
    EngineInput {
        kind: input.kind,
        pad: count(input.pad),
        frames: input.frames,
        context_before: count(before),
        context_after: count(input.context.after),
    }
}

/// What the engine writes.
pub fn engine_output(spec: &UpscaleProfileSpec) -> EngineOutput {
    let output = &spec.output;
    EngineOutput {
        kind: output.kind,
        path: output.path.clone(),
        codec: output.codec,
        pixel_format: output.pixel_format.clone(),
        matrix: output.matrix.clone(),
        range: output.range,
        bad_border: count(output.bad_border),
    }
}

fn count(value: i32) -> u32 {
    u32::try_from(value).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::testdata::{flashvsr, realesrgan};

    #[test]
    fn least_context_shortens_what_is_read_before() {
        let spec = flashvsr();
        assert_eq!(
            (engine_input(&spec, false).context_before, engine_input(&spec, true).context_before),
            (24, 8)
        );
        assert_eq!(engine_input(&realesrgan(), true).context_before, 0);
        assert_eq!((engine_input(&spec, false).context_after, engine_input(&spec, false).pad), (4, 4));
    }
}
