//! Host processes that hold GPU memory: kept in the record, so that another call can end them.

use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

use super::Bed;
use super::daemon::Daemon;
use super::record::{Process, Record};

impl Bed {
    /// Starts one on the GPU `uuid`; its process id is the answer.
    pub(crate) fn start_hog(&self, node: &str, uuid: &str, mib: u64) -> Result<u32> {
        let _lock = super::lock(&self.layout, &self.progress)?;
        let mut record = self.fresh_record()?;
        let name = format!("hog-{uuid}-{}", record.hogs.len());
        let process = Daemon::new(&name, &self.layout.driver().join("gpu-hog"))
            .flag("gpu", uuid)
            .flag("mib", mib.to_string())
            .env("GPUSIM_DIR", self.layout.device(node))
            .start(&self.processes, &self.layout.logs())?;
        record.hogs.insert(name, process);
        record.write(&self.layout.record())?;
        Ok(process.pid)
    }

    /// Ends those on the GPU `uuid`; tells how many there were.
    pub(crate) fn end_hogs(&self, uuid: &str) -> Result<usize> {
        let _lock = super::lock(&self.layout, &self.progress)?;
        let mut record = self.fresh_record()?;
        let ended = self.end_hogs_in(&mut record, &format!("hog-{uuid}-"))?;
        record.write(&self.layout.record())?;
        Ok(ended)
    }

    /// Ends those of the record whose name begins so, and strikes them out; tells how many still ran.
    pub(super) fn end_hogs_in(&self, record: &mut Record, prefix: &str) -> Result<usize> {
        let ours: Vec<Process> =
            record.hogs.extract_if(.., |name, _| name.starts_with(prefix)).map(|(_, it)| it).collect();
        let mut ended = 0_usize;
        for process in ours.into_iter().filter(|process| process.runs()) {
            let pid = i32::try_from(process.pid)
                .ok()
                .and_then(Pid::from_raw)
                .context("a process without a number")?;
            kill_process(pid, Signal::KILL).with_context(|| format!("end process {}", process.pid))?;
            let what = format!("process {} to end", process.pid);
            self.progress.wait(&what, Duration::from_secs(10), || Ok((!process.runs()).then_some(())))?;
            ended = ended.saturating_add(1);
        }
        Ok(ended)
    }

    /// The record as it is now: another call may have changed it.
    fn fresh_record(&self) -> Result<Record> {
        Record::read(&self.layout.record())?.context("the bed is not up any more")
    }
}
