//! The usual run is short: it takes one of each kind and says what it leaves out. `UPSCALE_TEST_FULL` takes everything.

use std::io::Write as _;
use std::path::Path;

use crate::bench::program;

/// Whether everything is to be run.
pub fn full_run() -> bool {
    program("UPSCALE_TEST_FULL", "") != Path::new("")
}

/// Says what a short run leaves out; past the test harness, which shows nothing of tests that pass.
pub fn left_out(what: &str, names: &[&str]) {
    if !names.is_empty() {
        let text = format!(
            "SHORT RUN: {} {what} are left out (UPSCALE_TEST_FULL=1 runs them): {}\n",
            names.len(),
            names.join(", ")
        );
        std::io::stderr().write_all(text.as_bytes()).unwrap();
    }
}
