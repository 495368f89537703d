//! The agent's program against the simulated driver, through the driver library's C interface.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods
)]

mod bed;
mod endings;
mod lists;
mod matrix;
mod program;
mod rounds;
mod strange;
mod versions;
mod watch;

use std::time::Duration;

use bed::{Bed, Server, ask, eventually, free_port, publishing};
use gpusim::card::Gpu;
use gpusim::control::{Command as Act, DriverAction};
use video_upscale::api::report::{Health, Report, State};

const MIB: u64 = 1 << 20;

#[test]
fn one_sample_shows_each_gpu_and_who_is_on_it() {
    let bed = Bed::start();
    let _held = bed.hold(0, 5_000 * MIB);
    let (report, code) = bed.once();
    assert_eq!((report.state, code, report.gpus.len()), (State::Ok, 0, 2));
    let card = &report.gpus[0];
    assert_eq!(
        (card.n.as_str(), card.tot, card.rsv),
        ("NVIDIA RTX A4000", Some(16_376 * MIB), Some(300 * MIB))
    );
    assert_eq!((card.free, card.una, card.h), (Some((16_376 - 300 - 5_000) * MIB), Some(0), Health::Ok));
    let processes = card.procs.as_ref().unwrap();
    assert_eq!((processes.n, processes.b), (1, Some(5_000 * MIB)));
    assert_eq!((processes.top[0].p, processes.top[0].t.as_str()), (std::process::id(), "C"));
    assert_eq!(report.gpus[1].procs.as_ref().unwrap().n, 0);
}

#[test]
fn the_printed_report_is_one_that_readers_accept() {
    let bed = Bed::start();
    let output = bed.agent(&["--once", "-o", "report", "--namespace", "ops"]).output().unwrap();
    let report = Report::parse(String::from_utf8(output.stdout).unwrap().trim_end()).unwrap();
    assert_eq!((report.ns.as_str(), report.seq, report.gpus.len()), ("ops", 1, 2));
}

#[test]
fn memory_without_a_process_is_told_as_such() {
    let bed = Bed::start();
    bed.control(&Act::Leak { gpu: Gpu::Index(1), mib: 700 });
    let (report, _) = bed.once();
    assert_eq!(report.gpus[1].una, Some(700 * MIB));
}

#[test]
fn without_driver_library_or_gpu_the_exit_code_says_so_and_no_value_is_made_up() {
    let bed = Bed::start();
    bed.control(&Act::Lose { gpu: Gpu::Index(1), back: false });
    let (report, code) = bed.once();
    assert_eq!((code, report.state, report.gpus.len()), (5, State::Ok, 1), "it cannot even be named");
    bed.control(&Act::Driver { action: DriverAction::Unload, version: None });
    let (report, code) = bed.once();
    assert_eq!((code, report.state, report.gpus.len()), (3, State::NoDriver, 0));
    let nowhere =
        bed.agent(&["--once", "-o", "table"]).env("NVIDIA_VISIBLE_DEVICES", "void").output().unwrap();
    assert!(matches!(nowhere.status.code(), Some(3 | 4)), "{nowhere:?}");
}

#[test]
fn the_node_tells_what_happens_to_its_gpus() {
    let bed = Bed::start();
    let kubeconfig = bed.path("kubeconfig");
    let server = Server::start(&kubeconfig);
    let port = free_port();
    let mut agent = publishing(&bed, &kubeconfig, port);
    let free = |gpu: usize| server.read().and_then(|(report, _)| report.gpus.get(gpu)?.free);
    eventually("the first report stands", || server.read().is_some());
    eventually("it is ready", || ask(port, "/readyz").starts_with("HTTP/1.1 200"));

    let empty = free(0).unwrap();
    let held = bed.hold(0, 3_000 * MIB);
    let took = eventually("3,000 MiB are known", || free(0).is_some_and(|free| free + 3_000 * MIB <= empty));
    assert!(took < Duration::from_secs(10), "{took:?}");
    drop(held);

    bed.control(&Act::Lose { gpu: Gpu::Index(1), back: false });
    let took = eventually("the loss is known", || {
        server.read().is_some_and(|(report, _)| {
            let gpu = report.gpus.iter().find(|gpu| gpu.i == 1);
            gpu.is_some_and(|gpu| (gpu.h, gpu.free) == (Health::Lost, None))
        })
    });
    assert!(took < Duration::from_secs(15), "{took:?}");

    let metrics = ask(port, "/metrics");
    assert!(metrics.contains("upscale_agent_state{state=\"ok\"} 1.0"), "{metrics}");
    assert!(metrics.contains("upscale_gpu_health{uuid="), "{metrics}");
    assert!(ask(port, "/livez").starts_with("HTTP/1.1 200"));

    let began = std::time::Instant::now();
    bed.control(&Act::Driver { action: DriverAction::Reload, version: Some("590.10.01".to_owned()) });
    let status = agent.0.wait().unwrap();
    assert_eq!(status.code(), Some(75));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    let (report, heartbeat) = server.read().unwrap();
    assert_eq!(
        (report.state, heartbeat.state),
        (State::DriverMismatch, State::DriverMismatch),
        "told, then ended"
    );
}
