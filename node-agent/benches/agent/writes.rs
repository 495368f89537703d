//! Writes to the API server: observer, report and policy as the program has them, on a virtual clock.

use std::cell::RefCell;
use std::os::unix::fs::symlink;
use std::rc::Rc;
use std::time::Duration;

use jiff::Timestamp;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use upscale_agent::{Cause, Decision, FreeMemory, Head, Now, Observer, Policy, Proc, Timing, build};
use video_upscale::api::report::{Kind, Report};

use crate::figure::Figures;
use crate::loads::{GPUS, Load, Machine, MachineProbe, Turnover};

const HOUR: u64 = 3_600;
/// Hours of a GPU on which nothing happens.
const FLAT_HOURS: u64 = 10;
/// Nodes that are played under each load, and for how long, seconds.
const NODES: u32 = 120;
const TIME: u64 = 1_800;
/// Nodes that the rates are told for.
const FLEET: f64 = 5_000.0;
/// Time between two rounds, seconds.
const ROUND: usize = 2;
/// The policy's own bound: tokens at the start, time of another one, time between two heartbeats, seconds.
const TOKENS: f64 = 8.0;
const REFILL: f64 = 45.0;
const HEARTBEAT: f64 = 300.0;
/// More free memory published than there is by this much, and a placement goes wrong.
const MISLEADING: u64 = 2 << 30;

/// What one node did.
struct Told {
    /// By the program's policy.
    program: Writer,
    /// By the same policy from reports that list no ended process, as the loads' expected writes were reckoned.
    without_ends: Writer,
    /// Looks at a GPU, and those at which far too much was published.
    looks: u64,
    misled: u64,
    /// Listed processes of pods.
    pods: u64,
}

/// A policy and what it has written.
struct Writer {
    policy: Policy,
    random: StdRng,
    writes: Vec<(Cause, bool)>,
}

impl Writer {
    fn new(mut random: StdRng) -> Self {
        let timing = Timing { heartbeat: Duration::from_secs(300), spread: Duration::from_secs(30) };
        Self { policy: Policy::new(timing, Duration::ZERO, random.random()), random, writes: Vec::new() }
    }

    fn offer(&mut self, current: &Report, up: Duration) {
        if let Decision::Write { cause, with_report } = self.policy.decide(current, up) {
            self.policy.attempt(current, cause, up);
            self.policy.confirmed(with_report.then(|| current.clone()), up, self.random.random());
            self.writes.push((cause, with_report));
        }
    }
}

/// Heartbeats and nothing else.
pub fn on_a_flat_gpu(figures: &mut Figures) {
    figures.part("writes to the API server while nothing happens, after the first");
    let flat = Load { name: "flat", turnover: Turnover::Never, restless: false };
    let told = play(flat, 1, FLAT_HOURS * HOUR);
    let later = told.program.writes.get(1..).unwrap_or_default();
    let alone = |(cause, with_report): &&(Cause, bool)| *cause == Cause::Heartbeat && !with_report;
    let heartbeats = later.iter().filter(alone).count();
    let per_hour = |count: usize| count as f64 / FLAT_HOURS as f64;
    figures.bounded("heartbeats", per_hour(heartbeats), "per hour", 11.0..=13.0);
    figures.bounded("reports", per_hour(later.len() - heartbeats), "per hour", 0.0..=0.0);
}

/// Writes under a load, against those that the policy was designed for and against its own bound.
pub fn under(load: &Load, expected: f64, figures: &mut Figures) {
    figures.part(&format!("{}: {NODES} nodes, {TIME} s, for {FLEET:.0} nodes", load.name));
    let told: Vec<Told> = (0..NODES).map(|node| play(*load, u64::from(node), TIME)).collect();
    let scale = FLEET / f64::from(NODES) / TIME as f64;
    let rate = |writes: &dyn Fn(&Told) -> usize| told.iter().map(writes).sum::<usize>() as f64 * scale;
    let all = rate(&|node| node.program.writes.len());
    let without_ends = rate(&|node| node.without_ends.writes.len());
    let design = expected * 0.9..=expected * 1.1;
    figures.bounded("writes without those for ends alone", without_ends, "per second", design);
    figures.told("writes for ends of processes alone", all - without_ends, "per second");
    let time = TIME as f64;
    let most = FLEET * ((TOKENS + time / REFILL) / time + 1.0 / HEARTBEAT);
    figures.bounded("writes in all", all, "per second", 0.0..=most);
    for (name, cause) in
        [("urgent", Cause::Urgent), ("material", Cause::Material), ("heartbeats", Cause::Heartbeat)]
    {
        let of_cause = rate(&|node| node.program.writes.iter().filter(|(other, _)| *other == cause).count());
        figures.told(&format!("  of them {name}"), of_cause, "per second");
    }
    let looks: u64 = told.iter().map(|node| node.looks).sum();
    let misled: u64 = told.iter().map(|node| node.misled).sum();
    figures.told("over 2 GiB too much published", misled as f64 / looks as f64 * 100.0, "% of the time");
}

fn play(load: Load, seed: u64, seconds: u64) -> Told {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("self/ns")).unwrap();
    // The agent shares the machine's namespaces, or it could not tell whose a process is.
    for (namespace, initial) in [("pid", "pid:[4026531836]"), ("cgroup", "cgroup:[4026531835]")] {
        symlink(initial, folder.path().join("self/ns").join(namespace)).unwrap();
    }
    let machine = Machine::new(load, folder.path(), StdRng::seed_from_u64(!seed));
    let (machine, clock) = (Rc::new(RefCell::new(machine)), Rc::new(RefCell::new(0)));
    let probe = MachineProbe { machine: machine.clone(), now: clock.clone() };
    let mut observer = Observer::new(probe, Proc::open(folder.path(), None));
    let head = Head { ns: "ops".to_owned(), inst: "0123abcd".to_owned(), hb: 300 };
    let start: Timestamp = "2026-11-23T07:50:11Z".parse().unwrap();
    let writer = || Writer::new(StdRng::seed_from_u64(seed));
    let mut told = Told { program: writer(), without_ends: writer(), looks: 0, misled: 0, pods: 0 };
    for second in (0..seconds).step_by(ROUND) {
        *clock.borrow_mut() = second;
        machine.borrow_mut().advance(second);
        let up = Duration::from_secs(second);
        let now = Now { up, wall: start.saturating_add(up).unwrap() };
        let snapshot = observer.round(&[], now);
        let current = build(&snapshot, snapshot.state, &head, FreeMemory::Held);
        told.count_owners(&current);
        told.program.offer(&current, up);
        told.without_ends.offer(&as_if_none_had_ended(current), up);
        told.compare(&build(&snapshot, snapshot.state, &head, FreeMemory::Measured));
    }
    assert!(told.pods > 0, "nobody was on any GPU");
    told
}

fn as_if_none_had_ended(mut report: Report) -> Report {
    for processes in report.gpus.iter_mut().flat_map(|gpu| &mut gpu.procs) {
        processes.top.retain(|process| !process.ended());
    }
    report
}

impl Told {
    /// Every job is a pod's, so that its end is one that a verdict waits for.
    fn count_owners(&mut self, current: &Report) {
        for process in current.gpus.iter().flat_map(|gpu| &gpu.procs).flat_map(|processes| &processes.top) {
            assert_eq!(process.k, Kind::Pod, "{process:?}");
            self.pods += 1;
        }
    }

    fn compare(&mut self, measured: &Report) {
        let Some(published) = self.program.policy.published() else { return };
        assert_eq!(measured.gpus.len(), GPUS as usize);
        for (told, is) in published.gpus.iter().zip(&measured.gpus) {
            self.looks += 1;
            let too_much = told.free.unwrap_or(0).saturating_sub(is.free.unwrap_or(0));
            self.misled += u64::from(too_much > MISLEADING);
        }
    }
}
