//! Stories of a driver, on a virtual clock.

use video_upscale::api::report::Kind;

use super::*;
use crate::gpu::Listed;
use crate::probe::fake::FakeProbe;
use crate::procfs::tests::FakeProc;
use crate::report::{FreeMemory, Head, build};

const GIB: u64 = 1 << 30;
const POD: &str = "11111111-2222-4333-8444-555555555555";

fn observer(fake: FakeProbe, proc: &FakeProc) -> Observer<FakeProbe> {
    Observer::new(fake, proc.proc())
}

fn uuid(index: u32) -> String {
    FakeProbe::identity(index).uuid
}

fn on(pid: u32, bytes: u64) -> Listed {
    Listed { pid, bytes: Some(bytes), compute: true, ..Listed::default() }
}

#[test]
fn a_quiet_gpu_is_asked_for_processes_once_a_minute() {
    let proc = FakeProc::new();
    let mut observer = observer(FakeProbe::with_gpus(1), &proc);
    for second in (0..600).step_by(2) {
        assert_eq!(observer.round(&[], Now::at(second)).state, State::Ok);
    }
    assert_eq!((observer.probe.sweeps, observer.probe.opened), (10, 1));
}

#[test]
fn a_process_is_found_when_memory_moves_and_its_end_within_a_round() {
    let proc = FakeProc::new();
    let mut observer = observer(FakeProbe::with_gpus(1), &proc);
    observer.round(&[], Now::at(0));
    proc.pod(7, 100, POD);
    observer.probe.uses(0, 13 * GIB);
    observer.probe.listed.insert(0, Ok(vec![on(7, 12 * GIB)]));
    let seen = observer.round(&[], Now::at(4));
    let found = &seen.gpus[0].processes.as_ref().unwrap()[0];
    assert_eq!((found.owner.kind, found.owner.uid.as_deref()), (Kind::Pod, Some(POD)));
    assert_eq!(seen.gpus[0].unattributed, Some(GIB));
    assert_eq!(seen.gpus[0].peak, Some(13 * GIB));

    proc.end(7);
    observer.probe.uses(0, GIB);
    observer.probe.listed.clear();
    let seen = observer.round(&[], Now::at(6));
    let gone = &seen.gpus[0].processes.as_ref().unwrap()[0];
    assert_eq!((gone.ended.is_some(), gone.peak), (true, Some(12 * GIB)));
    assert_eq!(seen.gpus[0].peak, Some(GIB), "other processes, other peak");
}

#[test]
fn without_a_driver_it_tries_again_with_growing_pauses() {
    let proc = FakeProc::new();
    let fake = FakeProbe { open: Some(Fault::from_code(9)), ..FakeProbe::with_gpus(1) };
    let mut observer = observer(fake, &proc);
    for second in (0..600).step_by(2) {
        let seen = observer.round(&[], Now::at(second));
        assert_eq!((seen.state, seen.gpus.len()), (State::NoDriver, 0));
        assert_eq!(seen.taken, Now::at(second), "a snapshot comes each round");
    }
    assert!((10..=16).contains(&observer.probe.opened), "{}", observer.probe.opened);
    observer.probe.open = None;
    let states: Vec<State> =
        (600..720).step_by(2).map(|second| observer.round(&[], Now::at(second)).state).collect();
    assert_eq!(states.last(), Some(&State::Ok));
}

#[test]
fn one_lost_gpu_is_lost_and_the_others_go_on() {
    let proc = FakeProc::new();
    let mut observer = observer(FakeProbe::with_gpus(3), &proc);
    observer.round(&[], Now::at(0));
    observer.probe.memory.insert(1, Err(Fault::GpuLost));
    let seen = observer.round(&[], Now::at(2));
    let health: Vec<Health> = seen.gpus.iter().map(|gpu| gpu.health).collect();
    assert_eq!((seen.state, health), (State::Ok, vec![Health::Ok, Health::Lost, Health::Ok]));
}

#[test]
fn denied_access_to_all_gpus_counts_at_the_third_round() {
    let proc = FakeProc::new();
    for fault in [Fault::Unknown, Fault::OperatingSystem] {
        let mut observer = observer(FakeProbe::with_gpus(2), &proc);
        observer.round(&[], Now::at(0));
        observer.probe.all_fail(&fault);
        let states: Vec<State> =
            [2, 4, 6].map(|second| observer.round(&[], Now::at(second)).state).into_iter().collect();
        assert_eq!(states, [State::Ok, State::Ok, State::DeviceAccessLost]);
    }
}

#[test]
fn one_gpu_that_denies_access_is_not_the_node() {
    let proc = FakeProc::new();
    let mut observer = observer(FakeProbe::with_gpus(2), &proc);
    observer.round(&[], Now::at(0));
    observer.probe.memory.insert(0, Err(Fault::Unknown));
    let last = (2..20).step_by(2).map(|second| observer.round(&[], Now::at(second)).state).last();
    assert_eq!(last, Some(State::Ok));
}

#[test]
fn a_replaced_driver_is_noticed_by_its_answer_or_by_the_module() {
    let proc = FakeProc::new();
    let mut by_answer = observer(FakeProbe::with_gpus(1), &proc);
    by_answer.round(&[], Now::at(0));
    by_answer.probe.all_fail(&Fault::Mismatch);
    assert_eq!(by_answer.round(&[], Now::at(2)).state, State::DriverMismatch);

    proc.driver("580.95.05");
    let mut by_module = observer(FakeProbe::with_gpus(1), &proc);
    assert_eq!(by_module.round(&[], Now::at(0)).state, State::Ok);
    assert_eq!(by_module.round(&[], Now::at(60)).state, State::Ok);
    proc.driver("590.10.01");
    assert_eq!(by_module.round(&[], Now::at(120)).state, State::DriverMismatch);
}

#[test]
fn a_gpu_that_cannot_be_named_is_left_out_and_looked_for_again() {
    let proc = FakeProc::new();
    let mut fake = FakeProbe::with_gpus(2);
    fake.gpus[1] = Err(Fault::GpuLost);
    let mut observer = observer(fake, &proc);
    let seen = observer.round(&[], Now::at(0));
    assert_eq!((seen.state, seen.gpus.len()), (State::Ok, 1));
    assert_eq!(seen.trouble.as_deref(), Some("1 of 2 GPUs cannot be named: GPU is lost"));
    observer.probe.gpus[1] = Ok(FakeProbe::identity(1));
    assert_eq!(observer.round(&[], Now::at(58)).gpus.len(), 1);
    assert_eq!(observer.round(&[], Now::at(60)).gpus.len(), 2);
}

#[test]
fn two_gpus_with_one_uuid_are_shown_and_not_measured() {
    let proc = FakeProc::new();
    let mut fake = FakeProbe::with_gpus(2);
    fake.gpus[1] = Ok(Identity { index: 1, ..FakeProbe::identity(0) });
    let seen = observer(fake, &proc).round(&[], Now::at(0));
    assert_eq!(seen.gpus.len(), 1);
    assert_eq!(seen.gpus[0].memory, Err(Fault::DuplicateUuid));
}

#[test]
fn no_gpu_is_a_state_of_its_own() {
    let proc = FakeProc::new();
    assert_eq!(observer(FakeProbe::with_gpus(0), &proc).round(&[], Now::at(0)).state, State::NoGpu);
}

#[test]
fn an_xid_shows_in_the_same_round() {
    let proc = FakeProc::new();
    let mut observer = observer(FakeProbe::with_gpus(2), &proc);
    observer.round(&[], Now::at(0));
    let seen = observer.round(&[XidEvent::Xid { uuid: uuid(1), xid: 79 }], Now::at(2));
    assert_eq!((seen.gpus[0].health, seen.gpus[1].health), (Health::Ok, Health::Bad));
    assert_eq!(seen.gpus[1].xid, Some((79, Now::at(2).wall)));
}

#[test]
fn lists_that_cannot_be_read_are_said_to_be_so() {
    let proc = FakeProc::new();
    let mut fake = FakeProbe::with_gpus(1);
    fake.listed.insert(0, Err(Fault::UnreadableLists("535.54.03".to_owned())));
    let seen = observer(fake, &proc).round(&[], Now::at(0));
    assert_eq!(seen.attribution, Attribution::None);
    assert_eq!(seen.gpus[0].unattributed, None);
    assert!(seen.gpus[0].memory.is_ok(), "memory is known all the same");
}

#[test]
fn a_process_whose_memory_is_not_told_makes_the_rest_unknown() {
    let proc = FakeProc::new();
    proc.host(7, 100);
    let mut fake = FakeProbe::with_gpus(1);
    fake.listed.insert(0, Ok(vec![on(8, GIB), Listed { pid: 7, bytes: None, ..Listed::default() }]));
    assert_eq!(observer(fake, &proc).round(&[], Now::at(0)).gpus[0].unattributed, None);
}

#[test]
fn memory_that_a_dead_process_still_holds_is_no_leak_for_ten_seconds() {
    let proc = FakeProc::new();
    let mut observer = observer(FakeProbe::with_gpus(1), &proc);
    proc.pod(7, 100, POD);
    observer.probe.uses(0, 13 * GIB);
    observer.probe.listed.insert(0, Ok(vec![on(7, 12 * GIB)]));
    observer.round(&[], Now::at(0));
    proc.end(7);
    observer.probe.listed.clear();
    let unattributed: Vec<Option<u64>> = (12..=34)
        .step_by(2)
        .map(|second| observer.round(&[], Now::at(second)).gpus[0].unattributed)
        .collect();
    assert_eq!(unattributed[0], Some(GIB), "right after the end");
    assert_eq!(unattributed.last(), Some(&Some(13 * GIB)), "never given back");
}

#[test]
fn files_that_the_kernel_keeps_in_numa_memory_are_no_leak() {
    for numa in [false, true] {
        let mut fake = FakeProbe::with_gpus(1);
        fake.gpus = vec![Ok(Identity { numa, ..FakeProbe::identity(0) })];
        fake.uses(0, 13 * GIB);
        let mut observer = observer(fake, &FakeProc::new());
        let seen = (0..=120).step_by(2).map(|second| observer.round(&[], Now::at(second))).last().unwrap();
        let told = (seen.gpus[0].leak, seen.gpus[0].unattributed);
        assert_eq!(told, (!numa, Some(13 * GIB)), "numa: {numa}");
    }
}

#[test]
fn memory_that_returns_seconds_after_an_end_is_published_with_its_return() {
    let proc = FakeProc::new();
    let mut observer = observer(FakeProbe::with_gpus(1), &proc);
    proc.pod(7, 100, POD);
    observer.probe.uses(0, 13 * GIB);
    observer.probe.listed.insert(0, Ok(vec![on(7, 12 * GIB)]));
    (0..=200).step_by(2).for_each(|second| drop(observer.round(&[], Now::at(second))));
    proc.end(7);
    let head = Head { ns: String::new(), inst: String::new(), hb: 300 };
    let free: Vec<Option<u64>> = (202..=340)
        .step_by(2)
        .map(|second| {
            if second >= 206 {
                observer.probe.uses(0, GIB);
                observer.probe.listed.clear();
            }
            let seen = observer.round(&[], Now::at(second));
            build(&seen, seen.state, &head, FreeMemory::Held).gpus[0].free
        })
        .collect();
    let with = |used: u64| Some((48 << 30) - (600 << 20) - used);
    assert_eq!(free[..3], [with(13 * GIB), with(13 * GIB), with(GIB)], "at the end, 2 and 4 s later");
    assert!(free[3..].iter().all(|free| *free == with(GIB)), "{free:?}");
}

#[test]
fn a_card_that_was_bad_is_looked_at_anew_in_the_drivers_next_life() {
    let proc = FakeProc::new();
    proc.boot("a");
    for (module, health) in [(5_000, Health::Bad), (9_000, Health::Ok)] {
        proc.module_thread(900, 2, 5_000);
        let mut observer = observer(FakeProbe::with_gpus(1), &proc);
        observer.round(&[], Now::at(0));
        let seen = observer.round(&[XidEvent::Xid { uuid: uuid(0), xid: 79 }], Now::at(2));
        assert_eq!(seen.gpus[0].health, Health::Bad);
        observer.probe.all_fail(&Fault::from_code(9));
        assert_eq!(observer.round(&[], Now::at(4)).state, State::NoDriver);
        observer.probe.uses(0, GIB);
        proc.module_thread(900, 2, module);
        let seen = observer.round(&[], Now::at(6));
        assert_eq!(
            (seen.state, seen.gpus[0].health),
            (State::Ok, health),
            "same version, loaded at {module}"
        );
    }
}

#[test]
fn a_module_that_differs_is_told_in_every_round_and_nothing_measured_before() {
    let proc = FakeProc::new();
    proc.driver("580.95.05");
    let mut observer = observer(FakeProbe::with_gpus(1), &proc);
    observer.round(&[], Now::at(0));
    proc.driver("590.10.01");
    for second in [60, 62, 64] {
        let seen = observer.round(&[], Now::at(second));
        assert_eq!((seen.state, seen.gpus.len()), (State::DriverMismatch, 1), "{second} s");
        assert_eq!(seen.gpus[0].memory, Err(Fault::Mismatch), "{second} s");
    }
    proc.driver("580.95.05");
    let seen = observer.round(&[], Now::at(66));
    assert_eq!((seen.state, seen.gpus[0].memory.is_ok()), (State::Ok, true), "the old driver is back");
}

#[test]
fn a_driver_that_denies_everything_counts_as_lost_at_the_third_round_wherever_it_denies() {
    let proc = FakeProc::new();
    for fault in [Fault::Unknown, Fault::OperatingSystem] {
        let states = |fake: FakeProbe| {
            let mut observer = observer(fake, &proc);
            [0, 2, 4].map(|second| observer.round(&[], Now::at(second)).state)
        };
        let third = [State::NoDriver, State::NoDriver, State::DeviceAccessLost];
        let open = FakeProbe { open: Some(fault.clone()), ..FakeProbe::with_gpus(2) };
        assert_eq!(states(open), third, "{fault} at the start");
        let count = FakeProbe { count: Some(fault.clone()), ..FakeProbe::with_gpus(2) };
        assert_eq!(states(count), third, "{fault} at the count");
        let gpus = vec![Err(fault.clone()), Err(fault.clone())];
        assert_eq!(states(FakeProbe { gpus, ..FakeProbe::with_gpus(2) }), third, "{fault} of every GPU");
    }
    let gpus = vec![Err(Fault::Mismatch), Ok(FakeProbe::identity(1))];
    let mut one = observer(FakeProbe { gpus, ..FakeProbe::with_gpus(2) }, &proc);
    assert_eq!(one.round(&[], Now::at(0)).state, State::DriverMismatch, "one GPU says it of the driver");
}

#[test]
fn what_was_measured_before_is_not_known_in_a_round_that_reaches_no_gpu() {
    let proc = FakeProc::new();
    let mut fake = FakeProbe::with_gpus(2);
    fake.gpus[1] = Err(Fault::GpuLost);
    let mut observer = observer(fake, &proc);
    assert!(observer.round(&[], Now::at(0)).gpus[0].memory.is_ok());
    observer.probe.count = Some(Fault::Unknown);
    let states = [60, 62, 64].map(|second| {
        let seen = observer.round(&[], Now::at(second));
        assert_eq!(seen.gpus[0].memory, Err(Fault::Unknown), "{second} s");
        seen.state
    });
    assert_eq!(states, [State::Ok, State::Ok, State::DeviceAccessLost]);
}

#[test]
fn ids_of_another_namespace_name_nobody() {
    for (version, attribution, kind) in [
        ("535.104.05", Attribution::None, Kind::Unknown),
        ("", Attribution::None, Kind::Unknown),
        ("535.113.01", Attribution::Namespace, Kind::Pod),
        ("580.95.05", Attribution::Namespace, Kind::Pod),
    ] {
        let proc = FakeProc::new();
        proc.host(1, 1);
        proc.pod(7, 100, POD);
        let mut fake = FakeProbe { version: version.to_owned(), ..FakeProbe::with_gpus(1) };
        fake.listed.insert(0, Ok(vec![on(7, GIB), on(99, 5)]));
        let mut observer = Observer::new(fake, proc.nested());
        let seen = (0..=300).step_by(2).map(|second| observer.round(&[], Now::at(second))).last().unwrap();
        let found = &seen.gpus[0].processes.as_ref().unwrap()[0];
        assert_eq!((seen.attribution, found.owner.kind), (attribution, kind), "{version:?}");
        assert_eq!(found.listed.bytes, Some(GIB), "{version:?}: its memory is known all the same");
        let stranger = seen.gpus[0].processes.as_ref().unwrap()[1].owner.kind;
        assert_eq!(stranger == Kind::Ghost, kind == Kind::Pod, "{version:?}");
    }
}
