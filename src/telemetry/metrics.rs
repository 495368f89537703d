//! The counters and histograms of the controller. Names are in Prometheus' manner; words of closed lists, models of GPUs
//! and kinds of objects are labels, names of jobs and pods never.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

/// One label with a word of a closed list as its value.
pub type Label = [(&'static str, &'static str); 1];
/// What a segment's work is told by: `gpu_model` and `scale`.
pub type Work = [(&'static str, String); 2];
/// What a request is told by: `verb`, `resource` and `code`.
pub type Request = [(&'static str, String); 3];

/// The metrics that something happening changes.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// 1 while this process acts, 0 while it stands by.
    pub leader: Gauge,
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
    /// Seconds that a finished segment's last attempt had its GPU.
    pub segment_seconds: Family<Work, Histogram>,
    /// Frames of the source in finished segments.
    pub frames: Family<Work, Counter>,
    /// Steps of the ladder that segments went down, by kind of memory.
    pub degrade_steps: Family<Label, Counter>,
    /// Seconds of a GPU spent on attempts without a part, by verdict.
    pub wasted_gpu_seconds: Family<Label, Counter<f64>>,
    /// Seconds from the making of a job to its first segment's pod.
    pub queue_wait: Histogram,
    /// Requests to the API server.
    pub api_requests: Family<Request, Counter>,
}

impl Metrics {
    /// Makes them and registers them.
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            leader: Gauge::default(),
            reconcile_seconds: Family::new_with_constructor(|| {
                Histogram::new(exponential_buckets(0.001, 2.0, 14))
            }),
            reconcile_errors: Family::default(),
            panics: Counter::default(),
            attempts: Family::default(),
            out_of_memory: Family::default(),
            changes: Family::default(),
            undecodable: Family::default(),
            watch_errors: Family::default(),
            // Ten seconds to three hours.
            segment_seconds: Family::new_with_constructor(|| {
                Histogram::new(exponential_buckets(10.0, 2.0, 11))
            }),
            frames: Family::default(),
            degrade_steps: Family::default(),
            wasted_gpu_seconds: Family::default(),
            // One second to a day and a half.
            queue_wait: Histogram::new(exponential_buckets(1.0, 2.0, 18)),
            api_requests: Family::default(),
        };
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("controller_build", "The program", build);
        registry.register(
            "leader",
            "1 while this process acts, 0 while it stands by",
            metrics.leader.clone(),
        );
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
        registry.register_with_unit(
            "segment_duration",
            "Time that a finished segment's last attempt had its GPU",
            Unit::Seconds,
            metrics.segment_seconds.clone(),
        );
        registry.register("frames", "Frames of the source in finished segments", metrics.frames.clone());
        registry.register(
            "degrade_steps",
            "Steps of the ladder that segments went down",
            metrics.degrade_steps.clone(),
        );
        registry.register(
            "wasted_gpu_seconds",
            "Time of a GPU spent on attempts without a part",
            metrics.wasted_gpu_seconds.clone(),
        );
        registry.register_with_unit(
            "queue_wait",
            "Time from the making of a job to its first segment's pod",
            Unit::Seconds,
            metrics.queue_wait.clone(),
        );
        registry.register("api_requests", "Requests to the API server", metrics.api_requests.clone());
        metrics
    }
}
