//! Stories of a driver over time: the agent's observer over the real library, in a process of its own, on a virtual
//! clock.

use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use gpusim::card::Gpu;
use gpusim::control::{Command as Act, DriverAction};
use gpusim::driver::Memory;
use gpusim::script::{Entry, Instance, Rule, Script, Twist};
use prometheus_client::registry::Registry;
use upscale_agent::{Calls, Clock, FreeMemory, Head, Now, NvmlProbe, Observer, Proc, XidEvent, build};
use video_upscale::api::report::{Health, Kind, Report, State};

use crate::bed::{Bed, CARDS, alone, eventually};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const FREE: [u64; 2] = [(16_376 - 300) * MIB, 5_192 * MIB];

/// The sampler's work, with the time in the test's hand.
struct Watch {
    observer: Observer<NvmlProbe>,
    xids: Receiver<XidEvent>,
}

impl Watch {
    fn over(library: &Path) -> Self {
        let (heard, xids) = channel();
        let calls = Calls::register(&mut Registry::default(), Clock::start());
        let probe = NvmlProbe::new(Some(library.to_owned()), calls, heard);
        Self { observer: Observer::new(probe, Proc::open("/proc", None)), xids }
    }

    /// A round at that second; whatever the driver says, no value is made up.
    fn round(&mut self, second: u64) -> Report {
        let heard: Vec<XidEvent> = self.xids.try_iter().collect();
        self.told(&heard, second)
    }

    /// A round after the next event.
    fn round_after_event(&mut self, second: u64) -> Report {
        let event = self.xids.recv_timeout(Duration::from_secs(20)).unwrap();
        self.told(&[event], second)
    }

    fn told(&mut self, heard: &[XidEvent], second: u64) -> Report {
        let up = Duration::from_secs(second);
        let start: jiff::Timestamp = "2026-11-23T07:50:11Z".parse().unwrap();
        let snapshot = self.observer.round(heard, Now { up, wall: start.saturating_add(up).unwrap() });
        let head = Head { ns: "ops".to_owned(), inst: "0123abcd".to_owned(), hb: 300 };
        let report = build(&snapshot, snapshot.state, &head, FreeMemory::Measured);
        for gpu in &report.gpus {
            assert!(gpu.free.is_none_or(|free| FREE.contains(&free)), "free of {gpu:?}");
            assert!(gpu.una.is_none_or(|bytes| bytes <= 16 * GIB), "unattributed of {gpu:?}");
            assert!(gpu.free.is_some() || gpu.why.is_some(), "unknown without a reason: {gpu:?}");
        }
        report
    }

    /// Rounds from `second` on until the view is no longer well; what it is then, and how many rounds it took.
    fn until_unwell(&mut self, second: u64) -> (Report, usize) {
        let mut rounds = (second..second + 2_000).step_by(2).map(|second| self.round(second)).enumerate();
        let (before, report) = rounds.find(|(_, report)| report.state != State::Ok).unwrap();
        (report, before)
    }
}

fn rules(bed: &Bed, rules: Vec<Rule>) {
    bed.plays(&Script { rules, log: true, ..Script::default() });
}

fn wait_until_events_are_heard(bed: &Bed) {
    eventually("events are waited for", || bed.calls().iter().any(|call| call == "nvmlEventSetWait_v2"));
}

#[test]
fn a_driver_that_comes_late_is_found_after_three_tries() {
    alone("rounds::a_driver_that_comes_late_is_found_after_three_tries", CARDS, |bed| {
        rules(bed, vec![Rule { times: Some(3), ..Rule::code("nvmlInit_v2", 9) }]);
        let mut watch = Watch::over(&bed.library());
        let states: Vec<(State, usize)> = (0..10)
            .step_by(2)
            .map(|second| watch.round(second))
            .map(|report| (report.state, report.gpus.len()))
            .collect();
        // The pauses are 1, 2 and 4 seconds.
        let none = (State::NoDriver, 0);
        assert_eq!(states, [none, none, none, none, (State::Ok, 2)]);
    });
}

#[test]
fn a_driver_that_is_replaced_after_a_hundred_calls_is_told_at_once() {
    alone("rounds::a_driver_that_is_replaced_after_a_hundred_calls_is_told_at_once", CARDS, |bed| {
        rules(bed, vec![Rule { after: 100, ..Rule::code("*", 18) }]);
        let mut watch = Watch::over(&bed.library());
        let (report, rounds) = watch.until_unwell(0);
        assert_eq!(report.state, State::DriverMismatch);
        assert!(rounds > 10 && (100..120).contains(&bed.calls().len()), "{rounds}, {}", bed.calls().len());
        assert!(report.gpus.iter().any(|gpu| gpu.why.as_deref() == Some("DriverMismatch")), "{report:?}");
    });
}

#[test]
fn devices_that_are_taken_away_after_a_hundred_calls_are_told_at_the_third_round() {
    alone(
        "rounds::devices_that_are_taken_away_after_a_hundred_calls_are_told_at_the_third_round",
        CARDS,
        |bed| {
            for code in [999, 17] {
                rules(bed, vec![Rule { after: 100, ..Rule::code("nvmlDeviceGetMemoryInfo_v2", code) }]);
                let (report, rounds) = Watch::over(&bed.library()).until_unwell(0);
                // Two GPUs: fifty good rounds, two of doubt.
                assert_eq!((report.state, rounds), (State::DeviceAccessLost, 52), "{code}");
                assert!(report.gpus.iter().all(|gpu| gpu.free.is_none()), "{report:?}");
                rules(bed, vec![Rule { after: 100, ..Rule::code("*", code) }]);
                let (report, _) = Watch::over(&bed.library()).until_unwell(0);
                assert_eq!(report.state, State::DeviceAccessLost, "{code}");
            }
        },
    );
}

#[test]
fn one_lost_gpu_is_lost_and_the_other_goes_on() {
    alone("rounds::one_lost_gpu_is_lost_and_the_other_goes_on", CARDS, |bed| {
        let mut watch = Watch::over(&bed.library());
        watch.round(0);
        rules(bed, vec![Rule { gpu: Some(1), ..Rule::code("*", 15) }]);
        for second in (2..400).step_by(2) {
            let report = watch.round(second);
            let told: Vec<_> = report.gpus.iter().map(|gpu| (gpu.h, gpu.free)).collect();
            assert_eq!(told, [(Health::Ok, Some(FREE[0])), (Health::Lost, None)], "{second} s");
            assert_eq!(report.state, State::Ok);
        }
        assert_eq!(
            bed.calls().iter().filter(|call| call.starts_with("nvmlInit")).count(),
            0,
            "no second start"
        );
    });
}

#[test]
fn an_unloaded_driver_is_told_and_found_again() {
    alone("rounds::an_unloaded_driver_is_told_and_found_again", CARDS, |bed| {
        let mut watch = Watch::over(&bed.library());
        assert_eq!(watch.round(0).state, State::Ok);
        bed.control(&Act::Driver { action: DriverAction::Unload, version: None });
        let report = watch.round(2);
        assert_eq!((report.state, report.gpus.len()), (State::NoDriver, 0));
        bed.control(&Act::Driver { action: DriverAction::Load, version: None });
        let states: Vec<State> = (4..70).step_by(2).map(|second| watch.round(second).state).collect();
        assert_eq!(states.last(), Some(&State::Ok), "{states:?}");
    });
}

#[test]
fn mig_mode_comes_and_goes() {
    alone("rounds::mig_mode_comes_and_goes", CARDS, |bed| {
        let mut watch = Watch::over(&bed.library());
        let report = watch.round(0);
        assert_eq!((report.gpus[0].mig, report.gpus[0].mis.len()), (false, 0));
        let instance = |slot: u32, free: u64| {
            let memory = Memory { total: 5 * GIB, reserved: 0, used: (5 * GIB).saturating_sub(free), free };
            (slot, Instance { uuid: format!("MIG-{slot}"), memory })
        };
        // Slots 1 and 3 to 6 are empty; the figures of the instance in slot 2 cannot be.
        let mig = Some([instance(0, 4 * GIB), instance(2, 6 * GIB)].into());
        bed.twists(0, Twist { mig, ..Twist::default() });
        let report = (2..=62).step_by(2).map(|second| watch.round(second)).last().unwrap();
        let told: Vec<_> =
            report.gpus[0].mis.iter().map(|mig| (mig.id.as_str(), mig.tot, mig.free)).collect();
        assert_eq!(told, [("MIG-0", Some(5 * GIB), Some(4 * GIB)), ("MIG-2", None, None)]);
        assert_eq!((report.gpus[0].mig, report.gpus[1].mig, report.gpus[0].h), (true, false, Health::Ok));
        bed.plays(&Script::default());
        let report = (64..=124).step_by(2).map(|second| watch.round(second)).last().unwrap();
        assert_eq!((report.gpus[0].mig, report.gpus[0].mis.len()), (false, 0));
    });
}

#[test]
fn an_xid_of_a_program_says_nothing_of_the_card_and_one_of_the_card_does() {
    alone("rounds::an_xid_of_a_program_says_nothing_of_the_card_and_one_of_the_card_does", CARDS, |bed| {
        bed.plays(&Script { log: true, ..Script::default() });
        let mut watch = Watch::over(&bed.library());
        watch.round(0);
        wait_until_events_are_heard(bed);
        bed.control(&Act::Xid { gpu: Gpu::Index(1), code: 13 });
        let report = watch.round_after_event(2);
        assert_eq!((report.gpus[1].h, report.gpus[1].xid), (Health::Ok, None));
        bed.control(&Act::Xid { gpu: Gpu::Index(1), code: 79 });
        let report = watch.round_after_event(4);
        assert_eq!((report.gpus[1].h, report.gpus[1].xid), (Health::Bad, Some(79)));
        assert!(report.gpus[1].xat.is_some() && report.gpus[0].h == Health::Ok, "{report:?}");
    });
}

#[test]
fn events_of_kinds_without_a_name_disturb_nothing() {
    alone("rounds::events_of_kinds_without_a_name_disturb_nothing", CARDS, |bed| {
        let with_bits = |event_bits| Twist { event_bits, ..Twist::default() };
        // GPU 0 has kinds beside Xid that no reader of today names; GPU 1 has only such.
        let gpus = [(0, with_bits(0x8 | 0x200 | 0x8000)), (1, with_bits(0x200))].into();
        bed.plays(&Script { gpus, log: true, ..Script::default() });
        let mut watch = Watch::over(&bed.library());
        assert!(watch.round(0).gpus.iter().all(|gpu| gpu.h == Health::Ok));
        wait_until_events_are_heard(bed);
        bed.control(&Act::Xid { gpu: Gpu::Index(0), code: 48 });
        let report = watch.round_after_event(2);
        assert_eq!((report.gpus[0].h, report.gpus[0].xid), (Health::Suspect, Some(48)));
        assert_eq!(report.gpus[1].h, Health::Ok, "that its Xids cannot be heard is no sign");
    });
}

#[test]
fn memory_errors_that_come_make_a_card_suspect_for_ten_minutes() {
    alone("rounds::memory_errors_that_come_make_a_card_suspect_for_ten_minutes", CARDS, |bed| {
        let errors = |count| bed.twists(0, Twist { ecc_uncorrected: Some(count), ..Twist::default() });
        errors(3);
        let mut watch = Watch::over(&bed.library());
        assert_eq!(watch.round(0).gpus[0].h, Health::Ok, "those were there before");
        errors(4);
        let health: Vec<Health> = [60, 658, 660].map(|second| watch.round(second).gpus[0].h).into();
        assert_eq!(health, [Health::Suspect, Health::Suspect, Health::Ok]);
    });
}

#[test]
fn an_id_without_a_process_is_a_ghost_at_the_third_sweep() {
    alone("rounds::an_id_without_a_process_is_a_ghost_at_the_third_sweep", CARDS, |bed| {
        let ghost = Entry { pid: 5_000_001, bytes: Some(MIB) };
        bed.twists(0, Twist { compute: vec![ghost], ..Twist::default() });
        let mut watch = Watch::over(&bed.library());
        let mut kind = |second| watch.round(second).gpus[0].procs.as_ref().unwrap().top[0].k;
        assert_eq!([0, 60, 120].map(&mut kind), [Kind::Unknown, Kind::Unknown, Kind::Ghost]);
    });
}

/// The calls that the observer makes.
fn asked(bed: &Bed) -> Vec<String> {
    bed.plays(&Script { log: true, ..Script::default() });
    let mut watch = Watch::over(&bed.library());
    watch.round(0);
    wait_until_events_are_heard(bed);
    let mut calls = bed.calls();
    calls.sort();
    calls.dedup();
    assert!(calls.len() > 15, "{calls:?}");
    calls
}

#[test]
fn whatever_code_any_call_answers_nothing_is_made_up() {
    alone("rounds::whatever_code_any_call_answers_nothing_is_made_up", CARDS, |bed| {
        let codes = [
            1, 2, 3, 4, 6, 7, 9, 10, 12, 13, 15, 16, 17, 18, 19, 20, 22, 23, 25, 26, 27, 28, 29, 30, 999, -1,
        ];
        for call in asked(bed) {
            // At once, or to an agent that has known better.
            for (code, after) in codes.iter().flat_map(|code| [(*code, 0), (*code, 2)]) {
                let rule = Rule { after, ..Rule::code(&call, code) };
                // A thread that listens to events would stay for seconds; events have tests of their own.
                let deaf = Rule::code("nvmlEventSetCreate", 3);
                let deaf = (!call.contains("Event")).then_some(deaf);
                bed.plays(&Script { rules: deaf.into_iter().chain([rule]).collect(), ..Script::default() });
                let mut watch = Watch::over(&bed.library());
                (0..=120).step_by(20).for_each(|second| drop(watch.round(second)));
            }
        }
    });
}

#[test]
fn whatever_call_a_library_lacks_nothing_is_made_up() {
    alone("rounds::whatever_call_a_library_lacks_nothing_is_made_up", CARDS, |bed| {
        // Without these two the bindings themselves panic; every driver that has the rest has them.
        let needed = ["nvmlShutdown", "nvmlEventSetFree"];
        for call in asked(bed).iter().filter(|call| !needed.contains(&call.as_str())) {
            let mut watch = Watch::over(&bed.library_without(&[call.as_str()]));
            let report = (0..=120).step_by(20).map(|second| watch.round(second)).last().unwrap();
            let known = report.gpus.iter().filter(|gpu| gpu.free.is_some()).count();
            let vital = [
                "nvmlInit_v2",
                "nvmlDeviceGetCount_v2",
                "nvmlDeviceGetHandleByIndex_v2",
                "nvmlDeviceGetUUID",
            ];
            let expected = if vital.contains(&call.as_str()) { 0 } else { 2 };
            assert_eq!(known, expected, "without {call}: {report:?}");
        }
    });
}
