//! Films made by ffmpeg from words, where a test needs one in particular.

use std::path::Path;

use crate::bench::Bench;

/// Runs ffmpeg with the words of `how`, parted by blanks, and `target` as its last argument.
pub fn make_at(bench: &Bench, how: &str, target: &Path) {
    let words = how.split_whitespace().map(str::to_owned);
    bench.ffmpeg(&words.chain([target.to_string_lossy().into_owned()]).collect::<Vec<_>>());
}

/// As [`make_at`], a file on the source claim.
pub fn make(bench: &Bench, name: &str, how: &str) {
    make_at(bench, how, &bench.source(name));
}
