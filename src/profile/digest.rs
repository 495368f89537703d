//! What lessons about a profile are about.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use crate::api::profile::UpscaleProfileSpec;

/// Bytes of the digest that are kept.
const KEPT: usize = 8;

/// Digest, in hexadecimal digits, of all in a profile that decides what memory a step really takes and on which GPU the
/// engine runs. What was learnt under another one is not true of this one: its step 3 may be another step.
pub fn digest(spec: &UpscaleProfileSpec) -> String {
    let UpscaleProfileSpec { engine, input, output, tile, ladder, .. } = spec;
    let about = (&engine.image, &engine.command, &engine.args, &engine.env, input, output, tile, ladder);
    // Maps are sorted and numbers finite, so this neither varies nor fails.
    let text = serde_json::to_vec(&about).unwrap_or_default();
    Sha256::digest(&text).iter().take(KEPT).fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").ok();
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::testdata::flashvsr;

    #[test]
    fn only_what_decides_memory_changes_it() {
        let (spec, before) = (flashvsr(), digest(&flashvsr()));
        assert_eq!((before.len(), digest(&spec)), (2 * KEPT, before.clone()));
        let mut same = spec.clone();
        same.steps.first = 3;
        same.failure.permanent_exit_codes.push(9);
        assert_eq!(digest(&same), before);
        let mut image = spec.clone();
        image.engine.image.push_str("-2");
        let mut ladder = spec;
        ladder.ladder.remove(0);
        assert!(digest(&image) != before && digest(&ladder) != before);
    }
}
