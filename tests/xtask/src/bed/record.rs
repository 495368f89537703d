//! What a bed has made outside its own folder, written down before it is made: whoever comes later, after a crash
//! too, can tell what runs and put back what was changed.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::grade::Grade;

/// The record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// What it is; none: nothing was made.
    pub grade: Option<Grade>,
    /// Names this start of the machine: nothing but files outlives it.
    pub boot: String,
    /// Second octet of the bed's network.
    pub octet: u8,
    /// Digest of everything that shaped the running processes.
    pub shape: String,
    /// Processes that must run, by name.
    pub daemons: BTreeMap<String, Process>,
    /// Host processes that hold GPU memory, by name.
    pub hogs: BTreeMap<String, Process>,
    /// Folders of the machine that the bed had to make, in that order.
    pub folders: Vec<PathBuf>,
    /// Kernel settings as they were, by file.
    pub settings: BTreeMap<PathBuf, String>,
    /// The images of this checkout: full name by short name.
    pub images: BTreeMap<String, String>,
    /// Images and their parts that each node has got, by node.
    pub imported: BTreeMap<String, Vec<String>>,
    /// Whether the last `up` came to its end.
    pub whole: bool,
}

/// A process, named so that a reused number is not taken for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// When it started, in clock ticks since the machine did.
    pub started: u64,
}

impl Record {
    /// The record in `file`; none if there is none.
    ///
    /// # Errors
    /// When the file cannot be read or is no record.
    pub fn read(file: &Path) -> Result<Option<Self>> {
        let text = match fs::read(file) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("read {}", file.display())),
        };
        serde_json::from_slice(&text).map(Some).with_context(|| format!("understand {}", file.display()))
    }

    /// Writes the record, whole or not at all.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn write(&self, file: &Path) -> Result<()> {
        let folder = file.parent().context("the record needs a folder")?;
        let mut new = tempfile::NamedTempFile::new_in(folder).context("write the record")?;
        new.write_all(&serde_json::to_vec_pretty(self)?).context("write the record")?;
        new.persist(file).with_context(|| format!("write {}", file.display()))?;
        Ok(())
    }
}

impl Process {
    /// The process of that number as it is now; none if there is none, or only its corpse.
    pub fn find(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some(Self { pid, started: started(&stat)? })
    }

    /// Whether it still runs.
    pub fn runs(self) -> bool {
        Self::find(self.pid) == Some(self)
    }
}

/// Field 22 of /proc/PID/stat; none for a process that has ended.
fn started(stat: &str) -> Option<u64> {
    // The name in field 2 may contain anything, closing brackets too.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// Names this start of the machine.
///
/// # Errors
/// When /proc is not there.
pub fn boot() -> Result<String> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").context("read the machine's boot id")?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("bed.json");
        assert_eq!(Record::read(&file).unwrap(), None);
        let record = Record {
            octet: 77,
            daemons: [("etcd".to_owned(), Process { pid: 3, started: 9 })].into(),
            ..Record::default()
        };
        record.write(&file).unwrap();
        assert_eq!(Record::read(&file).unwrap(), Some(record));
    }

    #[test]
    fn the_start_is_read_whatever_the_process_calls_itself() {
        let fields: Vec<String> = (4..=52).map(|n| n.to_string()).collect();
        let stat = |name: &str, state: &str| format!("7 ({name}) {state} {}", fields.join(" "));
        assert_eq!(started(&stat("a) b (c", "S")), Some(22));
        assert_eq!(started(&stat("kubelet", "Z")), None);
        assert_eq!(started("7 (short"), None);
    }

    #[test]
    fn a_process_is_known_by_number_and_start() {
        let me = Process::find(std::process::id()).unwrap();
        assert!(me.runs());
        assert!(!Process { started: me.started.wrapping_add(1), ..me }.runs());
    }
}
