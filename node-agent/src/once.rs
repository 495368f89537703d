//! Printing samples for people and scripts: `--once` and `--watch`.

use std::io::{self, IsTerminal, Write};

use jiff::tz::TimeZone;
use video_upscale::api::report::{Attribution, Gpu, Process, Report, State};

use crate::config::Output;
use crate::observer::Snapshot;
use crate::report::{FreeMemory, Head, build, fit};

/// No library or no driver.
pub const NO_DRIVER: u8 = 3;
/// A driver without a GPU.
pub const NO_GPU: u8 = 4;
/// Some value is unknown.
pub const PARTIAL: u8 = 5;

const GIB: u64 = 1 << 30;

/// Prints a snapshot; returns the exit code that it deserves.
pub fn print(snapshot: &Snapshot, cgroups: &str, head: &Head, output: Option<Output>) -> io::Result<u8> {
    let mut out = io::stdout().lock();
    let measured = build(snapshot, snapshot.state, head, FreeMemory::Measured);
    let output = output.unwrap_or(if out.is_terminal() { Output::Table } else { Output::Json });
    match output {
        Output::Table => out.write_all(table(snapshot, cgroups, &measured).as_bytes())?,
        Output::Json => writeln!(out, "{}", serde_json::to_string_pretty(&measured)?)?,
        Output::Report => {
            let mut held = build(snapshot, snapshot.state, head, FreeMemory::Held);
            held.seq = 1;
            writeln!(out, "{}", fit(&held, false)?.1)?;
        }
    }
    out.flush()?;
    Ok(code(&measured, snapshot.trouble.is_some()))
}

fn code(report: &Report, trouble: bool) -> u8 {
    let unknown = |gpu: &Gpu| {
        gpu.free.is_none()
            || gpu.rsv.is_none()
            || gpu.procs.as_ref().is_none_or(|processes| processes.b.is_none())
    };
    match report.state {
        State::NoGpu => NO_GPU,
        State::Ok if trouble || report.gpus.iter().any(unknown) => PARTIAL,
        State::Ok => 0,
        _ => NO_DRIVER,
    }
}

fn table(snapshot: &Snapshot, cgroups: &str, report: &Report) -> String {
    let known = |text: &str| if text.is_empty() { "?".to_owned() } else { text.to_owned() };
    let namespace = match report.attr {
        Attribution::Full => "initial",
        Attribution::Namespace => "nested (processes outside are hidden)",
        Attribution::None => "process lists cannot be read",
    };
    let mut text = format!(
        "state {}   driver {}   nvml {}   pid namespace: {namespace}   cgroup {cgroups}   attribution: {}\n",
        report.state,
        known(&report.drv),
        known(&snapshot.driver.library),
        attribution_word(report.attr),
    );
    if let Some(trouble) = &snapshot.trouble {
        text.push_str(&format!("{trouble}\n"));
    }
    let header = ["#", "UUID", "MODEL", "TOTAL", "FREE", "RESERVED", "UNATTR", "HEALTH", "WHO"];
    let rows = std::iter::once(header.map(str::to_owned)).chain(report.gpus.iter().map(row));
    let rows: Vec<[String; 9]> = if report.gpus.is_empty() { Vec::new() } else { rows.collect() };
    let mut widths = [0; 9];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    for row in &rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

const fn attribution_word(attribution: Attribution) -> &'static str {
    match attribution {
        Attribution::Full => "full",
        Attribution::Namespace => "namespace",
        Attribution::None => "none",
    }
}

fn row(gpu: &Gpu) -> [String; 9] {
    let listed = gpu.procs.iter().flat_map(|processes| &processes.top);
    let mut who: Vec<String> = listed.map(describe).collect();
    if gpu.mig {
        let instances =
            gpu.mis.iter().map(|instance| format!("{} free of {}", gib(instance.free), gib(instance.tot)));
        let shown = ["MIG enabled, not used".to_owned()].into_iter().chain(instances);
        who.insert(0, shown.collect::<Vec<_>>().join(", "));
    }
    if gpu.cc {
        who.insert(0, "confidential computing".to_owned());
    }
    if gpu.numa {
        who.insert(0, "NUMA memory".to_owned());
    }
    if gpu.leak {
        who.insert(0, "memory has leaked".to_owned());
    }
    if let (Some(xid), Some(at)) = (gpu.xid, gpu.xat) {
        who.insert(0, format!("Xid {xid} at {}", at.to_zoned(TimeZone::UTC).strftime("%H:%M:%S")));
    }
    if let Some(why) = &gpu.why {
        who.insert(0, why.clone());
    }
    [
        gpu.i.to_string(),
        gpu.id.chars().take(12).collect(),
        gpu.n.clone(),
        gib(gpu.tot),
        gib(gpu.free),
        gib(gpu.rsv),
        gib(gpu.una),
        gpu.h.as_str().to_owned(),
        if who.is_empty() { "-".to_owned() } else { who.join("  ") },
    ]
}

fn describe(process: &Process) -> String {
    let whose = match &process.u {
        Some(uid) => format!("pod {}", uid.chars().take(8).collect::<String>()),
        None => format!("{} pid {}", process.k.as_str(), process.p),
    };
    format!("{whose} ({}, {})", gib(process.b), process.t)
}

/// One decimal, in whole arithmetic.
fn gib(bytes: Option<u64>) -> String {
    let Some(bytes) = bytes else { return "?".to_owned() };
    let tenths = bytes.saturating_mul(10).saturating_add(GIB >> 1) >> GIB.trailing_zeros();
    format!("{}.{}Gi", tenths.div_euclid(10), tenths.rem_euclid(10))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{gpu, process, report};

    #[test]
    fn sizes_are_rounded_to_a_tenth() {
        for (bytes, text) in [(0, "0.0Gi"), (GIB, "1.0Gi"), (GIB + GIB / 2, "1.5Gi"), (619_511_808, "0.6Gi")]
        {
            assert_eq!(gib(Some(bytes)), text);
        }
        assert_eq!(gib(None), "?");
    }

    #[test]
    fn the_exit_code_tells_what_is_missing() {
        let mut good = gpu(0, 48 * GIB, GIB);
        good.procs.get_or_insert_default().b = Some(0);
        assert_eq!(code(&report(vec![good.clone()]), false), 0);
        assert_eq!(code(&report(vec![good.clone()]), true), PARTIAL);
        let mut blind = good.clone();
        blind.free = None;
        assert_eq!(code(&report(vec![good.clone(), blind]), false), PARTIAL);
        let mut old = good.clone();
        old.rsv = None;
        assert_eq!(code(&report(vec![old]), false), PARTIAL);
        let mut untold = good;
        untold.procs.get_or_insert_default().b = None;
        assert_eq!(code(&report(vec![untold]), false), PARTIAL);
        for (state, expected) in [(State::NoDriver, NO_DRIVER), (State::NoGpu, NO_GPU)] {
            let mut empty = report(vec![]);
            empty.state = state;
            assert_eq!(code(&empty, true), expected);
        }
    }

    #[test]
    fn unknown_is_a_question_mark_and_never_a_number() {
        let mut lost = gpu(1, 48 * GIB, GIB);
        (lost.tot, lost.free, lost.rsv, lost.una) = (None, None, None, None);
        lost.why = Some("GpuLost".to_owned());
        assert_eq!(row(&lost)[3..7], ["?", "?", "?", "?"]);
        assert_eq!(describe(&process(7, None)), "host pid 7 (?, C)");
    }
}
