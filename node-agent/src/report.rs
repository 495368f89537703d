//! From a snapshot to the report: pure.
//!
//! [`build`] says everything; [`fit`] lists as much of it as the annotation may hold.

use std::cmp::Reverse;

use jiff::{Timestamp, Unit};
use video_upscale::api::report::{
    Gpu, Instance, Kind, MAX_BYTES, Process, Processes, Report, State, VERSION,
};

use crate::gpu;
use crate::observer::{Snapshot, View};
use crate::probe::Fault;
use crate::procfs::RunState;
use crate::roster;

/// What is the same in every report of one agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Namespace of the release.
    pub ns: String,
    /// Random per start.
    pub inst: String,
    /// Heartbeat period, seconds.
    pub hb: u32,
}

/// How much of a GPU is told: live processes, ended ones, and whether its product name and MIG instances stand.
const SHRINKING: [(usize, usize, Details); 7] = [
    (4, 4, Details::All),
    (2, 4, Details::All),
    (2, 2, Details::All),
    (0, 2, Details::Name),
    (0, 1, Details::Name),
    (0, 0, Details::Name),
    (0, 0, Details::None),
];

/// What is told of a GPU for people only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Details {
    All,
    Name,
    None,
}

/// Which memory is told as free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FreeMemory {
    /// After the peak-hold, for the annotation.
    Held,
    /// As measured, for people.
    Measured,
}

/// Everything that the snapshot holds, with `seq` 0; every process is listed, the live ones by memory, then the ended.
pub fn build(snapshot: &Snapshot, state: State, head: &Head, free: FreeMemory) -> Report {
    Report {
        v: VERSION,
        ns: head.ns.clone(),
        seq: 0,
        inst: head.inst.clone(),
        at: whole_second(snapshot.taken.wall),
        hb: head.hb,
        drv: snapshot.driver.version.clone(),
        life: snapshot.life.clone(),
        state,
        attr: snapshot.attribution,
        gpus: snapshot.gpus.iter().map(|view| gpu(view, free)).collect(),
    }
}

/// Down to the second, so that the time never lies after the sample.
pub fn whole_second(at: Timestamp) -> Timestamp {
    let rounding = jiff::TimestampRound::new().smallest(Unit::Second).mode(jiff::RoundMode::Floor);
    at.round(rounding).unwrap_or(at)
}

fn gpu(view: &View, which: FreeMemory) -> Gpu {
    let memory = view.memory.as_ref().ok();
    let free = memory.map(|memory| match which {
        FreeMemory::Measured => memory.free,
        FreeMemory::Held => {
            let held = view.peak.unwrap_or(memory.used).saturating_sub(memory.used);
            memory.free.saturating_sub(held)
        }
    });
    let why = view.memory.as_ref().err().or(view.processes.as_ref().err()).map(Fault::word);
    Gpu {
        i: view.identity.index,
        id: view.identity.uuid.clone(),
        n: view.identity.name.clone(),
        tot: memory.map(|memory| memory.total),
        rsv: memory.and_then(|memory| memory.reserved),
        free,
        una: view.unattributed,
        leak: view.leak,
        why: why.map(str::to_owned),
        h: view.health,
        xid: view.xid.map(|(xid, _)| xid),
        xat: view.xid.map(|(_, at)| whole_second(at)),
        mig: view.mig,
        mis: view.instances.iter().map(instance).collect(),
        cm: view.compute_mode,
        cc: view.identity.confidential,
        numa: view.identity.numa,
        procs: view.processes.as_ref().ok().filter(|_| memory.is_some()).map(|list| processes(list)),
    }
}

fn instance(instance: &gpu::Instance) -> Instance {
    let memory = instance.memory.as_ref();
    Instance {
        id: instance.uuid.clone(),
        tot: memory.map(|memory| memory.total),
        free: memory.map(|memory| memory.free),
    }
}

fn processes(list: &[roster::Process]) -> Processes {
    let (mut live, mut ended): (Vec<_>, Vec<_>) = list.iter().partition(|process| process.ended.is_none());
    live.sort_by_key(|process| (Reverse(process.listed.bytes.unwrap_or(u64::MAX)), process.listed.pid));
    ended.sort_by_key(|process| {
        (process.owner.kind != Kind::Pod, Reverse(process.ended.map(|end| end.up)), process.listed.pid)
    });
    Processes {
        n: u32::try_from(live.len()).unwrap_or(u32::MAX),
        b: live.iter().map(|process| process.listed.bytes).sum(),
        more: 0,
        top: live.into_iter().chain(ended).map(process).collect(),
    }
}

fn process(process: &roster::Process) -> Process {
    let flags = [
        (process.listed.compute, 'C'),
        (process.listed.graphics, 'G'),
        (process.listed.mps, 'M'),
        (process.state == Some(RunState::Zombie), 'Z'),
        (process.state == Some(RunState::Uninterruptible), 'D'),
        (process.ended.is_some(), 'E'),
    ];
    Process {
        k: process.owner.kind,
        u: process.owner.uid.clone(),
        p: process.listed.pid,
        b: process.listed.bytes,
        pk: process.peak,
        t: flags.into_iter().filter_map(|(set, letter)| set.then_some(letter)).collect(),
        e: process.ended.map(|end| whole_second(end.wall)),
    }
}

/// The report as it is published, and its text: as many processes as fit into [`MAX_BYTES`]. `smallest` lists none,
/// for a server that refuses even that size.
pub fn fit(report: &Report, smallest: bool) -> Result<(Report, String), serde_json::Error> {
    let mut steps = SHRINKING.into_iter().skip(if smallest { SHRINKING.len().saturating_sub(1) } else { 0 });
    loop {
        let step = steps.next();
        let (live, ended, details) = step.unwrap_or((0, 0, Details::None));
        let shrunk = shrink(report, live, ended, details);
        let text = shrunk.print()?;
        if text.len() <= MAX_BYTES || step.is_none() {
            return Ok((shrunk, text));
        }
    }
}

fn shrink(report: &Report, live: usize, ended: usize, details: Details) -> Report {
    let mut report = report.clone();
    for gpu in &mut report.gpus {
        if details != Details::All {
            gpu.mis.clear();
        }
        if details == Details::None {
            gpu.n.clear();
        }
        let Some(processes) = &mut gpu.procs else { continue };
        let (alive, dead): (Vec<_>, Vec<_>) =
            std::mem::take(&mut processes.top).into_iter().partition(|process| !process.ended());
        processes.more = u32::try_from(alive.len().saturating_sub(live)).unwrap_or(u32::MAX);
        processes.top = alive.into_iter().take(live).chain(dead.into_iter().take(ended)).collect();
    }
    report
}

#[cfg(test)]
pub mod tests;
