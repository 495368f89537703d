//! What the process tells of itself: log, `/livez`, `/readyz`, `/metrics`.
//!
//! `/livez` fails only for what a restart heals: watches that have not started for minutes (a refused start never
//! leads to a new list in kube's watcher). An API server that is away does not make it fail sooner.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use jiff::Timestamp;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// Watch starts that fail for so long make `/livez` fail.
const DEAF_AFTER: Duration = Duration::from_secs(300);
/// Failures further apart than that are not one outage; kube's watcher pauses at most 30 s.
const SAME_OUTAGE: Duration = Duration::from_secs(90);

/// One label with a word of a closed list as its value.
pub type Label = [(&'static str, &'static str); 1];

/// The metrics; names in Prometheus' manner, words of closed lists as labels.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Seconds per pass, by controller.
    pub reconcile_seconds: Family<Label, Histogram>,
    /// Passes that failed, by class of error.
    pub reconcile_errors: Family<Label, Counter>,
    /// Passes that panicked; always 0 in a sound program.
    pub panics: Counter,
    /// Ends of attempts, by verdict.
    pub attempts: Family<Label, Counter>,
    /// Out-of-memory ends, by verdict.
    pub out_of_memory: Family<Label, Counter>,
    /// Changes carried out, by kind.
    pub changes: Family<Label, Counter>,
    /// Objects that could not be read, by kind.
    pub undecodable: Family<Label, Counter>,
    /// Failed starts of watches, by controller.
    pub watch_errors: Family<Label, Counter>,
}

/// Everything that `/livez`, `/readyz` and `/metrics` answer from.
#[derive(Clone, Debug)]
pub struct Telemetry {
    /// The metrics.
    pub metrics: Metrics,
    registry: Arc<Registry>,
    ready: Arc<AtomicBool>,
    watches: Arc<Mutex<Outage>>,
}

/// A run of failed watch starts.
#[derive(Clone, Copy, Debug, Default)]
struct Outage {
    since: Option<Timestamp>,
    last: Option<Timestamp>,
}

impl Outage {
    fn failed(&mut self, now: Timestamp) {
        let goes_on = self.last.is_some_and(|last| age(last, now) < SAME_OUTAGE);
        if !goes_on {
            self.since = Some(now);
        }
        self.last = Some(now);
    }

    fn is_deaf(&self, now: Timestamp) -> bool {
        let long = self.since.is_some_and(|since| age(since, now) >= DEAF_AFTER);
        long && self.last.is_some_and(|last| age(last, now) < SAME_OUTAGE)
    }
}

fn age(then: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(then)).unwrap_or_default()
}

impl Telemetry {
    /// Registers the metrics.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("upscale");
        registry.register(
            "controller_build",
            "The program",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        let seconds = || Histogram::new(exponential_buckets(0.001, 2.0, 14));
        let metrics = Metrics {
            reconcile_seconds: Family::new_with_constructor(seconds),
            reconcile_errors: Family::default(),
            panics: Counter::default(),
            attempts: Family::default(),
            out_of_memory: Family::default(),
            changes: Family::default(),
            undecodable: Family::default(),
            watch_errors: Family::default(),
        };
        registry.register_with_unit(
            "reconcile_duration",
            "Duration of a pass",
            Unit::Seconds,
            metrics.reconcile_seconds.clone(),
        );
        registry.register("reconcile_errors", "Passes that failed", metrics.reconcile_errors.clone());
        registry.register("reconcile_panics", "Passes that panicked", metrics.panics.clone());
        registry.register("segment_attempts", "Ends of attempts by verdict", metrics.attempts.clone());
        registry.register("out_of_memory", "Out-of-memory ends by verdict", metrics.out_of_memory.clone());
        registry.register("changes", "Changes carried out", metrics.changes.clone());
        registry.register(
            "undecodable_objects",
            "Objects that could not be read",
            metrics.undecodable.clone(),
        );
        registry.register("watch_errors", "Failed starts of watches", metrics.watch_errors.clone());
        Self { metrics, registry: Arc::new(registry), ready: Arc::default(), watches: Arc::default() }
    }

    /// Says that the caches are filled and the loops run.
    pub fn set_ready(&self) {
        self.ready.store(true, Ordering::Relaxed);
    }

    /// Notes that a watch could not be started.
    pub fn watch_failed(&self, now: Timestamp) {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner).failed(now);
    }

    /// Whether watches have been failing for minutes.
    fn is_deaf(&self, now: Timestamp) -> bool {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner).is_deaf(now)
    }

    /// The three endpoints.
    pub fn router(self) -> Router {
        Router::new()
            .route("/livez", get(livez))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            .with_state(self)
    }
}

impl Default for Telemetry {
    fn default() -> Self {
        Self::new()
    }
}

#[expect(clippy::disallowed_methods, reason = "edge: the age of an outage at the moment of the question")]
async fn livez(State(telemetry): State<Telemetry>) -> (StatusCode, &'static str) {
    if telemetry.is_deaf(Timestamp::now()) {
        return (StatusCode::SERVICE_UNAVAILABLE, "watches have not started for five minutes\n");
    }
    (StatusCode::OK, "ok\n")
}

async fn readyz(State(telemetry): State<Telemetry>) -> (StatusCode, &'static str) {
    if telemetry.ready.load(Ordering::Relaxed) {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "caches are not filled yet\n")
    }
}

async fn metrics(State(telemetry): State<Telemetry>) -> Result<String, StatusCode> {
    let mut text = String::new();
    encode(&mut text, &telemetry.registry).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok(text)
}

/// Why the endpoints could not be served.
#[derive(Debug, thiserror::Error)]
#[error("serve /livez, /readyz and /metrics on {address}: {source}")]
pub struct ServeError {
    address: SocketAddr,
    source: std::io::Error,
}

/// Serves the endpoints until the shutdown.
///
/// # Errors
/// If the address cannot be bound, or serving ends by itself.
pub async fn serve(
    address: SocketAddr,
    telemetry: Telemetry,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    let failed = |source| ServeError { address, source };
    let listener = tokio::net::TcpListener::bind(address).await.map_err(failed)?;
    axum::serve(listener, telemetry.router()).with_graceful_shutdown(shutdown).await.map_err(failed)
}

/// Starts the log: one line an event, on standard output. A second start changes nothing.
pub fn start_log(format: LogFormat, level: &str) {
    let filter = EnvFilter::try_new(level).unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter);
    // An error means that a log has been started before, in tests.
    let _started = match format {
        LogFormat::Json => log.json().flatten_event(true).try_init(),
        LogFormat::Text => log.try_init(),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn only_a_lasting_outage_of_watches_is_deafness() {
        let mut outage = Outage::default();
        assert!(!outage.is_deaf(at(0)));
        for second in (0..290).step_by(30) {
            outage.failed(at(second));
        }
        assert!(!outage.is_deaf(at(299)));
        outage.failed(at(300));
        assert!(outage.is_deaf(at(301)));
        assert!(!outage.is_deaf(at(400)), "no failure for long: it works again");
        outage.failed(at(500));
        assert!(!outage.is_deaf(at(501)), "a new outage");
    }

    #[tokio::test]
    async fn endpoints_answer() {
        let telemetry = Telemetry::new();
        telemetry.metrics.attempts.get_or_create(&[("verdict", "OwnDemand")]).inc();
        assert_eq!(readyz(State(telemetry.clone())).await.0, StatusCode::SERVICE_UNAVAILABLE);
        telemetry.set_ready();
        assert_eq!(readyz(State(telemetry.clone())).await.0, StatusCode::OK);
        assert_eq!(livez(State(telemetry.clone())).await.0, StatusCode::OK);
        let text = metrics(State(telemetry)).await.unwrap();
        assert!(text.contains(r#"upscale_segment_attempts_total{verdict="OwnDemand"} 1"#), "{text}");
    }
}
