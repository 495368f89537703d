//! Sets of segments, kept and written as ranges: `0-7,9`. A film may have 10,000 segments, and nearly always the
//! done ones are few runs.

use std::fmt;

/// Most segments that a job may have; larger numbers in a text are not believed.
pub const MAX_SEGMENTS: u32 = 10_000;

/// A set of segments as sorted, disjoint, non-touching inclusive ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Segments {
    runs: Vec<(u32, u32)>,
}

impl Segments {
    /// The set `0..count`.
    pub fn all(count: u32) -> Self {
        match count.min(MAX_SEGMENTS).checked_sub(1) {
            Some(last) => Self { runs: vec![(0, last)] },
            None => Self::default(),
        }
    }

    /// Reads `0-7,9`. Parts that are not of that form, run backwards or exceed [`MAX_SEGMENTS`] are left out: the
    /// text is our own, and a segment too few is only done again.
    pub fn parse(text: &str) -> Self {
        let mut set = Self::default();
        for part in text.split(',').filter(|part| !part.is_empty()).take(MAX_SEGMENTS as usize) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            if let (Ok(first), Ok(last)) = (first.parse::<u32>(), last.parse::<u32>())
                && first <= last
                && last < MAX_SEGMENTS
            {
                set.insert_run(first, last);
            }
        }
        set
    }

    /// Adds one segment.
    pub fn insert(&mut self, segment: u32) {
        if segment < MAX_SEGMENTS {
            self.insert_run(segment, segment);
        }
    }

    /// Whether the segment is in the set.
    pub fn contains(&self, segment: u32) -> bool {
        let after = self.runs.partition_point(|&(first, _)| first <= segment);
        after.checked_sub(1).and_then(|i| self.runs.get(i)).is_some_and(|&(_, last)| segment <= last)
    }

    /// How many segments are in the set.
    pub fn len(&self) -> u32 {
        self.runs.iter().fold(0, |sum: u32, &(first, last)| {
            sum.saturating_add(last.saturating_sub(first).saturating_add(1))
        })
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The segments in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.runs.iter().flat_map(|&(first, last)| first..=last)
    }

    fn insert_run(&mut self, first: u32, last: u32) {
        // Runs that overlap or touch the new one become one with it.
        let from = self.runs.partition_point(|&(_, end)| end.saturating_add(1) < first);
        let to = self.runs.partition_point(|&(start, _)| start <= last.saturating_add(1));
        let joined = self
            .runs
            .get(from..to)
            .unwrap_or_default()
            .iter()
            .fold((first, last), |(a, b), &(start, end)| (a.min(start), b.max(end)));
        self.runs.splice(from..to.max(from), [joined]);
    }
}

impl FromIterator<u32> for Segments {
    fn from_iter<I: IntoIterator<Item = u32>>(segments: I) -> Self {
        let mut set = Self::default();
        for segment in segments {
            set.insert(segment);
        }
        set
    }
}

impl fmt::Display for Segments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (first, last)) in self.runs.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            if first == last {
                write!(f, "{comma}{first}")?;
            } else {
                write!(f, "{comma}{first}-{last}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_that_is_not_ours_is_left_out() {
        for (text, read) in [
            ("", ""),
            ("0-7,9", "0-7,9"),
            ("9,0-7,8", "0-9"),
            ("5-3,1", "1"),
            ("x,-,1-,2", "2"),
            ("0-99999", ""),
        ] {
            assert_eq!(Segments::parse(text).to_string(), read, "{text}");
        }
    }

    #[test]
    fn all_segments_are_one_run() {
        assert_eq!(Segments::all(0), Segments::default());
        assert_eq!(Segments::all(128).to_string(), "0-127");
        assert_eq!(Segments::all(u32::MAX).len(), MAX_SEGMENTS);
    }

    proptest! {
        #[test]
        fn it_is_a_set_that_reads_back(members in proptest::collection::vec(0u32..60, 0..60)) {
            let set: Segments = members.iter().copied().collect();
            let truth: BTreeSet<u32> = members.into_iter().collect();
            prop_assert_eq!(set.iter().collect::<Vec<_>>(), truth.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(set.len() as usize, truth.len());
            prop_assert!((0..70).all(|s| set.contains(s) == truth.contains(&s)));
            prop_assert_eq!(Segments::parse(&set.to_string()), set);
        }
    }
}
