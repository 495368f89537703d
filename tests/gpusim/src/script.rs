//! What the stand-in library answers otherwise than the driver says: old, broken and strange drivers.
//!
//! The script is a JSON file, [`FILE`], beside the driver's socket. The library reads it at every call, so a test
//! changes it while a program runs; without the file every answer is the driver's. Counters start anew when the file
//! changes. Symbols that a driver has not got are no matter of the script: see [`crate::library::without`].
//!
//! ```json
//! {"rules": [{"call": "nvmlDeviceGetMemoryInfo_v2", "gpu": 1, "after": 10, "code": 15},
//!            {"call": "nvmlInit_v2", "times": 3, "code": 9}],
//!  "gpus": {"0": {"remapped_pending": 1}}}
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::driver::Memory;

/// Name of the script in the driver's folder.
pub const FILE: &str = "nvml.json";
/// Name of the log of calls in the driver's folder: one line a call, in order.
pub const LOG: &str = "nvml.calls";
/// Name of a call that nobody makes: rules about it say what the library does when its process ends in good order, as
/// the destructors of a real one do.
pub const END: &str = "end";
/// First of the process ids of entries by which lists grow; no kernel gives so high a number.
pub const FIRST_GROWN: u32 = 5_000_000;

/// A driver that is not as it should be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Script {
    /// Calls that fail or hang; the first rule that holds for a call counts.
    pub rules: Vec<Rule>,
    /// GPUs that say something else of themselves, by their index.
    pub gpus: BTreeMap<u32, Twist>,
    /// GPUs are counted from the last to the first.
    pub reversed: bool,
    /// Entries of `_v3` process lists have 32 bytes, as drivers 535.43 to 535.97 write them.
    pub wide_entries: bool,
    /// Work of a call by its name, in microseconds of its thread's time: a real driver's calls cost what this one's do
    /// not.
    pub costs: BTreeMap<String, u64>,
    /// Confidential computing is on.
    pub confidential: bool,
    /// Calls are written to [`LOG`].
    pub log: bool,
}

/// A call that does not get the driver's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Name of the function, or `*` for every one.
    pub call: String,
    /// Only for the GPU of this index; none: whatever the call is about.
    #[serde(default)]
    pub gpu: Option<u32>,
    /// So many calls are answered as ever first.
    #[serde(default)]
    pub after: u32,
    /// Then so many are not; none: all.
    #[serde(default)]
    pub times: Option<u32>,
    /// What happens instead.
    #[serde(flatten)]
    pub act: Act,
}

/// What happens instead of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// This return code.
    Code(i32),
    /// The right answer, so many milliseconds late.
    Hang(u64),
}

impl Rule {
    /// The code `code` for every call of `call`.
    #[must_use]
    pub fn code(call: &str, code: i32) -> Self {
        Self { call: call.to_owned(), gpu: None, after: 0, times: None, act: Act::Code(code) }
    }

    /// Whether the rule is about a call of `call` for the GPU of index `gpu`.
    #[must_use]
    pub fn is_about(&self, call: &str, gpu: Option<u32>) -> bool {
        (self.call == "*" || self.call == call) && (self.gpu.is_none() || self.gpu == gpu)
    }

    /// What happens at the call number `number` that the rule is about, counted from 0.
    #[must_use]
    pub fn at(&self, number: u32) -> Option<Act> {
        let since = number.checked_sub(self.after)?;
        self.times.is_none_or(|times| since < times).then_some(self.act)
    }
}

/// What a GPU says of itself instead of the driver's word; what is left out stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Twist {
    /// UUID.
    pub uuid: Option<String>,
    /// Product name; a character up to U+00FF is one byte, so that a name need not be UTF-8.
    pub name: Option<String>,
    /// Figures of the memory, however little they fit together.
    pub memory: Option<Memory>,
    /// Entries of the list of computing processes, behind the driver's own.
    pub compute: Vec<Entry>,
    /// Entries of the list of drawing processes.
    pub graphics: Vec<Entry>,
    /// Entries of the list of clients of the MPS server.
    pub mps: Vec<Entry>,
    /// The list of computing processes grows while it is being read.
    pub growth: Growth,
    /// Uncorrected memory errors since the driver was loaded; none: the card has no ECC.
    pub ecc_uncorrected: Option<u64>,
    /// Rows that wait for a reset to be remapped.
    pub remapped_pending: u32,
    /// Rows that could not be remapped.
    pub remapped_failure: u32,
    /// A card before Ampere, which remaps no rows: whether pages wait to be retired.
    pub retired_pending: Option<bool>,
    /// Compute mode: 0 default, 2 prohibited, 3 exclusive process.
    pub compute_mode: u32,
    /// Persistence mode is off.
    pub sleeps: bool,
    /// Its memory is this NUMA node of the machine.
    pub numa: Option<u32>,
    /// Virtualization mode: 0 bare, 1 passed through, 2 inside a virtual machine, 3 host of virtual GPUs.
    pub virtualization: u32,
    /// MIG mode is on, with these instances by slot.
    pub mig: Option<BTreeMap<u32, Instance>>,
    /// Bits of the event types that the GPU supports and that its Xid events carry; 0: Xid only.
    pub event_bits: u64,
}

/// An entry of a process list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Process id as it is to be listed.
    pub pid: u32,
    /// Bytes; none: not available.
    pub bytes: Option<u64>,
}

/// A list that is longer at every look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Growth {
    /// So many more entries of 1 MiB.
    pub by: u32,
    /// At each of the first so many calls.
    pub times: u32,
}

/// A MIG instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Instance {
    /// `MIG-...`.
    pub uuid: String,
    /// Its memory.
    pub memory: Memory,
}

impl Script {
    /// Reads a script.
    ///
    /// # Errors
    /// When the text is not of this form.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// Puts the script into the driver's folder, in one step.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn play(&self, folder: &Path) -> io::Result<()> {
        let draft = folder.join("nvml.json.draft");
        fs::write(&draft, serde_json::to_vec(self)?)?;
        fs::rename(draft, folder.join(FILE))
    }
}

/// Calls that the library has logged in `folder`, in order; empty where it has logged none.
#[must_use]
pub fn calls(folder: &Path) -> Vec<String> {
    let text = fs::read_to_string(folder.join(LOG)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_holds_for_its_calls_and_no_longer_than_it_says() {
        let text = r#"{"call": "nvmlInit_v2", "after": 2, "times": 3, "code": 9}"#;
        let rule: Rule = serde_json::from_str(text).unwrap();
        let acts: Vec<bool> = (0..7).map(|number| rule.at(number).is_some()).collect();
        assert_eq!(acts, [false, false, true, true, true, false, false]);
        assert!(rule.is_about("nvmlInit_v2", None) && !rule.is_about("nvmlShutdown", None));
        let of_one = Rule { gpu: Some(1), ..Rule::code("*", 15) };
        assert!(of_one.is_about("nvmlDeviceGetName", Some(1)));
        assert!(!of_one.is_about("nvmlDeviceGetName", Some(0)) && !of_one.is_about("nvmlInit_v2", None));
        assert_eq!(of_one.at(u32::MAX), Some(Act::Code(15)));
    }

    #[test]
    fn a_script_is_read_as_it_was_written_and_an_unknown_word_is_refused() {
        let hang = Rule { act: Act::Hang(40_000), ..Rule::code("nvmlDeviceGetMemoryInfo_v2", 0) };
        let twist = Twist { remapped_pending: 1, mig: Some(BTreeMap::new()), ..Twist::default() };
        let script =
            Script { rules: vec![hang], gpus: BTreeMap::from([(1, twist)]), log: true, ..Script::default() };
        let folder = tempfile::tempdir().unwrap();
        script.play(folder.path()).unwrap();
        let text = fs::read_to_string(folder.path().join(FILE)).unwrap();
        assert_eq!(Script::parse(&text).unwrap(), script);
        assert!(Script::parse(r#"{"gpus": {"0": {"colour": 1}}}"#).is_err());
    }
}
