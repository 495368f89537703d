use video_upscale::api::report::Kind;

use super::*;
use crate::probe::fake::FakeProbe;
use crate::procfs::tests::FakeProc;

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
