//! Whose fault an out-of-memory message says it was.
//!
//! With R requested, F free, T total, A allocated, U reserved but unallocated, P the failing process and Q the others:
//! 1. P is what the message says of itself, or the listed process that is known to be its own, or the listed one that is
//!    A + U large and up to 2 GiB more (the context), or, without A, the largest.
//! 2. U >= R, and U at least 5 % of T: fragmentation.
//! 3. Q at least 1 GiB and 5 % of T, and F + Q >= R: foreign.
//! 4. F >= R without a list, and A + U under half of T: unknown.
//! 5. Otherwise its own, unless the figures leave that much memory unexplained: then unknown.

use std::collections::BTreeSet;

use super::{Kind, OomText};
use crate::api::quantity::GIB;

/// Whose fault, by the text alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextVerdict {
    /// The failing process itself asked for too much.
    Own,
    /// Others hold what was missing.
    Foreign,
    /// Its allocator had enough, in pieces.
    Fragmentation,
    /// The text does not tell.
    Unknown,
}

/// Room for what no figure covers: contexts, the driver's own memory.
const ALLOWANCE: u64 = GIB;

/// Most that a context adds to what the allocator holds.
const CONTEXT: u64 = 2 * GIB;

/// What others must hold at least to be blamed: 1 GiB and 5 % of the card.
pub(in crate::controllers::video_upscale) fn threshold(total: u64) -> u64 {
    GIB.max(total / 20)
}

/// The message's answer with the sums behind it, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blame {
    /// Whose fault.
    pub verdict: TextVerdict,
    /// What the failing process held.
    pub own: Option<u64>,
    /// Whether `own` is the message's or the agent's word, not inferred.
    pub own_is_certain: bool,
    /// What other listed processes held; before PyTorch 2.1, what is left over.
    pub others: u64,
    /// What nobody in the message accounts for, beyond an allowance.
    pub unexplained: u64,
}

/// Reads the blame out of a message. `own_pids` are the host's ids of the failing pod's processes, as far as the agent
/// knows them.
pub fn blame(text: &OomText, own_pids: &BTreeSet<u32>) -> Blame {
    let sums = Sums::of(text, own_pids);
    Blame {
        verdict: verdict(text, &sums),
        own: sums.own,
        own_is_certain: sums.own_is_certain,
        others: sums.others,
        unexplained: sums.unexplained,
    }
}

fn verdict(text: &OomText, sums: &Sums) -> TextVerdict {
    if text.kind == Kind::Async {
        let (Some(allocated), Some(limit)) = (text.allocated, text.total) else {
            return TextVerdict::Unknown;
        };
        let mostly_own = u128::from(allocated).saturating_mul(5) >= u128::from(limit).saturating_mul(4);
        return if mostly_own && limit > 0 { TextVerdict::Own } else { TextVerdict::Unknown };
    }
    if text.rejected {
        return TextVerdict::Own;
    }
    let (Some(requested), Some(total)) = (text.requested, text.total) else {
        return TextVerdict::Unknown;
    };
    let held = text.allocated.unwrap_or(0).saturating_add(text.unallocated.unwrap_or(0));
    if text.allowed.is_some_and(|allowed| held.saturating_add(requested) > allowed) || requested > total {
        return TextVerdict::Own;
    }
    let unallocated = text.unallocated.unwrap_or(0);
    if unallocated >= requested && u128::from(unallocated).saturating_mul(20) >= u128::from(total) {
        return TextVerdict::Fragmentation;
    }
    let Some(free) = text.free else {
        return TextVerdict::Unknown;
    };
    let enough = |others: u64| others >= threshold(total) && free.saturating_add(others) >= requested;
    if enough(sums.others) {
        return TextVerdict::Foreign;
    }
    let listless = text.processes.is_empty() && text.own.is_none();
    let hardly_own = free >= requested && listless && held < total / 2;
    if hardly_own || sums.own.is_none() || enough(sums.others.saturating_add(sums.unexplained)) {
        return TextVerdict::Unknown;
    }
    TextVerdict::Own
}

struct Sums {
    own: Option<u64>,
    own_is_certain: bool,
    others: u64,
    unexplained: u64,
}

impl Sums {
    fn of(text: &OomText, own_pids: &BTreeSet<u32>) -> Self {
        let listed: u64 = sum(text.processes.iter().map(|process| process.bytes));
        let known: u64 = sum(text
            .processes
            .iter()
            .filter(|process| own_pids.contains(&process.pid))
            .map(|process| process.bytes));
        let held = text.allocated.map(|allocated| {
            text.reserved.unwrap_or_else(|| allocated.saturating_add(text.unallocated.unwrap_or(0)))
        });
        if text.own.is_some() || known > 0 {
            // What is known of the own pod may stand both in the list and in the message's own words, or be a helper.
            let own = text.own.unwrap_or(0).saturating_add(known);
            let others = listed.saturating_sub(known);
            return Self { own: Some(own), own_is_certain: true, others, ..Self::rest(text, own, others) };
        }
        if let Some(reserved) = text.reserved {
            // Before PyTorch 2.1 there is no list, and what is left over is the others'.
            let used = text.total.zip(text.free).map(|(total, free)| total.saturating_sub(free));
            let others = used.unwrap_or(0).saturating_sub(reserved).saturating_sub(ALLOWANCE);
            return Self { own: Some(reserved), own_is_certain: false, others, unexplained: 0 };
        }
        let in_list = match held {
            Some(held) => {
                let fits = |bytes: &u64| (held..=held.saturating_add(CONTEXT)).contains(bytes);
                text.processes.iter().map(|process| process.bytes).filter(fits).min()
            }
            // An agent that knows its processes, and none of them listed: the list is cut.
            None if own_pids.is_empty() => text.processes.iter().map(|process| process.bytes).max(),
            None => None,
        };
        let others = listed.saturating_sub(in_list.unwrap_or(0));
        let own = in_list.or(held);
        Self { own, own_is_certain: false, others, ..Self::rest(text, own.unwrap_or(0), others) }
    }

    /// What neither `own` nor `others` explains.
    fn rest(text: &OomText, own: u64, others: u64) -> Self {
        let used = text.total.zip(text.free).map_or(0, |(total, free)| total.saturating_sub(free));
        let unexplained = used.saturating_sub(own).saturating_sub(others).saturating_sub(ALLOWANCE);
        Self { own: None, own_is_certain: false, others, unexplained }
    }
}

fn sum(bytes: impl Iterator<Item = u64>) -> u64 {
    bytes.fold(0, u64::saturating_add)
}
