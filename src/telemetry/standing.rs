//! What is true at the moment, as metrics: asked for at each scrape, so that a GPU or job that is gone has no series.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

/// Beyond so many GPUs none has a series of its own.
const MOST_GPU_SERIES: usize = 500;

/// Jobs, segments and GPUs as they stand.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Standing {
    /// Jobs by STATUS word.
    pub jobs: BTreeMap<&'static str, u64>,
    /// Segments by state: waiting, running, succeeded, failed.
    pub segments: BTreeMap<&'static str, u64>,
    /// Segments that wait for a GPU, by reason of the condition `Scheduled`.
    pub unplaced: BTreeMap<&'static str, u64>,
    /// GPUs by state.
    pub gpus: BTreeMap<&'static str, u64>,
    /// Free memory as reported, bytes, by node and index.
    pub free: Vec<(String, u32, u64)>,
    /// Seconds since the sign of life of the agent that is silent for longest; `None` without reports.
    pub oldest_report: Option<u64>,
}

type Look = Box<dyn Fn() -> Standing + Send + Sync>;

/// Encodes how things stand, once somebody can tell.
#[derive(Clone, Default)]
pub(super) struct Gauges {
    look: Arc<OnceLock<Look>>,
}

impl Gauges {
    /// From now on `look` tells. A second one changes nothing.
    pub(super) fn ask(&self, look: impl Fn() -> Standing + Send + Sync + 'static) {
        // An error means that somebody tells already.
        let _told = self.look.set(Box::new(look));
    }
}

impl fmt::Debug for Gauges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gauges").field("told", &self.look.get().is_some()).finish()
    }
}

type Series = (Vec<(&'static str, String)>, u64);

impl Collector for Gauges {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let standing = self.look.get().map(|look| look()).unwrap_or_default();
        let words = |label: &'static str, counts: BTreeMap<&'static str, u64>| -> Vec<Series> {
            counts.into_iter().map(|(word, count)| (vec![(label, word.to_owned())], count)).collect()
        };
        let few = standing.free.len() <= MOST_GPU_SERIES;
        let free = standing
            .free
            .into_iter()
            .filter(|_| few)
            .map(|(node, gpu, bytes)| (vec![("node", node), ("gpu", gpu.to_string())], bytes));
        let age = standing.oldest_report.map(|seconds| (Vec::new(), seconds));
        for (name, help, series) in [
            ("upscale_jobs", "Jobs by STATUS word", words("status", standing.jobs)),
            ("upscale_segments", "Segments by state", words("state", standing.segments)),
            (
                "upscale_unplaced_segments",
                "Segments that wait, by reason",
                words("reason", standing.unplaced),
            ),
            ("upscale_gpus", "GPUs by state", words("state", standing.gpus)),
            ("upscale_gpu_free_bytes", "Free memory as reported", free.collect()),
            (
                "upscale_report_age_seconds",
                "Age of the newest sign of life of the agent that is silent for longest",
                age.into_iter().collect(),
            ),
        ] {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (labels, value) in series {
                ConstGauge::new(value).encode(metric.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::*;

    fn encoded(gauges: Gauges) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(gauges));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        text
    }

    #[test]
    fn nothing_is_made_up_before_somebody_can_tell() {
        let text = encoded(Gauges::default());
        assert!(text.contains("# TYPE upscale_gpus gauge"), "{text}");
        assert!(text.lines().all(|line| line.starts_with('#')), "{text}");
    }

    #[test]
    fn each_scrape_asks_anew_and_large_fleets_have_no_series_per_gpu() {
        let gauges = Gauges::default();
        let seen = std::sync::atomic::AtomicU32::new(0);
        gauges.ask(move || {
            let scrape = seen.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let count = if scrape == 0 { 2 } else { 501 };
            Standing {
                jobs: BTreeMap::from([("Running", u64::from(scrape))]),
                free: (0..count).map(|gpu| ("node-a".to_owned(), gpu, 7)).collect(),
                oldest_report: Some(12),
                ..Standing::default()
            }
        });
        let first = encoded(gauges.clone());
        assert!(first.contains(r#"upscale_jobs{status="Running"} 0"#), "{first}");
        assert!(first.contains(r#"upscale_gpu_free_bytes{node="node-a",gpu="1"} 7"#), "{first}");
        assert!(first.contains("upscale_report_age_seconds{} 12"), "{first}");
        let second = encoded(gauges);
        assert!(second.contains(r#"upscale_jobs{status="Running"} 1"#), "{second}");
        assert!(!second.contains("upscale_gpu_free_bytes{"), "{second}");
    }
}
