//! How many inputs a property test takes.

use proptest::prelude::ProptestConfig;

/// As many as `PROPTEST_CASES` asks for, but no more than so many in the usual run; `UPSCALE_TEST_FULL` takes all.
pub fn at_most(usual: u32) -> ProptestConfig {
    let asked = ProptestConfig::default();
    let cases = if is_full() { asked.cases } else { asked.cases.min(usual) };
    ProptestConfig { cases, ..asked }
}

/// Whether this is the release run.
#[expect(clippy::disallowed_methods, reason = "edge: how long a test may run is the caller's to say")]
pub fn is_full() -> bool {
    std::env::var_os("UPSCALE_TEST_FULL").is_some()
}
