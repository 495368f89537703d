//! Counters and histograms that grow as the agent works; what is true at the moment is in [`crate::exposition`].

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use video_upscale::api::report::Kind;

use crate::clock::{Clock, Now};
use crate::health::XidEvent;
use crate::probe::Fault;
use crate::publish::{Cause, Hold};

/// Seconds that a driver call takes: from a memory query to one that wakes a sleeping GPU.
const CALL_SECONDS: [f64; 8] = [0.000_01, 0.000_1, 0.001, 0.005, 0.02, 0.1, 1.0, 10.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Call {
    call: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallFault {
    call: &'static str,
    code: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Xid {
    uuid: String,
    xid: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Owned {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Write {
    result: &'static str,
    cause: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Why {
    why: &'static str,
}

/// A driver call that has not come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Its name.
    pub call: &'static str,
    /// How long it has been waited for.
    pub since: Duration,
}

impl fmt::Display for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the driver has not come back from {} for {} s", self.call, self.since.as_secs())
    }
}

/// Calls to the driver.
#[derive(Clone, Debug)]
pub struct Calls {
    clock: Clock,
    seconds: Family<Call, Histogram, fn() -> Histogram>,
    faults: Family<CallFault, Counter>,
    pending: Arc<Mutex<Option<(&'static str, Duration)>>>,
}

impl Calls {
    /// Registers them.
    pub fn register(registry: &mut Registry, clock: Clock) -> Self {
        let seconds = Family::new_with_constructor((|| Histogram::new(CALL_SECONDS)) as fn() -> Histogram);
        let faults = Family::default();
        registry.register(
            "upscale_agent_nvml_call_duration_seconds",
            "Time of driver calls",
            seconds.clone(),
        );
        let help =
            "Driver calls without a value, by the number of the answer, or by a word where there is none";
        registry.register("upscale_agent_nvml_errors", help, faults.clone());
        Self { clock, seconds, faults, pending: Arc::default() }
    }

    /// The clock that calls are timed by.
    pub const fn clock(&self) -> Clock {
        self.clock
    }

    /// The call that has not come back yet, if there is one.
    pub fn pending(&self, now: Now) -> Option<Pending> {
        let pending = *self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.map(|(call, begin)| Pending { call, since: now.up.saturating_sub(begin) })
    }

    fn note(&self, pending: Option<(&'static str, Duration)>) {
        *self.pending.lock().unwrap_or_else(PoisonError::into_inner) = pending;
    }

    /// Makes a call and counts it.
    pub fn timed<T>(&self, call: &'static str, ask: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
        let begin = self.clock.now().up;
        self.note(Some((call, begin)));
        let answer = ask();
        self.note(None);
        let took = self.clock.now().up.saturating_sub(begin);
        self.seconds.get_or_create(&Call { call }).observe(took.as_secs_f64());
        if let Err(fault) = &answer {
            let code = fault.code().map_or_else(|| fault.word().to_owned(), |code| code.to_string());
            self.faults.get_or_create(&CallFault { call, code }).inc();
        }
        answer
    }
}

/// Xid events by GPU and number.
#[derive(Clone, Debug)]
pub struct Xids(Family<Xid, Counter>);

impl Xids {
    /// Registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let counts = Family::default();
        registry.register("upscale_gpu_xid_errors", "Xid events of any class", counts.clone());
        Self(counts)
    }

    /// Counts what was heard.
    pub fn heard(&self, events: &[XidEvent]) {
        for event in events {
            if let XidEvent::Xid { uuid, xid } = event {
                self.0.get_or_create(&Xid { uuid: uuid.clone(), xid: *xid }).inc();
            }
        }
    }
}

/// Process ids that were looked up, by the kind of owner that was found.
#[derive(Clone, Debug, Default)]
pub struct Mapped(Family<Owned, Counter>);

impl Mapped {
    /// Registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let mapped = Self::default();
        registry.register(
            "upscale_agent_pid_mapping",
            "Process ids looked up by kind of owner",
            mapped.0.clone(),
        );
        mapped
    }

    /// Counts one.
    pub fn count(&self, kind: Kind) {
        self.0.get_or_create(&Owned { kind: kind.as_str() }).inc();
    }
}

/// A gauge that has no series until it is set: unknown is not 0.
type Unset = Family<Vec<(String, String)>, Gauge>;

/// Writes to the API server.
#[derive(Clone, Debug)]
pub struct Published {
    writes: Family<Write, Counter>,
    held: Family<Why, Counter>,
    last: Unset,
    bytes: Unset,
}

impl Published {
    /// Registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let published = Self {
            writes: Family::default(),
            held: Family::default(),
            last: Unset::default(),
            bytes: Unset::default(),
        };
        registry.register("upscale_agent_publish", "Writes to the Node", published.writes.clone());
        registry.register(
            "upscale_agent_publish_suppressed",
            "Rounds in which a change was held back",
            published.held.clone(),
        );
        registry.register(
            "upscale_agent_last_publish_timestamp_seconds",
            "Time of the last write that was confirmed",
            published.last.clone(),
        );
        registry.register("upscale_agent_report_bytes", "Size of the last report", published.bytes.clone());
        published
    }

    /// A write was confirmed.
    pub fn succeeded(&self, cause: Cause, now: Now) {
        self.writes.get_or_create(&Write { result: "ok", cause: cause.word() }).inc();
        self.last.get_or_create(&Vec::new()).set(now.wall.as_second());
    }

    /// A write failed.
    pub fn failed(&self, cause: Cause, result: &'static str) {
        self.writes.get_or_create(&Write { result, cause: cause.word() }).inc();
    }

    /// A change waits.
    pub fn held(&self, hold: Hold) {
        self.held.get_or_create(&Why { why: hold.word() }).inc();
    }

    /// A report of that size was written.
    pub fn size(&self, bytes: usize) {
        self.bytes.get_or_create(&Vec::new()).set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn calls_without_a_value_are_counted_by_number_also_by_one_without_a_name() {
        let mut registry = Registry::default();
        let calls = Calls::register(&mut registry, Clock::start());
        for fault in [Fault::from_code(25), Fault::from_code(27), Fault::from_code(23), Fault::Implausible] {
            assert_eq!(calls.timed::<()>("memory", || Err(fault.clone())), Err(fault));
        }
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for code in ["25", "27", "23", "Implausible"] {
            let row = format!(r#"upscale_agent_nvml_errors_total{{call="memory",code="{code}"}} 1"#);
            assert!(text.contains(&row), "{row} is not in {text}");
        }
    }
}
