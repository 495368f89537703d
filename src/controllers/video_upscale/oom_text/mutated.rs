//! Messages that nobody has foreseen: those that are known, cut, joined and mangled. The count follows
//! `PROPTEST_CASES`: 4,000 in the usual run, as one takes milliseconds without optimisation, and 10,000,000 in the
//! release run.

#![expect(clippy::arithmetic_side_effects, reason = "figures of tests")]

use proptest::test_runner::Config;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::tests::{messages, word};
use crate::runs::is_full;

/// What messages and logs are made of.
const WORDS: [&str; 30] = [
    "out of memory. Tried to allocate ",
    "Process ",
    " has ",
    " memory in use. ",
    "this process has ",
    " total capacity; ",
    " already allocated; ",
    " free; ",
    " cached)",
    " allowed; ",
    "of which ",
    " is allocated by PyTorch",
    " is reserved by PyTorch but unallocated",
    "Allocation on device",
    "Currently allocated : ",
    "Traceback (most recent call last):",
    "falling back",
    "CUDA error: out of memory",
    "17179869184.00 GiB",
    "99999999999999999999999 bytes",
    "0 bytes",
    ".",
    "-1 GiB",
    "GiB",
    "\n",
    "\r",
    "\u{1b}[31m",
    "\u{9b}",
    "[rank0]: ",
    "\u{1f3ac}",
];

fn count() -> u32 {
    Config::default().cases.saturating_mul(if is_full() { 100 } else { 2 })
}

fn place(text: &str, random: &mut SmallRng) -> usize {
    let mut at = random.random_range(0..=text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

fn mutate(text: &mut String, other: &str, random: &mut SmallRng) {
    let at = place(text, random);
    match random.random_range(0..6) {
        0 => text.insert_str(at, WORDS[random.random_range(0..WORDS.len())]),
        1 => text.truncate(at),
        2 => *text = text[at..].to_owned(),
        3 => text.insert_str(at, &other[..place(other, random)]),
        4 => text.insert(at, random.random()),
        _ => {
            let length = random.random_range(1..40);
            let end = text[at..].char_indices().nth(length).map_or(text.len(), |(end, _)| at + end);
            text.replace_range(at..end, WORDS[random.random_range(0..WORDS.len())]);
        }
    }
}

#[test]
fn no_mutilated_message_panics() {
    let mut random = SmallRng::seed_from_u64(10);
    let all: Vec<&str> = messages().map(|(_, _, text)| text).collect();
    let mut of_memory = 0;
    for _ in 0..count() {
        let mut text = all[random.random_range(0..all.len())].to_owned();
        let other = all[random.random_range(0..all.len())];
        for _ in 0..random.random_range(1..6) {
            mutate(&mut text, other, &mut random);
        }
        let read = word(&text, &[random.random_range(1..500_000), 398_811]);
        of_memory += u32::from(matches!(read, "own" | "foreign" | "fragmentation" | "unknown"));
    }
    assert!(of_memory > count() / 4, "only {of_memory} of {} were still read as memory", count());
}
