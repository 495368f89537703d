//! Films made by ffmpeg from words, where a test needs one in particular; and programs in front of ffmpeg.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

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

/// Puts a program in front of the bench's ffmpeg: shell words that run first and see ffmpeg's arguments, and ffmpeg's own
/// name in `$ffmpeg`. The path of what was there.
pub fn in_front_of_ffmpeg(bench: &mut Bench, words: &str) -> PathBuf {
    let script = tempfile::Builder::new().prefix("front").tempfile_in(bench.root()).unwrap();
    let (_, script) = script.keep().unwrap();
    let ffmpeg = std::mem::replace(&mut bench.ffmpeg, script.clone());
    std::fs::write(&script, format!("#!/bin/sh\nffmpeg={ffmpeg:?}\n{words}\nexec \"$ffmpeg\" \"$@\"\n"))
        .unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    ffmpeg
}
