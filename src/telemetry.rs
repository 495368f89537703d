//! What the process tells of itself: log, `/livez`, `/readyz`, `/metrics`.
//!
//! `/livez` fails only for what a restart heals: watches that have not started for minutes (a refused start never
//! leads to a new list in kube's watcher). An API server that is away does not make it fail sooner.

mod metrics;
mod requests;
mod standing;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use jiff::Timestamp;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tracing_subscriber::EnvFilter;

use crate::config::{LogFormat, MetricsAt};

pub use metrics::{Label, Metrics, Work};
pub use requests::CountRequests;
pub use standing::Standing;

/// Watch starts that fail for so long make `/livez` fail.
const DEAF_AFTER: Duration = Duration::from_secs(300);
/// Failures further apart than that are not one outage; kube's watcher pauses at most 30 s.
const SAME_OUTAGE: Duration = Duration::from_secs(90);
/// What `/metrics` sends.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Everything that `/livez`, `/readyz` and `/metrics` answer from.
#[derive(Clone, Debug)]
pub struct Telemetry {
    /// The metrics.
    pub metrics: Metrics,
    registry: Arc<Registry>,
    gauges: standing::Gauges,
    missing: Arc<Mutex<Vec<&'static str>>>,
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
        let mut registry = Registry::default();
        let metrics = Metrics::register(registry.sub_registry_with_prefix("upscale"));
        let gauges = standing::Gauges::default();
        registry.register_collector(Box::new(gauges.clone()));
        Self {
            metrics,
            registry: Arc::new(registry),
            gauges,
            missing: Arc::new(Mutex::new(vec!["the start"])),
            watches: Arc::default(),
        }
    }

    /// From now on `look` tells how things stand.
    pub fn ask(&self, look: impl Fn() -> Standing + Send + Sync + 'static) {
        self.gauges.ask(look);
    }

    /// Says what the process waits for before it is ready; nothing: it is.
    pub fn waits_for(&self, missing: Vec<&'static str>) {
        *self.missing.lock().unwrap_or_else(PoisonError::into_inner) = missing;
    }

    /// Notes that from now on this process acts.
    pub fn leads(&self) {
        self.metrics.leader.set(1);
    }

    /// Notes that a watch could not be started.
    pub fn watch_failed(&self, now: Timestamp) {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner).failed(now);
    }

    /// Whether watches have been failing for minutes.
    fn is_deaf(&self, now: Timestamp) -> bool {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner).is_deaf(now)
    }

    /// All metrics in the text format of OpenMetrics.
    ///
    /// # Errors
    /// If one cannot be encoded.
    pub fn exposition(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
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

async fn readyz(State(telemetry): State<Telemetry>) -> (StatusCode, String) {
    let missing = telemetry.missing.lock().unwrap_or_else(PoisonError::into_inner);
    if !missing.is_empty() {
        return (StatusCode::SERVICE_UNAVAILABLE, format!("waiting for {}\n", missing.join(", ")));
    }
    let role = if telemetry.metrics.leader.get() == 1 { "ok" } else { "standby" };
    (StatusCode::OK, format!("{role}\n"))
}

async fn metrics(State(telemetry): State<Telemetry>) -> Result<impl IntoResponse, StatusCode> {
    let text = telemetry.exposition().map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok(([(header::CONTENT_TYPE, OPEN_METRICS)], text))
}

/// Why the endpoints could not be served.
#[derive(Debug, thiserror::Error)]
#[error("serve {what} on {address}: {source}")]
pub struct ServeError {
    what: &'static str,
    address: SocketAddr,
    source: std::io::Error,
}

/// Serves `/livez` and `/readyz` until the shutdown, and `/metrics` where it is wanted.
///
/// # Errors
/// If an address cannot be bound, or serving ends by itself.
pub async fn serve<S>(
    probes_at: SocketAddr,
    metrics_at: MetricsAt,
    telemetry: Telemetry,
    shutdown: impl Fn() -> S,
) -> Result<(), ServeError>
where
    S: Future<Output = ()> + Send + 'static,
{
    let probes = Router::new().route("/livez", get(livez)).route("/readyz", get(readyz));
    let figures = Router::new().route("/metrics", get(metrics));
    let (probes, apart) = match metrics_at {
        MetricsAt::On => (probes.merge(figures), None),
        MetricsAt::Off => (probes, None),
        MetricsAt::Address(address) => (probes, Some((address, figures))),
    };
    let probes = listen("probes", probes_at, probes.with_state(telemetry.clone()), shutdown());
    let Some((address, figures)) = apart else { return probes.await };
    let figures = listen("/metrics", address, figures.with_state(telemetry), shutdown());
    futures::try_join!(probes, figures).map(drop)
}

async fn listen(
    what: &'static str,
    address: SocketAddr,
    router: Router,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    let failed = |source| ServeError { what, address, source };
    let listener = tokio::net::TcpListener::bind(address).await.map_err(failed)?;
    axum::serve(listener, router).with_graceful_shutdown(shutdown).await.map_err(failed)
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
        telemetry.waits_for(vec!["nodes", "claims"]);
        let said = readyz(State(telemetry.clone())).await;
        assert_eq!(said, (StatusCode::SERVICE_UNAVAILABLE, "waiting for nodes, claims\n".to_owned()));
        telemetry.waits_for(Vec::new());
        assert_eq!(readyz(State(telemetry.clone())).await, (StatusCode::OK, "standby\n".to_owned()));
        telemetry.leads();
        assert_eq!(readyz(State(telemetry.clone())).await, (StatusCode::OK, "ok\n".to_owned()));
        assert_eq!(livez(State(telemetry.clone())).await.0, StatusCode::OK);
        let response = metrics(State(telemetry.clone())).await.unwrap().into_response();
        assert_eq!(response.headers()[header::CONTENT_TYPE], OPEN_METRICS);
        let text = telemetry.exposition().unwrap();
        assert!(text.contains(r#"upscale_segment_attempts_total{verdict="OwnDemand"} 1"#), "{text}");
        assert!(text.contains("upscale_controller_build_info{version="), "{text}");
        assert!(text.contains("upscale_leader 1"), "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
    }

    /// Status line of a GET.
    async fn asked(address: SocketAddr, path: &str) -> Option<String> {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::TcpStream::connect(address).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        answer.lines().next().map(str::to_owned)
    }

    /// An address that was free a moment ago.
    async fn free() -> SocketAddr {
        tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
    }

    #[tokio::test]
    async fn metrics_are_with_the_probes_apart_or_off() {
        let (probes, apart) = (free().await, free().await);
        for (at, beside, alone) in [
            (MetricsAt::On, "200", None),
            (MetricsAt::Off, "404", None),
            (MetricsAt::Address(apart), "404", Some("200")),
        ] {
            let serving = tokio::spawn(serve(probes, at, Telemetry::new(), std::future::pending::<()>));
            let until = async {
                while asked(probes, "/livez").await.is_none()
                    || (alone.is_some() && asked(apart, "/metrics").await.is_none())
                {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(Duration::from_secs(30), until).await.expect("not served");
            assert!(asked(probes, "/metrics").await.unwrap().contains(beside), "{at:?}");
            let there = asked(apart, "/metrics").await;
            assert_eq!(there.as_deref().map(|line| line.contains("200")), alone.map(|_| true), "{at:?}");
            serving.abort();
            // The port is free again once the task is gone.
            assert!(serving.await.unwrap_err().is_cancelled());
        }
    }
}
