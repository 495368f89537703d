//! Loads: a machine whose jobs come and go, as the driver and the kernel tell it.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rand::Rng;
use rand::rngs::StdRng;
use upscale_agent::{Driver, Fault, Identity, Instance, Listed, Memory, Probe, Signs};

pub const GPUS: u32 = 8;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// Figures of an L40S.
const TOTAL: u64 = 46_068 * MIB;
const RESERVED: u64 = 591 * MIB;
/// Memory that a GPU in use holds beside its processes.
const OVERHEAD: u64 = 300 * MIB;
/// A job's memory in all.
const JOB: std::ops::Range<u64> = 4 * GIB..40 * GIB;
/// Longest pause between two jobs of one GPU, seconds.
const PAUSE: u64 = 120;
/// Time that each of the parts of a job's memory takes to come, seconds: context, weights, caches, first batch.
const PARTS: [std::ops::Range<u64>; 4] = [1..4, 10..40, 20..60, 40..120];

/// How long jobs last.
#[derive(Clone, Copy, Debug)]
pub enum Turnover {
    /// Between so many minutes.
    Minutes(u64, u64),
    /// For ever.
    Never,
}

/// A way to use GPUs.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub name: &'static str,
    pub turnover: Turnover,
    /// Memory jumps by -7 to +5 % at each look while a job runs.
    pub restless: bool,
}

/// One node under a load.
pub struct Machine {
    load: Load,
    random: StdRng,
    proc: PathBuf,
    slots: Vec<Slot>,
    next_pid: u32,
}

/// What is on one GPU.
enum Slot {
    Idle { until: u64 },
    Busy(Job),
}

struct Job {
    pid: u32,
    until: u64,
    /// All that it will hold, bytes, and how much of it has come, in parts.
    bytes: u64,
    parts: Vec<u64>,
    /// Percent of it that is held now.
    share: u64,
}

impl Machine {
    /// A node whose jobs are somewhere in their lives; `proc` is its proc file system.
    pub fn new(load: Load, proc: &Path, random: StdRng) -> Self {
        let mut machine = Self { load, random, proc: proc.to_owned(), slots: Vec::new(), next_pid: 100 };
        machine.tell(1);
        for _ in 0..GPUS {
            let mut job = machine.job(0);
            if let Turnover::Minutes(..) = load.turnover {
                job.until = machine.random.random_range(1..job.until);
            }
            job.parts.fill(0);
            machine.slots.push(Slot::Busy(job));
        }
        machine
    }

    fn job(&mut self, now: u64) -> Job {
        let pid = self.next_pid;
        self.next_pid += 1;
        self.tell(pid);
        let lasts = match self.load.turnover {
            Turnover::Minutes(least, most) => self.random.random_range(least * 60..most * 60),
            Turnover::Never => u64::MAX / 2,
        };
        let mut at = now;
        let mut part = |took: &std::ops::Range<u64>| {
            at += self.random.random_range(took.clone());
            at
        };
        let parts = PARTS.iter().map(&mut part).collect();
        Job { pid, until: now + lasts, bytes: self.random.random_range(JOB), parts, share: 100 }
    }

    /// The kernel's word of a process of a pod of its own.
    fn tell(&self, pid: u32) {
        let folder = self.proc.join(pid.to_string());
        fs::create_dir_all(&folder).unwrap();
        let stat = format!("{pid} (x) S 1 1 1 0 -1 0 1 0 0 0 3 4 0 0 20 0 9 0 {} 1 2 3", 1_000 + pid);
        fs::write(folder.join("stat"), stat).unwrap();
        let cgroup = format!("0::/kubepods/pod{pid:08x}-0000-4000-8000-000000000000/{}\n", "ab".repeat(32));
        fs::write(folder.join("cgroup"), cgroup).unwrap();
    }

    /// Lets the time go on to the second `now`.
    pub fn advance(&mut self, now: u64) {
        for at in 0..self.slots.len() {
            match &mut self.slots[at] {
                Slot::Idle { until } if *until <= now => self.slots[at] = Slot::Busy(self.job(now)),
                Slot::Busy(job) if job.until <= now => {
                    fs::remove_dir_all(self.proc.join(job.pid.to_string())).unwrap();
                    self.slots[at] = Slot::Idle { until: now + self.random.random_range(2..PAUSE) };
                }
                Slot::Busy(job) if self.load.restless => job.share = self.random.random_range(93..=105),
                Slot::Idle { .. } | Slot::Busy(_) => {}
            }
        }
    }

    fn held(&self, gpu: u32, now: u64) -> u64 {
        match &self.slots[gpu as usize] {
            Slot::Idle { .. } => 0,
            Slot::Busy(job) => {
                let come = job.parts.iter().filter(|at| **at <= now).count() as u64;
                job.bytes * come / job.parts.len() as u64 * job.share / 100
            }
        }
    }
}

/// The machine as its driver tells it.
pub struct MachineProbe {
    pub machine: Rc<RefCell<Machine>>,
    pub now: Rc<RefCell<u64>>,
}

impl Probe for MachineProbe {
    fn open(&mut self) -> Result<Driver, Fault> {
        Ok(Driver { version: "580.95.05".to_owned(), library: String::new(), cuda: String::new() })
    }

    fn gpus(&mut self) -> Result<Vec<Result<Identity, Fault>>, Fault> {
        let identity = |index: u32| {
            let uuid = format!("GPU-{index:08x}-0000-4000-8000-000000000000");
            Identity::new(index, uuid, "NVIDIA L40S", String::new()).ok_or(Fault::Implausible)
        };
        Ok((0..GPUS).map(identity).collect())
    }

    fn memory(&mut self, index: u32) -> Result<Memory, Fault> {
        let held = self.machine.borrow().held(index, *self.now.borrow());
        let used = if held == 0 { 0 } else { (held + OVERHEAD).min(TOTAL - RESERVED) };
        Memory::new(TOTAL, Some(RESERVED), TOTAL - RESERVED - used, used).ok_or(Fault::Implausible)
    }

    fn processes(&mut self, index: u32, _mps: bool) -> Result<Vec<Listed>, Fault> {
        let machine = self.machine.borrow();
        let Slot::Busy(job) = &machine.slots[index as usize] else { return Ok(Vec::new()) };
        let bytes = machine.held(index, *self.now.borrow());
        let listed = Listed { pid: job.pid, bytes: Some(bytes), compute: true, ..Listed::default() };
        Ok(if bytes == 0 { Vec::new() } else { vec![listed] })
    }

    fn signs(&mut self, _index: u32) -> Signs {
        Signs { mig: Some(false), reset_pending: Some(false), ..Signs::default() }
    }

    fn instances(&mut self, _index: u32) -> Result<Vec<Instance>, Fault> {
        Err(Fault::NotSupported)
    }
}
