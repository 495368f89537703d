//! Every call with every answer, and without every call: whatever happens, nothing is made up.

use std::collections::BTreeMap;
use std::path::Path;

use gpusim::driver::Memory;
use gpusim::script::{Entry, Instance, Rule, Script, Twist};
use video_upscale::api::report::Health;

use crate::bed::{Bed, CARDS, alone};
use crate::watch::{Watch, wait_until_events_are_heard};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// A GPU with everything that there are calls for: instances, and clients of an MPS server.
fn with_everything(server: u32) -> BTreeMap<u32, Twist> {
    let memory = Memory { total: 5 * GIB, reserved: 0, used: GIB, free: 4 * GIB };
    let mig = Some([(0, Instance { uuid: "MIG-0".to_owned(), memory })].into());
    let entry = |pid| Entry { pid, bytes: Some(MIB) };
    let (compute, mps) = (vec![entry(server)], vec![entry(std::process::id())]);
    [(0, Twist { mig, compute, mps, retired_pending: Some(false), ..Twist::default() })].into()
}

/// The calls that the observer makes of a GPU with everything.
fn asked(bed: &Bed, gpus: &BTreeMap<u32, Twist>) -> Vec<String> {
    bed.plays(&Script { gpus: gpus.clone(), log: true, ..Script::default() });
    let mut watch = Watch::over(&bed.library());
    watch.round(0);
    wait_until_events_are_heard(bed);
    let mut calls = bed.calls();
    calls.sort();
    calls.dedup();
    for call in ["nvmlDeviceGetMigDeviceHandleByIndex", "nvmlDeviceGetMPSComputeRunningProcesses_v3"] {
        assert!(calls.iter().any(|made| made == call), "{call} is not in {calls:?}");
    }
    assert!(calls.len() > 22, "{calls:?}");
    calls
}

/// What any call can answer.
const CODES: [i32; 26] =
    [1, 2, 3, 4, 6, 7, 9, 10, 12, 13, 15, 16, 17, 18, 19, 20, 22, 23, 25, 26, 27, 28, 29, 30, 999, -1];

/// Rounds of a library one of whose calls answers each code, at once, or to an agent that has known better.
fn answers_every_code(bed: &Bed, library: &Path, gpus: &BTreeMap<u32, Twist>, call: &str) {
    for (code, after) in CODES.iter().flat_map(|code| [(*code, 0), (*code, 2)]) {
        let rule = Rule { after, ..Rule::code(call, code) };
        // A thread that listens to events would stay for seconds; events have tests of their own.
        let deaf = (!call.contains("Event")).then(|| Rule::code("nvmlEventSetCreate", 3));
        let rules = deaf.into_iter().chain([rule]).collect();
        bed.plays(&Script { rules, gpus: gpus.clone(), ..Script::default() });
        let mut watch = Watch::over(library);
        (0..=120).step_by(20).for_each(|second| drop(watch.round(second)));
    }
}

#[test]
fn whatever_code_any_call_answers_nothing_is_made_up() {
    alone("matrix::whatever_code_any_call_answers_nothing_is_made_up", CARDS, |bed| {
        let server = bed.mps_server();
        let gpus = with_everything(server.0.id());
        for call in asked(bed, &gpus) {
            answers_every_code(bed, &bed.library(), &gpus, &call);
        }
        let old = bed.library_without(&["nvmlDeviceGetMemoryInfo_v2"]);
        answers_every_code(bed, &old, &gpus, "nvmlDeviceGetMemoryInfo");
    });
}

#[test]
fn whatever_call_a_library_lacks_nothing_is_made_up() {
    alone("matrix::whatever_call_a_library_lacks_nothing_is_made_up", CARDS, |bed| {
        let server = bed.mps_server();
        let gpus = with_everything(server.0.id());
        // Two that are made only at an end are lacked, too, and the one that is made where another is lacked.
        let calls = asked(bed, &gpus).into_iter();
        let more = ["nvmlShutdown", "nvmlEventSetFree", "nvmlDeviceGetMemoryInfo"];
        for call in calls.chain(more.map(str::to_owned)) {
            let mut watch = Watch::over(&bed.library_without(&[call.as_str()]));
            let report = (0..=120).step_by(20).map(|second| watch.round(second)).last().unwrap();
            let unwell = report.gpus.iter().filter(|gpu| gpu.h != Health::Ok).count();
            assert_eq!(unwell, 0, "without {call}: {report:?}");
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
