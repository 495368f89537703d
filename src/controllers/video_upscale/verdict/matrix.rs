//! A matrix of ends whose fault is known: neighbours, leaks, own demand, fragmentation, host memory, lost nodes, with the
//! text whole, cut, in other words or absent, and the report late, early, blind or missing.

#![expect(clippy::arithmetic_side_effects, reason = "figures of tests")]

use std::collections::BTreeMap;

use jiff::SignedDuration;
use proptest::prelude::*;

use super::tests::{OTHER, TOTAL, at, container, decided, done, engine, evidence, gib, process, torch, view};
use super::*;
use crate::api::quantity::GIB;
use crate::api::report::{Attribution, Kind};

/// Whose fault an injected end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    Neighbour,
    Own,
    Leak,
    Fragmentation,
    Host,
    Lost,
}

/// How much of the text there is, and in which words.
#[derive(Clone, Copy, Debug)]
enum Text {
    OwnFigure,
    ListOnly,
    NoList,
    CutBefore,
    CutAfter,
    Driver,
    Old,
    Async,
    Absent,
}

#[derive(Clone, Debug)]
struct Injected {
    fault: Fault,
    text: Text,
    own: u64,
    others: u64,
    /// The neighbour is gone when the report is made, but still listed as ended.
    neighbour_gone: bool,
    /// Seconds from the end to the report; `None`: the agent is silent.
    report_after: Option<i64>,
    attribution: Attribution,
}

prop_compose! {
    fn injected()(
        fault in prop::sample::select(vec![Fault::Neighbour, Fault::Neighbour, Fault::Neighbour, Fault::Own, Fault::Leak, Fault::Fragmentation, Fault::Host, Fault::Lost]),
        text in prop::sample::select(vec![Text::OwnFigure, Text::ListOnly, Text::NoList, Text::CutBefore, Text::CutAfter, Text::Driver, Text::Old, Text::Async, Text::Absent]),
        own in 1u64..12, others in 3u64..20, neighbour_gone in any::<bool>(),
        report_after in prop::option::weighted(0.8, -20i64..=75),
        attribution in prop::sample::select(vec![Attribution::Full, Attribution::Full, Attribution::Namespace, Attribution::None]),
    ) -> Injected {
        Injected { fault, text, own: own * GIB, others: others * GIB, neighbour_gone, report_after, attribution }
    }
}

impl Injected {
    /// What is on the card when the request fails: own, listed others, leaked, requested, unallocated.
    fn world(&self) -> (u64, u64, u64, u64, u64) {
        let usable = TOTAL - GIB / 2;
        let room = |own: u64| usable - own;
        match self.fault {
            Fault::Neighbour => {
                let others = self.others.min(room(self.own) - GIB / 4);
                // More than is free, less than an empty card has.
                let requested = room(self.own) - others / 2;
                (self.own, others, 0, requested, 0)
            }
            Fault::Leak => {
                let leaked = self.others.min(room(self.own) - GIB / 4);
                (self.own, 0, leaked, room(self.own) - leaked / 2, 0)
            }
            Fault::Own => (self.own + 12 * GIB - GIB, 0, 0, 13 * GIB, 0),
            Fault::Fragmentation => (20 * GIB, 0, 0, 4 * GIB, 5 * GIB),
            Fault::Host | Fault::Lost => (self.own, 0, 0, 0, 0),
        }
    }

    fn text(&self) -> String {
        let (own, others, leaked, requested, unallocated) = self.world();
        let free = (TOTAL - GIB / 2).saturating_sub(own + others + leaked);
        let held = own - GIB / 2;
        let (allocated, list) = (held - unallocated, [(900, others)]);
        let list = if others > 0 { &list[..] } else { &[] };
        let with_own: Vec<_> = list.iter().copied().chain([(4242, own)]).collect();
        let full = torch(requested, free, Some(own), list, allocated, unallocated);
        match self.text {
            Text::OwnFigure => full,
            Text::ListOnly => torch(requested, free, None, &with_own, allocated, unallocated),
            Text::NoList => torch(requested, free, None, &[], allocated, unallocated),
            Text::CutBefore => full[full.len() - 150..].to_owned(),
            Text::CutAfter => full[..full.len() - 170].to_owned(),
            Text::Driver => "RuntimeError: CUDA error: out of memory".to_owned(),
            Text::Old => format!(
                "RuntimeError: CUDA out of memory. Tried to allocate {} (GPU 0; {} total capacity; {} already allocated; {} free; {} reserved in total by PyTorch)",
                gib(requested),
                gib(TOTAL),
                gib(allocated),
                gib(free),
                gib(held)
            ),
            Text::Async => format!(
                "torch.OutOfMemoryError: Allocation on device 0 would exceed allowed memory. (out of memory)\nCurrently allocated     : {}\nRequested               : {}\nDevice limit            : {}\nFree (according to CUDA): {}",
                gib(held),
                gib(requested),
                gib(TOTAL),
                gib(free)
            ),
            Text::Absent => String::new(),
        }
    }

    fn evidence(&self) -> Evidence {
        let (own, others, leaked, _, _) = self.world();
        let mut end = match self.fault {
            Fault::Host => engine(137, "OOMKilled", ""),
            Fault::Lost => {
                let mut end = evidence(vec![done("prepare"), container("upscale", None, "", "")]);
                end.pod.node_gone = true;
                end
            }
            _ => engine(1, "Error", &self.text()),
        };
        end.after = self.report_after.map(|after| {
            // A neighbour that a report before the end shows was already there.
            let now = if self.neighbour_gone && after > 0 { 0 } else { others };
            let neighbour = process(Kind::Pod, Some(OTHER), 900, now, others);
            let list = if others > 0 && self.attribution == Attribution::Full {
                vec![neighbour]
            } else {
                Vec::new()
            };
            let mut view = view(own, list, leaked);
            (view.at, view.attribution) = (at(100 + after), self.attribution);
            if self.attribution != Attribution::Full {
                view.gpu.una = None;
                view.gpu.procs = None;
            }
            view
        });
        end
    }
}

#[test]
fn in_a_matrix_of_ends_no_neighbours_fault_is_charged_to_the_tile() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::{Config, TestRunner};
    let mut runner = TestRunner::new_with_rng(
        Config::default(),
        proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
    );
    let mut confusion: BTreeMap<(Fault, Verdict), u32> = BTreeMap::new();
    for _ in 0..5_000 {
        let case = injected().new_tree(&mut runner).unwrap().current();
        let decided = decided(&case.evidence());
        *confusion.entry((case.fault, decided.verdict)).or_default() += 1;
        let charged = matches!(decided.verdict, Verdict::OwnDemand | Verdict::Fragmentation);
        let others = matches!(case.fault, Fault::Neighbour | Fault::Leak);
        assert!(!(charged && others), "{case:?}\n{}\n{decided:?}", case.text());
        let blamed = matches!(decided.verdict, Verdict::ForeignProcess | Verdict::LeakedMemory);
        assert!(!blamed || others, "{case:?}\n{}\n{decided:?}", case.text());
    }
    for ((fault, verdict), count) in &confusion {
        println!("{fault:?} -> {verdict}: {count}");
    }
    let right = |fault, verdict| confusion.get(&(fault, verdict)).copied().unwrap_or(0);
    let all = |fault| confusion.iter().filter(|((f, _), _)| *f == fault).map(|(_, n)| n).sum::<u32>();
    assert!(right(Fault::Neighbour, Verdict::ForeignProcess) * 2 > all(Fault::Neighbour), "{confusion:?}");
    assert!(right(Fault::Own, Verdict::OwnDemand) * 2 > all(Fault::Own), "{confusion:?}");
    assert_eq!(right(Fault::Host, Verdict::HostMemory), all(Fault::Host));
    assert_eq!(right(Fault::Lost, Verdict::Disrupted), all(Fault::Lost));
}

proptest! {
    #[test]
    fn judging_is_total_and_never_waits_past_the_patience(
        case in injected(), exit in prop::option::of(-1i32..300), reason in "[A-Za-z]{0,12}", message in ".{0,200}",
        pod_reason in prop::sample::select(vec!["", "Evicted", "DeadlineExceeded", "NodeLost"]), gone in any::<bool>(),
    ) {
        let mut end = case.evidence();
        if let Some(last) = end.containers.last_mut() {
            (last.exit_code, last.reason, last.message) = (exit, reason, message);
        }
        end.pod.reason = pod_reason.to_owned();
        end.pod.gone = gone;
        let late = end.seen_at + SignedDuration::from_secs(75);
        prop_assert!(matches!(judge(&end, late), Judgement::Decided(_)));
    }
}
