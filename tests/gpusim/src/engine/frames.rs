//! How many frames the model takes and yields.

/// Fewer frames than this are padded and cut back.
pub const FEWEST: usize = 21;

/// Frames that come out for `n` that go in: all of fewer than 21, else `8 * floor((n + 3) / 8) - 3`.
#[must_use]
pub fn out(n: usize) -> usize {
    if n < FEWEST {
        return n;
    }
    n.saturating_add(3).checked_div(8).unwrap_or(0).saturating_mul(8).saturating_sub(3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_lost_unless_they_are_5_mod_8() {
        for (n, want) in [(1, 1), (20, 20), (22, 21), (28, 21), (100, 93), (145, 141), (200, 197), (300, 293)]
        {
            assert_eq!(out(n), want, "{n}");
        }
        for kept in [21, 29, 37, 101, 149, 301] {
            assert_eq!(out(kept), kept);
        }
    }
}
