//! The real program at rest: eight GPUs, half of them in use by a process that keeps still.

use std::collections::BTreeMap;
use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use gpusim::script::Script;

use crate::bed::{Bed, Server, ask, eventually, free_port, publishing};
use crate::figure::Figures;

const GPUS: usize = 8;
const MIB: u64 = 1 << 20;
/// Sweeps of all GPUs before the program is watched, and those while it is: from the end of one to that of another.
const SWEEPS_BEFORE: usize = 2;
const SWEEPS: usize = 2;
/// Lists that a sweep of a GPU reads: who computes and who draws.
const LISTS: usize = 2;
/// Longest wait for a sweep, which comes once a minute.
const SWEEP_LIMIT: Duration = Duration::from_secs(70);
/// Ticks per second in `/proc/PID/stat`: `USER_HZ`, the same on every Linux.
const TICKS: f64 = 100.0;
/// Periods of the chart's probes, and of a usual scrape.
const LIVENESS: Duration = Duration::from_secs(10);
const READINESS: Duration = Duration::from_secs(5);
const SCRAPE: Duration = Duration::from_secs(30);
/// Work of a call in microseconds: medians on an RTX 4090 in flightlessmango/MangoHud#2104.
const COSTS: [(&str, u64); 4] = [
    ("nvmlDeviceGetMemoryInfo_v2", 12),
    ("nvmlDeviceGetComputeRunningProcesses_v3", 4_500),
    ("nvmlDeviceGetGraphicsRunningProcesses_v3", 4_500),
    ("nvmlDeviceGetMPSComputeRunningProcesses_v3", 4_500),
];

/// Watches the program and adds what it costs.
pub fn measure(figures: &mut Figures) {
    let card = r#"{"model": "NVIDIA L40S", "total_mib": 46068, "reserved_mib": 591}"#;
    let bed =
        Bed::with(&format!(r#"{{"node": "node-a", "seed": 7, "cards": [{}]}}"#, [card; GPUS].join(",")));
    let costs = COSTS.map(|(call, micros)| (call.to_owned(), micros)).into();
    Script { costs, log: true, ..Script::default() }.play(&bed.path("")).unwrap();
    let _held: Vec<_> = (0..GPUS).step_by(2).map(|gpu| bed.hold(gpu, 20_000 * MIB)).collect();
    let kubeconfig = bed.path("kubeconfig");
    let server = Server::start(&kubeconfig);
    let port = free_port();
    let agent = publishing(&bed, &kubeconfig, port);
    eventually("the first report stands", || server.read().is_some());
    eventually("it is ready", || ask(port, "/readyz").starts_with("HTTP/1.1 200"));

    watch(port, || sweeps(&bed) >= SWEEPS_BEFORE);
    let (calls_before, spent_before, began) = (bed.calls().len(), spent(agent.0.id()), Instant::now());
    watch(port, || sweeps(&bed) >= SWEEPS_BEFORE + SWEEPS);
    let seconds = began.elapsed().as_secs_f64();
    let cpu = (spent(agent.0.id()) - spent_before) / seconds * 100.0;
    let made = bed.calls().split_off(calls_before);

    figures.part(&format!("the program at rest: {GPUS} GPUs, {seconds:.0} s"));
    figures.bounded("processor", cpu, "% of a core", 0.0..=0.3);
    let [resident, peak] = ["VmRSS:", "VmHWM:"].map(|key| memory(agent.0.id(), key));
    figures.bounded("memory, resident", resident, "MiB (10 wanted)", 0.0..=16.0);
    figures.bounded("memory, peak", peak, "MiB", 0.0..=16.0);
    let (report, _) = server.read().unwrap();
    let used = report.gpus.iter().filter(|gpu| gpu.procs.as_ref().is_some_and(|processes| processes.n == 1));
    assert_eq!((report.gpus.len(), used.count()), (GPUS, GPUS / 2), "the program saw what it was to see");

    figures.part("calls to the driver per GPU and minute");
    let mut kinds = BTreeMap::<&str, u32>::new();
    made.iter().for_each(|call| *kinds.entry(call).or_default() += 1);
    let rate = |count: u32| f64::from(count) / GPUS as f64 / (seconds / 60.0);
    kinds.iter().for_each(|(call, count)| figures.told(call, rate(*count), ""));
    let lists = kinds.iter().filter(|(call, _)| is_list(call)).map(|(_, count)| count).sum();
    // Two, and what the looks at the log, 0.2 s apart, can shorten the window by.
    figures.bounded("all process lists", rate(lists), "", 1.0..=2.01);
}

/// Sweeps of all GPUs so far.
fn sweeps(bed: &Bed) -> usize {
    bed.calls().iter().filter(|call| is_list(call)).count() / (GPUS * LISTS)
}

fn is_list(call: &str) -> bool {
    call.contains("RunningProcesses")
}

/// Asks for what a cluster asks for, until it is enough.
fn watch(port: u16, enough: impl Fn() -> bool) {
    let began = Instant::now();
    let mut due =
        [("/livez", LIVENESS, LIVENESS), ("/readyz", READINESS, READINESS), ("/metrics", SCRAPE, SCRAPE)];
    while !enough() {
        assert!(began.elapsed() < SWEEP_LIMIT * SWEEPS as u32, "no sweep for too long");
        sleep(Duration::from_millis(200));
        for (path, at, period) in due.iter_mut().filter(|(_, at, _)| began.elapsed() >= *at) {
            let answer = ask(port, path);
            assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
            *at += *period;
        }
    }
}

/// Processor time of a process with all its threads, seconds.
fn spent(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    // Fields 14 and 15 of the row, of which the first two are gone.
    fields[11..13].iter().map(|ticks| ticks.parse::<f64>().unwrap()).sum::<f64>() / TICKS
}

/// A row of `/proc/PID/status`, MiB.
fn memory(pid: u32, key: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let row = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    row.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
}
