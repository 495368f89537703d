//! The frame rule: N = multiple x k + remainder, N >= minimum.

use super::engine_input;
use crate::api::profile::{FrameRule, UpscaleProfileSpec};

/// Whether an engine with that rule keeps all of `frames`.
pub fn frames_ok(rule: FrameRule, frames: u32) -> bool {
    frames_up(rule, frames) == Some(frames)
}

/// The least count that the rule admits and that is not below `frames`; `None` if the rule is absurd.
pub fn frames_up(rule: FrameRule, frames: u32) -> Option<u32> {
    let multiple = u32::try_from(rule.multiple).ok().filter(|multiple| *multiple > 0)?;
    let remainder = u32::try_from(rule.remainder).ok().filter(|remainder| *remainder < multiple)?;
    let least = frames.max(u32::try_from(rule.minimum).unwrap_or(1));
    let steps = least.saturating_sub(remainder).div_ceil(multiple);
    multiple.checked_mul(steps)?.checked_add(remainder)
}

/// Most frames that one of `pieces` equal pieces reads, for a segment inside the film that reads `longest_read` whole.
/// `least_context`: with the profile's least context before. `None` if the rule is absurd.
pub fn longest_piece(
    spec: &UpscaleProfileSpec,
    longest_read: u32,
    pieces: u32,
    least_context: bool,
) -> Option<u32> {
    let full = engine_input(spec, false).context_before;
    let engine = engine_input(spec, least_context);
    let (before, after) = (engine.context_before, engine.context_after);
    if pieces <= 1 && before == full {
        return Some(longest_read);
    }
    let owned = longest_read.saturating_sub(full).saturating_sub(after).max(1).div_ceil(pieces.max(1));
    let read = owned.checked_add(before)?.checked_add(after)?;
    Some(frames_up(spec.input.frames, read)?.min(longest_read))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::testdata::flashvsr;

    #[test]
    fn flashvsr_keeps_five_above_a_multiple_of_eight() {
        let rule = flashvsr().input.frames;
        for frames in [21, 29, 37, 101, 125, 149] {
            assert!(frames_ok(rule, frames), "{frames}");
        }
        for frames in [0, 5, 13, 22, 28, 100, 145] {
            assert!(!frames_ok(rule, frames), "{frames}");
        }
        assert_eq!(frames_up(rule, 1), Some(21));
        assert_eq!(frames_up(rule, 102), Some(109));
    }

    #[test]
    fn an_absurd_rule_admits_nothing() {
        for (multiple, remainder) in [(0, 0), (-8, 5), (8, 8), (8, -1)] {
            let rule = FrameRule { multiple, remainder, minimum: 1 };
            assert_eq!(frames_up(rule, 10), None, "{multiple} {remainder}");
        }
        assert_eq!(frames_up(FrameRule { multiple: 8, remainder: 5, minimum: 21 }, u32::MAX), None);
    }

    #[test]
    fn pieces_and_least_context_read_less() {
        let spec = flashvsr();
        assert_eq!(longest_piece(&spec, 101, 1, false), Some(101));
        assert_eq!(longest_piece(&spec, 101, 2, false), Some(69));
        assert_eq!(longest_piece(&spec, 101, 4, false), Some(53));
        assert_eq!(longest_piece(&spec, 101, 4, true), Some(37));
        assert_eq!(longest_piece(&spec, 21, 4, true), Some(21));
    }
}
