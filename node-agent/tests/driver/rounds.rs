//! Stories of a driver over time: the agent's observer over the real library, in a process of its own, on a virtual
//! clock.

use std::collections::BTreeMap;
use std::time::Duration;

use gpusim::card::Gpu;
use gpusim::control::{Command as Act, DriverAction};
use gpusim::driver::Memory;
use gpusim::script::{Entry, Instance, Rule, Script, Twist};
use video_upscale::api::report::{Health, Kind, Report, State};

use crate::bed::{CARDS, alone};
use crate::watch::{FREE, Watch, rules, wait_until_events_are_heard};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

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

#[test]
fn a_killed_process_is_listed_with_its_peak_for_two_minutes() {
    alone("rounds::a_killed_process_is_listed_with_its_peak_for_two_minutes", CARDS, |bed| {
        let mut watch = Watch::over(&bed.library());
        watch.free_may_be(FREE[0] - 3_000 * MIB);
        watch.round(0);
        let hog = bed.hog(0, 3_000);
        let pid = hog.0.id();
        let listed = |report: Report| {
            // As it stands on the Node, for whoever reads it there.
            let read = Report::parse(&report.print().unwrap()).unwrap();
            let top = read.gpus[0].procs.as_ref().unwrap().top.clone();
            top.into_iter().find(|process| process.p == pid)
        };
        let lives = listed(watch.round(4)).unwrap();
        assert_eq!((lives.b, lives.pk, lives.ended()), (Some(3_000 * MIB), Some(3_000 * MIB), false));
        assert_eq!(lives.e, None);
        drop(hog);
        let mut end = None;
        for second in (6..=124).step_by(2) {
            let dead = listed(watch.round(second)).unwrap();
            assert_eq!((dead.b, dead.pk, dead.t.as_str()), (Some(0), Some(3_000 * MIB), "CE"), "{second} s");
            assert_eq!((dead.k, &dead.u), (lives.k, &lives.u), "{second} s: its owner is still told");
            assert!(dead.e.is_some() && dead.e == *end.get_or_insert(dead.e), "{second} s: {:?}", dead.e);
        }
        assert_eq!(listed(watch.round(126)), None);
    });
}

#[test]
fn a_gpu_whose_events_cannot_be_heard_is_suspect_and_a_library_without_events_makes_none_so() {
    let name =
        "rounds::a_gpu_whose_events_cannot_be_heard_is_suspect_and_a_library_without_events_makes_none_so";
    alone(name, CARDS, |bed| {
        let refused = Rule { gpu: Some(1), ..Rule::code("nvmlDeviceRegisterEvents", 999) };
        rules(bed, vec![refused]);
        let mut watch = Watch::over(&bed.library());
        watch.round(0);
        let report = watch.round_after_event(2);
        assert_eq!((report.gpus[0].h, report.gpus[1].h), (Health::Ok, Health::Suspect));
        // A set that is refused is freed, which the bindings take for granted to be possible.
        rules(bed, vec![Rule::code("nvmlDeviceRegisterEvents", 999)]);
        for lacks in ["nvmlEventSetWait_v2", "nvmlEventSetFree"] {
            let mut watch = Watch::over(&bed.library_without(&[lacks]));
            watch.round(0);
            let heard = watch.next_event(Duration::from_millis(300));
            assert!(heard.is_none(), "without {lacks}: {heard:?}");
        }
    });
}

#[test]
fn what_a_gpu_does_not_support_is_not_asked_again_until_its_mig_mode_changes() {
    let name = "rounds::what_a_gpu_does_not_support_is_not_asked_again_until_its_mig_mode_changes";
    alone(name, CARDS, |bed| {
        let graphics = "nvmlDeviceGetGraphicsRunningProcesses_v3";
        let plays = |mig| {
            let gpus = [(0, Twist { mig, ..Twist::default() })].into();
            let rules = vec![Rule::code(graphics, 3)];
            bed.plays(&Script { rules, gpus, log: true, ..Script::default() });
        };
        let asked = || bed.calls().iter().filter(|call| *call == graphics).count();
        plays(None);
        let mut watch = Watch::over(&bed.library());
        (0..=240).step_by(20).for_each(|second| drop(watch.round(second)));
        assert_eq!(asked(), 2, "once for each GPU");
        plays(Some(BTreeMap::new()));
        (260..=440).step_by(20).for_each(|second| drop(watch.round(second)));
        assert_eq!(asked(), 3, "once more for the one whose mode changed");
    });
}
