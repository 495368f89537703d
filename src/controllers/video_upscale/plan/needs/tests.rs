//! Whom a need binds, end by end; and what jobs over whole fleets of misjudged cards meet.

#![expect(clippy::arithmetic_side_effects, reason = "figures of tests")]

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::json;

use super::super::fixtures::{at, probed, segment};
use super::super::{Observed, Profile};
use super::*;
use crate::api::profile::UpscaleProfileStatus;
use crate::api::quantity::MIB;
use crate::controllers::profiles::taught;
use crate::controllers::video_upscale::memory::Memory;
use crate::fleet::claim::SeenBefore;

const STEP: u32 = 2;

/// A card: its UUID and model.
type Card = (&'static str, &'static str);
const A: Card = ("GPU-A", "L4");
const B: Card = ("GPU-B", "L4");
const OTHER: Card = ("GPU-O", "A10");

/// One job after another over the same profile.
struct World {
    observed: Observed,
    learned: UpscaleProfileStatus,
    /// What was told to the profile and has not come back yet is known to the job alone.
    slow_watch: bool,
    pending: UpscaleProfileStatus,
    /// Ends so far, each of an attempt of its own.
    ends: u32,
}

impl World {
    fn new() -> Self {
        let learned = UpscaleProfileStatus::default();
        Self { observed: probed(json!({})), pending: learned.clone(), learned, slow_watch: false, ends: 0 }
    }

    /// One end: a need that was seen, or with how much a run came to its end.
    fn end(&mut self, card: Card, step: u32, seen: Result<u64, u64>) {
        self.ends += 1;
        self.same_end(card, step, seen);
    }

    /// The last end, judged once more.
    fn same_end(&mut self, (gpu, model): Card, step: u32, seen: Result<u64, u64>) {
        let attempt = self.ends;
        let lessons = self.with(|draft, film, pod| {
            pod.gpu = Some(gpu.to_owned());
            pod.step = step;
            pod.attempt = attempt;
            match seen {
                Err(bytes) => observe(draft, film, pod, model, bytes),
                Ok(enough) => {
                    pod.before = Some(SeenBefore { available: enough, ..SeenBefore::default() });
                    survived(draft, film, pod, model);
                }
            }
            std::mem::take(&mut draft.lessons)
        });
        self.pending = taught(&self.pending, &lessons, at(1));
        if !self.slow_watch {
            self.learned = self.pending.clone();
        }
    }

    fn with<T>(&mut self, act: impl FnOnce(&mut Draft<'_>, &Film<'_>, &mut SeenPod) -> T) -> T {
        let Profile::Frozen { spec, .. } = self.observed.profile.clone() else { panic!("not begun") };
        let observed = self.observed.clone();
        let job = observed.job.clone().unwrap();
        let film = Film::of(&observed, &job, &spec, &self.learned).unwrap();
        let mut draft = Draft::begin(&observed, at(1));
        let mut pod = segment(&observed, 0, 0, &json!({"phase": "Failed"}));
        let out = act(&mut draft, &film, &mut pod);
        self.observed.memory = draft.memory;
        out
    }

    /// Bytes that a card needs at a step, as the job sees it.
    fn need(&mut self, (gpu, model): Card, step: u32) -> u64 {
        self.with(|draft, film, _| {
            let needs = of(film, &draft.memory, &draft.observed.identity.key.uid, None);
            needs.iter().find(|need| need.step == step).unwrap().on_card(model, gpu)
        })
    }

    fn estimate(&mut self) -> u64 {
        self.with(|_, film, _| film.estimate(STEP).unwrap())
    }

    /// The controller forgets what it had only in memory.
    fn restart(&mut self) {
        self.observed.memory = Memory::default();
        self.learned = self.pending.clone();
    }

    fn next_job(&mut self) {
        self.restart();
        self.observed.identity.key.uid.push('n');
    }

    /// Which of the three cards an end binds beyond the estimate.
    fn bound(&mut self) -> Vec<&'static str> {
        let estimate = self.estimate();
        [A, B, OTHER]
            .into_iter()
            .filter(|card| self.need(*card, STEP) > estimate)
            .map(|card| card.0)
            .collect()
    }
}

#[test]
fn one_card_binds_itself_and_a_second_end_binds_the_model() {
    for slow_watch in [false, true] {
        for (second, bound) in [(B, vec!["GPU-A", "GPU-B"]), (A, vec!["GPU-A", "GPU-B"])] {
            let mut world = World { slow_watch, ..World::new() };
            let more = world.estimate() + MIB;
            world.end(A, STEP, Err(more));
            assert_eq!(world.bound(), ["GPU-A"], "the brother is not to blame");
            world.end(second, STEP, Err(more + MIB));
            assert_eq!(world.bound(), bound);
            assert_eq!(world.need(B, STEP), more + MIB);
        }
    }
}

#[test]
fn a_need_below_the_estimate_teaches_nothing() {
    let mut world = World::new();
    let estimate = world.estimate();
    world.end(A, STEP, Err(estimate));
    world.end(A, STEP, Err(2 * MIB));
    assert_eq!((world.bound(), world.learned.learned.len()), (vec![], 0));
    assert_eq!(
        world.need(A, STEP),
        estimate,
        "a neighbour's end shows what was too little, not what is enough"
    );
}

#[test]
fn a_controller_that_begins_anew_knows_whose_the_first_end_was() {
    let mut world = World::new();
    let more = world.estimate() + MIB;
    world.end(A, STEP, Err(more));
    world.restart();
    assert_eq!(world.bound(), ["GPU-A"]);
    world.same_end(A, STEP, Err(more));
    assert_eq!(world.bound(), ["GPU-A"], "judged twice, ended once");
    assert_eq!(world.learned.learned[0].samples, 1);
    world.restart();
    world.end(B, STEP, Ok(more - MIB));
    assert_eq!(world.learned.learned[0].gpu.as_deref(), Some("GPU-A"));
    world.restart();
    world.end(B, STEP, Err(more));
    assert_eq!(world.bound(), ["GPU-A", "GPU-B"], "a second end binds the model");
    assert_eq!(world.learned.learned[0].first, None);
}

#[test]
fn other_jobs_take_it_for_the_models() {
    let mut world = World::new();
    let more = world.estimate() + MIB;
    world.end(A, STEP, Err(more));
    world.next_job();
    assert_eq!(world.bound(), ["GPU-A", "GPU-B"]);
    world.end(B, STEP, Err(more + MIB));
    assert_eq!(world.learned.learned[0].samples, 2, "a class that was known is confirmed at once");
}

#[test]
fn a_brother_that_ran_with_less_clears_the_model_for_all_jobs() {
    for survivor_first in [false, true] {
        let mut world = World::new();
        let more = world.estimate() + 2 * MIB;
        if survivor_first {
            world.end(B, STEP, Ok(more - MIB));
        }
        world.end(A, STEP, Err(more));
        if !survivor_first {
            world.end(A, STEP + 1, Ok(more - MIB));
            world.end(OTHER, STEP, Ok(more - MIB));
            world.end(B, STEP, Ok(more));
            assert_eq!(world.learned.learned[0].gpu, None, "none of these is a brother with less");
            world.end(B, STEP, Ok(more - MIB));
        }
        assert_eq!(world.learned.learned[0].gpu.as_deref(), Some("GPU-A"));
        world.next_job();
        assert_eq!(world.bound(), ["GPU-A"]);
        world.end(B, STEP, Err(more));
        assert_eq!(world.bound(), ["GPU-A", "GPU-B"], "a second card confirms it after all");
    }
}

#[test]
fn a_job_whose_step_must_not_fall_still_tries_the_largest_card() {
    let mut world = World::new();
    let more = world.estimate() + 8 * MIB;
    world.end(A, STEP, Err(more));
    world.restart();
    let most = more - MIB;
    let need =
        world.with(|draft, film, _| of(film, &draft.memory, "another job", Some(most))[0].on_card(A.1, A.0));
    assert_eq!(need, most);
}

/// A fleet of one model whose cards all have the same memory.
#[derive(Clone, Debug)]
struct Fleet {
    cards: usize,
    /// What an empty card has beyond the estimate of step 2, MiB.
    room: u64,
    /// What a run at step 2 really needs beyond the estimate, MiB: of the class, and of the first card alone.
    class: u64,
    odd: u64,
    segments: usize,
    slow_watch: bool,
}

const NAMES: [&str; 6] = ["GPU-0", "GPU-1", "GPU-2", "GPU-3", "GPU-4", "GPU-5"];

fn fleet() -> impl Strategy<Value = Fleet> {
    (2usize..=6, 1u64..200, 0u64..400, 0u64..400, 1usize..12, any::<bool>()).prop_map(
        |(cards, room, class, odd, segments, slow_watch)| Fleet {
            cards,
            room,
            class,
            odd,
            segments,
            slow_watch,
        },
    )
}

impl Fleet {
    fn truth(&self, card: usize) -> u64 {
        if card == 0 { self.class.max(self.odd) } else { self.class }
    }

    /// Segments one after the other, each on the next card that may run it at step 2. Answers the cards that ran out
    /// of memory on the way, in order; such a segment goes on at a lower step.
    fn job(&self, world: &mut World) -> Vec<usize> {
        let estimate = world.estimate();
        let mut ends = Vec::new();
        for number in 0..self.segments {
            let fits = |world: &mut World, card: usize| {
                world.need((NAMES[card], "L4"), STEP) <= estimate + self.room * MIB
            };
            let mut order = (0..self.cards).map(|offset| (number + offset) % self.cards);
            let Some(card) = order.find(|card| fits(world, *card)) else { break };
            let needs = estimate + self.truth(card) * MIB;
            let has = estimate + self.room * MIB;
            if needs > has {
                ends.push(card);
                world.end((NAMES[card], "L4"), STEP, Err(needs));
            } else {
                world.end((NAMES[card], "L4"), STEP, Ok(has));
            }
        }
        world.next_job();
        ends
    }
}

proptest! {
    #[test]
    fn a_known_class_ends_at_most_once_per_job_and_not_in_the_next(fleet in fleet()) {
        let mut world = World { slow_watch: fleet.slow_watch, ..World::new() };
        let first = fleet.job(&mut world);
        prop_assert!(first.len() <= 2, "one end makes a class known, one confirms it: {first:?}");
        let distinct: BTreeSet<_> = first.iter().collect();
        prop_assert_eq!(distinct.len(), first.len(), "never the same card again");
        let next = fleet.job(&mut world);
        prop_assert!(first.is_empty() || next.is_empty(), "{first:?}, then {next:?}");
        let class_fits = fleet.class <= fleet.room;
        if class_fits && fleet.segments >= 2 {
            let estimate = world.estimate();
            for card in NAMES.iter().take(fleet.cards).skip(1) {
                prop_assert_eq!(world.need((card, "L4"), STEP), estimate, "the brothers keep their step");
            }
        }
    }
}
