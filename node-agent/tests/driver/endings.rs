//! Drivers that hang or go: the program tells first, and ends only if that can help.

use std::process::{Command, Stdio};
use std::time::Duration;

use gpusim::script::{Act, END, Rule, Script};
use video_upscale::api::report::State;

use crate::bed::{Bed, Running, Server, ask, eventually, free_port, publishing, within};

const MEMORY: &str = "nvmlDeviceGetMemoryInfo_v2";

fn plays(bed: &Bed, rule: Rule) {
    bed.plays(&Script { rules: vec![rule], ..Script::default() });
}

#[test]
fn lost_devices_are_told_before_the_program_ends_and_a_second_end_must_wait() {
    let bed = Bed::start();
    let kubeconfig = bed.path("kubeconfig");
    let server = Server::start(&kubeconfig);
    let told = || server.read().map(|(report, heartbeat)| (report.state, heartbeat.state));
    let lost = Some((State::DeviceAccessLost, State::DeviceAccessLost));
    let mut agent = publishing(&bed, &kubeconfig, free_port());
    eventually("the first report stands", || told() == Some((State::Ok, State::Ok)));
    plays(&bed, Rule::code(MEMORY, 999));
    assert_eq!(agent.0.wait().unwrap().code(), Some(76));
    assert_eq!(told(), lost, "told, then ended");

    bed.plays(&Script::default());
    let port = free_port();
    let mut again = publishing(&bed, &kubeconfig, port);
    eventually("it is well again", || told() == Some((State::Ok, State::Ok)));
    plays(&bed, Rule::code(MEMORY, 17));
    eventually("the second loss is told", || told() == lost);
    let unready = || ask(port, "/readyz");
    eventually("it is not ready", || unready().contains("device-access-lost"));
    assert!(again.0.try_wait().unwrap().is_none(), "one end in five minutes, then it stays and tells");
}

#[test]
fn a_call_that_hangs_for_forty_seconds_is_told_and_forgotten() {
    let bed = Bed::start();
    let kubeconfig = bed.path("kubeconfig");
    let server = Server::start(&kubeconfig);
    let state = || server.read().map(|(report, _)| report.state);
    let port = free_port();
    let _agent = publishing(&bed, &kubeconfig, port);
    eventually("the first report stands", || state() == Some(State::Ok));
    plays(&bed, Rule { act: Act::Hang(40_000), times: Some(1), ..Rule::code(MEMORY, 0) });
    let took = within(Duration::from_secs(45), "the hang is told", || state() == Some(State::NvmlStuck));
    assert!(took >= Duration::from_secs(28), "{took:?}");
    assert!(ask(port, "/livez").starts_with("HTTP/1.1 200"), "not yet dead");
    assert!(ask(port, "/readyz").contains("the driver has not come back from memory for "));
    assert!(ask(port, "/metrics").contains("upscale_agent_state{state=\"nvml-stuck\"} 1.0"));
    within(Duration::from_secs(60), "it is well again", || state() == Some(State::Ok));
}

#[test]
fn a_library_whose_destructor_hangs_keeps_no_program_from_ending() {
    let bed = Bed::start();
    plays(&bed, Rule { act: Act::Hang(600_000), ..Rule::code(END, 0) });
    let mut once = Running(bed.agent(&["--once"]).stdout(Stdio::null()).spawn().unwrap());
    eventually("it has ended", || once.0.try_wait().unwrap().is_some());
    assert_eq!(once.0.wait().unwrap().code(), Some(0));
}

#[test]
fn a_program_that_is_told_to_end_says_so_and_leaves_its_report() {
    let bed = Bed::start();
    let kubeconfig = bed.path("kubeconfig");
    let server = Server::start(&kubeconfig);
    let told = || server.read().map(|(report, heartbeat)| (report.state, heartbeat.state));
    let mut agent = publishing(&bed, &kubeconfig, free_port());
    eventually("the first report stands", || told() == Some((State::Ok, State::Ok)));
    let sent = Command::new("kill").args(["-TERM", &agent.0.id().to_string()]).status().unwrap();
    assert!(sent.success());
    eventually("it has ended", || agent.0.try_wait().unwrap().is_some());
    assert_eq!(agent.0.wait().unwrap().code(), Some(0));
    assert_eq!(told(), Some((State::Ok, State::Stopped)));
}
