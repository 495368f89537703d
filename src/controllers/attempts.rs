//! How often in a row an object could not be reconciled, and how long to leave it alone for that.
//!
//! Kept by UID, so that an object made anew under an old name begins afresh. In memory only: after a restart an
//! early retry is harmless.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Delay after the first failure.
const FIRST: Duration = Duration::from_secs(1);
/// Longest delay.
const LONGEST: Duration = Duration::from_secs(300);
/// Objects remembered at most; beyond that all start afresh.
const MAX_OBJECTS: usize = 10_000;

/// Failures in a row by object UID.
#[derive(Debug, Default)]
pub struct Attempts {
    failures: Mutex<HashMap<String, u32>>,
}

impl Attempts {
    /// Notes a failure and says how long to wait: doubling from a second to five minutes, spread by up to a quarter
    /// so that objects that failed together do not return together.
    pub fn failed(&self, uid: &str) -> Duration {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() >= MAX_OBJECTS && !failures.contains_key(uid) {
            failures.clear();
        }
        let count = failures.entry(uid.to_owned()).or_insert(0);
        *count = count.saturating_add(1);
        spread(delay(*count), uid)
    }

    /// Forgets an object's failures: it was reconciled, or is gone.
    pub fn succeeded(&self, uid: &str) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}

/// Delay after that many failures in a row.
fn delay(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    FIRST.saturating_mul(2u32.saturating_pow(doublings)).min(LONGEST)
}

/// Lengthens a delay by up to a quarter, by object and always by the same share.
pub fn spread(delay: Duration, uid: &str) -> Duration {
    let share = uid.bytes().fold(0u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte))) % 256;
    delay.saturating_add(delay.mul_f64(f64::from(share) / 1024.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_five_minutes_and_start_afresh_after_success() {
        assert_eq!(delay(1), FIRST);
        assert_eq!(delay(4), Duration::from_secs(8));
        assert_eq!(delay(u32::MAX), LONGEST);
        let attempts = Attempts::default();
        let first = attempts.failed("a");
        assert!(attempts.failed("a") > first);
        assert_eq!(attempts.failed("b"), spread(FIRST, "b"));
        attempts.succeeded("a");
        assert_eq!(attempts.failed("a"), first);
    }

    #[test]
    fn spread_adds_at_most_a_quarter() {
        for uid in ["", "a", "9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d"] {
            let spread = spread(LONGEST, uid);
            assert!(spread >= LONGEST && spread <= LONGEST + LONGEST / 4);
        }
    }
}
