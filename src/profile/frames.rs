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

/// How long the segments of a plan are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lengths {
    /// Most frames that a segment reads in one piece.
    pub read: u32,
    /// Most frames that a segment owns. At an end of the film less context is read, so this does not follow from `read`.
    pub owned: u32,
}

/// Most frames that one of `pieces` equal pieces of a segment reads. `least_context`: with the profile's least context
/// before. `None` if the rule is absurd.
pub fn longest_piece(
    spec: &UpscaleProfileSpec,
    lengths: Lengths,
    pieces: u32,
    least_context: bool,
) -> Option<u32> {
    let engine = engine_input(spec, least_context);
    let owned = lengths.owned.div_ceil(pieces.max(1)).max(1);
    let read = owned.checked_add(engine.context_before)?.checked_add(engine.context_after)?;
    Some(frames_up(spec.input.frames, read)?.min(lengths.read))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::arithmetic_side_effects, reason = "figures of tests")]

    use super::*;
    use crate::api::profile::Context;
    use crate::profile::testdata::flashvsr;
    use crate::worker::plan::{SceneCut, Span, Wishes, pieces, plan};
    use crate::worker::ratio::Ratio;
    use proptest::prelude::*;

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
        let inside = Lengths { read: 101, owned: 73 };
        let longest = |lengths, pieces, least| longest_piece(&spec, lengths, pieces, least).unwrap();
        assert_eq!([1, 2, 4].map(|pieces| longest(inside, pieces, false)), [101, 69, 53]);
        assert_eq!([1, 2, 4].map(|pieces| longest(inside, pieces, true)), [85, 53, 37]);
        // A film of 100 pictures in one segment: its second half reads 24 pictures before itself.
        let whole = Lengths { read: 101, owned: 100 };
        assert_eq!([1, 2, 4].map(|pieces| longest(whole, pieces, false)), [101, 85, 53]);
        assert_eq!(longest(Lengths { read: 21, owned: 1 }, 4, true), 21);
    }

    proptest! {
        #[test]
        fn no_piece_of_any_plan_is_longer(
            film in 1u64..3000, from in 0u64..3000, length in 1u64..3000, gpus in 1u32..40, budget in 1u64..24,
            segment_frames in proptest::option::of(16u32..400),
            cuts in proptest::collection::vec((0u64..3000, 0u16..10_001), 0..40),
            multiple in 1i32..17, remainder in 0i32..16, minimum in 1i32..40,
            before in 0i32..40, least in 0i32..40, after in 0i32..12,
        ) {
            let mut spec = flashvsr();
            spec.input.frames = FrameRule { multiple, remainder: remainder % multiple, minimum };
            spec.input.context = Context { before, after, least_before: Some(least) };
            let cuts: Vec<SceneCut> =
                cuts.into_iter().map(|(frame, strength)| SceneCut { frame, strength }).collect();
            let from = from % film;
            let engine = engine_input(&spec, false);
            let wishes = Wishes {
                index: "x", film, owned: Span { start: from, end: film.min(from + length) }, cuts: &cuts,
                rate: Ratio { num: 25, den: 1 }, width: 640, height: 360, scale: 2, quality: 16, engine: &engine,
                host_memory: spec.host_memory, host_budget_bytes: budget << 30, segment_frames, gpus,
                start_seconds: 30, megapixel_frame_millis: 119,
            };
            let Ok(plan) = plan(&wishes) else { return Ok(()) };
            let lengths = Lengths { read: plan.longest_read, owned: plan.longest_owned() };
            for (least, count) in [false, true].into_iter().flat_map(|least| [1, 2, 4].map(|count| (least, count))) {
                let longest = u64::from(longest_piece(&spec, lengths, count, least).unwrap());
                let engine = engine_input(&spec, least);
                for owned in &plan.segments {
                    for piece in pieces(*owned, count, film, &engine).unwrap() {
                        prop_assert!(piece.read.frames() <= longest, "{piece:?} of {count}, {longest}");
                    }
                }
            }
        }
    }
}
