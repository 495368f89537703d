//! Programs run under eyes that see how long they take and how much memory they hold.
#![allow(clippy::disallowed_methods, reason = "looks at a running program again and again")]
#![allow(dead_code, reason = "tests want the memory alone, the benchmark all figures")]

use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// A run of a program and of those that it started.
pub struct Watched {
    /// How it ended.
    pub output: Output,
    /// How long it ran, seconds.
    pub seconds: f64,
    /// Most memory that all held at once, bytes.
    pub peak: u64,
    /// How long a program with `-f concat` ran, seconds.
    pub joining: f64,
    /// Most memory that it held, bytes.
    pub joining_peak: u64,
}

/// Runs a program and looks at it every few milliseconds.
pub fn watch(command: &mut Command) -> Watched {
    let began = Instant::now();
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let (mut peak, mut joining_peak, mut first, mut last) = (0, 0, None, None);
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        let (memory, joining) = look(child.id());
        peak = peak.max(memory);
        joining_peak = joining_peak.max(joining);
        if joining > 0 {
            first.get_or_insert_with(|| began.elapsed());
            last = Some(began.elapsed());
        }
        sleep(Duration::from_millis(2));
    };
    let seconds = began.elapsed().as_secs_f64();
    let joining = last.zip(first).map_or(0.0, |(last, first)| (last - first).as_secs_f64());
    let output = Output { status, stdout: Vec::new(), stderr: Vec::new() };
    Watched { output, seconds, peak, joining, joining_peak }
}

/// Bytes that a process and its descendants hold, and the most that one of them that joins films has held.
fn look(process: u32) -> (u64, u64) {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/{process}/{name}")).unwrap_or_default();
    let kib = |line: &str| line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok());
    let status = read("status");
    let bytes =
        |name: &str| status.lines().find(|line| line.starts_with(name)).and_then(kib).unwrap_or(0) * 1024;
    let joins = if read("cmdline").contains("\0concat\0") { bytes("VmHWM:") } else { 0 };
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let children: String =
        tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok()).collect();
    let below = children.split_whitespace().filter_map(|child| child.parse().ok()).map(look);
    below.fold((bytes("VmRSS:"), joins), |(bytes, joins), (more, joining)| (bytes + more, joins.max(joining)))
}
