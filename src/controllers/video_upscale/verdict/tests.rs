//! Ends as they come, one by one.

#![expect(clippy::arithmetic_side_effects, reason = "figures of tests")]

use super::*;
use crate::api::keys::Role;
use crate::api::quantity::GIB;
use crate::api::report::{Attribution, Gpu, Health, Kind, Process, Processes};
use crate::api::worker::{Code, End, VERSION};
use crate::fleet::claim::SeenBefore;
use crate::profile::testdata::flashvsr;
use jiff::{SignedDuration, Timestamp};

const UID: &str = "9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d";
pub(super) const OTHER: &str = "11111111-3b7d-4bad-9bdd-2b0d7b3dcb6d";
pub(super) const TOTAL: u64 = 24 * GIB;

pub(super) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

pub(super) fn container(name: &str, exit_code: Option<i32>, reason: &str, message: &str) -> ContainerEnd {
    let stage = Stage::of_container(name).unwrap();
    ContainerEnd {
        stage,
        name: name.to_owned(),
        exit_code,
        signal: None,
        reason: reason.to_owned(),
        message: message.to_owned(),
        end: (stage != Stage::Engine).then(|| End::parse(message)).flatten(),
        started: true,
        started_at: Some(at(0)),
        finished_at: exit_code.map(|_| at(100)),
    }
}

pub(super) fn done(name: &str) -> ContainerEnd {
    container(name, Some(0), "Completed", "")
}

/// `prepare` done, the engine ended like this.
pub(super) fn engine(exit_code: i32, reason: &str, message: &str) -> Evidence {
    evidence(vec![done("prepare"), container("upscale", Some(exit_code), reason, message)])
}

pub(super) fn evidence(containers: Vec<ContainerEnd>) -> Evidence {
    Evidence {
        role: Role::Segment,
        pod: PodEnd { uid: UID.to_owned(), failed: true, ..PodEnd::default() },
        containers,
        seen_at: at(101),
        before: Some(SeenBefore {
            free: 23 * GIB,
            available: 23 * GIB,
            foreign: 0,
            total: TOTAL,
            seq: 7,
            inst: "0badcafe".to_owned(),
        }),
        after: None,
        our_pods: Default::default(),
        need_bytes: Some(14 * GIB),
        failure: flashvsr().failure,
    }
}

pub(super) fn process(k: Kind, uid: Option<&str>, pid: u32, now: u64, peak: u64) -> Process {
    let ended = if now == 0 { "CE" } else { "C" };
    Process {
        k,
        u: uid.map(str::to_owned),
        p: pid,
        b: Some(now),
        pk: Some(peak),
        t: ended.to_owned(),
        e: None,
    }
}

/// A complete view, two seconds after the end: our engine has ended, and these others.
pub(super) fn view(own_peak: u64, others: Vec<Process>, unattributed: u64) -> GpuView {
    let held = others.iter().filter_map(|p| p.b).sum::<u64>() + unattributed;
    let mut top = vec![process(Kind::Pod, Some(UID), 4242, 0, own_peak)];
    top.extend(others);
    GpuView {
        at: at(102),
        sound: true,
        attribution: Attribution::Full,
        gpu: Gpu {
            i: 0,
            id: "GPU-1".to_owned(),
            n: "Model A".to_owned(),
            tot: Some(TOTAL),
            rsv: Some(GIB / 2),
            free: Some((TOTAL - GIB / 2).saturating_sub(held)),
            una: Some(unattributed),
            leak: false,
            why: None,
            h: Health::Ok,
            xid: None,
            xat: None,
            mig: false,
            mis: Vec::new(),
            cm: None,
            cc: false,
            numa: false,
            procs: Some(Processes { n: 1, b: Some(held), more: 0, top }),
        },
    }
}

pub(super) fn decided(evidence: &Evidence) -> Decided {
    match judge(evidence, at(100_000)) {
        Judgement::Decided(decided) => decided,
        Judgement::WaitForReport { .. } => panic!("waits for ever"),
    }
}

fn verdict(evidence: &Evidence) -> Verdict {
    decided(evidence).verdict
}

pub(super) fn gib(bytes: u64) -> String {
    format!("{:.2} GiB", bytes as f64 / GIB as f64)
}

/// PyTorch's words for a failed request; own `None`: only the list, with host pids.
pub(super) fn torch(
    requested: u64,
    free: u64,
    own: Option<u64>,
    list: &[(u32, u64)],
    allocated: u64,
    unallocated: u64,
) -> String {
    let processes: String = list
        .iter()
        .map(|(pid, bytes)| format!("Process {pid} has {} memory in use. ", gib(*bytes)))
        .collect();
    let own = own.map_or(String::new(), |own| {
        format!("Including non-PyTorch memory, this process has {} memory in use. ", gib(own))
    });
    format!(
        "Traceback (most recent call last):\n  File \"x.py\", line 3\ntorch.OutOfMemoryError: CUDA out of memory. Tried to allocate {}. GPU 0 has a total capacity of {} of which {} is free. {processes}{own}Of the allocated memory {} is allocated by PyTorch, and {} is reserved by PyTorch but unallocated.",
        gib(requested),
        gib(TOTAL),
        gib(free),
        gib(allocated),
        gib(unallocated)
    )
}

#[test]
fn every_code_of_our_own_containers_has_its_row() {
    for (code, expected) in [
        (Code::Usage, Verdict::WorkerError),
        (Code::InvalidSource, Verdict::Permanent),
        (Code::SourceNotFound, Verdict::Permanent),
        (Code::SourceChanged, Verdict::Permanent),
        (Code::Internal, Verdict::WorkerError),
        (Code::DestinationExists, Verdict::Permanent),
        (Code::Io, Verdict::WorkerError),
        (Code::GpuBusy, Verdict::GpuBusy),
        (Code::GpuMismatch, Verdict::GpuMismatch),
        (Code::PinIgnored, Verdict::PinIgnored),
        (Code::GpuFault, Verdict::GpuFault),
        (Code::BadOutput, Verdict::BadOutput),
        (Code::OutOfSpace, Verdict::OutOfSpace),
        (Code::AlreadyDone, Verdict::AlreadyDone),
    ] {
        let end = evidence(vec![container("prepare", Some(i32::from(code.exit_code())), "Error", "")]);
        let decided = decided(&end);
        assert_eq!(decided.verdict, expected, "{code:?}");
        assert_eq!(decided.failure.is_some(), expected == Verdict::Permanent, "{code:?}");
    }
}

#[test]
fn a_shared_exit_code_is_told_apart_by_the_message() {
    let end = End {
        v: VERSION,
        code: Code::UnsupportedSource,
        message: "Interlaced: set spec.input.deinterlace".to_owned(),
        probe: None,
        prepare: None,
        finish: None,
        merge: None,
        redo: Vec::new(),
    };
    let mut evidence =
        evidence(vec![container("probe", Some(65), "Error", &serde_json::to_string(&end).unwrap())]);
    evidence.role = Role::Probe;
    let decided = decided(&evidence);
    assert_eq!(decided.failure, Some(FailureReason::UnsupportedSource));
    assert!(decided.message.starts_with("Interlaced"));
}

#[test]
fn ends_that_the_kubelet_explains() {
    let mut cases: Vec<(&str, Evidence, Verdict)> = Vec::new();
    let mut push = |name, evidence: Evidence, change: &dyn Fn(&mut Evidence), verdict| {
        let mut evidence = evidence;
        change(&mut evidence);
        cases.push((name, evidence, verdict));
    };
    let killed = || engine(137, "Error", "");
    push(
        "success",
        evidence(vec![done("prepare"), done("upscale"), done("finish")]),
        &|_| {},
        Verdict::Succeeded,
    );
    push("host limit", engine(137, "OOMKilled", ""), &|_| {}, Verdict::HostMemory);
    push(
        "host limit of finish",
        evidence(vec![done("prepare"), done("upscale"), container("finish", Some(137), "OOMKilled", "")]),
        &|_| {},
        Verdict::HostMemory,
    );
    push("killed, nobody knows why", killed(), &|_| {}, Verdict::HostMemory);
    push("drained", killed(), &|e| e.pod.disruption_target = true, Verdict::Disrupted);
    push("deleted", killed(), &|e| e.pod.deletion = Deletion::Others, Verdict::Disrupted);
    push("node gone", killed(), &|e| e.pod.node_gone = true, Verdict::Disrupted);
    push(
        "node's memory",
        killed(),
        &|e| {
            e.pod.reason = "Evicted".into();
            e.pod.message = "The node was low on resource: memory. Container upscale was using 9Gi".into();
        },
        Verdict::Disrupted,
    );
    push(
        "own scratch",
        killed(),
        &|e| {
            e.pod.reason = "Evicted".into();
            e.pod.message = "Usage of EmptyDir volume \"scratch\" exceeds the limit \"1Gi\". ".into();
        },
        Verdict::OutOfSpace,
    );
    push(
        "kubelet refused",
        evidence(Vec::new()),
        &|e| e.pod.reason = "OutOfmemory".into(),
        Verdict::Disrupted,
    );
    push(
        "never started",
        evidence(Vec::new()),
        &|e| e.pod.deletion = Deletion::OursNotStarted,
        Verdict::NotStarted,
    );
    push("no such program", engine(128, "StartError", "exec: no such file"), &|_| {}, Verdict::NotStarted);
    push(
        "deadline of the engine",
        killed(),
        &|e| e.pod.reason = "DeadlineExceeded".into(),
        Verdict::EngineError,
    );
    push(
        "deadline of prepare",
        evidence(vec![container("prepare", Some(137), "Error", "")]),
        &|e| e.pod.reason = "DeadlineExceeded".into(),
        Verdict::WorkerError,
    );
    push(
        "worker panics",
        evidence(vec![container("prepare", Some(101), "Error", "thread main panicked")]),
        &|_| {},
        Verdict::WorkerError,
    );
    push("nothing known", evidence(Vec::new()), &|_| {}, Verdict::Unknown);
    push("status lost", engine(255, "Unknown", ""), &|_| {}, Verdict::Unknown);
    push("wrong arguments", engine(2, "Error", "unrecognized arguments: --x"), &|_| {}, Verdict::Permanent);
    push("engine fails", engine(1, "Error", "ValueError: bad overlap"), &|_| {}, Verdict::EngineError);
    push(
        "old card",
        engine(1, "Error", "RuntimeError: CUDA error: no kernel image is available for execution"),
        &|_| {},
        Verdict::Incompatible,
    );
    push(
        "disk",
        engine(1, "Error", "OSError: [Errno 28] No space left on device"),
        &|_| {},
        Verdict::OutOfSpace,
    );
    push(
        "host allocation",
        engine(
            1,
            "Error",
            "DefaultCPUAllocator: can't allocate memory: you tried to allocate 1073741824 bytes.",
        ),
        &|_| {},
        Verdict::HostMemory,
    );
    push(
        "failed by itself, deleted later",
        engine(1, "Error", &torch(8 * GIB, GIB, Some(22 * GIB), &[], 21 * GIB, 0)),
        &|e| e.pod.deletion = Deletion::Others,
        Verdict::OwnDemand,
    );
    for (name, evidence, expected) in cases {
        assert_eq!(verdict(&evidence), expected, "{name}");
    }
}

#[test]
fn a_faulty_gpu_is_to_blame_before_the_engine() {
    let mut end = engine(1, "Error", "RuntimeError: CUDA error: unspecified launch failure");
    let mut after = view(6 * GIB, Vec::new(), 0);
    (after.gpu.xid, after.gpu.xat) = (Some(79), Some(at(50)));
    end.after = Some(after.clone());
    assert_eq!(verdict(&end), Verdict::GpuFault);
    after.gpu.xat = Some(at(-50));
    end.after = Some(after.clone());
    assert_eq!(verdict(&end), Verdict::EngineError);
    after.gpu.h = Health::Lost;
    end.after = Some(after);
    assert_eq!(verdict(&end), Verdict::GpuFault);
}

#[test]
fn a_card_that_was_lost_is_to_blame_before_arguments_that_name_it() {
    let mut end = engine(2, "Error", "error: argument --device: cuda:0 is not visible");
    assert!(matches!(judge(&end, at(102)), Judgement::WaitForReport { .. }));
    assert_eq!(verdict(&end), Verdict::Permanent);
    let mut after = view(0, Vec::new(), 0);
    end.after = Some(after.clone());
    assert_eq!(verdict(&end), Verdict::Permanent);
    after.gpu.h = Health::Lost;
    end.after = Some(after);
    assert_eq!(verdict(&end), Verdict::GpuFault);
}

#[test]
fn a_pod_that_failed_before_any_container_ran_was_refused() {
    for reason in [
        "OutOfcpu",
        "OutOfnvidia.com/gpu",
        "NodePorts",
        "TopologyAffinityError",
        "UnexpectedAdmissionError",
        "SomethingNew",
    ] {
        let mut end = evidence(vec![ContainerEnd { started: false, ..container("prepare", None, "", "") }]);
        end.pod.reason = reason.to_owned();
        end.pod.message = "Pod was rejected".to_owned();
        let refused = decided(&end);
        assert_eq!((refused.verdict, refused.refused), (Verdict::Disrupted, true), "{reason}");
        end.containers = vec![done("prepare"), container("upscale", Some(137), "Error", "")];
        assert!(!decided(&end).refused, "{reason}");
    }
}

#[test]
fn an_end_without_a_figure_teaches_that_the_card_is_too_small() {
    let mut end = engine(1, "Error", "CUDA error: out of memory");
    end.after = Some(view(22 * GIB, Vec::new(), 0));
    let own = decided(&end);
    assert_eq!((own.verdict, own.observed_need), (Verdict::OwnDemand, Some(TOTAL - GIB / 2 + 1)));
    // What the largest of a list held, which need not be the failing process, teaches nothing.
    let text = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 24.00 GiB of which 0.30 GiB is free. Process 900 has 21.70 GiB memory in use. Process 901 has 2.00 GiB memory in use.";
    let guessed = decided(&engine(1, "Error", text));
    assert_eq!((guessed.verdict, guessed.observed_need), (Verdict::ForeignProcess, None));
}

#[test]
fn the_failing_process_in_its_own_list_is_not_foreign() {
    // 21.7 GiB are ours: by the list alone the other 9.67 GiB are foreign, and the largest might be the neighbour.
    let text = "CUDA out of memory. Tried to allocate 12.00 GiB. GPU 0 has a total capacity of 24.00 GiB of which 0.30 GiB is free. Process 900 has 21.70 GiB memory in use. Process 4242 has 1.20 GiB memory in use.";
    let mut end = engine(1, "Error", text);
    // Without the agent nobody knows which of the two is ours.
    assert_eq!(verdict(&end), Verdict::Unknown);
    let neighbour = process(Kind::Pod, Some(OTHER), 900, 21 * GIB, 21 * GIB);
    end.after = Some(view(GIB, vec![neighbour], 0));
    let decided = decided(&end);
    assert_eq!(decided.verdict, Verdict::ForeignProcess);
    assert!(decided.who.contains(OTHER), "{}", decided.who);
    end.after = Some(view(22 * GIB, Vec::new(), 0));
    if let Some(procs) = end.after.as_mut().and_then(|after| after.gpu.procs.as_mut()) {
        procs.top[0].p = 900;
    }
    assert_eq!(verdict(&end), Verdict::OwnDemand);
}

#[test]
fn an_older_report_is_waited_out_and_not_believed() {
    let mut end = engine(1, "Error", "RuntimeError: CUDA error: out of memory");
    let mut stale = view(23 * GIB, Vec::new(), 0);
    stale.at = at(100);
    end.after = Some(stale);
    let until = at(101) + SignedDuration::from_secs(75);
    assert_eq!(judge(&end, at(110)), Judgement::WaitForReport { until });
    assert_eq!(verdict(&end), Verdict::Unknown);
    end.after = Some(view(23 * GIB, Vec::new(), 0));
    assert!(matches!(judge(&end, at(110)), Judgement::Decided(Decided { verdict: Verdict::OwnDemand, .. })));
}

#[test]
fn figures_that_leave_no_room_for_others_need_no_report() {
    let end = engine(1, "Error", &torch(8 * GIB, GIB, Some(22 * GIB), &[], 21 * GIB, 0));
    let Judgement::Decided(decided) = judge(&end, at(101)) else { panic!("waits") };
    assert_eq!(decided.verdict, Verdict::OwnDemand);
    assert_eq!((decided.needed, decided.free), (Some(30 * GIB), Some(23 * GIB)));
    assert_eq!(decided.observed_need, Some(30 * GIB));
}

/// Whoever had ended before the engine began has not taken its memory, however lately that was; one that ended meanwhile
/// may have, and of one whose end is not told nobody knows. The engine begins at 0.
#[test]
fn a_process_that_ended_before_the_engine_began_is_no_neighbour() {
    let text = torch(4 * GIB, GIB, Some(6 * GIB), &[], 5 * GIB, 0);
    let mut end = engine(1, "Error", &text);
    let (leaked, foreign) = (Verdict::LeakedMemory, Verdict::ForeignProcess);
    for (ended, expected) in
        [(Some(at(-1)), leaked), (Some(at(0)), foreign), (Some(at(50)), foreign), (None, foreign)]
    {
        let before = Process { e: ended, ..process(Kind::Host, None, 77, 0, 15 * GIB) };
        end.after = Some(view(6 * GIB, vec![before], 16 * GIB));
        assert_eq!(verdict(&end), expected, "{ended:?}");
    }
    // One that lives is a neighbour, whatever is said of an end.
    let lives = Process { e: Some(at(-1)), ..process(Kind::Host, None, 77, 15 * GIB, 15 * GIB) };
    end.after = Some(view(6 * GIB, vec![lives], 16 * GIB));
    assert_eq!(verdict(&end), foreign);
}

#[test]
fn memory_without_a_process_is_a_leak_only_if_it_is_not_our_own_leftover() {
    let text = torch(4 * GIB, GIB, Some(6 * GIB), &[], 5 * GIB, 0);
    let mut end = engine(1, "Error", &text);
    assert_eq!(verdict(&end), Verdict::Unknown);
    end.after = Some(view(6 * GIB, Vec::new(), 16 * GIB));
    assert_eq!(verdict(&end), Verdict::LeakedMemory);
    let mut end = engine(1, "Error", "CUDA error: out of memory");
    end.after = Some(view(14 * GIB, Vec::new(), 14 * GIB));
    assert_eq!(verdict(&end), Verdict::Unknown, "our own memory, not yet given back");
}

#[test]
fn our_own_last_attempt_on_the_card_is_not_a_neighbour() {
    let mut end = engine(1, "Error", "CUDA error: out of memory");
    end.after = Some(view(22 * GIB, vec![process(Kind::Pod, Some(OTHER), 77, 0, 15 * GIB)], 0));
    assert_eq!(verdict(&end), Verdict::ForeignProcess);
    end.our_pods.insert(OTHER.to_owned());
    assert_eq!(verdict(&end), Verdict::OwnDemand);
}

#[test]
fn a_lost_pod_may_still_run_and_a_finishing_one_does_not() {
    let mut end = evidence(vec![done("prepare"), container("upscale", None, "", "")]);
    (end.pod.failed, end.pod.gone) = (false, true);
    let lost = decided(&end);
    assert_eq!((lost.verdict, lost.lost), (Verdict::Disrupted, true));
    let mut end = evidence(vec![done("prepare"), done("upscale"), container("finish", None, "", "")]);
    (end.pod.failed, end.pod.gone) = (false, true);
    assert!(!decided(&end).lost);
}
