//! Content that nobody has foreseen. The count follows `PROPTEST_CASES`, a hundred inputs a case, as one takes
//! microseconds: 10,000,000 in the release run.

#![expect(clippy::arithmetic_side_effects, reason = "figures of tests")]

use proptest::test_runner::Config;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::*;

/// What paths are made of, ours and a stranger's.
const WORDS: [&str; 24] = [
    "/",
    "//",
    "..",
    "/../",
    "pod",
    "-pod",
    "pod-",
    ".slice",
    ".scope",
    ":",
    "::",
    "0::/",
    "\n",
    "kubepods",
    "kubepods.slice",
    "cri-containerd-",
    "crio-conmon-",
    "docker",
    " (deleted)",
    "\u{fffd}",
    "🎬",
    "0a4f7d0e",
    "_92b6_4b8b_a7a0_51f0d3b4c544",
    "0123456789abcdef0123456789abcdef",
];

/// Elements in front of a pod's.
const OUTSIDE: [&str; 10] = [
    "kubepods",
    "burstable",
    "kubepods.slice",
    "kubelet.slice",
    "docker",
    "system.slice",
    "podinfo.service",
    "libpod-x",
    "machine.slice",
    "gpu-kubepods.slice",
];

/// Where a reader may sit.
const OWN: [&str; 4] = [
    "/",
    "PRIVATE",
    "/docker/abc/kubelet.slice/kubelet-kubepods-pod99999999_2222_4333_8444_555555555555.slice/x.scope",
    "/kubepods/pod99999999-2222-4333-8444-555555555555/x",
];

fn cases() -> u32 {
    Config::default().cases * 50
}

fn pick<'a>(random: &mut SmallRng, from: &[&'a str]) -> &'a str {
    from[random.random_range(0..from.len())]
}

/// 32 hex digits, joined in groups as a UID is.
fn uid(random: &mut SmallRng, joint: &str) -> String {
    let digits = format!("{:016x}{:016x}", random.random::<u64>(), random.random::<u64>());
    [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join(joint)
}

/// An element that names a pod, and the UID in it.
fn pod_element(random: &mut SmallRng) -> (String, String) {
    let form = random.random_range(0..5);
    let uid = uid(random, if form == 4 { "" } else { "-" });
    let underscored = uid.replace('-', "_");
    let element = match form {
        0 | 4 => format!("pod{uid}"),
        1 => format!("kubepods-burstable-pod{underscored}.slice"),
        2 => format!("gpu-kubepods-pod{uid}.slice"),
        _ => format!("kubepods-pod{underscored}.slice:cri-containerd:{underscored}"),
    };
    (element, uid)
}

fn mutate(text: &mut String, random: &mut SmallRng) {
    let mut at = random.random_range(0..=text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    match random.random_range(0..4) {
        0 => text.insert_str(at, pick(random, &WORDS)),
        1 => text.insert_str(at, &pod_element(random).0),
        2 => text.truncate(at),
        _ => {
            let end = text[at..]
                .char_indices()
                .nth(random.random_range(1..9))
                .map_or(text.len(), |(end, _)| at + end);
            text.replace_range(at..end, pick(random, &["", "/", "f", "_", "x"]));
        }
    }
}

/// The rows of the file of cases, without what is expected of them.
fn samples() -> Vec<String> {
    let id = "b1".repeat(32);
    CASES.lines().filter_map(|line| line.strip_prefix("row: ")).map(|row| row.replace("<64>", &id)).collect()
}

#[test]
fn no_content_panics_and_no_uid_is_made_up() {
    let (mut random, samples) = (SmallRng::seed_from_u64(1), samples());
    let readers = OWN.map(reader);
    let mut pods = 0;
    for case in 0..cases() {
        let mut text = samples[random.random_range(0..samples.len())].clone();
        for _ in 0..random.random_range(1..5) {
            mutate(&mut text, &mut random);
        }
        let found = owner(&text, &readers[random.random_range(0..readers.len())]);
        assert_eq!(found.uid.is_some(), found.kind == Kind::Pod, "case {case}: {text:?}");
        let Some(uid) = found.uid.filter(|uid| uid != OWN_UID) else { continue };
        pods += 1;
        let told = text.to_ascii_lowercase();
        assert!(
            told.contains(&uid) || told.contains(&uid.replace('-', "_")),
            "case {case}: {uid} is not in {text:?}"
        );
    }
    assert!(pods > cases() / 10, "only {pods} of {} inputs named a pod", cases());
}

#[test]
fn bytes_that_are_no_text_do_not_panic_and_make_up_no_uid() {
    let mut random = SmallRng::seed_from_u64(4);
    let readers = OWN.map(reader);
    for case in 0..cases() / 2 {
        let bytes: Vec<u8> = (0..random.random_range(0..200)).map(|_| random.random()).collect();
        let text = String::from_utf8_lossy(&bytes);
        let found = owner(&text, &readers[random.random_range(0..readers.len())]);
        let uid = found.uid.filter(|uid| uid != OWN_UID);
        assert!(uid.is_none(), "case {case}: {uid:?} in {bytes:?}");
    }
}

#[test]
fn a_pod_that_is_named_below_another_never_wins() {
    let mut random = SmallRng::seed_from_u64(2);
    let readers = OWN.map(reader);
    for case in 0..cases() {
        let from = random.random_range(0..readers.len());
        let mut row = "0::".to_owned();
        // From a private namespace at least two levels up, as one level up is the own pod.
        for _ in 0..if readers[from].private { 2 } else { 0 } {
            row.push_str("/..");
        }
        for _ in 0..random.random_range(0..4) {
            row.push('/');
            row.push_str(pick(&mut random, &OUTSIDE));
        }
        let (outer, uid) = pod_element(&mut random);
        row.push('/');
        row.push_str(&outer);
        let mut below = format!("/{}", pod_element(&mut random).0);
        for _ in 0..random.random_range(0..4) {
            mutate(&mut below, &mut random);
        }
        // One row only: rows that disagree are another matter; and a name ends with its slash.
        row.push('/');
        row.extend(below.chars().filter(|c| *c != '\n'));
        assert_eq!(owner(&row, &readers[from]), Owner::pod(uid), "case {case}: {row:?}");
    }
}

#[test]
fn a_pod_that_is_named_below_the_own_pod_never_wins() {
    let mut random = SmallRng::seed_from_u64(3);
    let (private, id) = (reader("PRIVATE"), "b1".repeat(32));
    for case in 0..cases() / 10 {
        let inside = ["0::/".to_owned(), format!("0::/../cri-containerd-{id}.scope/")];
        let mut row = inside[random.random_range(0..2)].clone();
        for _ in 0..random.random_range(0..4) {
            row.push_str(pick(&mut random, &OUTSIDE));
            row.push('/');
        }
        row.push_str(&pod_element(&mut random).0);
        assert_eq!(owner(&row, &private), Owner::pod(OWN_UID.to_owned()), "case {case}: {row:?}");
    }
}
