//! Counters and histograms that grow as the agent works; what is true at the moment is in [`crate::exposition`].

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::clock::{Clock, Now};
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
    fault: &'static str,
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

/// Calls to the driver.
#[derive(Clone, Debug)]
pub struct Calls {
    clock: Clock,
    seconds: Family<Call, Histogram, fn() -> Histogram>,
    faults: Family<CallFault, Counter>,
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
        registry.register("upscale_agent_nvml_errors", "Driver calls without a value", faults.clone());
        Self { clock, seconds, faults }
    }

    /// Makes a call and counts it.
    pub fn timed<T>(&self, call: &'static str, ask: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
        let begin = self.clock.now().up;
        let answer = ask();
        let took = self.clock.now().up.saturating_sub(begin);
        self.seconds.get_or_create(&Call { call }).observe(took.as_secs_f64());
        if let Err(fault) = &answer {
            self.faults.get_or_create(&CallFault { call, fault: fault.word() }).inc();
        }
        answer
    }
}

/// Writes to the API server.
#[derive(Clone, Debug)]
pub struct Published {
    writes: Family<Write, Counter>,
    held: Family<Why, Counter>,
    last: Gauge,
    bytes: Gauge,
}

impl Published {
    /// Registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let published = Self {
            writes: Family::default(),
            held: Family::default(),
            last: Gauge::default(),
            bytes: Gauge::default(),
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
        self.last.set(now.wall.as_second());
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
        self.bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}
