//! Whose fault an out-of-memory message says it was.
//!
//! With R requested, F free, T total, A allocated, U reserved but unallocated, P the failing process and Q the others:
//! 1. P is what the message says of itself, or the listed process that is known to be its own, or the listed one that is
//!    A + U large and up to 2 GiB more (the context), or, without A, the largest.
//! 2. U >= R, and U at least 5 % of T: fragmentation.
//! 3. Q at least 1 GiB and 5 % of T, and F + Q >= R: foreign.
//! 4. F >= R without a list, and A + U under half of T: unknown.
//! 5. Otherwise its own, unless others could hold that much, and P + R would fit an empty card: then unknown.
//!
//! That is what the text suggests. What it *proves* is [`Need`]: only a run that needs more than an empty card has is
//! to blame without another witness.

use std::collections::BTreeSet;

use super::{Kind, OomText};
use crate::api::quantity::{GIB, MIB};

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

/// Room for the failing process's context, where the text says only what its allocator holds.
const ALLOWANCE: u64 = GIB;

/// Most by which a listed process may exceed what the allocator holds and still be the failing one.
const CONTEXT: u64 = 2 * GIB;

/// Least that a CUDA context takes.
const LEAST_CONTEXT: u64 = 200 * MIB;

/// What the figures of a message may be off together: each is rounded to two decimals.
pub(in crate::controllers::video_upscale) const ROUNDING: u64 = 16 * MIB;

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
    /// What nobody in the message accounts for; where only the allocator of the failing process is known, beyond an
    /// allowance for its context.
    pub unexplained: u64,
    /// What the run needed at that instant; `None` if the message does not say what was asked for or what was held.
    pub need: Option<Need>,
    /// The request was refused because of a limit that the program set itself, or is larger than the card.
    pub beyond_any_card: bool,
}

/// What a run needed: what it held and what it asked for beside, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// At the least: its allocator and the smallest context, where it does not say more.
    pub least: u64,
    /// At the most, with the largest context.
    pub most: u64,
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
        need: need(text, &sums),
        beyond_any_card: beyond_any_card(text),
    }
}

fn need(text: &OomText, sums: &Sums) -> Option<Need> {
    let requested = text.requested?;
    let (least, most) = match (sums.own, held(text)) {
        (Some(own), _) if sums.own_is_certain => (own, own),
        (own, Some(held)) => {
            (held.saturating_add(LEAST_CONTEXT), own.unwrap_or(0).max(held.saturating_add(ALLOWANCE)))
        }
        // The largest of a list need not be the failing process.
        (_, None) => return None,
    };
    Some(Need { least: least.saturating_add(requested), most: most.saturating_add(requested) })
}

fn beyond_any_card(text: &OomText) -> bool {
    let Some(requested) = text.requested else { return text.rejected };
    let limited =
        held(text).zip(text.allowed).is_some_and(|(held, allowed)| held.saturating_add(requested) > allowed);
    text.rejected || limited || text.total.is_some_and(|total| requested > total)
}

/// What the allocator of the failing process holds.
fn held(text: &OomText) -> Option<u64> {
    let allocated = text.allocated?;
    Some(text.reserved.unwrap_or_else(|| allocated.saturating_add(text.unallocated.unwrap_or(0))))
}

fn verdict(text: &OomText, sums: &Sums) -> TextVerdict {
    if beyond_any_card(text) {
        return TextVerdict::Own;
    }
    if text.kind == Kind::Async {
        let (Some(allocated), Some(limit)) = (text.allocated, text.total) else {
            return TextVerdict::Unknown;
        };
        // This backend says nothing of the others.
        let mostly_own = u128::from(allocated).saturating_mul(5) >= u128::from(limit).saturating_mul(4);
        return if mostly_own && limit > 0 { TextVerdict::Own } else { TextVerdict::Unknown };
    }
    let (Some(requested), Some(total)) = (text.requested, text.total) else {
        return TextVerdict::Unknown;
    };
    let unallocated = text.unallocated.unwrap_or(0);
    if unallocated >= requested && u128::from(unallocated).saturating_mul(20) >= u128::from(total) {
        return TextVerdict::Fragmentation;
    }
    let Some(free) = text.free else {
        return TextVerdict::Unknown;
    };
    if sums.others >= threshold(total) && free.saturating_add(sums.others) >= requested {
        return TextVerdict::Foreign;
    }
    let listless = text.processes.is_empty() && text.own.is_none();
    let hardly_own = free >= requested && listless && held(text).unwrap_or(0) < total / 2;
    let fits_alone = need(text, sums).is_none_or(|need| need.least <= total.saturating_add(ROUNDING));
    let crowded = sums.others.saturating_add(sums.unexplained) >= threshold(total);
    if hardly_own || sums.own.is_none() || (fits_alone && crowded) {
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
        let held = held(text);
        if text.own.is_some() || known > 0 {
            // What is known of the own pod may stand both in the list and in the message's own words, or be a helper.
            let own = text.own.unwrap_or(0).saturating_add(known);
            let others = listed.saturating_sub(known);
            let unexplained = rest(text, own.saturating_add(others));
            return Self { own: Some(own), own_is_certain: true, others, unexplained };
        }
        if let Some(reserved) = text.reserved {
            // Before PyTorch 2.1 there is no list, and what is left over is the others'.
            let others = rest(text, reserved.saturating_add(ALLOWANCE));
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
        // Entries of the list have their context with them.
        let known = in_list.unwrap_or_else(|| held.unwrap_or(0).saturating_add(ALLOWANCE));
        let unexplained = rest(text, known.saturating_add(others));
        Self { own: in_list.or(held), own_is_certain: false, others, unexplained }
    }
}

/// What is used on the card beyond so many bytes.
fn rest(text: &OomText, explained: u64) -> u64 {
    let used = text.total.zip(text.free).map_or(0, |(total, free)| total.saturating_sub(free));
    used.saturating_sub(explained)
}

fn sum(bytes: impl Iterator<Item = u64>) -> u64 {
    bytes.fold(0, u64::saturating_add)
}
