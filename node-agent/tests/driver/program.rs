//! The program as people and scripts call it: printing again and again, its checks, and from a nested PID namespace.

use std::io::BufReader;
use std::process::{Command, Stdio};

use gpusim::control::{Command as Act, ViewMode};
use gpusim::script::Twist;
use serde_json::Deserializer;
use video_upscale::api::report::{Attribution, Kind, Report, State};

use crate::bed::{Bed, CARDS, Running};

const MIB: u64 = 1 << 20;

/// The same program in a PID namespace of its own, with a `/proc` of its own.
fn nested(program: &Command) -> Command {
    let mut nested = Command::new("unshare");
    // Without root's rights a namespace of users is needed too.
    let flags = ["--pid", "--fork", "--mount-proc"];
    let may = Command::new("unshare").args(flags).arg("true").stderr(Stdio::null()).status().unwrap();
    nested.args((!may.success()).then_some("--map-root-user")).args(flags);
    nested.arg(program.get_program()).args(program.get_args());
    nested.envs(program.get_envs().filter_map(|(key, value)| Some((key, value?))));
    nested
}

#[test]
fn from_a_nested_namespace_what_is_hidden_is_not_taken_for_nobody() {
    let bed = Bed::start();
    let _held = bed.hold(0, 5_000 * MIB);
    let (report, code) = Bed::told_by(nested(&bed.agent(&["--once", "-o", "json"])));
    let card = &report.gpus[0];
    assert_eq!((report.state, report.attr, code), (State::Ok, Attribution::Namespace, 0));
    assert_eq!(card.free, Some((16_376 - 300 - 5_000) * MIB));
    assert_eq!(
        (card.procs.as_ref().unwrap().n, card.una),
        (0, Some(5_000 * MIB)),
        "used, by nobody to be seen"
    );
}

#[test]
fn from_a_nested_namespace_an_old_drivers_ids_name_nobody() {
    let bed = Bed::with(&CARDS.replace(r#""node-a","#, r#""node-a", "driver_version": "470.256.02","#));
    bed.control(&Act::View { mode: ViewMode::Raw });
    let _held = bed.hold(0, 5_000 * MIB);
    let (report, _) = Bed::told_by(nested(&bed.agent(&["--once", "-o", "json"])));
    let processes = report.gpus[0].procs.as_ref().unwrap();
    assert_eq!((report.attr, processes.n, processes.b), (Attribution::None, 1, Some(5_000 * MIB)));
    assert_eq!((processes.top[0].k, processes.top[0].p), (Kind::Unknown, std::process::id()));
}

#[test]
fn it_prints_again_and_again() {
    let bed = Bed::start();
    let mut agent =
        Running(bed.agent(&["--watch", "1", "-o", "json"]).stdout(Stdio::piped()).spawn().unwrap());
    let printed = BufReader::new(agent.0.stdout.take().unwrap());
    let mut reports = Deserializer::from_reader(printed).into_iter::<Report>();
    let mut free = || reports.next().unwrap().unwrap().gpus[0].free;
    assert_eq!(free(), Some((16_376 - 300) * MIB));
    let _held = bed.hold(0, 5_000 * MIB);
    let less = Some((16_376 - 300 - 5_000) * MIB);
    assert!((0..10).any(|_| free() == less), "a later sample is a new one");
}

#[test]
fn it_checks_what_it_needs_one_by_one() {
    let bed = Bed::start();
    bed.twists(1, Twist { sleeps: true, ..Twist::default() });
    let output = bed.agent(&["--doctor"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let found = |verdict: &str, name: &str| {
        text.lines().any(|line| line.starts_with(verdict) && line.contains(&format!(" {name} ")))
    };
    for (verdict, name) in [
        ("ok", "library"),
        ("ok", "driver"),
        ("ok", "driver version"),
        ("ok", "gpus"),
        ("warn", "persistence"),
        ("ok", "report size"),
        ("warn", "api"),
    ] {
        assert!(found(verdict, name), "{verdict} {name}: {text}");
    }
    assert_eq!(output.status.code(), Some(0), "a warning is no failure: {text}");
    let nowhere = bed.path("no-such-library.so");
    let output = bed.agent_over(&nowhere, &["--doctor"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.lines().any(|line| line.starts_with("fail  library")), "{text}");
    assert_eq!(output.status.code(), Some(3), "{text}");
}
