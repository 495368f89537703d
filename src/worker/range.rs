//! The part of a film that `spec.range` asks for: which pictures it owns, and what around them is indexed so that they
//! can be cut exactly and have their context. Pure.

use serde::{Deserialize, Serialize};

use super::failure::Failure;
use super::index::count;
use super::media::is_format;
use super::plan::Span;
use super::ratio::{Ratio, seconds};
use crate::api::worker::{Code, ProbeTask};

/// How much is indexed before a range, microseconds: the context of its first segment, and the keyframes from which a
/// cut starts to decode (encoders' usual longest distance is 250 pictures, three of which fit).
const LEAD_US: i64 = 60_000_000;
/// How much is decoded before that and thrown away, microseconds: right after a seek pictures may lack what they refer
/// to.
const SETTLE_US: i64 = 30_000_000;
/// How much is indexed after a range, microseconds: the context of its last segment.
const TAIL_US: i64 = 10_000_000;
/// Containers that state the time of every packet, so that times are the same wherever reading begins.
const STATES_TIMES: [&str; 2] = ["mov", "matroska"];

/// A range as asked: pictures whose time lies in [start, start + length).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeRange {
    /// Microseconds after the film's first picture.
    pub start_us: i64,
    /// Microseconds; `None`: to the end.
    pub length_us: Option<i64>,
}

impl TimeRange {
    /// The range of a task; `None` for the whole film.
    pub fn of(task: &ProbeTask) -> Option<Self> {
        let micros = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        if task.start_us.unwrap_or(0) == 0 && task.length_us.is_none() {
            return None;
        }
        Some(Self { start_us: micros(task.start_us.unwrap_or(0)), length_us: task.length_us.map(micros) })
    }

    fn end_us(self) -> Option<i64> {
        self.length_us.map(|length| self.start_us.saturating_add(length))
    }

    /// `from 12.500000 s to 20.000000 s`, for people.
    fn described(self) -> String {
        match self.end_us() {
            Some(end) => format!("from {} s to {} s", seconds(self.start_us), seconds(end)),
            None => format!("from {} s on", seconds(self.start_us)),
        }
    }

    /// The refusal of a range in which no picture begins. `header_us`: the film's duration by its header.
    pub fn empty(self, name: &str, header_us: Option<i64>) -> Failure {
        let lasts = header_us
            .map_or_else(String::new, |micros| format!("; by its header it lasts {} s", seconds(micros)));
        Failure::stop(
            Code::InvalidSource,
            format!(
                "range: no picture of {name} has its time {}{lasts}; make a new VideoUpscale with another range",
                self.described()
            ),
        )
    }
}

/// A range of a film whose first picture is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Excerpt {
    /// What was asked.
    pub asked: TimeRange,
    /// Time of the film's first picture, ticks.
    pub first: i64,
}

/// What of a film is indexed for a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Where reading begins, seconds as ffmpeg takes them; `None`: at the beginning.
    pub seek: Option<String>,
    /// First tick that is kept.
    pub from: i64,
    /// First tick that is not kept any more; `None`: the film is read to its end.
    pub to: Option<i64>,
}

impl Excerpt {
    /// Numbers of the pictures that the range owns, among pictures at `pts`.
    pub fn owned(self, base: Ratio, pts: &[i64]) -> Span {
        let since = |time: i64| base.micros(time.saturating_sub(self.first));
        let before = |micros: i64| count(pts.partition_point(|time| since(*time) < micros));
        let start = before(self.asked.start_us);
        Span { start, end: self.asked.end_us().map_or(count(pts.len()), before).max(start) }
    }

    /// What is indexed, by the container's names as ffmpeg tells them.
    pub fn window(self, base: Ratio, format_name: &str) -> Window {
        let tick = |micros: i64| self.first.saturating_add(base.ticks_floor(micros));
        let lead = self.asked.start_us.saturating_sub(LEAD_US);
        let seek_us = lead.saturating_sub(SETTLE_US);
        let states_times = is_format(format_name, &STATES_TIMES);
        Window {
            seek: (seek_us > 0 && states_times).then(|| seconds(base.micros_floor(tick(seek_us)))),
            from: tick(lead.max(0)),
            to: self.asked.end_us().map(|end| tick(end.saturating_add(TAIL_US))),
        }
    }

    /// By how much the range ends after the film, if it does so by more than a picture's rounding. `end` is the tick at
    /// which the film's last indexed picture ends.
    pub fn beyond(self, base: Ratio, end: i64) -> Option<String> {
        let film = base.micros(end.saturating_sub(self.first));
        let beyond = self.asked.end_us()?.saturating_sub(film);
        (beyond > 1000).then(|| format!("the range ends {} s after the film", seconds(beyond)))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::arithmetic_side_effects, reason = "figures of tests")]

    use super::*;
    use proptest::prelude::*;

    const SECOND: i64 = 1_000_000;

    fn excerpt(start_us: i64, length_us: Option<i64>, first: i64) -> Excerpt {
        Excerpt { asked: TimeRange { start_us, length_us }, first }
    }

    #[test]
    fn a_range_owns_the_pictures_whose_time_is_in_it() {
        let base = "1/1000".parse().unwrap();
        let pts = [500, 540, 580, 620, 660];
        for (start, length, owned) in [
            (0, None, (0, 5)),
            (40_000, Some(80_000), (1, 3)),
            (40_001, Some(80_000), (2, 4)),
            (0, Some(40_000), (0, 1)),
            (160_000, Some(SECOND), (4, 5)),
            (161_000, None, (5, 5)),
            (41_000, Some(1000), (2, 2)),
            (i64::MAX, Some(i64::MAX), (5, 5)),
        ] {
            let span = excerpt(start, length, 500).owned(base, &pts);
            assert_eq!((span.start, span.end), owned, "{start} {length:?}");
        }
    }

    #[test]
    fn a_late_range_is_read_from_where_it_is_unless_times_depend_on_that() {
        let base = "1/90000".parse().unwrap();
        let late = excerpt(600 * SECOND, Some(5 * SECOND), 9000);
        let window = late.window(base, "mov,mp4,m4a,3gp,3g2,mj2");
        assert_eq!(window.seek.as_deref(), Some("510.100000"));
        assert_eq!((window.from, window.to), (540 * 90_000 + 9000, Some(615 * 90_000 + 9000)));
        assert_eq!(late.window(base, "mpegts"), Window { seek: None, ..window });
        let early = excerpt(10 * SECOND, None, 9000).window(base, "matroska,webm");
        assert_eq!(early, Window { seek: None, from: 9000, to: None });
    }

    #[test]
    fn a_range_that_is_too_long_is_told_of() {
        let base = "1/25".parse().unwrap();
        assert_eq!(excerpt(0, Some(2 * SECOND), 5).beyond(base, 55), None);
        let told = excerpt(SECOND, Some(2 * SECOND), 5).beyond(base, 55);
        assert_eq!(told.as_deref(), Some("the range ends 1.000000 s after the film"));
        assert_eq!(excerpt(SECOND, None, 5).beyond(base, 5), None);
    }

    proptest! {
        #[test]
        fn ranges_that_follow_each_other_own_each_picture_once(
            gaps in proptest::collection::vec(1i64..9000, 1..200), first in -90_000i64..90_000,
            border in 0i64..20 * SECOND, num in 1u32..1002, den in 24u32..90_001,
        ) {
            let base = Ratio { num, den };
            let mut pts = vec![first];
            for gap in gaps {
                pts.push(pts[pts.len() - 1] + gap);
            }
            let before = excerpt(0, Some(border), first).owned(base, &pts);
            let after = excerpt(border, None, first).owned(base, &pts);
            prop_assert_eq!((before.start, before.end, after.end), (0, after.start, count(pts.len())));
        }
    }
}
