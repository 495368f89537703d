//! How long tests run.

/// Whether this is the release run.
#[expect(clippy::disallowed_methods, reason = "edge: how long a test may run is the caller's to say")]
pub fn is_full() -> bool {
    std::env::var_os("UPSCALE_TEST_FULL").is_some()
}
