//! A matrix of ends whose fault is known: neighbours, leaks, own demand, fragmentation, host memory, busy cards, lost
//! nodes, on cards of 8 to 80 GiB; with the text whole, cut, in other words or absent; with reports that come in up to
//! 75 s late, before the neighbour is gone or after, blind or never.

#![expect(clippy::arithmetic_side_effects, reason = "figures of tests")]

mod world;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;

use jiff::SignedDuration;
use proptest::prelude::*;

use super::*;
use world::{Fault, Text, worlds};

type Confusion = BTreeMap<Fault, BTreeMap<Verdict, u32>>;

/// Shown past the test harness, which shows nothing of tests that pass.
fn show(confusion: &Confusion) {
    let verdicts: std::collections::BTreeSet<Verdict> =
        confusion.values().flat_map(|row| row.keys().copied()).collect();
    let mut text =
        format!("VERDICTS: whose fault {} injected ends were, and what was said\n{:16}", sum(confusion), "");
    for verdict in &verdicts {
        write!(text, " {verdict:>14}").unwrap();
    }
    for (fault, row) in confusion {
        write!(text, "\n{:16}", format!("{fault:?}")).unwrap();
        for verdict in &verdicts {
            write!(text, " {:>14}", row.get(verdict).copied().unwrap_or(0)).unwrap();
        }
    }
    text.push('\n');
    std::io::stderr().write_all(text.as_bytes()).unwrap();
}

fn sum(confusion: &Confusion) -> u32 {
    confusion.values().flat_map(BTreeMap::values).sum()
}

#[test]
fn in_a_matrix_of_ends_no_neighbours_fault_is_charged_to_the_tile() {
    let mut confusion = Confusion::new();
    let (mut clear, mut blamed) = (0, 0);
    for world in worlds() {
        let (_, decided) = world.judged();
        let verdict = decided.verdict;
        *confusion.entry(world.fault).or_default().entry(verdict).or_default() += 1;
        let wrong = match world.fault {
            Fault::Neighbour | Fault::Leak => {
                matches!(verdict, Verdict::OwnDemand | Verdict::Fragmentation | Verdict::HostMemory)
            }
            Fault::OwnBesideOthers if !world.tells_its_own() => verdict == Verdict::LeakedMemory,
            _ => matches!(verdict, Verdict::ForeignProcess | Verdict::LeakedMemory),
        };
        assert!(!wrong, "{world:?}\n{}\n{decided:?}", world.words());
        if world.fault == Fault::Neighbour && world.is_clear() {
            clear += 1;
            blamed += u32::from(verdict == Verdict::ForeignProcess);
        }
    }
    show(&confusion);
    let right = |fault, verdict| confusion[&fault].get(&verdict).copied().unwrap_or(0);
    let all = |fault| confusion[&fault].values().sum::<u32>();
    assert!(blamed * 10 > clear * 9, "a neighbour who is seen is named: {blamed} of {clear}");
    assert!(right(Fault::Own, Verdict::OwnDemand) * 2 > all(Fault::Own));
    assert!(right(Fault::Fragmentation, Verdict::Fragmentation) * 3 > all(Fault::Fragmentation));
    for (fault, verdict) in [
        (Fault::Host, Verdict::HostMemory),
        (Fault::Lost, Verdict::Disrupted),
        (Fault::Busy, Verdict::GpuBusy),
    ] {
        assert_eq!(right(fault, verdict), all(fault), "{fault:?}");
    }
}

/// Figures of neighbours that used to be charged to the tile: total, own, neighbour, requested and free, GiB.
#[test]
fn what_would_have_fitted_an_empty_card_is_never_its_own_demand() {
    for (text, figures) in [
        (Text::OwnFigure, [24.0, 11.91, 9.36, 11.3, 2.73]),
        (Text::OwnFigure, [12.0, 2.38, 6.69, 9.32, 2.68]),
        (Text::NoList, [24.0, 5.1, 13.79, 18.6, 5.11]),
        (Text::Old, [24.0, 20.12, 1.38, 2.87, 2.0]),
        (Text::Async, [80.0, 67.3, 7.9, 6.9, 4.8]),
    ] {
        let world = world::World::of_neighbour(text, figures);
        let mut end = world.judged().0;
        let silent = world.judged().1.verdict;
        assert!(matches!(silent, Verdict::Unknown | Verdict::ForeignProcess), "{silent} {}", world.words());
        let Judgement::WaitForReport { .. } = judge(&end, end.seen_at) else {
            panic!("decided without a report")
        };
        end.after = Some(world.sampled(2));
        let Judgement::Decided(seen) = judge(&end, end.seen_at) else { panic!("waits") };
        assert_eq!(seen.verdict, Verdict::ForeignProcess, "{}", world.words());
    }
}

proptest! {
    #[test]
    fn judging_is_total_and_never_waits_past_the_patience(
        index in 0usize..64, exit in prop::option::of(-1i32..300), reason in "[A-Za-z]{0,12}", message in ".{0,200}",
        pod_reason in prop::sample::select(vec!["", "Evicted", "DeadlineExceeded", "NodeLost"]), gone in any::<bool>(),
    ) {
        let (mut end, _) = worlds().nth(index).unwrap().judged();
        if let Some(last) = end.containers.last_mut() {
            (last.exit_code, last.reason, last.message) = (exit, reason, message);
        }
        end.pod.reason = pod_reason.to_owned();
        end.pod.gone = gone;
        let late = end.seen_at + SignedDuration::from_secs(75);
        prop_assert!(matches!(judge(&end, late), Judgement::Decided(_)));
    }
}
