//! The memory of one card: who holds how much, what is leaked, what is still coming back. Pure; `now` is in
//! milliseconds since the daemon began.

use std::collections::BTreeMap;

use crate::control::Holder;
use crate::driver::Memory;

/// One connection of one process: a forked child that goes on with its parent's connection is a holder of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    /// Number of the connection.
    pub session: u64,
    /// Process id in the daemon's namespace.
    pub pid: u32,
}

/// What an owner holds, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Now.
    pub bytes: u64,
    /// At most so far.
    pub peak: u64,
}

/// Memory of an ended process that comes back evenly.
#[derive(Clone, Copy, Debug)]
struct Lingering {
    bytes: u64,
    from: u64,
    millis: u64,
}

impl Lingering {
    fn left(&self, now: u64) -> u64 {
        let gone = now.saturating_sub(self.from);
        let left = u128::from(self.bytes)
            .saturating_mul(u128::from(self.millis.saturating_sub(gone)))
            .checked_div(u128::from(self.millis))
            .unwrap_or(0);
        u64::try_from(left).unwrap_or(self.bytes)
    }
}

/// A card's memory.
#[derive(Debug, Default)]
pub struct Book {
    total: u64,
    reserved: u64,
    held: BTreeMap<Owner, Held>,
    lingering: Vec<Lingering>,
    leaked: u64,
    /// Memory of processes that end from now on stays.
    pub leak_on_exit: bool,
    /// Memory of processes that end from now on takes so many milliseconds to come back.
    pub slow_release: u64,
}

impl Book {
    /// An empty card.
    #[must_use]
    pub fn new(total: u64, reserved: u64) -> Self {
        Self { total, reserved, ..Self::default() }
    }

    /// Bytes that no process holds and that are nevertheless not free.
    #[must_use]
    pub fn unowned(&self, now: u64) -> u64 {
        self.lingering.iter().fold(self.leaked, |sum, lingering| sum.saturating_add(lingering.left(now)))
    }

    /// The card's figures.
    #[must_use]
    pub fn memory(&self, now: u64) -> Memory {
        let held = self.held.values().fold(0_u64, |sum, held| sum.saturating_add(held.bytes));
        let room = self.total.saturating_sub(self.reserved);
        let used = held.saturating_add(self.unowned(now)).min(room);
        Memory { total: self.total, reserved: self.reserved, used, free: room.saturating_sub(used) }
    }

    /// Holders by process id.
    #[must_use]
    pub fn holders(&self) -> Vec<Holder> {
        let mut by_pid = BTreeMap::<u32, u64>::new();
        for (owner, held) in &self.held {
            let bytes = by_pid.entry(owner.pid).or_default();
            *bytes = bytes.saturating_add(held.bytes);
        }
        by_pid.into_iter().map(|(pid, bytes)| Holder { pid, bytes }).collect()
    }

    /// Gives `owner` more; what it holds then, or none where the card has not got it.
    pub fn alloc(&mut self, owner: Owner, bytes: u64, now: u64) -> Option<Held> {
        self.lingering.retain(|lingering| lingering.left(now) > 0);
        if bytes > self.memory(now).free {
            return None;
        }
        let held = self.held.entry(owner).or_default();
        held.bytes = held.bytes.saturating_add(bytes);
        held.peak = held.peak.max(held.bytes);
        Some(*held)
    }

    /// Takes `bytes` of what `owner` holds back, at most all; what it held and still holds, none if nothing.
    pub fn free(&mut self, owner: Owner, bytes: u64) -> Option<Held> {
        let held = self.held.get_mut(&owner)?;
        held.bytes = held.bytes.saturating_sub(bytes);
        let after = *held;
        if after.bytes == 0 {
            self.held.remove(&owner);
        }
        Some(after)
    }

    /// The owner is gone: takes all of it back, at once, slowly or never. What it held, none if nothing.
    pub fn end(&mut self, owner: Owner, now: u64) -> Option<Held> {
        let held = self.held.remove(&owner)?;
        if self.leak_on_exit {
            self.leaked = self.leaked.saturating_add(held.bytes);
        } else if self.slow_release > 0 {
            self.lingering.push(Lingering { bytes: held.bytes, from: now, millis: self.slow_release });
        }
        Some(held)
    }

    /// Lets `bytes` be held by nobody, instead of what leaked so far.
    pub fn leak(&mut self, bytes: u64) {
        self.leaked = bytes;
    }

    /// The driver was unloaded: everything is free. Who held what until then.
    pub fn clear(&mut self) -> BTreeMap<Owner, Held> {
        self.lingering.clear();
        self.leaked = 0;
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Owner = Owner { session: 1, pid: 10 };
    const TWO: Owner = Owner { session: 2, pid: 10 };

    #[test]
    fn a_card_gives_what_it_has_and_no_byte_more() {
        let mut book = Book::new(100, 10);
        assert_eq!(book.alloc(ONE, 60, 0), Some(Held { bytes: 60, peak: 60 }));
        assert_eq!(book.alloc(TWO, 31, 0), None);
        assert!(book.alloc(TWO, 30, 0).is_some());
        assert_eq!(book.memory(0), Memory { total: 100, reserved: 10, used: 90, free: 0 });
        assert_eq!(book.holders(), [Holder { pid: 10, bytes: 90 }]);
        assert_eq!(book.free(ONE, 1000), Some(Held { bytes: 0, peak: 60 }));
        assert_eq!(book.free(ONE, 1), None);
        assert_eq!(book.memory(0).free, 60);
    }

    #[test]
    fn memory_comes_back_at_once_evenly_or_never() {
        for (leak, slow, at_half, at_end) in
            [(false, 0, 100, 100), (false, 1000, 60, 100), (true, 1000, 20, 20)]
        {
            let mut book = Book::new(100, 0);
            (book.leak_on_exit, book.slow_release) = (leak, slow);
            book.alloc(ONE, 80, 0).unwrap();
            book.end(ONE, 5000).unwrap();
            assert!(book.holders().is_empty());
            assert_eq!((book.memory(5500).free, book.memory(6000).free), (at_half, at_end), "{leak} {slow}");
        }
    }

    #[test]
    fn a_leak_heals_when_told_or_when_the_driver_is_unloaded() {
        let mut book = Book::new(100, 0);
        book.leak(150);
        assert_eq!(book.memory(0).free, 0);
        book.leak(0);
        assert_eq!(book.memory(0).free, 100);
        book.alloc(ONE, 5, 0).unwrap();
        book.leak(50);
        assert_eq!(book.clear().len(), 1);
        assert_eq!(book.memory(0).free, 100);
    }
}
