//! A token bucket: bounds the churn of one agent, and so of thousands.

use std::time::Duration;

/// Tokens that are saved up at most.
pub const SIZE: u32 = 8;
/// Time in which one token comes.
pub const REFILL: Duration = Duration::from_secs(45);

/// How many writes of changes may still be made. Full at the start.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    /// When it will have been full again, had nothing been taken: the only thing to remember.
    full_at: Duration,
}

impl Bucket {
    /// A full bucket.
    pub const fn full() -> Self {
        Self { full_at: Duration::ZERO }
    }

    /// When the next token can be taken; `now` if there is one.
    pub fn next(&self, now: Duration) -> Duration {
        let room = REFILL.saturating_mul(SIZE.saturating_sub(1));
        self.full_at.saturating_sub(room).max(now)
    }

    /// Takes a token; the caller has waited for [`Bucket::next`].
    pub fn take(&mut self, now: Duration) {
        self.full_at = self.full_at.max(now).saturating_add(REFILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_at_once_then_one_every_45_seconds() {
        let mut bucket = Bucket::full();
        let now = Duration::from_secs(1000);
        for _ in 0..8 {
            assert_eq!(bucket.next(now), now);
            bucket.take(now);
        }
        assert_eq!(bucket.next(now), now + REFILL);
        bucket.take(now + REFILL);
        assert_eq!(bucket.next(now + REFILL), now + 2 * REFILL);
    }
}
