//! Sizes; and the reports that other tests are made of.

#![expect(clippy::arithmetic_side_effects, reason = "figures of tests")]

use video_upscale::api::report::{Attribution, Health};

use super::*;

const GIB: u64 = 1 << 30;

pub fn report(gpus: Vec<Gpu>) -> Report {
    Report {
        v: VERSION,
        ns: "ops".to_owned(),
        seq: 0,
        inst: "c1f0a9e2".to_owned(),
        at: crate::clock::Now::at(0).wall,
        hb: 300,
        drv: "580.95.05".to_owned(),
        life: "9f31c2d0".to_owned(),
        state: State::Ok,
        attr: Attribution::Full,
        gpus,
    }
}

pub fn gpu(index: u32, total: u64, free: u64) -> Gpu {
    Gpu {
        i: index,
        id: format!("GPU-{index:08x}-0000-4000-8000-000000000000"),
        n: "NVIDIA L40S".to_owned(),
        tot: Some(total),
        rsv: Some(600 << 20),
        free: Some(free),
        una: Some(0),
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
        procs: Some(Processes::default()),
    }
}

pub fn process(pid: u32, bytes: Option<u64>) -> Process {
    Process { k: Kind::Host, u: None, p: pid, b: bytes, pk: bytes, t: "C".to_owned(), e: None }
}

pub fn ended(pid: u32) -> Process {
    let uid = Some("0b9c41d2-1111-4222-8333-444444444444".to_owned());
    let e = Some(Timestamp::UNIX_EPOCH);
    Process { k: Kind::Pod, u: uid, p: pid, b: Some(0), pk: Some(12 * GIB), t: "CE".to_owned(), e }
}

fn crowded(gpus: u32, live: u32, dead: u32) -> Report {
    let pod = |pid| Process { t: "CG".to_owned(), b: Some(GIB), e: None, ..ended(pid) };
    let card = |index| {
        let mut card = gpu(index, 48 * GIB, GIB);
        card.n = "NVIDIA RTX PRO 6000 Blackwell Workstation Edition".to_owned();
        let top =
            (0..live).map(|pid| pod(4_000_000 + pid)).chain((0..dead).map(|pid| ended(5_000_000 + pid)));
        card.procs = Some(Processes { n: live, b: Some(GIB), more: 0, top: top.collect() });
        card
    };
    report((0..gpus).map(card).collect())
}

#[test]
fn sixteen_gpus_with_two_hundred_processes_fit() {
    for dead in [0, 4, 32] {
        let (shrunk, text) = fit(&crowded(16, 200, dead), false).unwrap();
        assert!(text.len() <= MAX_BYTES, "{} bytes", text.len());
        assert_eq!(Report::parse(&text).unwrap(), shrunk);
        let processes = shrunk.gpus[0].procs.as_ref().unwrap();
        let live = processes.top.iter().filter(|process| !process.ended()).count() as u32;
        assert_eq!(processes.more + live, 200);
        assert!(dead == 0 || processes.top.iter().any(Process::ended), "an ended process is listed");
    }
}

#[test]
fn the_product_names_go_last() {
    let (shrunk, text) = fit(&crowded(64, 200, 32), false).unwrap();
    assert!(text.len() <= MAX_BYTES, "{} bytes", text.len());
    assert!(shrunk.gpus[0].procs.as_ref().unwrap().top.is_empty());
    let (shrunk, text) = fit(&crowded(72, 200, 32), false).unwrap();
    assert!(text.len() <= MAX_BYTES, "{} bytes", text.len());
    assert!(shrunk.gpus[0].n.is_empty());
}

#[test]
fn a_server_that_refuses_the_size_gets_the_smallest() {
    let (shrunk, _) = fit(&crowded(2, 3, 3), true).unwrap();
    assert!(shrunk.gpus.iter().all(|gpu| gpu.procs.as_ref().unwrap().top.is_empty()));
    assert_eq!(shrunk.gpus[0].procs.as_ref().unwrap().more, 3);
}
