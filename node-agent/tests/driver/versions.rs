//! Old drivers: calls that they lack, and the ones whose process lists have entries of another size.

use gpusim::script::{Entry, Script, Twist};
use video_upscale::api::report::Attribution;

use crate::bed::Bed;

const MIB: u64 = 1 << 20;
const V3: [&str; 3] = [
    "nvmlDeviceGetComputeRunningProcesses_v3",
    "nvmlDeviceGetGraphicsRunningProcesses_v3",
    "nvmlDeviceGetMPSComputeRunningProcesses_v3",
];
const V2: [&str; 3] = [
    "nvmlDeviceGetComputeRunningProcesses_v2",
    "nvmlDeviceGetGraphicsRunningProcesses_v2",
    "nvmlDeviceGetMPSComputeRunningProcesses_v2",
];

fn of_version(version: &str) -> Bed {
    let card = r#"{"model": "NVIDIA L4", "total_mib": 23034}"#;
    Bed::with(&format!(r#"{{"node": "node-a", "driver_version": "{version}", "cards": [{card}]}}"#))
}

fn crowd(number: u32) -> Twist {
    let compute = (1..=number).map(|pid| Entry { pid: 5_000_000 + pid, bytes: Some(u64::from(pid) * MIB) });
    Twist { compute: compute.collect(), ..Twist::default() }
}

#[test]
fn drivers_with_wide_entries_are_never_asked_by_v3() {
    for (version, wide) in [
        ("535.43.02", true),
        ("535.54.03", true),
        ("535.86.10", true),
        ("535.97", true),
        ("535.98", true),
        ("535.104.05", false),
        ("580.95.05", false),
    ] {
        let bed = of_version(version);
        let gpus = [(0, crowd(40))].into();
        bed.plays(&Script { wide_entries: wide, gpus, log: true, ..Script::default() });
        let (report, code) = bed.once();
        let processes = report.gpus[0].procs.as_ref().unwrap();
        assert_eq!((processes.n, processes.b, code), (40, Some(40 * 41 / 2 * MIB), 0), "{version}");
        let by_v3 = bed.calls().iter().filter(|call| V3.contains(&call.as_str())).count();
        let by_v2 = bed.calls().iter().filter(|call| V2.contains(&call.as_str())).count();
        assert_eq!((by_v3 == 0, by_v2 == 0), (wide, !wide), "{version}: {by_v3} by _v3, {by_v2} by _v2");
    }
}

#[test]
fn drivers_with_wide_entries_are_not_asked_by_v3_for_clients_of_an_mps_server_either() {
    let bed = of_version("535.86.10");
    let server = bed.mps_server();
    let own = Entry { pid: std::process::id(), bytes: Some(900 * MIB) };
    let compute = vec![Entry { pid: server.0.id(), bytes: Some(30 * MIB) }];
    let gpus = [(0, Twist { compute, mps: vec![own], ..Twist::default() })].into();
    bed.plays(&Script { wide_entries: true, gpus, log: true, ..Script::default() });
    let (report, code) = bed.once();
    let processes = report.gpus[0].procs.as_ref().unwrap();
    let told: Vec<_> = processes.top.iter().map(|process| (process.p, process.t.as_str())).collect();
    assert_eq!((told, code), (vec![(own.pid, "M"), (server.0.id(), "C")], 0));
    let calls = bed.calls();
    assert!(calls.iter().all(|call| !V3.contains(&call.as_str())), "{calls:?}");
    assert_eq!(calls.iter().filter(|call| *call == V2[2]).count(), 1, "the clients are asked for by _v2");
}

#[test]
fn without_v3_lists_are_read_by_v2_and_without_both_they_are_unknown() {
    let bed = Bed::start();
    bed.twists(0, crowd(3));
    let (report, code) = bed.once_over(&bed.library_without(&V3));
    let processes = report.gpus[0].procs.as_ref().unwrap();
    assert_eq!((processes.n, processes.b, report.gpus[0].una, code), (3, Some(6 * MIB), Some(0), 0));
    let (report, code) = bed.once_over(&bed.library_without(&[V3, V2].concat()));
    let gpu = &report.gpus[0];
    assert_eq!((report.attr, gpu.procs.as_ref(), gpu.una, code), (Attribution::None, None, None, 5));
    assert_eq!((gpu.why.as_deref(), gpu.free), (Some("UnreadableLists"), Some((16_376 - 300) * MIB)));
}

#[test]
fn without_the_second_memory_call_the_first_is_asked() {
    let bed = Bed::start();
    let _held = bed.hold(0, 1_000 * MIB);
    let (report, code) = bed.once_over(&bed.library_without(&["nvmlDeviceGetMemoryInfo_v2"]));
    let gpu = &report.gpus[0];
    assert_eq!((gpu.tot, gpu.free), (Some(16_376 * MIB), Some((16_376 - 300 - 1_000) * MIB)));
    assert_eq!((gpu.rsv, code), (None, 5), "what the driver keeps is not told by so old a driver");
    let neither = ["nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetMemoryInfo"];
    let (report, code) = bed.once_over(&bed.library_without(&neither));
    let gpu = &report.gpus[0];
    assert_eq!((gpu.free, gpu.why.as_deref(), code), (None, Some("FunctionNotFound"), 5));
}
