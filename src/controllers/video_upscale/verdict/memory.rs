//! Whose fault an out-of-memory end of the engine was: the text's figures of that instant, and the agent's word on who
//! is who.
//!
//! A neighbour's fault is never charged to the tile. So `OwnDemand` needs figures that no empty card could have met, or
//! an agent that saw the whole card and nobody else on it; where others could have been, the answer is `Unknown`.

use std::collections::BTreeSet;

use super::view::Witness;
use super::{Evidence, Verdict};
use crate::api::quantity::{self, MIB};
use crate::controllers::video_upscale::oom_text::{
    Blame, Kind, OomText, ROUNDING, TextVerdict, blame, threshold,
};

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
    /// What a run with these arguments has proved to need at the least.
    pub proved: Option<u64>,
}

/// Nothing asks for more than 16 TiB in earnest; a larger figure is a broken request and teaches nothing.
const MOST_NEED: u64 = 16 << 40;

/// Less than any process with a CUDA context holds.
const QUIET: u64 = 256 * MIB;

/// Most by which contexts differ. More than that beyond the failing process's allocator may be somebody else.
const CONTEXTS_DIFFER: u64 = 640 * MIB;

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
    let case = Case { evidence, text, blame, witness };
    let verdict = case.verdict();
    let own = case.own();
    let needed = own.zip(text.requested).and_then(|(own, requested)| own.checked_add(requested));
    let others = case.blame.others.saturating_add(case.blame.unexplained);
    MemoryVerdict {
        verdict,
        decisive: match verdict {
            Verdict::OwnDemand => case.exceeds_an_empty_card(),
            Verdict::Fragmentation => case.blame.own_is_certain,
            _ => false,
        },
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
        proved: case.proved(verdict),
        who: case.witness.who,
    }
}

struct Case<'a> {
    evidence: &'a Evidence,
    text: &'a OomText,
    blame: Blame,
    witness: Witness,
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

    /// What an empty card gives, by message and agent.
    fn capacity(&self) -> Option<u64> {
        let (said, seen) = (self.text.total, self.witness.capacity);
        said.zip(seen).map(|(said, seen)| said.min(seen)).or(said).or(seen)
    }

    fn verdict(&self) -> Verdict {
        match self.blame.verdict {
            TextVerdict::Fragmentation if self.others_would_have_done() => self.others(),
            TextVerdict::Fragmentation => Verdict::Fragmentation,
            _ if self.exceeds_an_empty_card() => Verdict::OwnDemand,
            TextVerdict::Foreign => self.others(),
            TextVerdict::Own | TextVerdict::Unknown => self.by_the_agent(),
        }
    }

    /// Whether no empty card could have met the request: the one proof that needs no other witness.
    fn exceeds_an_empty_card(&self) -> bool {
        let capacity = self.capacity().map(|capacity| capacity.saturating_add(ROUNDING));
        let more = self.blame.need.zip(capacity).is_some_and(|(need, capacity)| need.least > capacity);
        more || self.blame.beyond_any_card
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

    /// The text proves nothing; the agent may.
    fn by_the_agent(&self) -> Verdict {
        let witness = &self.witness;
        if !witness.fresh {
            return Verdict::Unknown;
        }
        if witness.foreign >= self.threshold() {
            return if self.fits_alone() { Verdict::ForeignProcess } else { Verdict::Unknown };
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
        let capacity = self.capacity().map(|capacity| capacity.saturating_add(ROUNDING));
        self.need_at_most().zip(capacity).is_none_or(|(most, capacity)| most <= capacity)
    }

    /// What the run needed at the most: where the message leaves its context open, the agent has seen it.
    fn need_at_most(&self) -> Option<u64> {
        let seen = self.witness.own_peak.zip(self.text.requested);
        let seen = seen.map(|(peak, requested)| peak.saturating_add(requested));
        match (self.blame.need, seen) {
            (Some(need), Some(seen)) if (need.least..=need.most).contains(&seen) => Some(seen),
            (Some(need), _) => Some(need.most),
            (None, seen) => seen,
        }
    }

    /// Memory without a process, which may just be what the failed engine's end has not given back yet.
    fn leak(&self) -> Verdict {
        let own = self.witness.own_peak.unwrap_or(0);
        let more_than_its_own = self.witness.leaked > own.saturating_add(self.threshold());
        let at_that_instant = self.blame.unexplained >= self.threshold();
        let leaked = (more_than_its_own || at_that_instant) && self.fits_alone();
        if leaked { Verdict::LeakedMemory } else { Verdict::Unknown }
    }

    /// A complete view shows nobody who holds enough to be blamed.
    fn alone(&self) -> Verdict {
        let (Some(peak), Some(capacity)) = (self.witness.own_peak, self.capacity()) else {
            return Verdict::Unknown;
        };
        let others = self.witness.foreign.saturating_add(self.witness.leaked);
        if others > QUIET || self.text_has_room_for_others() {
            return Verdict::Unknown;
        }
        if self.blame.need.is_some() {
            // Alone on the card as it seems, though by its own rounded figures an empty one would have done.
            return if self.fits_alone() { Verdict::Unknown } else { Verdict::OwnDemand };
        }
        let nearly_all = peak >= capacity.saturating_sub(capacity / 10);
        match self.text.kind {
            Kind::Disguise if nearly_all => Verdict::OwnDemand,
            Kind::Disguise => Verdict::EngineError,
            _ if peak >= capacity / 2 => Verdict::OwnDemand,
            _ => Verdict::Unknown,
        }
    }

    /// Whether the message leaves room for somebody that the agent has not seen, as one who came and went between two
    /// samples.
    fn text_has_room_for_others(&self) -> bool {
        let Some(need) = self.blame.need else { return false };
        let requested = self.text.requested.unwrap_or(0);
        let used = self.text.total.zip(self.text.free).map_or(0, |(total, free)| total.saturating_sub(free));
        let known = need.least.saturating_sub(requested);
        used.saturating_sub(known).saturating_sub(self.blame.others) > CONTEXTS_DIFFER
    }

    /// What is to be learnt. That it was more than an empty card has is known even without a figure; how much it was
    /// beside somebody else only by the message's own.
    fn proved(&self, verdict: Verdict) -> Option<u64> {
        if self.text.requested.is_some_and(|requested| requested > MOST_NEED) {
            return None;
        }
        let said = self.blame.need.map(|need| need.least);
        match verdict {
            Verdict::OwnDemand if self.text.rejected || self.text.allowed.is_some() => said,
            Verdict::OwnDemand => said.max(self.capacity().map(|capacity| capacity.saturating_add(1))),
            Verdict::ForeignProcess => said,
            _ => None,
        }
        .filter(|proved| *proved <= MOST_NEED)
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
