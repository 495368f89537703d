//! What is read for owned pictures: context on both sides, thrown away later, and as many as the engine's rule wants.

use super::Span;
use crate::api::worker::EngineInput;
use crate::profile::frames_up;

/// A read: pictures of the film, and how often the last of them is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    /// Pictures read.
    pub span: Span,
    /// Repeats of the last one.
    pub repeat: u32,
}

impl Read {
    /// Pictures that the engine gets.
    pub fn frames(self) -> u64 {
        self.span.frames().saturating_add(self.repeat.into())
    }
}

/// A piece of a segment: one run of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// What it owns; nothing, if there are fewer pictures than pieces.
    pub owned: Span,
    /// What it reads.
    pub read: Read,
}

/// What is read to own `owned` of a film of `film` pictures: its context, cut to the film; then more before it, then
/// more after it, until the rule is obeyed. Only a film that is read whole may be too short: then its last picture is
/// repeated. `None` if the rule admits no count or `owned` is not inside the film.
pub fn read(owned: Span, film: u64, engine: &EngineInput) -> Option<Read> {
    if owned.start >= owned.end || owned.end > film {
        return None;
    }
    let start = owned.start.saturating_sub(engine.context_before.into());
    let end = owned.end.saturating_add(engine.context_after.into()).min(film);
    let wanted = frames_up(engine.frames, u32::try_from(end.checked_sub(start)?).ok()?)?;
    let missing = u64::from(wanted).checked_sub(end.checked_sub(start)?)?;
    let before = missing.min(start);
    let start = start.checked_sub(before)?;
    let missing = missing.checked_sub(before)?;
    let after = missing.min(film.checked_sub(end)?);
    let end = end.checked_add(after)?;
    let repeat = u32::try_from(missing.checked_sub(after)?).ok()?;
    Some(Read { span: Span { start, end }, repeat })
}

/// Cuts a segment into `count` pieces of almost equal length. A piece that owns nothing reads as if it owned one
/// picture, because the engine runs for it all the same. `None` as for [`read`], or for no pieces.
pub fn pieces(owned: Span, count: u32, film: u64, engine: &EngineInput) -> Option<Vec<Piece>> {
    let border = |piece: u32| {
        owned.start.checked_add(owned.frames().checked_mul(piece.into())?.checked_div(count.into())?)
    };
    (0..count)
        .map(|piece| {
            let owned = Span { start: border(piece)?, end: border(piece.checked_add(1)?)? };
            let at_least_one = Span { start: owned.start, end: owned.end.max(owned.start.checked_add(1)?) };
            Some(Piece { owned, read: read(at_least_one, film, engine)? })
        })
        .collect::<Option<Vec<_>>>()
        .filter(|pieces| !pieces.is_empty())
}

#[cfg(test)]
pub(super) mod tests {
    #![expect(clippy::arithmetic_side_effects, reason = "figures of tests")]

    use super::*;
    use crate::api::profile::{FrameRule, InputKind};
    use crate::profile::frames_ok;
    use proptest::prelude::*;

    pub(in super::super) fn flashvsr() -> EngineInput {
        EngineInput {
            kind: InputKind::Video,
            pad: 4,
            frames: FrameRule { multiple: 8, remainder: 5, minimum: 21 },
            context_before: 24,
            context_after: 4,
        }
    }

    fn span(start: u64, end: u64) -> Span {
        Span { start, end }
    }

    #[test]
    fn the_left_context_grows_first_then_the_right_then_the_last_picture_repeats() {
        let engine = flashvsr();
        for (owned, film, expected, repeat) in [
            (span(100, 173), 1000, span(76, 177), 0),
            (span(100, 174), 1000, span(69, 178), 0),
            (span(0, 16), 1000, span(0, 21), 0),
            (span(0, 18), 1000, span(0, 29), 0),
            (span(0, 60), 60, span(0, 60), 1),
            (span(0, 1), 1, span(0, 1), 20),
            (span(0, 20), 22, span(0, 22), 7),
        ] {
            let read = read(owned, film, &engine).unwrap();
            assert_eq!((read.span, read.repeat), (expected, repeat), "{owned:?} of {film}");
        }
        assert_eq!(read(span(5, 5), 10, &engine), None);
        assert_eq!(read(span(5, 11), 10, &engine), None);
    }

    #[test]
    fn a_segment_of_one_picture_runs_in_four_pieces() {
        let pieces = pieces(span(7, 8), 4, 100, &flashvsr()).unwrap();
        assert_eq!(pieces.iter().map(|piece| piece.owned.frames()).collect::<Vec<_>>(), [0, 0, 0, 1]);
        assert!(pieces.iter().all(|piece| piece.read.frames() == 21));
    }

    proptest! {
        #[test]
        fn reads_hold_what_they_are_for(
            film in 1u64..5000, start in 0u64..5000, length in 1u64..600,
            multiple in 1i32..17, remainder in 0i32..16, minimum in 1i32..40,
            context_before in 0u32..40, context_after in 0u32..12, count in 1u32..5,
        ) {
            let (start, remainder) = (start % film, remainder % multiple);
            let owned = span(start, (start + length).min(film));
            let frames = FrameRule { multiple, remainder, minimum };
            let engine = EngineInput { kind: InputKind::Video, pad: 0, frames, context_before, context_after };
            let pieces = pieces(owned, count, film, &engine).unwrap();
            let mut next = owned.start;
            for piece in pieces {
                prop_assert_eq!(piece.owned.start, next);
                next = piece.owned.end;
                let read = piece.read;
                prop_assert!(frames_ok(frames, u32::try_from(read.frames()).unwrap()));
                prop_assert!(read.span.start <= piece.owned.start.saturating_sub(context_before.into()));
                let wanted_end = (piece.owned.end + u64::from(context_after)).min(film);
                prop_assert!(read.span.end >= wanted_end && read.span.end <= film);
                prop_assert!(read.repeat == 0 || read.span == span(0, film));
            }
            prop_assert_eq!(next, owned.end);
        }
    }
}
