//! Whose fault an out-of-memory end of the engine was: the text's figures of that instant, and the agent's word on who
//! is who.
//!
//! A neighbour's fault is never charged to the tile. So `OwnDemand` needs figures that leave no room for anybody else,
//! or an agent that saw the whole card; where others could have been, the answer is `Unknown`.

use std::collections::BTreeSet;

use super::view::Witness;
use super::{Evidence, Verdict};
use crate::api::quantity;
use crate::controllers::video_upscale::oom_text::{Blame, Kind, OomText, TextVerdict, blame, threshold};

/// A verdict on memory with its figures, bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MemoryVerdict {
    /// Whose fault.
    pub verdict: Verdict,
    /// Whether a report sampled after the end could not change it.
    pub decisive: bool,
    /// What the run had needed at that instant.
    pub needed: Option<u64>,
    /// What there was for it.
    pub free: Option<u64>,
    /// What others held.
    pub foreign: Option<u64>,
    /// Who they were.
    pub who: String,
}

/// Nothing asks for more than 16 TiB in earnest; a larger figure is a broken request and teaches nothing.
const MOST_NEED: u64 = 16 << 40;

/// Judges an engine that wrote `text` when it ran out of memory.
pub(super) fn judge_memory(evidence: &Evidence, text: &OomText) -> MemoryVerdict {
    let uid = &evidence.pod.uid;
    let view = evidence.after.as_ref();
    let own_pids: BTreeSet<u32> = view.map(|view| view.pids_of(uid)).unwrap_or_default();
    let witness = match (view, evidence.finished_at()) {
        (Some(view), Some(end)) => view.witness(evidence, end),
        _ => Witness::default(),
    };
    let blame = blame(text, &own_pids);
    let case = Case { evidence, text, blame, witness, own_pids_known: !own_pids.is_empty() };
    let verdict = case.verdict();
    let own = case.own();
    let needed = own.zip(text.requested).and_then(|(own, requested)| own.checked_add(requested));
    let others = case.blame.others.saturating_add(case.blame.unexplained);
    MemoryVerdict {
        verdict,
        decisive: case.blame.own_is_certain
            && matches!(
                (case.blame.verdict, verdict),
                (TextVerdict::Own, Verdict::OwnDemand) | (TextVerdict::Fragmentation, Verdict::Fragmentation)
            ),
        needed: needed.filter(|needed| *needed <= MOST_NEED),
        free: own
            .zip(text.free)
            .map(|(own, free)| own.saturating_add(free))
            .or_else(|| evidence.before.as_ref().map(|before| before.available)),
        foreign: if text.total.is_some() || view.is_some() {
            Some(others.max(case.witness.foreign))
        } else {
            evidence.before.as_ref().map(|before| before.foreign)
        },
        who: case.witness.who,
    }
}

struct Case<'a> {
    evidence: &'a Evidence,
    text: &'a OomText,
    blame: Blame,
    witness: Witness,
    own_pids_known: bool,
}

impl Case<'_> {
    /// What the failing pod held: by the message or, if that can only infer it, by the agent.
    fn own(&self) -> Option<u64> {
        if self.blame.own_is_certain { self.blame.own } else { self.blame.own.or(self.witness.own_peak) }
    }

    fn threshold(&self) -> u64 {
        let total = self.text.total.or(self.witness.capacity);
        threshold(total.or_else(|| self.evidence.before.as_ref().map(|before| before.total)).unwrap_or(0))
    }

    fn verdict(&self) -> Verdict {
        match self.blame.verdict {
            TextVerdict::Foreign => self.others(),
            TextVerdict::Fragmentation if self.others_would_have_done() => self.others(),
            TextVerdict::Fragmentation => Verdict::Fragmentation,
            // Without its own figures, the largest of the list was only taken for the failing process.
            TextVerdict::Own if self.own_is_a_guess() => Verdict::Unknown,
            // This backend says nothing of the others.
            TextVerdict::Own if self.text.kind == Kind::Async && self.witness.foreign >= self.threshold() => {
                self.by_the_agent()
            }
            TextVerdict::Own => Verdict::OwnDemand,
            TextVerdict::Unknown => self.by_the_agent(),
        }
    }

    fn own_is_a_guess(&self) -> bool {
        !self.blame.own_is_certain
            && self.text.allocated.is_none()
            && !self.own_pids_known
            && self.text.requested.zip(self.text.total).is_none_or(|(requested, total)| requested <= total)
            && !self.text.rejected
    }

    /// Whether the request would have been met with what others and nobody held, by the message's figures.
    fn others_would_have_done(&self) -> bool {
        let others = self.blame.others.saturating_add(self.blame.unexplained);
        let (Some(free), Some(requested)) = (self.text.free, self.text.requested) else { return false };
        others >= self.threshold() && free.saturating_add(others) >= requested
    }

    /// Others hold it: processes, unless a complete view shows that nobody does.
    fn others(&self) -> Verdict {
        let witness = &self.witness;
        let nobody = witness.complete && witness.foreign < self.threshold();
        if nobody && witness.leaked >= self.threshold() {
            Verdict::LeakedMemory
        } else {
            Verdict::ForeignProcess
        }
    }

    /// The text does not tell; the agent may.
    fn by_the_agent(&self) -> Verdict {
        let witness = &self.witness;
        if !witness.fresh {
            return Verdict::Unknown;
        }
        if witness.foreign >= self.threshold() {
            return if self.fits_alone() { Verdict::ForeignProcess } else { Verdict::OwnDemand };
        }
        if witness.leaked >= self.threshold() {
            return self.leak();
        }
        let before = self.evidence.before.as_ref();
        let others_before = before.is_some_and(|before| before.foreign >= self.threshold());
        if !witness.complete || others_before || self.blame.unexplained >= self.threshold() {
            return Verdict::Unknown;
        }
        self.alone()
    }

    /// Whether what the run is known to have needed fits an empty card. What is not known counts as fitting.
    fn fits_alone(&self) -> bool {
        let Some(capacity) = self.witness.capacity else { return true };
        let reached = self.own().unwrap_or(0).saturating_add(self.text.requested.unwrap_or(0));
        reached <= capacity
    }

    /// Memory without a process, which may just be what the failed engine's end has not given back yet.
    fn leak(&self) -> Verdict {
        let own = self.witness.own_peak.unwrap_or(0);
        let more_than_its_own = self.witness.leaked > own.saturating_add(self.threshold());
        let at_that_instant = self.blame.unexplained >= self.threshold();
        if more_than_its_own || at_that_instant { Verdict::LeakedMemory } else { Verdict::Unknown }
    }

    /// A complete view shows nobody else.
    fn alone(&self) -> Verdict {
        let (Some(peak), Some(capacity)) = (self.witness.own_peak, self.witness.capacity) else {
            return Verdict::Unknown;
        };
        let nearly_all = peak >= capacity.saturating_sub(capacity / 10);
        match self.text.kind {
            Kind::Disguise if nearly_all => Verdict::OwnDemand,
            Kind::Disguise => Verdict::EngineError,
            _ if peak >= capacity / 2 => Verdict::OwnDemand,
            _ => Verdict::Unknown,
        }
    }
}

impl MemoryVerdict {
    /// One line for people.
    pub(super) fn message(&self) -> String {
        let bytes = |bytes: Option<u64>| bytes.map_or_else(|| "unknown".to_owned(), quantity::display);
        let figures = format!("needed {}, there was {}", bytes(self.needed), bytes(self.free));
        let others = match (self.foreign, self.who.is_empty()) {
            (Some(foreign), false) => format!("; others held {} ({})", quantity::display(foreign), self.who),
            (Some(foreign), true) if foreign > 0 => format!("; others held {}", quantity::display(foreign)),
            _ => String::new(),
        };
        let what = match self.verdict {
            Verdict::OwnDemand => "out of GPU memory by its own demand",
            Verdict::ForeignProcess => "out of GPU memory because of other processes",
            Verdict::LeakedMemory => "out of GPU memory that no process holds",
            Verdict::Fragmentation => "out of GPU memory although enough was reserved, in pieces",
            _ => "out of GPU memory, and nobody saw whose fault it was",
        };
        format!("{what}: {figures}{others}")
    }
}
