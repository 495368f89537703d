//! How long engine runs really take, by GPU model and step: what finished attempts measured replaces the profile's
//! first guess in later deadlines and in the cutting of later films. A hint, kept in memory only: after a restart the
//! guess holds until a few runs have ended.

use std::collections::BTreeMap;

use super::verdict::{Evidence, Stage};
use crate::profile::{Measured, Picture};

/// Runs after which a measurement is believed.
const ENOUGH: u64 = 3;
/// Runs after which older ones count half, so that a change of engine or driver shows.
const MEMORY: u64 = 64;
/// Models and steps kept per profile; beyond that all start afresh.
const MOST: usize = 256;
/// Largest rate that is believed, milliseconds per million output pixels and frame.
const MOST_MILLIS: u64 = 10_000_000;

/// One attempt whose engine came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Product name of the GPU.
    pub model: String,
    /// Ladder step.
    pub step: u32,
    /// Engine runs: the pieces of the attempt.
    pub runs: u64,
    /// All of their time, milliseconds.
    pub millis: u64,
    /// Output pixels times frames of all runs.
    pub pixel_frames: u128,
}

impl Timing {
    /// Reads the end of an attempt: how long its engine ran, and over how many frames by the word of `prepare`. `None`
    /// unless every run came to its good end and both are known.
    pub fn of(evidence: &Evidence, model: &str, step: u32, picture: &Picture) -> Option<Self> {
        let (mut runs, mut millis) = (0_u64, 0_u64);
        for run in evidence.containers.iter().filter(|container| container.stage == Stage::Engine) {
            let span = run.finished_at?.duration_since(run.started_at?);
            run.exit_code.filter(|code| *code == 0)?;
            millis = millis.saturating_add(u64::try_from(span.as_millis()).ok()?);
            runs = runs.saturating_add(1);
        }
        let figures = evidence.containers.iter().find_map(|c| c.end.as_ref()?.prepare.as_ref())?;
        let pixel_frames = picture.output_pixels().saturating_mul(u128::from(figures.frames));
        Some(Self { model: model.to_owned(), step, runs, millis, pixel_frames })
    }
}

/// Sums over runs of one model and step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Sums {
    runs: u64,
    millis: u64,
    pixel_frames: u128,
    /// Shortest run, milliseconds.
    shortest: u64,
}

/// What was measured of one profile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Paces {
    sums: BTreeMap<(String, u32), Sums>,
}

impl Paces {
    /// Takes an attempt in. One without runs or pictures says nothing.
    pub fn add(&mut self, timing: Timing) {
        let Timing { model, step, runs, millis, pixel_frames } = timing;
        let Some(one) = millis.checked_div(runs).filter(|_| pixel_frames > 0) else { return };
        if self.sums.len() >= MOST && !self.sums.contains_key(&(model.clone(), step)) {
            self.sums.clear();
        }
        let sums = self.sums.entry((model, step)).or_default();
        sums.shortest = if sums.runs == 0 { one } else { sums.shortest.min(one) };
        sums.runs = sums.runs.saturating_add(runs);
        sums.millis = sums.millis.saturating_add(millis);
        sums.pixel_frames = sums.pixel_frames.saturating_add(pixel_frames);
        if sums.runs > MEMORY {
            sums.halve();
        }
    }

    /// What is known of runs on that model at that step; a start takes `guessed_start` seconds, or the shortest run.
    pub fn of(&self, model: &str, step: u32, guessed_start: u32) -> Measured {
        let sums = self.sums.get(&(model.to_owned(), step));
        sums.map(|sums| sums.measured(guessed_start)).unwrap_or_default()
    }

    /// The slowest of what is known of runs at that step, for a film of which nobody knows yet where it will run.
    pub fn slowest(&self, step: u32, guessed_start: u32) -> Measured {
        let at_step = self.sums.iter().filter(|((_, of), _)| *of == step);
        let all = at_step.map(|(_, sums)| sums.measured(guessed_start));
        all.max_by_key(|measured| measured.megapixel_frame_millis).unwrap_or_default()
    }
}

impl Sums {
    /// Lets all runs count half. Time and pictures keep their proportion to the whole number of runs.
    fn halve(&mut self) {
        let (before, after) = (u128::from(self.runs.max(1)), u128::from(self.runs / 2));
        let share = |sum: u128| sum.saturating_mul(after).checked_div(before).unwrap_or(0);
        self.millis = u64::try_from(share(self.millis.into())).unwrap_or(u64::MAX);
        self.pixel_frames = share(self.pixel_frames);
        self.runs /= 2;
    }

    /// Start and rate. One attempt tells only their sum, so that the guessed start is believed as far as runs are
    /// longer than it; what remains is the rate.
    fn measured(&self, guessed_start: u32) -> Measured {
        if self.runs < ENOUGH {
            return Measured::default();
        }
        let start = u64::from(guessed_start).saturating_mul(1_000).min(self.shortest);
        let rest = u128::from(self.millis.saturating_sub(start.saturating_mul(self.runs)));
        let rate = rest.saturating_mul(1_000_000).checked_div(self.pixel_frames).unwrap_or(0);
        let rate = u64::try_from(rate).unwrap_or(u64::MAX).min(MOST_MILLIS);
        Measured {
            start_seconds: u32::try_from(start.div_ceil(1_000)).ok(),
            megapixel_frame_millis: u32::try_from(rate).ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timing(model: &str, runs: u64, seconds: u64) -> Timing {
        // A hundred frames of one megapixel in each run.
        let pixel_frames = u128::from(runs).saturating_mul(100_000_000);
        Timing { model: model.into(), step: 2, runs, millis: seconds.saturating_mul(1_000), pixel_frames }
    }

    fn of(paces: &Paces, model: &str) -> (Option<u32>, Option<u32>) {
        let measured = paces.of(model, 2, 60);
        (measured.start_seconds, measured.megapixel_frame_millis)
    }

    #[test]
    fn a_few_runs_replace_the_guess_for_their_model_and_step() {
        let mut paces = Paces::default();
        paces.add(timing("L4", 2, 180));
        assert_eq!(of(&paces, "L4"), (None, None), "two runs are few");
        paces.add(timing("L4", 1, 90));
        assert_eq!(of(&paces, "L4"), (Some(60), Some(300)), "90 s a run, 60 s of them the start");
        assert_eq!(of(&paces, "A10"), (None, None));
        assert_eq!(paces.of("L4", 3, 60), Measured::default());
        paces.add(timing("T4", 4, 800));
        assert_eq!(paces.slowest(2, 60).megapixel_frame_millis, Some(1_400));
        assert_eq!(paces.slowest(3, 60), Measured::default());
    }

    #[test]
    fn a_run_that_is_shorter_than_the_guessed_start_bounds_the_start() {
        let mut paces = Paces::default();
        paces.add(timing("L4", 3, 30));
        paces.add(timing("L4", 1, 20));
        assert_eq!(of(&paces, "L4"), (Some(10), Some(25)));
    }

    #[test]
    fn old_runs_fade_and_absurd_ones_do_no_harm() {
        let mut paces = Paces::default();
        for _ in 0..100 {
            paces.add(timing("L4", 1, 100));
        }
        for _ in 0..200 {
            paces.add(timing("L4", 1, 200));
        }
        let rate = of(&paces, "L4").1.unwrap();
        assert!((1_300..=1_400).contains(&rate), "{rate}");
        for (runs, millis, pixel_frames) in [(0, 5, 5), (5, 5, 0), (9, u64::MAX, 1), (9, u64::MAX, u128::MAX)]
        {
            paces.add(Timing { model: "X".into(), step: 2, runs, millis, pixel_frames });
        }
        assert!(of(&paces, "X").1.is_some_and(|rate| rate <= 10_000_000));
    }
}
