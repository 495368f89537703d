//! The rows of the verdict table, and that every segment comes to an end.

#![expect(clippy::arithmetic_side_effects, reason = "figures of tests")]

use proptest::prelude::*;

use super::*;
use crate::api::conditions::FailureReason;
use crate::api::profile::{BadOutputAnswer, UpscaleProfileSpec};
use crate::api::quantity::GIB;
use crate::api::video_upscale::DegradationPolicy;
use crate::controllers::video_upscale::verdict::{Decided, Stage, Verdict};
use crate::profile::testdata::{flashvsr, realesrgan};
use crate::profile::{Lengths, Picture};

fn decided(verdict: Verdict, stage: Option<Stage>) -> Decided {
    Decided {
        verdict,
        failure: (verdict == Verdict::Permanent).then_some(FailureReason::InvalidSource),
        stage,
        lost: false,
        refused: false,
        needed: None,
        free: None,
        foreign: None,
        who: String::new(),
        observed_need: None,
        message: String::new(),
    }
}

fn situation(spec: &UpscaleProfileSpec) -> Situation<'_> {
    Situation {
        spec,
        picture: Picture::of(spec, 1920, 1080, 2),
        lengths: Lengths { read: 101, owned: 73 },
        steps: 2..=u32::try_from(spec.ladder.len() - 1).unwrap(),
        ran_at: 2,
        policy: DegradationPolicy::Automatic,
        uniform: false,
        attempts: 6,
        largest_gpu: Some(24 * GIB),
        gpu_had: Some(24 * GIB),
        more_memory_fits: true,
    }
}

fn avoided(turn: &Turn) -> Avoid {
    match turn.next {
        Next::Retry(retry) => retry.avoid,
        other => panic!("{other:?}"),
    }
}

#[test]
fn verdicts_that_keep_the_step() {
    let spec = flashvsr();
    for (verdict, avoid, penalty, counts) in [
        (Verdict::ForeignProcess, Avoid::Gpu, Penalty::CoolGpu, false),
        (Verdict::GpuBusy, Avoid::Gpu, Penalty::CoolGpu, false),
        (Verdict::LeakedMemory, Avoid::Gpu, Penalty::Quarantine, false),
        (Verdict::GpuFault, Avoid::Gpu, Penalty::GpuOut, false),
        (Verdict::GpuMismatch, Avoid::Node, Penalty::NodeOut, false),
        (Verdict::PinIgnored, Avoid::Node, Penalty::NodeOut, false),
        (Verdict::Incompatible, Avoid::Model, Penalty::ModelOut, false),
        (Verdict::Disrupted, Avoid::Nothing, Penalty::None, false),
        (Verdict::NotStarted, Avoid::Node, Penalty::CoolNode, false),
        (Verdict::Unknown, Avoid::Gpu, Penalty::Quarantine, false),
        (Verdict::EngineError, Avoid::Gpu, Penalty::CoolGpu, true),
        (Verdict::WorkerError, Avoid::Node, Penalty::CoolNode, true),
        (Verdict::BadOutput, Avoid::Gpu, Penalty::CoolGpu, true),
        (Verdict::OutOfSpace, Avoid::Nothing, Penalty::None, true),
    ] {
        let turn = next(&decided(verdict, None), &History::fresh(3, 2), &situation(&spec));
        assert_eq!((avoided(&turn), turn.penalty, turn.counts), (avoid, penalty, counts), "{verdict}");
        assert_eq!((turn.history.step, turn.history.made), (2, 1), "{verdict}");
        assert_eq!(turn.history.counted, u32::from(counts), "{verdict}");
    }
}

#[test]
fn own_demand_steps_down_until_the_ladder_ends() {
    let spec = flashvsr();
    let mut history = History::fresh(0, 2);
    let mut steps = Vec::new();
    loop {
        let situation = Situation { ran_at: history.step, attempts: 20, ..situation(&spec) };
        let turn = next(&decided(Verdict::OwnDemand, Some(Stage::Engine)), &history, &situation);
        history = turn.history;
        match turn.next {
            Next::Retry(_) => steps.push(history.step),
            end => {
                assert_eq!(end, Next::Fail(FailureReason::OutOfGpuMemory));
                break;
            }
        }
    }
    assert_eq!(steps, [3, 4, 5, 6, 7, 8, 9]);
}

#[test]
fn steps_that_change_nothing_or_do_not_fit_are_skipped() {
    let spec = flashvsr();
    // On 640x360 at scale 2 all tiles shrink to 320: long-1024 and long-768 have the same command line.
    let small = Situation { picture: Picture::of(&spec, 640, 360, 2), ran_at: 3, ..situation(&spec) };
    let turn = next(&decided(Verdict::OwnDemand, None), &History::fresh(0, 3), &small);
    assert_eq!(turn.history.step, 4);
    let turn =
        next(&decided(Verdict::OwnDemand, None), &History::fresh(0, 4), &Situation { ran_at: 4, ..small });
    assert_eq!(turn.history.step, 6);
    // At scale 3 the tiny step needs more than the full one before it.
    let three =
        Situation { picture: Picture::of(&spec, 1920, 1080, 3), steps: 1..=9, ran_at: 1, ..situation(&spec) };
    let turn = next(&decided(Verdict::OwnDemand, None), &History::fresh(0, 1), &three);
    assert_eq!(turn.history.step, 3);
    let eight = Situation { largest_gpu: Some(8 * GIB), ..situation(&spec) };
    let turn = next(&decided(Verdict::OwnDemand, None), &History::fresh(0, 2), &eight);
    assert_eq!(turn.history.step, 6);
}

#[test]
fn never_tries_the_largest_card_once_and_fails_the_job() {
    let spec = flashvsr();
    let never = Situation { policy: DegradationPolicy::Never, ..situation(&spec) };
    let first = next(&decided(Verdict::OwnDemand, None), &History::fresh(0, 2), &never);
    assert!(matches!(first.next, Next::Retry(_)));
    assert_eq!((first.history.step, first.history.flags.largest_card), (2, true));
    let between = next(&decided(Verdict::ForeignProcess, None), &first.history, &never);
    assert!(between.history.flags.largest_card, "a neighbour does not make a smaller card enough");
    let second = next(&decided(Verdict::OwnDemand, None), &between.history, &never);
    assert_eq!(second.next, Next::FailJob(FailureReason::OutOfGpuMemory));
}

#[test]
fn the_lowest_step_is_tried_on_a_larger_card_before_it_is_given_up() {
    let spec = flashvsr();
    let history = History::fresh(0, 9);
    let lowest = Situation { ran_at: 9, gpu_had: Some(8 * GIB), ..situation(&spec) };
    let end = decided(Verdict::OwnDemand, Some(Stage::Engine));
    let first = next(&end, &history, &lowest);
    assert!(matches!(first.next, Next::Retry(_)) && first.counts && first.history.flags.largest_card);
    assert_eq!(next(&end, &first.history, &lowest).next, Next::Fail(FailureReason::OutOfGpuMemory));
    let proved = Decided { observed_need: Some(25 * GIB), ..end.clone() };
    for (end, situation) in [
        (&end, Situation { gpu_had: Some(24 * GIB), ..lowest.clone() }),
        (&end, Situation { gpu_had: None, ..lowest.clone() }),
        (&proved, lowest.clone()),
    ] {
        assert_eq!(next(end, &history, &situation).next, Next::Fail(FailureReason::OutOfGpuMemory));
    }
}

#[test]
fn only_own_demand_lowers_a_step_that_must_not_fall_by_itself() {
    let mut spec = flashvsr();
    spec.failure.bad_output = BadOutputAnswer::NextStep;
    let never = Situation { policy: DegradationPolicy::Never, ..situation(&spec) };
    let uniform = Situation { uniform: true, ..situation(&spec) };
    let flags = Flags { last_unknown: true, least_context: true, more_memory: true, ..Flags::default() };
    let history = History { flags, pieces: 4, ..History::fresh(0, 2) };
    for held in [&never, &uniform] {
        for verdict in [Verdict::Unknown, Verdict::BadOutput] {
            let turn = next(&decided(verdict, Some(Stage::Engine)), &history, held);
            assert_eq!((turn.history.step, turn.counts, avoided(&turn)), (2, true, Avoid::Gpu), "{verdict}");
        }
        let host = next(&decided(Verdict::HostMemory, Some(Stage::Engine)), &history, held);
        assert_eq!((host.history.step, host.next), (2, Next::Fail(FailureReason::OutOfHostMemory)));
    }
    assert_eq!(next(&decided(Verdict::OwnDemand, None), &history, &uniform).history.step, 3);
}

#[test]
fn a_node_that_refuses_or_loses_pods_again_and_again_is_left_alone() {
    let spec = flashvsr();
    let fresh = History::fresh(0, 2);
    let refused = Decided { refused: true, ..decided(Verdict::Disrupted, None) };
    let turn = next(&refused, &fresh, &situation(&spec));
    assert_eq!((turn.penalty, avoided(&turn), turn.counts), (Penalty::CoolNode, Avoid::Node, false));
    let once = next(&decided(Verdict::Disrupted, None), &fresh, &situation(&spec));
    assert_eq!((once.penalty, avoided(&once)), (Penalty::None, Avoid::Nothing));
    let twice = next(&decided(Verdict::Disrupted, None), &once.history, &situation(&spec));
    assert_eq!((twice.penalty, avoided(&twice)), (Penalty::CoolNode, Avoid::Node));
}

#[test]
fn fragmentation_gets_its_environment_once() {
    let spec = flashvsr();
    let first = next(&decided(Verdict::Fragmentation, None), &History::fresh(0, 2), &situation(&spec));
    assert!(first.counts && first.history.flags.fragmentation_env);
    assert_eq!(first.history.step, 2);
    let second = next(&decided(Verdict::Fragmentation, None), &first.history, &situation(&spec));
    assert_eq!(second.history.step, 3);
    let plain = realesrgan();
    let other = Situation { steps: 0..=3, ran_at: 0, ..situation(&plain) };
    let turn = next(&decided(Verdict::Fragmentation, None), &History::fresh(0, 0), &other);
    assert_eq!((turn.history.step, turn.history.flags.fragmentation_env), (1, false));
}

#[test]
fn host_memory_degrades_in_time_before_space() {
    let spec = flashvsr();
    let mut history = History::fresh(0, 2);
    let mut seen = Vec::new();
    for _ in 0..4 {
        let situation = Situation { ran_at: history.step, ..situation(&spec) };
        history = next(&decided(Verdict::HostMemory, Some(Stage::Engine)), &history, &situation).history;
        seen.push((history.pieces, history.flags.to_string(), history.step));
    }
    let expect = |pieces, flags: &str, step| (pieces, flags.to_owned(), step);
    assert_eq!(seen, [expect(2, "m", 2), expect(4, "m", 2), expect(4, "cm", 2), expect(4, "cm", 3)]);
}

#[test]
fn host_memory_of_our_own_containers_raises_the_limit_only() {
    let spec = flashvsr();
    let end = decided(Verdict::HostMemory, Some(Stage::Finish));
    let first = next(&end, &History::fresh(0, 2), &situation(&spec));
    assert_eq!((first.history.pieces, first.history.flags.more_memory), (1, true));
    let second = next(&end, &first.history, &situation(&spec));
    assert_eq!(second.next, Next::Fail(FailureReason::OutOfHostMemory));
}

#[test]
fn a_second_unknown_in_a_row_counts_and_steps_down() {
    let spec = flashvsr();
    let first = next(&decided(Verdict::Unknown, None), &History::fresh(0, 2), &situation(&spec));
    assert_eq!((first.counts, first.history.step, first.history.flags.last_unknown), (false, 2, true));
    let second = next(&decided(Verdict::Unknown, None), &first.history, &situation(&spec));
    assert_eq!((second.counts, second.history.step), (true, 3));
    let between = next(&decided(Verdict::GpuBusy, None), &first.history, &situation(&spec));
    assert!(!between.history.flags.last_unknown);
}

#[test]
fn a_profile_decides_what_a_wrong_output_leads_to() {
    let mut spec = flashvsr();
    spec.failure.bad_output = BadOutputAnswer::NextStep;
    let turn = next(&decided(Verdict::BadOutput, None), &History::fresh(0, 2), &situation(&spec));
    assert_eq!(turn.history.step, 3);
}

#[test]
fn attempts_run_out_and_permanent_ends_fail_the_job() {
    let spec = flashvsr();
    let last = History { counted: 5, ..History::fresh(0, 2) };
    for (verdict, reason) in [
        (Verdict::EngineError, FailureReason::AttemptsExhausted),
        (Verdict::OwnDemand, FailureReason::OutOfGpuMemory),
        (Verdict::HostMemory, FailureReason::OutOfHostMemory),
    ] {
        let turn = next(&decided(verdict, Some(Stage::Engine)), &last, &situation(&spec));
        assert_eq!(turn.next, Next::Fail(reason), "{verdict}");
    }
    let turn = next(&decided(Verdict::GpuBusy, None), &last, &situation(&spec));
    assert!(matches!(turn.next, Next::Retry(_)));
    let turn = next(&decided(Verdict::Permanent, None), &last, &situation(&spec));
    assert_eq!(turn.next, Next::FailJob(FailureReason::InvalidSource));
}

#[test]
fn a_lost_pods_gpu_is_quarantined_whatever_the_verdict() {
    let spec = flashvsr();
    let lost = Decided { lost: true, ..decided(Verdict::Disrupted, None) };
    assert_eq!(next(&lost, &History::fresh(0, 2), &situation(&spec)).penalty, Penalty::Quarantine);
}

proptest! {
    #[test]
    fn a_segment_never_climbs_and_never_counts_beyond_its_attempts(
        verdicts in prop::collection::vec(prop::sample::select(Verdict::ALL), 1..60), attempts in 1u32..=20,
        largest in prop::option::of(1u64..80), never in any::<bool>(), fits in any::<bool>(),
    ) {
        let spec = flashvsr();
        let mut history = History::fresh(0, 2);
        for verdict in verdicts {
            let situation = Situation {
                ran_at: history.step,
                attempts,
                largest_gpu: largest.map(|gib| gib * GIB),
                policy: if never { DegradationPolicy::Never } else { DegradationPolicy::Automatic },
                more_memory_fits: fits,
                ..situation(&spec)
            };
            let turn = next(&decided(verdict, Some(Stage::Engine)), &history, &situation);
            prop_assert!(turn.history.step >= history.step);
            prop_assert!(turn.history.pieces >= history.pieces);
            prop_assert!(turn.history.counted <= attempts);
            prop_assert_eq!(turn.history.to_string().parse::<History>().unwrap(), turn.history.clone());
            if !matches!(turn.next, Next::Retry(_)) {
                break;
            }
            history = turn.history;
        }
    }
}
