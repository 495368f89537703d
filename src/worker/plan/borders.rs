//! Where segments begin and end: evenly, but at a scene cut where one is near, because one picture of context is worth
//! more there than three within a shot. Pure.

use serde::{Deserialize, Serialize};

use super::Span;
use crate::worker::index::count;

/// How far a border may move to a scene cut, percent of the even length.
const REACH_PERCENT: u64 = 15;

/// The first picture of a new scene.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SceneCut {
    /// Its number.
    pub frame: u64,
    /// How much it differs from the picture before: hundredths of the score of ffmpeg's `scdet`, 0-10,000.
    pub strength: u16,
}

/// Cuts `owned` into `pieces` spans of almost equal length; none for no pieces.
pub fn even(owned: Span, pieces: u64) -> Vec<Span> {
    let border = |number: u64| {
        let border =
            u128::from(owned.frames()).saturating_mul(number.into()).checked_div(pieces.into()).unwrap_or(0);
        owned.start.saturating_add(u64::try_from(border).unwrap_or(u64::MAX))
    };
    (0..pieces).map(|number| Span { start: border(number), end: border(number.saturating_add(1)) }).collect()
}

/// Cuts `owned` into spans of `length`, the last one shorter.
pub fn fixed(owned: Span, length: u64) -> Vec<Span> {
    let border = |number: u64| owned.start.saturating_add(length.saturating_mul(number)).min(owned.end);
    (0..owned.frames().div_ceil(length.max(1)))
        .map(|number| Span { start: border(number), end: border(number.saturating_add(1)) })
        .collect()
}

/// Moves the borders of `spans`, which are even, to scene cuts: the strongest cuts first, no border by more than
/// [`REACH_PERCENT`] of a span, no span longer than `most`.
pub fn snapped(mut spans: Vec<Span>, cuts: &[SceneCut], most: u64) -> Vec<Span> {
    let (Some(first), Some(last)) = (spans.first(), spans.last()) else { return spans };
    let frames = last.end.saturating_sub(first.start);
    let reach = frames.checked_div(count(spans.len())).unwrap_or(0).saturating_mul(REACH_PERCENT) / 100;
    let mut cuts: Vec<SceneCut> = cuts.to_vec();
    cuts.sort_by_key(|cut| (std::cmp::Reverse(cut.strength), cut.frame));
    // The border in front of a span; a border moves once, so those that did not are still where they were.
    let mut moved = vec![false; spans.len()];
    for cut in cuts {
        let behind = spans.partition_point(|span| span.start <= cut.frame);
        let mut borders =
            [behind.checked_sub(1), Some(behind)].into_iter().flatten().filter(|border| *border > 0);
        let near = |border: &usize| {
            let distance = spans.get(*border).map(|span| span.start.abs_diff(cut.frame));
            distance.is_some_and(|distance| distance <= reach) && moved.get(*border) == Some(&false)
        };
        let Some(border) = borders.find(near) else { continue };
        let (before, after) = spans.split_at_mut(border);
        let (Some(before), Some(after)) = (before.last_mut(), after.first_mut()) else { continue };
        let fits = |length: Option<u64>| length.is_some_and(|length| (1..=most).contains(&length));
        if fits(cut.frame.checked_sub(before.start)) && fits(after.end.checked_sub(cut.frame)) {
            (before.end, after.start) = (cut.frame, cut.frame);
            if let Some(moved) = moved.get_mut(border) {
                *moved = true;
            }
        }
    }
    spans
}

#[cfg(test)]
mod tests {
    #![expect(clippy::arithmetic_side_effects, reason = "figures of tests")]

    use super::*;
    use proptest::prelude::*;

    fn span(start: u64, end: u64) -> Span {
        Span { start, end }
    }

    fn cut(frame: u64, strength: u16) -> SceneCut {
        SceneCut { frame, strength }
    }

    fn borders(spans: &[Span]) -> Vec<u64> {
        spans.iter().map(|span| span.start).chain(spans.last().map(|span| span.end)).collect()
    }

    #[test]
    fn spans_are_even_or_of_one_length() {
        assert_eq!(borders(&even(span(100, 200), 3)), [100, 133, 166, 200]);
        assert_eq!(even(span(0, 9), 0), []);
        assert_eq!(borders(&fixed(span(7, 50), 20)), [7, 27, 47, 50]);
    }

    #[test]
    fn borders_go_to_the_strongest_cut_in_reach() {
        let snap = |cuts: &[SceneCut], most| borders(&snapped(even(span(0, 400), 4), cuts, most));
        assert_eq!(snap(&[], 400), [0, 100, 200, 300, 400]);
        // In reach are 15 pictures to each side.
        assert_eq!(snap(&[cut(85, 1), cut(216, 9), cut(315, 5)], 400), [0, 85, 200, 315, 400]);
        assert_eq!(snap(&[cut(101, 3), cut(90, 4), cut(112, 2)], 400), [0, 90, 200, 300, 400]);
        // Of equal ones the first; the ends of the film are no borders.
        assert_eq!(snap(&[cut(104, 3), cut(98, 3), cut(5, 9), cut(395, 9)], 400), [0, 98, 200, 300, 400]);
    }

    #[test]
    fn no_span_outgrows_the_memory() {
        let snap = |cuts: &[SceneCut], most| borders(&snapped(even(span(0, 400), 4), cuts, most));
        assert_eq!(snap(&[cut(90, 9)], 100), [0, 100, 200, 300, 400]);
        assert_eq!(snap(&[cut(90, 9)], 110), [0, 90, 200, 300, 400]);
        // The second is refused as the first has taken the room, a weaker one in reach is not.
        assert_eq!(snap(&[cut(90, 9), cut(205, 8), cut(195, 7)], 110), [0, 90, 195, 300, 400]);
    }

    proptest! {
        #[test]
        fn snapped_spans_cover_the_film_within_their_limits(
            start in 0u64..1000, frames in 1u64..5000, pieces in 1u64..60, slack in prop_oneof![0u64..50, Just(10_000)],
            cuts in proptest::collection::vec((0u64..6000, 0u16..10_001), 0..200),
        ) {
            let owned = span(start, start + frames);
            let pieces = pieces.min(frames);
            let evenly = even(owned, pieces);
            let most = frames.div_ceil(pieces) + slack;
            let cuts: Vec<SceneCut> = cuts.into_iter().map(|(frame, strength)| cut(frame, strength)).collect();
            let spans = snapped(evenly.clone(), &cuts, most);
            prop_assert_eq!(spans.len(), evenly.len());
            prop_assert_eq!((spans[0].start, spans[spans.len() - 1].end), (owned.start, owned.end));
            for pair in spans.windows(2) {
                prop_assert_eq!(pair[0].end, pair[1].start);
            }
            for (number, (span, was)) in spans.iter().zip(&evenly).enumerate() {
                prop_assert!((1..=most).contains(&span.frames()));
                let moved = span.start.abs_diff(was.start);
                prop_assert!(moved <= frames / pieces * 15 / 100);
                let at_cut = cuts.iter().any(|cut| cut.frame == span.start);
                prop_assert!(moved == 0 || (number > 0 && at_cut));
                let room = |cut: &&SceneCut| {
                    cut.frame.abs_diff(was.start) <= frames / pieces * 15 / 100
                        && number > 0
                        && cut.frame > spans[number - 1].start && cut.frame - spans[number - 1].start <= most
                        && span.end > cut.frame && span.end - cut.frame <= most
                };
                // With room for every move, a border stands at the strongest cut in its reach.
                if slack > frames {
                    let strongest = cuts.iter().filter(room).map(|cut| cut.strength).max();
                    let own = cuts.iter().filter(|cut| cut.frame == span.start).map(|cut| cut.strength).max();
                    prop_assert!(strongest.is_none() || own == strongest);
                }
            }
        }
    }
}
