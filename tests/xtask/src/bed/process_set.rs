//! The bed's processes as a whole, whoever started them: by control group where there are such, else by a variable that
//! every child inherits.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use pod_runner::marked;

use super::control_group::ControlGroup;
use super::grade::Grade;
use super::layout::Layout;
use super::record::Process;
use crate::progress::Progress;

/// Names the bed in the environment of its processes.
pub const MARK: &str = "VIDEO_UPSCALE_BED";

/// The processes of a bed.
#[derive(Clone, Debug)]
pub enum ProcessSet {
    /// Those in its control group.
    Group(ControlGroup),
    /// Those that carry its id.
    Marked(String),
}

impl ProcessSet {
    /// The set of a bed of that grade, whether it stands or not.
    ///
    /// # Errors
    /// When the machine's mounts cannot be read.
    pub fn of(grade: Grade, layout: &Layout) -> Result<Self> {
        Ok(match grade {
            Grade::Full => Self::Group(ControlGroup::new(&layout.control_group())?),
            Grade::Plain => Self::Marked(layout.id.clone()),
        })
    }

    /// The files that a process of the bed writes its number to, first of all.
    pub fn entry(&self) -> Vec<PathBuf> {
        match self {
            Self::Group(group) => group.own(),
            Self::Marked(_) => Vec::new(),
        }
    }

    /// The variable that a process of the bed is started with.
    pub fn mark(&self) -> Option<(&'static str, &str)> {
        match self {
            Self::Group(_) => None,
            Self::Marked(id) => Some((MARK, id)),
        }
    }

    /// Makes ready for the first process.
    ///
    /// # Errors
    /// When the machine does not let its control groups be changed.
    pub fn make(&self, nodes: &[&str]) -> Result<()> {
        match self {
            Self::Group(group) => group.make(nodes),
            Self::Marked(_) => Ok(()),
        }
    }

    /// The processes.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub fn processes(&self) -> Result<BTreeSet<i32>> {
        match self {
            Self::Group(group) => group.processes(),
            Self::Marked(id) => {
                let found = marked::processes(MARK, id).context("list the machine's processes")?;
                Ok(found.into_iter().map(|pid| pid.as_raw_nonzero().get()).collect())
            }
        }
    }

    /// Ends every process, and removes the control group.
    ///
    /// # Errors
    /// When processes do not end within 120 s, or the group cannot be removed.
    pub fn clear(&self, progress: &Progress) -> Result<()> {
        match self {
            Self::Group(group) => group.clear(progress),
            Self::Marked(id) => {
                let mut known = BTreeSet::new();
                progress.wait("the processes of the bed to end", Duration::from_secs(120), || {
                    let found = marked::kill(MARK, id).context("end the bed's processes")?;
                    // What is about to end says nothing of itself any more, but still holds its ports.
                    let numbers =
                        found.iter().filter_map(|pid| u32::try_from(pid.as_raw_nonzero().get()).ok());
                    known.extend(numbers.filter_map(Process::find));
                    Ok((found.is_empty() && !known.iter().any(|process| process.runs())).then_some(()))
                })
            }
        }
    }

    /// What there is of it, for people.
    ///
    /// # Errors
    /// When the processes cannot be listed.
    pub fn left(&self) -> Result<Vec<String>> {
        Ok(match self {
            Self::Group(group) => {
                group.left().iter().map(|path| format!("control group {}", path.display())).collect()
            }
            Self::Marked(_) => self.processes()?.iter().map(|pid| format!("process {pid}")).collect(),
        })
    }
}
