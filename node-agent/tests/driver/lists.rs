//! Process lists: long, growing, wrong, and full of processes that are no longer or not quite there.

use std::process::Command;

use gpusim::script::{Entry, Growth, Rule, Script, Twist};
use video_upscale::api::report::{Attribution, Kind, MAX_BYTES, Process, Report};

use crate::bed::{Bed, Running, eventually};

const MIB: u64 = 1 << 20;

fn entry(pid: u32, mib: u64) -> Entry {
    Entry { pid, bytes: Some(mib * MIB) }
}

fn listed(report: &Report) -> &[Process] {
    &report.gpus[0].procs.as_ref().unwrap().top
}

#[test]
fn a_list_that_grows_while_it_is_read_is_read_again_and_one_without_end_is_unknown() {
    let bed = Bed::start();
    bed.twists(0, Twist { growth: Growth { by: 100, times: 2 }, ..Twist::default() });
    let (report, code) = bed.once();
    let processes = report.gpus[0].procs.as_ref().unwrap();
    assert_eq!((processes.n, processes.b, code), (200, Some(200 * MIB), 0));
    for by in [1_000, 100_000] {
        bed.twists(0, Twist { growth: Growth { by, times: 1_000 }, ..Twist::default() });
        let (report, code) = bed.once();
        let gpu = &report.gpus[0];
        assert_eq!((gpu.procs.as_ref(), gpu.una, code), (None, None, 5), "{by}");
        assert_eq!(gpu.free, Some((16_376 - 300) * MIB), "{by}: memory is known all the same");
        assert!(gpu.why.is_some() && report.gpus[1].procs.is_some(), "{by}");
    }
}

#[test]
fn sixteen_gpus_with_two_hundred_processes_each_fit_into_the_annotation() {
    let cards = [r#"{"model": "NVIDIA L4", "total_mib": 23034}"#; 16].join(",");
    let bed = Bed::with(&format!(r#"{{"node": "node-a", "cards": [{cards}]}}"#));
    let compute: Vec<Entry> = (0..200).map(|pid| entry(5_000_000 + pid, 1)).collect();
    let crowded = Twist { compute, ..Twist::default() };
    let gpus = (0..16).map(|gpu| (gpu, crowded.clone())).collect();
    bed.plays(&Script { gpus, ..Script::default() });
    let (report, code) = bed.once();
    let whole = report.gpus.iter().filter(|gpu| listed_all(gpu.procs.as_ref().unwrap().n, 200));
    assert_eq!((whole.count(), listed(&report).len(), code), (16, 200, 0));
    let output = bed.agent(&["--once", "-o", "report"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.trim_end().len() <= MAX_BYTES, "{} bytes", text.len());
    let published = Report::parse(text.trim_end()).unwrap();
    let processes = published.gpus[15].procs.as_ref().unwrap();
    assert_eq!((processes.n, processes.b), (200, Some(200 * MIB)), "the sums stay whole");
    assert_eq!(processes.top.len() + processes.more as usize, 200);
}

fn listed_all(number: u32, of: u32) -> bool {
    number == of
}

#[test]
fn a_process_that_is_listed_twice_is_one() {
    let bed = Bed::start();
    let own = std::process::id();
    let compute = vec![entry(own, 5), entry(own, 8)];
    bed.twists(0, Twist { compute, graphics: vec![entry(own, 2)], ..Twist::default() });
    let (report, _) = bed.once();
    let process = &listed(&report)[0];
    assert_eq!((report.gpus[0].procs.as_ref().unwrap().n, process.p), (1, own));
    assert_eq!((process.b, process.t.as_str()), (Some(8 * MIB), "CG"));
}

#[test]
fn an_id_without_a_process_is_nobodys() {
    let bed = Bed::start();
    bed.twists(0, Twist { compute: vec![entry(5_000_001, 64)], ..Twist::default() });
    let (report, _) = bed.once();
    assert_eq!((listed(&report)[0].k, listed(&report)[0].u.as_deref()), (Kind::Unknown, None));
}

#[test]
fn a_dead_child_that_nobody_collected_is_told_as_such() {
    let bed = Bed::start();
    let mut dead = Running(Command::new("true").spawn().unwrap());
    let stat = format!("/proc/{}/stat", dead.0.id());
    eventually("it is dead", || std::fs::read_to_string(&stat).unwrap().contains(") Z "));
    bed.twists(0, Twist { compute: vec![entry(dead.0.id(), 700)], ..Twist::default() });
    let (report, _) = bed.once();
    assert_eq!((listed(&report)[0].p, listed(&report)[0].t.as_str()), (dead.0.id(), "CZ"));
    dead.0.wait().unwrap();
}

#[test]
fn memory_that_is_not_told_or_cannot_be_is_unknown() {
    let bed = Bed::start();
    let own = std::process::id();
    for bytes in [None, Some(1 << 60)] {
        let compute = vec![Entry { pid: own, bytes }, entry(5_000_001, 64)];
        bed.twists(0, Twist { compute, ..Twist::default() });
        let (report, code) = bed.once();
        let gpu = &report.gpus[0];
        let processes = gpu.procs.as_ref().unwrap();
        assert_eq!((processes.n, processes.b, gpu.una, code), (2, None, None, 5), "{bytes:?}");
        let process = processes.top.iter().find(|process| process.p == own).unwrap();
        assert_eq!((process.b, process.pk), (None, None), "{bytes:?}");
    }
}

#[test]
fn clients_of_an_mps_server_are_asked_for_where_one_is_seen() {
    let bed = Bed::start();
    let client = std::process::id();
    let mps = |server: u32| Twist {
        compute: vec![entry(server, 30)],
        mps: vec![entry(client, 900)],
        ..Twist::default()
    };
    bed.twists(0, mps(5_000_001));
    let asked = |bed: &Bed| bed.calls().iter().filter(|call| call.contains("MPS")).count();
    assert_eq!((bed.once().0.gpus[0].procs.as_ref().unwrap().n, asked(&bed)), (1, 0));
    let server = bed.mps_server();
    bed.twists(0, mps(server.0.id()));
    let (report, code) = bed.once();
    let told: Vec<_> =
        listed(&report).iter().map(|process| (process.p, process.k, process.t.as_str())).collect();
    assert_eq!((told[0].0, told[0].2), (client, "M"));
    assert_eq!(told[1], (server.0.id(), Kind::Mps, "C"));
    assert_eq!((told.len(), asked(&bed), code), (2, 1, 0));
}

#[test]
fn lists_that_are_refused_are_unknown_and_an_unsupported_one_is_empty() {
    let bed = Bed::start();
    let compute = "nvmlDeviceGetComputeRunningProcesses_v3";
    let graphics = "nvmlDeviceGetGraphicsRunningProcesses_v3";
    for (call, code, known) in
        [(compute, 4, false), (compute, 3, false), (graphics, 3, true), (graphics, 999, false)]
    {
        bed.plays(&Script { rules: vec![Rule::code(call, code)], ..Script::default() });
        let (report, _) = bed.once();
        let procs = report.gpus[0].procs.as_ref();
        assert_eq!((procs.is_some(), report.attr != Attribution::None), (known, known), "{call} {code}");
        assert_eq!(report.gpus[0].una.is_some(), known, "{call} {code}");
    }
}
