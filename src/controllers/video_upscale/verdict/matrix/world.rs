//! An end whose fault is known, and all that a controller gets to see of it: the text, and reports as they come in.

use jiff::SignedDuration;
use proptest::test_runner::Config;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::super::tests::{OTHER, at, container, done, engine, evidence, gib, process, view};
use super::super::*;
use crate::api::quantity::{GIB, MIB};
use crate::api::report::{Attribution, Kind};
use crate::api::worker::Code;
use crate::controllers::video_upscale::oom_text::{ROUNDING, threshold};

/// Whose fault an injected end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// It would have fitted without the neighbours.
    Neighbour,
    /// It would not have fitted an empty card; nobody else is there.
    Own,
    /// The same, with neighbours on the card.
    OwnBesideOthers,
    /// It would have fitted without memory that no process holds.
    Leak,
    /// Enough was reserved and not allocated.
    Fragmentation,
    /// Killed at the host's limit.
    Host,
    /// The node went away.
    Lost,
    /// `prepare` found too little.
    Busy,
}

/// How much of the text there is, and in which words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Text {
    /// With the failing process's own figure.
    OwnFigure,
    /// The failing process among the others by its host pid.
    ListOnly,
    /// Neither.
    NoList,
    /// The beginning is cut off.
    CutBefore,
    /// The end is cut off.
    CutAfter,
    /// The driver's words, without a figure.
    Driver,
    /// As before PyTorch 2.1.
    Old,
    /// As before PyTorch 1.4.
    Oldest,
    /// As the asynchronous allocator writes it.
    Async,
    /// Nothing.
    Absent,
}

const TEXTS: [Text; 10] = [
    Text::OwnFigure,
    Text::ListOnly,
    Text::NoList,
    Text::CutBefore,
    Text::CutAfter,
    Text::Driver,
    Text::Old,
    Text::Oldest,
    Text::Async,
    Text::Absent,
];

#[derive(Clone, Copy, Debug)]
struct Neighbour {
    bytes: u64,
    /// In the message's list.
    listed: bool,
    /// Seconds after the end at which it is gone; `None`: it stays.
    gone: Option<i64>,
}

/// One end, in bytes and in seconds after it.
#[derive(Clone, Debug)]
pub struct World {
    pub fault: Fault,
    pub text: Text,
    total: u64,
    reserved: u64,
    /// Capacity as CUDA says it.
    said_total: u64,
    own: u64,
    context: u64,
    unallocated: u64,
    requested: u64,
    neighbours: Vec<Neighbour>,
    leaked: u64,
    /// When the first report after the end was sampled, and when it came in; `None`: the agent is silent.
    report: Option<(i64, i64)>,
    /// A report from before the end is there until then.
    stale: bool,
    attribution: Attribution,
    /// The agent saw the neighbours at least once.
    seen: bool,
    /// What was foreign when the card was given.
    before: u64,
}

/// Worlds in a fixed order; as many as `PROPTEST_CASES` says, and no fewer than a thousand.
pub fn worlds() -> impl Iterator<Item = World> {
    let mut random = SmallRng::seed_from_u64(8);
    (0..Config::default().cases.max(1_000)).map(move |_| World::any(&mut random))
}

impl World {
    fn any(random: &mut SmallRng) -> Self {
        let faults = [
            (Fault::Neighbour, 40),
            (Fault::Own, 15),
            (Fault::OwnBesideOthers, 10),
            (Fault::Leak, 10),
            (Fault::Fragmentation, 10),
            (Fault::Host, 5),
            (Fault::Lost, 5),
            (Fault::Busy, 5),
        ];
        let mut ticket = random.random_range(0..100);
        let fault = faults
            .into_iter()
            .find(|(_, weight)| {
                let found = ticket < *weight;
                ticket -= weight;
                found
            })
            .map_or(Fault::Own, |(fault, _)| fault);
        let text = TEXTS[random.random_range(0..TEXTS.len())];
        let total = [8, 10, 11, 12, 16, 20, 24, 32, 40, 48, 80][random.random_range(0..11)] * GIB;
        let reserved = [0, 256, 350, 600][random.random_range(0..4)] * MIB;
        let usable = total - reserved;
        let context = random.random_range(200..=800) * MIB;
        let least = context + 64 * MIB;
        let crowded = matches!(fault, Fault::Neighbour | Fault::Leak | Fault::OwnBesideOthers);
        let own = mib(random, least, usable - if crowded { GIB } else { 128 * MIB });
        let room = usable - own;
        let held = if crowded { others(random, room - 128 * MIB, threshold(total)) } else { 0 };
        let free = room - held;
        let requested = match fault {
            Fault::Neighbour | Fault::Leak => between(random, free + MIB, room),
            Fault::Own | Fault::OwnBesideOthers => between(random, room + 2 * MIB, room + usable),
            _ => between(random, free + MIB, room + GIB),
        };
        // Fragmented: 5 % of the card and the request are there, in pieces.
        let unallocated = match fault {
            Fault::Fragmentation => requested.max(total / 20) + MIB,
            _ => mib(random, 0, (own - context).min(requested.min(total / 20) - MIB)),
        };
        let fault = if unallocated > own - context { Fault::Own } else { fault };
        let (unallocated, requested) = match fault {
            Fault::Own => (unallocated.min(16 * MIB), requested.max(room + 2 * MIB)),
            _ => (unallocated, requested),
        };
        let mut neighbours = Vec::new();
        if matches!(fault, Fault::Neighbour | Fault::OwnBesideOthers) {
            let two = held >= 700 * MIB && random.random_bool(0.3);
            let first = if two { mib(random, 300 * MIB, held - 300 * MIB) } else { held };
            for bytes in [first, held - first].into_iter().filter(|bytes| *bytes > 0) {
                let gone = random.random_bool(0.6).then(|| random.random_range(0..75));
                neighbours.push(Neighbour { bytes, listed: random.random_bool(0.7), gone });
            }
        }
        let sampled = random.random_range(1..75);
        let report = random.random_bool(0.85).then(|| (sampled, random.random_range(sampled..=80)));
        // Whom no sample ever met only the figures of the message can tell of.
        let figures = matches!(text, Text::OwnFigure) || held >= threshold(total) && has_figures(text);
        Self {
            fault,
            text,
            total,
            reserved,
            said_total: if random.random_bool(0.7) { usable } else { total },
            own,
            context,
            unallocated,
            requested,
            leaked: if fault == Fault::Leak { held } else { 0 },
            report,
            stale: random.random_bool(0.7),
            attribution: [Attribution::Full, Attribution::Full, Attribution::Namespace, Attribution::None]
                [random.random_range(0..4)],
            seen: !(figures && random.random_bool(0.2)),
            before: if random.random_bool(0.3) { neighbours.iter().map(|n| n.bytes).sum() } else { 0 },
            neighbours,
        }
    }

    /// A neighbour's fault by its figures: total, own, neighbour, requested and free, GiB. The agent is silent.
    pub fn of_neighbour(text: Text, figures: [f64; 5]) -> Self {
        let [total, own, neighbour, requested, free] = figures.map(|gib| (gib * GIB as f64) as u64);
        Self {
            fault: Fault::Neighbour,
            text,
            total,
            reserved: total - own - neighbour - free,
            said_total: total,
            own,
            context: 500 * MIB,
            unallocated: 0,
            requested,
            neighbours: vec![Neighbour { bytes: neighbour, listed: false, gone: None }],
            leaked: 0,
            report: None,
            stale: false,
            attribution: Attribution::Full,
            seen: true,
            before: 0,
        }
    }

    /// Whether a sound agent saw all of it in time, and the others hold enough to be blamed.
    pub fn is_clear(&self) -> bool {
        let others: u64 = self.neighbours.iter().map(|neighbour| neighbour.bytes).sum();
        self.report.is_some_and(|(_, arrives)| arrives <= 75)
            && self.attribution == Attribution::Full
            && self.seen
            && self.text != Text::Absent
            && others >= threshold(self.total)
    }

    /// Whether the message says what the failing process itself held, and that an empty card would not have done either: its
    /// figures are rounded.
    pub fn tells_its_own(&self) -> bool {
        let missing = (self.own + self.requested).saturating_sub(self.total - self.reserved);
        self.text == Text::OwnFigure && missing > ROUNDING
    }

    /// What the engine leaves.
    pub fn words(&self) -> String {
        let others: u64 = self.neighbours.iter().map(|neighbour| neighbour.bytes).sum();
        let free = (self.total - self.reserved).saturating_sub(self.own + others + self.leaked);
        let held = self.own - self.context;
        let allocated = held - self.unallocated;
        let listed: Vec<String> = self
            .neighbours
            .iter()
            .enumerate()
            .filter(|(_, neighbour)| neighbour.listed)
            .map(|(i, neighbour)| format!("Process {} has {} memory in use. ", 900 + i, gib(neighbour.bytes)))
            .collect();
        let listed = listed.concat();
        let own = gib(self.own);
        let rest = format!(
            "Of the allocated memory {} is allocated by PyTorch, and {} is reserved by PyTorch but unallocated.",
            gib(allocated),
            gib(self.unallocated)
        );
        let head = format!(
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate {}. GPU 0 has a total capacity of {} of which {} is free. ",
            gib(self.requested),
            gib(self.said_total),
            gib(free)
        );
        let full = format!(
            "{head}{listed}Including non-PyTorch memory, this process has {own} memory in use. {rest}"
        );
        let old = |tail: String| {
            format!(
                "RuntimeError: CUDA out of memory. Tried to allocate {} (GPU 0; {} total capacity; {} already allocated; {} free; {tail})",
                gib(self.requested),
                gib(self.said_total),
                gib(allocated),
                gib(free)
            )
        };
        match self.text {
            Text::OwnFigure => full,
            Text::ListOnly => format!("{head}{listed}Process 4242 has {own} memory in use. {rest}"),
            Text::NoList => format!("{head}{rest}"),
            Text::CutBefore => full[full.len() - 150..].to_owned(),
            Text::CutAfter => full[..full.len() - 170].to_owned(),
            Text::Driver => "RuntimeError: CUDA error: out of memory".to_owned(),
            Text::Old => old(format!("{} reserved in total by PyTorch", gib(held))),
            Text::Oldest => old(format!("{} cached", gib(self.unallocated))),
            Text::Async => format!(
                "torch.OutOfMemoryError: Allocation on device 0 would exceed allowed memory. (out of memory)\nCurrently allocated     : {}\nRequested               : {}\nDevice limit            : {}\nFree (according to CUDA): {}",
                gib(held),
                gib(self.requested),
                gib(self.said_total),
                gib(free)
            ),
            Text::Absent => String::new(),
        }
    }

    fn end(&self) -> Evidence {
        let mut end = match self.fault {
            Fault::Host => engine(137, "OOMKilled", ""),
            Fault::Busy => {
                evidence(vec![container("prepare", Some(i32::from(Code::GpuBusy.exit_code())), "Error", "")])
            }
            Fault::Lost => {
                let mut end = evidence(vec![done("prepare"), container("upscale", None, "", "")]);
                end.pod.node_gone = true;
                end
            }
            _ => engine(1, "Error", &self.words()),
        };
        if let Some(before) = end.before.as_mut() {
            (before.total, before.foreign) = (self.total, self.before);
        }
        end
    }

    /// The report sampled that many seconds after the end.
    pub fn sampled(&self, after: i64) -> GpuView {
        let rows = self.neighbours.iter().enumerate().filter(|_| self.seen).map(|(i, neighbour)| {
            let gone = neighbour.gone.is_some_and(|gone| gone <= after);
            let now = if gone { 0 } else { neighbour.bytes };
            process(Kind::Pod, Some(OTHER), 900 + u32::try_from(i).unwrap(), now, neighbour.bytes)
        });
        let mut view = view(self.own, rows.collect(), self.leaked);
        view.at = at(100 + after);
        (view.gpu.tot, view.gpu.rsv) = (Some(self.total), Some(self.reserved));
        view.attribution = self.attribution;
        if self.attribution != Attribution::Full {
            view.gpu.una = None;
            view.gpu.procs = None;
        }
        view
    }

    /// Asks as the controller asks: when the end is seen, when a report comes in, when the patience is over.
    pub fn judged(&self) -> (Evidence, Decided) {
        let mut end = self.end();
        let stale = self.stale.then(|| self.sampled(-20));
        let arrives = self.report.map(|(_, arrives)| arrives.max(1));
        let mut asked = vec![1, 80];
        asked.extend(arrives);
        asked.sort_unstable();
        for second in asked {
            end.after = match self.report {
                Some((sampled, arrives)) if arrives <= second => Some(self.sampled(sampled)),
                _ => stale.clone(),
            };
            let now = at(100) + SignedDuration::from_secs(second);
            if let Judgement::Decided(decided) = judge(&end, now) {
                return (end, decided);
            }
        }
        panic!("waits for ever: {self:?}");
    }
}

fn has_figures(text: Text) -> bool {
    matches!(text, Text::ListOnly | Text::NoList | Text::Old | Text::Oldest | Text::Async)
}

/// Whole MiB, as drivers count.
fn mib(random: &mut SmallRng, from: u64, to: u64) -> u64 {
    random.random_range(from / MIB..=(to / MIB).max(from / MIB)) * MIB
}

/// Anywhere, or close to either end.
fn between(random: &mut SmallRng, from: u64, to: u64) -> u64 {
    match random.random_range(0..4) {
        0 => mib(random, from, (from + 64 * MIB).min(to)),
        1 => mib(random, from.max(to.saturating_sub(64 * MIB)), to),
        _ => mib(random, from, to),
    }
}

/// What others hold: as little as a context, around what they are blamed from, or as much as there is.
fn others(random: &mut SmallRng, room: u64, threshold: u64) -> u64 {
    let bytes = match random.random_range(0..3) {
        0 => mib(random, 300 * MIB, 1100 * MIB),
        1 => mib(random, threshold - 50 * MIB, threshold + 50 * MIB),
        _ => mib(random, 300 * MIB, room),
    };
    bytes.min(room)
}
