//! Drivers and GPUs that say strange things of themselves: what cannot be is unknown, the rest is known.

use gpusim::card::uuid;
use gpusim::driver::Memory;
use gpusim::script::{Rule, Script, Twist};
use video_upscale::api::report::{Attribution, ComputeMode, Health, Report, State};

use crate::bed::Bed;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// Free memory of the idle cards.
const FREE: [u64; 2] = [(16_376 - 300) * MIB, 5_192 * MIB];

#[test]
fn figures_of_memory_that_cannot_be_are_unknown() {
    let bed = Bed::start();
    let figures = |total, reserved, used, free| Memory { total, reserved, used, free };
    for (what, memory) in [
        ("more free than there is", figures(8 * GIB, 0, 0, 9 * GIB)),
        ("no memory at all", figures(0, 0, 0, 0)),
        ("more used than there is", figures(8 * GIB, 0, 9 * GIB, 0)),
        ("nothing available", figures(u64::MAX, u64::MAX, u64::MAX, u64::MAX)),
    ] {
        bed.twists(1, Twist { memory: Some(memory), ..Twist::default() });
        let (report, code) = bed.once();
        let gpu = &report.gpus[1];
        assert_eq!((gpu.tot, gpu.rsv, gpu.free, gpu.una), (None, None, None, None), "{what}");
        assert_eq!((gpu.why.as_deref(), code), (Some("Implausible"), 5), "{what}");
        assert_eq!(report.gpus[0].free, Some(FREE[0]), "{what}: the other GPU");
    }
}

#[test]
fn a_name_may_be_long_or_no_text_at_all() {
    let bed = Bed::start();
    let long = "N".repeat(95);
    for (name, told) in [(long.as_str(), long.as_str()), ("NVIDIA \u{ff}\u{e4}", "")] {
        bed.twists(0, Twist { name: Some(name.to_owned()), ..Twist::default() });
        let (report, code) = bed.once();
        assert_eq!(
            (report.gpus[0].n.as_str(), report.gpus[0].free, code),
            (told, Some(FREE[0]), 0),
            "{name}"
        );
    }
}

#[test]
fn a_gpu_that_cannot_be_keyed_is_not_told_and_not_passed_over_in_silence() {
    let bed = Bed::start();
    bed.twists(0, Twist { uuid: Some(String::new()), ..Twist::default() });
    let (report, code) = bed.once();
    assert_eq!((report.gpus.len(), report.gpus[0].i, report.gpus[0].free, code), (1, 1, Some(FREE[1]), 5));
    let table = bed.agent(&["--once", "-o", "table"]).output().unwrap();
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(table.contains("1 of 2 GPUs cannot be named: implausible answer"), "{table}");
}

#[test]
fn two_gpus_with_one_uuid_are_not_measured() {
    let bed = Bed::start();
    bed.twists(1, Twist { uuid: Some(uuid(7, "node-a", 0)), ..Twist::default() });
    let (report, code) = bed.once();
    let gpu = &report.gpus[0];
    assert_eq!((report.gpus.len(), gpu.free, gpu.procs.as_ref(), code), (1, None, None, 5));
    assert_eq!(gpu.why.as_deref(), Some("DuplicateUuid"));
}

#[test]
fn no_gpu_and_sixteen_gpus_are_what_they_are() {
    let none = Bed::with(r#"{"node": "node-a", "cards": []}"#);
    let (report, code) = none.once();
    assert_eq!((report.state, report.gpus.len(), code), (State::NoGpu, 0, 4));
    let cards = [r#"{"model": "NVIDIA L4", "total_mib": 23034}"#; 16].join(",");
    let many = Bed::with(&format!(r#"{{"node": "node-a", "cards": [{cards}]}}"#));
    let (report, code) = many.once();
    let known = report.gpus.iter().filter(|gpu| gpu.free == Some(23_034 * MIB)).count();
    assert_eq!((report.state, known, code), (State::Ok, 16, 0));
}

#[test]
fn gpus_that_change_places_keep_their_memory() {
    let bed = Bed::start();
    let _held = bed.hold(0, 3 * GIB);
    let facts = |report: &Report| {
        let mut facts: Vec<_> = report.gpus.iter().map(|gpu| (gpu.id.clone(), gpu.free, gpu.i)).collect();
        facts.sort();
        facts
    };
    let before = facts(&bed.once().0);
    bed.plays(&Script { reversed: true, ..Script::default() });
    let swapped = before.iter().map(|(id, free, index)| (id.clone(), *free, 1 - index)).collect::<Vec<_>>();
    assert_eq!(facts(&bed.once().0), swapped);
}

#[test]
fn signs_of_ill_health_and_modes_are_told() {
    let bed = Bed::start();
    let healths = [
        ("rows wait", Twist { remapped_pending: 1, ..Twist::default() }, Health::ResetRequired),
        ("rows lost", Twist { remapped_failure: 1, ..Twist::default() }, Health::Bad),
        ("pages wait", Twist { retired_pending: Some(true), ..Twist::default() }, Health::ResetRequired),
        ("no page waits", Twist { retired_pending: Some(false), ..Twist::default() }, Health::Ok),
        ("old memory errors", Twist { ecc_uncorrected: Some(3), ..Twist::default() }, Health::Ok),
    ];
    for (what, twist, health) in healths {
        bed.twists(1, twist);
        let (report, code) = bed.once();
        assert_eq!((report.gpus[1].h, report.gpus[1].free, code), (health, Some(FREE[1]), 0), "{what}");
        assert_eq!(report.gpus[0].h, Health::Ok, "{what}: the other GPU");
    }
    for (mode, told) in [
        (0, None),
        (2, Some(ComputeMode::Prohibited)),
        (3, Some(ComputeMode::ExclusiveProcess)),
        (9, Some(ComputeMode::Unknown)),
    ] {
        bed.twists(0, Twist { compute_mode: mode, ..Twist::default() });
        assert_eq!(bed.once().0.gpus[0].cm, told, "mode {mode}");
    }
}

#[test]
fn a_library_that_is_not_there_or_will_not_start_is_no_driver() {
    let bed = Bed::start();
    for library in [bed.path("no-such-library.so"), bed.library_without(&["nvmlInit_v2"])] {
        let (report, code) = bed.once_over(&library);
        assert_eq!((report.state, report.gpus.len(), code), (State::NoDriver, 0, 3), "{library:?}");
    }
    for (number, state, expected) in [
        (9, State::NoDriver, 3),
        (12, State::NoDriver, 3),
        (4, State::NoDriver, 3),
        (18, State::DriverMismatch, 3),
        (28, State::NoGpu, 4),
        // Devices that were taken away count at the third round; one sample has one.
        (999, State::NoDriver, 3),
    ] {
        bed.plays(&Script { rules: vec![Rule::code("nvmlInit_v2", number)], ..Script::default() });
        let (report, code) = bed.once();
        assert_eq!((report.state, report.gpus.len(), code), (state, 0, expected), "{number}");
    }
}

#[test]
fn under_confidential_computing_nothing_that_processes_hold_is_told_and_no_leak() {
    let bed = Bed::start();
    let _held = bed.hold(0, 5 * GIB);
    bed.plays(&Script { confidential: true, ..Script::default() });
    let (report, code) = bed.once();
    let gpu = &report.gpus[0];
    let processes = gpu.procs.as_ref().unwrap();
    assert_eq!((gpu.cc, gpu.free, code), (true, Some(FREE[0] - 5 * GIB), 5));
    assert_eq!((processes.n, processes.b, gpu.una), (1, None, None), "who is there, not with how much");
    assert_eq!(
        (processes.top[0].p, processes.top[0].b, processes.top[0].pk),
        (std::process::id(), None, None)
    );
    bed.plays(&Script::default());
    let (report, code) = bed.once();
    assert_eq!((report.gpus[0].cc, report.gpus[0].una, code), (false, Some(0), 0));
}

#[test]
fn memory_that_is_a_numa_node_is_told_as_such_and_measured_as_ever() {
    let bed = Bed::start();
    let _held = bed.hold(0, 5 * GIB);
    bed.twists(0, Twist { numa: Some(4), ..Twist::default() });
    let (report, code) = bed.once();
    let told: Vec<_> = report.gpus.iter().map(|gpu| (gpu.numa, gpu.free, gpu.una)).collect();
    let expected = [(true, Some(FREE[0] - 5 * GIB), Some(0)), (false, Some(FREE[1]), Some(0))];
    assert_eq!((told, code), (expected.to_vec(), 0));
}

#[test]
fn the_lists_of_a_gpu_that_hosts_virtual_ones_are_not_asked_for_and_those_inside_one_are() {
    let bed = Bed::start();
    let _held = bed.hold(0, 5 * GIB);
    for (mode, listed) in [(0, true), (1, true), (2, true), (3, false), (9, true)] {
        bed.twists(0, Twist { virtualization: mode, ..Twist::default() });
        let before = bed.calls().len();
        let (report, code) = bed.once();
        let lists =
            bed.calls().split_off(before).iter().filter(|call| call.contains("RunningProcesses")).count();
        let gpu = &report.gpus[0];
        assert_eq!((gpu.procs.is_some(), gpu.una.is_some()), (listed, listed), "mode {mode}");
        assert_eq!((gpu.free, gpu.h), (Some(FREE[0] - 5 * GIB), Health::Ok), "mode {mode}");
        let (why, expected) = if listed { (None, 0) } else { (Some("HostsVgpus"), 5) };
        assert_eq!((gpu.why.as_deref(), code), (why, expected), "mode {mode}");
        assert_eq!(lists, if listed { 4 } else { 2 }, "mode {mode}: of both GPUs");
        assert_eq!(report.attr, Attribution::Full, "mode {mode}: the other GPU is read");
    }
    let alone = Twist { virtualization: 3, ..Twist::default() };
    bed.plays(&Script { gpus: [(0, alone.clone()), (1, alone)].into(), ..Script::default() });
    assert_eq!(bed.once().0.attr, Attribution::None);
}

#[test]
fn a_gpu_that_cannot_say_yet_how_it_is_run_is_not_taken_for_a_plain_one() {
    let bed = Bed::start();
    for (call, gpu) in [
        ("nvmlSystemGetConfComputeSettings", None),
        ("nvmlDeviceGetNumaNodeId", Some(0)),
        ("nvmlDeviceGetVirtualizationMode", Some(0)),
    ] {
        for (code, known) in [(3, true), (13, true), (999, true), (27, false), (15, false)] {
            let rule = Rule { gpu, ..Rule::code(call, code) };
            bed.plays(&Script { rules: vec![rule], ..Script::default() });
            let (report, _) = bed.once();
            let named: Vec<u32> = report.gpus.iter().map(|gpu| gpu.i).collect();
            // Confidential computing is asked of the machine, so it is unknown of every GPU.
            let expected: &[u32] = if known {
                &[0, 1]
            } else if gpu.is_none() {
                &[]
            } else {
                &[1]
            };
            assert_eq!(named, expected, "{call} {code}");
            assert_eq!(
                report.state == State::Ok,
                known || gpu.is_some(),
                "{call} {code}: {:?}",
                report.state
            );
        }
    }
}
