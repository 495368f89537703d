//! Messages in every wording, whole and mangled.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::api::profile::{Failure, FailureText};
use crate::profile::testdata::flashvsr;

/// Messages of our own making in the wordings that engines use, each with what it must be read as.
const MESSAGES: &str = include_str!("testdata/messages.txt");

pub(super) fn messages() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    MESSAGES.split("## ").skip(1).map(|block| {
        let (title, text) = block.split_once('\n').unwrap();
        (title.split_once(':').map_or(title, |(word, _)| word), title, text)
    })
}

pub(super) fn word(text: &str, own_pids: &[u32]) -> &'static str {
    match read(text, &flashvsr().failure) {
        Reading::Gpu(oom) => match blame(&oom, &own_pids.iter().copied().collect()).verdict {
            TextVerdict::Own => "own",
            TextVerdict::Foreign => "foreign",
            TextVerdict::Fragmentation => "fragmentation",
            TextVerdict::Unknown => "unknown",
        },
        Reading::Host { .. } => "host",
        Reading::Incompatible(_) => "incompatible",
        Reading::Permanent(_) => "permanent",
        Reading::NoSpace => "space",
        Reading::NotOom => "none",
    }
}

fn wrapped(text: &str, width: usize) -> String {
    let chars: Vec<char> = text.chars().filter(|c| *c != '\n').collect();
    chars.chunks(width).map(|line| line.iter().collect::<String>()).collect::<Vec<_>>().join("\n")
}

#[test]
fn every_wording_is_read_as_expected() {
    assert!(messages().count() > 30);
    for (expected, title, text) in messages() {
        assert_eq!(word(text, &[]), expected, "{title}");
    }
}

#[test]
fn colours_prefixes_and_wraps_change_nothing() {
    for (expected, title, text) in messages() {
        let coloured = text.replace("GiB", "\u{1b}[1;31mGiB\u{1b}[0m");
        let prefixed: String = text
            .lines()
            .map(|line| format!("2026-11-24T02:48:11.123456789Z stderr F [rank0]: {line}\n"))
            .collect();
        let returned = text.replace('\n', "\r\n");
        let progress =
            format!("Processing:  25%|##  | 2/8 [00:10<00:30]\rProcessing:  37%|###  | 3/8\n{text}");
        for (how, mangled) in
            [("coloured", coloured), ("prefixed", prefixed), ("CR", returned), ("progress", progress)]
        {
            assert_eq!(word(&mangled, &[]), expected, "{how}: {title}");
        }
        for width in [40, 71, 80] {
            assert_eq!(word(&wrapped(text, width), &[]), expected, "wrapped at {width}: {title}");
        }
    }
}

#[test]
fn figures_are_exact() {
    let text = messages().find(|(_, title, _)| title.contains("small neighbours")).unwrap().2;
    let Reading::Gpu(oom) = read(text, &Failure::default()) else { panic!("no memory") };
    let mib = |mib: u64| mib * 1024 * 1024;
    assert_eq!((oom.requested, oom.free, oom.unallocated), (Some(mib(580)), Some(mib(330)), Some(mib(300))));
    assert_eq!(
        oom.processes.iter().map(|listed| (listed.pid, listed.bytes)).collect::<Vec<_>>(),
        [(11, mib(420)), (12, mib(420)), (13, mib(420))]
    );
    assert_eq!(oom.allocated, Some(mib(36 * 1024)));
}

#[test]
fn what_is_not_available_is_none() {
    let text = "CUDA out of memory. Tried to allocate 1.00 GiB. GPU 0 has a total capacity of 17179869184.00 GiB of which 1.00 GiB is free.";
    let Reading::Gpu(oom) = read(text, &Failure::default()) else { panic!("no memory") };
    assert_eq!((oom.requested.is_some(), oom.total), (true, None));
}

#[test]
fn known_pids_tell_the_failing_process_from_its_neighbour() {
    let text = messages().next().unwrap().2;
    let oom = |text| match read(text, &flashvsr().failure) {
        Reading::Gpu(oom) => oom,
        other => panic!("{other:?}"),
    };
    let blamed = blame(&oom(text), &BTreeSet::from([398_811]));
    assert!(blamed.own_is_certain);
    assert_eq!(blamed.verdict, TextVerdict::Foreign);
    assert!(blamed.others > blamed.own.unwrap());
    // Both are ours: nobody else is there.
    assert_eq!(blame(&oom(text), &BTreeSet::from([398_811, 410_233])).verdict, TextVerdict::Own);
}

#[test]
fn a_profile_brings_its_own_patterns() {
    let failure = Failure {
        text: FailureText::Patterns,
        out_of_memory: vec!["vkAllocateMemory failed".to_owned()],
        permanent: vec!["decode image".to_owned()],
        ..Failure::default()
    };
    assert!(matches!(
        read("vkAllocateMemory failed -2", &failure),
        Reading::Gpu(OomText { kind: Kind::Pattern, .. })
    ));
    assert_eq!(read("decode image x.png failed", &failure), Reading::Permanent("decode image".to_owned()));
    assert_eq!(read("CUDA out of memory. Tried to allocate 1.00 GiB.", &failure), Reading::NotOom);
    assert_eq!(read("", &failure), Reading::NotOom);
}

proptest! {

    #[test]
    fn any_text_is_read(text in "(\\PC|[\u{1b}\u{9b}\\[\\]{}\r\n 0-9.:;]|GiB|Process |has |outofmemory){0,200}") {
        word(&text, &[]);
    }
}

#[test]
fn noise_of_a_megabyte_is_read() {
    let mut state = 1u32;
    let noise: String = (0..1_048_576)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            char::from(u8::try_from(state >> 25).unwrap())
        })
        .collect();
    for text in [
        noise,
        "[".repeat(1 << 20),
        "\u{1b}[".repeat(1 << 19),
        "process1has".repeat(95_000),
        "outofmemory.triedtoallocate".repeat(39_000),
        "traceback (most recent call last)".repeat(32_000),
    ] {
        word(&text, &[]);
    }
}
