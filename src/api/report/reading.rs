//! Printing and reading of the two annotations. What stands there is a *claim* by whoever could write the Node: it is
//! bounded before it is parsed and checked for sense after, and reading it never panics.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::{Gpu, MAX_BYTES, Report, State, VERSION, is_gpu_uuid};

/// GPUs per node that are read.
const MAX_GPUS: usize = 64;
/// Listed processes per GPU that are read.
const MAX_LISTED: usize = 64;
/// MIG instances per GPU that are read.
const MAX_INSTANCES: usize = 16;
/// Characters of a name or identifier that are read.
const MAX_NAME: usize = 96;
/// Largest number that every JSON reader keeps exact.
const MAX_NUMBER: u64 = 1 << 53;
/// How far free memory may lie above total less reserved, bytes: drivers round.
pub const FREE_SLACK: u64 = 64 << 20;
/// Longest heartbeat value that is read.
const MAX_HEARTBEAT: usize = 256;

/// Why a report or heartbeat is not believed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ReportError {
    /// Larger than [`MAX_BYTES`].
    #[error("the report has {bytes} bytes; at most {MAX_BYTES} are read")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Not JSON, or not of this shape.
    #[error("the report cannot be parsed: {message}")]
    Malformed {
        /// What the parser says.
        message: String,
    },
    /// Written by a newer agent.
    #[error("the report has schema version {found}; this reader knows {VERSION}")]
    Version {
        /// The version in the report.
        found: u32,
    },
    /// More of something than a node can have.
    #[error("the report lists {found} {what}; at most {limit} are read")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How many.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// A text that is too long.
    #[error("the report's field {field} is longer than {MAX_NAME} characters")]
    TooLong {
        /// The field.
        field: &'static str,
    },
    /// A number that no GPU has.
    #[error("GPU {gpu:?} reports {field} = {value}, which cannot be")]
    OutOfRange {
        /// UUID as reported.
        gpu: String,
        /// The field.
        field: &'static str,
        /// Its value.
        value: u64,
    },
    /// More free memory than there can be.
    #[error("GPU {gpu:?} reports {free} bytes free of {total} bytes")]
    FreeAboveTotal {
        /// UUID as reported.
        gpu: String,
        /// Free bytes.
        free: u64,
        /// Total bytes.
        total: u64,
    },
    /// A number of report that is no number of a report.
    #[error("the report has the number {seq}, which cannot be")]
    Sequence {
        /// The number.
        seq: u64,
    },
    /// The heartbeat has not its form.
    #[error("the heartbeat cannot be parsed")]
    Heartbeat,
    /// Heartbeat and report do not belong together: torn or edited.
    #[error("the heartbeat names digest {expected:?}, the report has {found:?}")]
    DigestMismatch {
        /// Digest in the heartbeat.
        expected: String,
        /// Digest of the report as it stands.
        found: String,
    },
}

/// First eight hex digits of the SHA-256 of a report's text.
pub fn digest(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

/// Reads both annotations of a node and checks that they belong together.
pub fn read(report: &str, heartbeat: &str) -> Result<(Report, Heartbeat), ReportError> {
    // The report first: one of another version has a heartbeat of that version.
    let parsed = Report::parse(report)?;
    let heartbeat: Heartbeat = heartbeat.parse()?;
    let found = digest(report);
    if found != heartbeat.sha {
        return Err(ReportError::DigestMismatch { expected: heartbeat.sha, found });
    }
    Ok((parsed, heartbeat))
}

impl Report {
    /// Reads a report as found on a Node: size first, then form, then sense.
    pub fn parse(text: &str) -> Result<Self, ReportError> {
        if text.len() > MAX_BYTES {
            return Err(ReportError::TooLarge { bytes: text.len() });
        }
        let report: Self = serde_json::from_str(text).map_err(|error| malformed(text, &error))?;
        report.check()?;
        Ok(report)
    }

    /// The text that is published: JSON without spaces.
    pub fn print(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }

    fn check(&self) -> Result<(), ReportError> {
        if self.v != VERSION {
            return Err(ReportError::Version { found: self.v });
        }
        at_most("GPUs", self.gpus.len(), MAX_GPUS)?;
        short("ns", &self.ns)?;
        short("inst", &self.inst)?;
        short("drv", &self.drv)?;
        short("life", &self.life)?;
        if self.seq > MAX_NUMBER {
            return Err(ReportError::Sequence { seq: self.seq });
        }
        self.gpus.iter().try_for_each(Gpu::check)
    }

    /// Whether one of its GPUs can be told from all others: it has a UUID that can be one, and no other GPU of the
    /// report has the same in any case of letters. One that cannot is shown, and never used.
    pub fn is_distinct(&self, gpu: &Gpu) -> bool {
        let twins = self.gpus.iter().filter(|other| other.id.eq_ignore_ascii_case(&gpu.id));
        is_gpu_uuid(&gpu.id) && twins.count() == 1
    }
}

impl Gpu {
    fn check(&self) -> Result<(), ReportError> {
        short("id", &self.id)?;
        short("n", &self.n)?;
        short("why", self.why.as_deref().unwrap_or_default())?;
        let in_range = |field, value: Option<u64>| match value {
            Some(value) if value > MAX_NUMBER => {
                Err(ReportError::OutOfRange { gpu: self.id.clone(), field, value })
            }
            _ => Ok(()),
        };
        in_range("tot", self.tot)?;
        in_range("rsv", self.rsv)?;
        in_range("free", self.free)?;
        in_range("una", self.una)?;
        in_range("xid", self.xid)?;
        if let (Some(free), Some(total)) = (self.free, self.tot) {
            let usable = total.saturating_sub(self.rsv.unwrap_or(0));
            if free > usable.saturating_add(FREE_SLACK) {
                return Err(ReportError::FreeAboveTotal { gpu: self.id.clone(), free, total });
            }
        }
        at_most("MIG instances", self.mis.len(), MAX_INSTANCES)?;
        for instance in &self.mis {
            short("mis.id", &instance.id)?;
            in_range("mis.tot", instance.tot)?;
            in_range("mis.free", instance.free)?;
        }
        let Some(processes) = &self.procs else { return Ok(()) };
        at_most("processes", processes.top.len(), MAX_LISTED)?;
        in_range("procs.b", processes.b)?;
        for process in &processes.top {
            short("u", process.u.as_deref().unwrap_or_default())?;
            short("t", &process.t)?;
            in_range("procs.top.b", process.b)?;
            in_range("procs.top.pk", process.pk)?;
        }
        Ok(())
    }
}

/// A report of a newer major version may have any shape; say the version rather than what does not fit.
fn malformed(text: &str, error: &serde_json::Error) -> ReportError {
    #[derive(serde::Deserialize)]
    struct OnlyVersion {
        v: u32,
    }
    match serde_json::from_str::<OnlyVersion>(text) {
        Ok(OnlyVersion { v }) if v != VERSION => ReportError::Version { found: v },
        _ => ReportError::Malformed { message: error.to_string().chars().take(120).collect() },
    }
}

fn at_most(what: &'static str, found: usize, limit: usize) -> Result<(), ReportError> {
    if found > limit { Err(ReportError::TooMany { what, found, limit }) } else { Ok(()) }
}

fn short(field: &'static str, text: &str) -> Result<(), ReportError> {
    if text.chars().count() > MAX_NAME { Err(ReportError::TooLong { field }) } else { Ok(()) }
}

/// The small annotation that says the agent lives: `v1 seq=1842 inst=c1f0a9e2 at=... state=ok sha=9f31c2d0`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// Sequence number of the report that stands beside it.
    pub seq: u64,
    /// Agent start that the number belongs to.
    pub inst: String,
    /// Time of the last sample by the node's clock, whole seconds; may be later than the report's.
    pub at: Timestamp,
    /// State of the agent's view; `stopped` is said here only.
    pub state: State,
    /// [`digest`] of the report.
    pub sha: String,
}

impl fmt::Display for Heartbeat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seq, inst, at, state, sha } = self;
        write!(f, "v{VERSION} seq={seq} inst={inst} at={at} state={state} sha={sha}")
    }
}

impl FromStr for Heartbeat {
    type Err = ReportError;

    /// Unknown words are skipped, so that a newer agent may add some.
    fn from_str(text: &str) -> Result<Self, ReportError> {
        if text.len() > MAX_HEARTBEAT {
            return Err(ReportError::Heartbeat);
        }
        let mut words = text.split(' ');
        if words.next().and_then(|word| word.strip_prefix('v')) != Some(VERSION.to_string().as_str()) {
            return Err(ReportError::Heartbeat);
        }
        let (mut seq, mut inst, mut at, mut state, mut sha) = (None, None, None, None, None);
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            match key {
                "seq" => seq = value.parse().ok().filter(|seq| *seq <= MAX_NUMBER),
                "inst" => inst = Some(value.to_owned()),
                "at" => at = value.parse().ok(),
                "state" => state = Some(State::parse(value)),
                "sha" => sha = Some(value.to_owned()),
                _ => {}
            }
        }
        let (Some(seq), Some(inst), Some(at), Some(state), Some(sha)) = (seq, inst, at, state, sha) else {
            return Err(ReportError::Heartbeat);
        };
        Ok(Self { seq, inst, at, state, sha })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = r#"{"v":1,"ns":"ops","seq":7,"inst":"c1f0a9e2","at":"2026-11-23T07:50:11Z","hb":300,
        "drv":"580.95.05","state":"ok","attr":"full","gpus":[{"i":0,"id":"GPU-1","n":"NVIDIA L40S","tot":48305799168,
        "rsv":619511808,"free":30064771072,"una":0,"h":"ok","procs":{"n":1,"b":5,"more":0,
        "top":[{"k":"pod","u":"0b9c","p":12,"b":5,"pk":9,"t":"C"}]}}]}"#;

    fn beat(text: &str) -> Heartbeat {
        Heartbeat {
            seq: 7,
            inst: "c1f0a9e2".into(),
            at: "2026-11-23T07:54:58Z".parse().unwrap(),
            state: State::Ok,
            sha: digest(text),
        }
    }

    #[test]
    fn a_report_and_its_heartbeat_are_read_together() {
        let (report, heartbeat) = read(GOOD, &beat(GOOD).to_string()).unwrap();
        assert_eq!((report.seq, heartbeat.seq, heartbeat.state), (7, 7, State::Ok));
    }

    #[test]
    fn a_heartbeat_stays_below_a_hundred_bytes() {
        assert!(beat(GOOD).to_string().len() < 100, "{}", beat(GOOD));
    }

    #[test]
    fn an_edited_report_is_noticed() {
        let edited = GOOD.replace("30064771072", "40064771072");
        assert!(matches!(read(&edited, &beat(GOOD).to_string()), Err(ReportError::DigestMismatch { .. })));
    }

    #[test]
    fn what_cannot_be_true_is_refused() {
        type Expected = fn(&ReportError) -> bool;
        let wrong: [(&str, &str, Expected); 7] = [
            (r#""v":1"#, r#""v":2"#, |e| matches!(e, ReportError::Version { found: 2 })),
            ("30064771072", "48305799168", |e| matches!(e, ReportError::FreeAboveTotal { .. })),
            ("30064771072", "18446744073709551615", |e| matches!(e, ReportError::OutOfRange { .. })),
            ("30064771072", "-1", |e| matches!(e, ReportError::Malformed { .. })),
            (r#""seq":7"#, r#""seq":9007199254740993"#, |e| matches!(e, ReportError::Sequence { .. })),
            ("GPU-1", &"G".repeat(97), |e| matches!(e, ReportError::TooLong { field: "id" })),
            (r#""pk":9"#, r#""pk":9007199254740993"#, |e| matches!(e, ReportError::OutOfRange { .. })),
        ];
        for (from, to, expected) in wrong {
            let error = Report::parse(&GOOD.replace(from, to)).unwrap_err();
            assert!(expected(&error), "{to}: {error:?}");
        }
        assert!(matches!(Report::parse(&" ".repeat(MAX_BYTES + 1)), Err(ReportError::TooLarge { .. })));
    }

    #[test]
    fn a_newer_shape_is_told_by_its_version() {
        assert_eq!(Report::parse(r#"{"v":2,"cards":[]}"#), Err(ReportError::Version { found: 2 }));
    }

    #[test]
    fn what_can_name_a_lease_can_be_a_key() {
        for uuid in ["GPU-5a1c0f3e-0000-4000-8000-000000000000", "MIG-1", "0", &"x".repeat(48)] {
            assert!(is_gpu_uuid(uuid), "{uuid}");
        }
        for uuid in ["", "-", "GPU-", "-1", "GPU 1", "GPU_1", "GPU/0", "GPÜ", "GPU.1", &"x".repeat(49)] {
            assert!(!is_gpu_uuid(uuid), "{uuid}");
        }
    }

    #[test]
    fn a_newer_version_is_told_before_its_heartbeat_is_looked_at() {
        let newer = GOOD.replace(r#""v":1"#, r#""v":2"#);
        let heartbeat = beat(&newer).to_string().replace("v1", "v2");
        assert_eq!(read(&newer, &heartbeat), Err(ReportError::Version { found: 2 }));
    }

    #[test]
    fn a_gpu_without_a_uuid_of_its_own_is_told_from_the_others() {
        let mut report = Report::parse(GOOD).unwrap();
        for id in ["", "GPU-2", "gpu-2", "../GPU", "-GPU", "GPU_4", "GPU-\u{fc}", &"G".repeat(49), "GPU-3"] {
            report.gpus.push(Gpu { id: id.to_owned(), ..report.gpus[0].clone() });
        }
        let report = Report::parse(&report.print().unwrap()).unwrap();
        let distinct = report.gpus.iter().filter(|gpu| report.is_distinct(gpu));
        assert_eq!(distinct.map(|gpu| gpu.id.as_str()).collect::<Vec<_>>(), ["GPU-1", "GPU-3"]);
    }

    #[test]
    fn unknown_words_and_fields_of_a_newer_agent_are_tolerated() {
        let newer = GOOD.replace(r#""state":"ok""#, r#""state":"resting","mood":3"#);
        assert_eq!(Report::parse(&newer).unwrap().state, State::Unknown);
        let heartbeat = format!("{} mood=3", beat(GOOD));
        assert_eq!(heartbeat.parse::<Heartbeat>().unwrap(), beat(GOOD));
    }

    #[test]
    fn words_on_the_wire_are_those_that_serde_writes() {
        for state in State::ALL {
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
        }
        for health in super::super::Health::ALL {
            assert_eq!(serde_json::to_value(health).unwrap(), health.as_str());
        }
        for kind in super::super::Kind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_readers_panic(text in ".{0,400}") {
            let _ = Report::parse(&text);
            let _ = text.parse::<Heartbeat>();
        }

        #[test]
        fn a_report_cut_or_spoilt_anywhere_does_not_panic(at in 0..GOOD.len(), byte in 32u8..127) {
            let mut bytes = GOOD.as_bytes().to_vec();
            bytes[at] = byte;
            if let Ok(text) = String::from_utf8(bytes) {
                let _ = Report::parse(&text);
            }
            let _ = Report::parse(&GOOD[..at]);
        }
    }
}
