//! What is true at the moment, as metrics: encoded from the last snapshot at each scrape, so that a GPU that is gone
//! or a value that is unknown has no series instead of an old or false one.

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use video_upscale::api::report::{Health, Kind, State};

use crate::board::Board;
use crate::clock::Clock;
use crate::observer::View;
use crate::publish::at_least_bad;
use crate::sampler;

/// Encodes the board.
#[derive(Clone, Debug)]
pub struct Exposition {
    /// What is shown.
    pub board: Board,
    /// For the age of the snapshot.
    pub clock: Clock,
}

/// The commit that the program was built from, where the build says it.
const REVISION: &str = match option_env!("UPSCALE_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};

type Labels<'a> = Vec<(&'a str, String)>;

impl Collector for Exposition {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let version =
            vec![("version", env!("CARGO_PKG_VERSION").to_owned()), ("revision", REVISION.to_owned())];
        gauges(&mut encoder, "upscale_agent_build_info", "Version of the agent", vec![(version, 1.0)])?;
        let now = self.clock.now();
        let Some(snapshot) = self.board.view(now) else { return Ok(()) };
        let state = sampler::state(&snapshot, now);
        let states = State::ALL.map(|each| (vec![("state", each.to_string())], flag(each == state)));
        gauges(&mut encoder, "upscale_agent_state", "State of the agent's view", states.to_vec())?;
        let age = sampler::age(&snapshot, now).as_secs_f64();
        let name = "upscale_agent_sample_age_seconds";
        gauges(&mut encoder, name, "Age of the last sample", vec![(Vec::new(), age)])?;
        let driver = &snapshot.driver;
        let versions = vec![
            ("driver", driver.version.clone()),
            ("nvml", driver.library.clone()),
            ("cuda", driver.cuda.clone()),
        ];
        gauges(&mut encoder, "upscale_agent_nvml_info", "Versions of the driver", vec![(versions, 1.0)])?;
        for (name, help, read) in SERIES {
            let values = snapshot.gpus.iter().flat_map(|view| {
                read(view).into_iter().map(|(mut labels, value)| {
                    labels.insert(0, ("uuid", view.identity.uuid.clone()));
                    (labels, value)
                })
            });
            gauges(&mut encoder, name, help, values.collect())?;
        }
        let bad = self.board.bad();
        let verdicts = snapshot.gpus.iter().flat_map(|view| {
            let uuid = &view.identity.uuid;
            let health = if bad.contains(uuid) { at_least_bad(view.health) } else { view.health };
            Health::ALL.map(|each| {
                (vec![("uuid", uuid.clone()), ("state", each.as_str().to_owned())], flag(each == health))
            })
        });
        gauges(&mut encoder, "upscale_gpu_health", "Verdict over the GPU", verdicts.collect())?;
        let published = self.board.published_free().into_iter();
        let published = published.map(|(uuid, free)| (vec![("uuid", uuid)], bytes(free))).collect();
        let help = "Free memory as published, after the peak-hold";
        gauges(&mut encoder, "upscale_gpu_published_free_bytes", help, published)
    }
}

type Read = fn(&View) -> Vec<(Labels<'static>, f64)>;

const SERIES: [(&str, &str, Read); 7] = [
    ("upscale_gpu_info", "The GPUs", |view| {
        let identity = &view.identity;
        let labels = vec![
            ("gpu", identity.index.to_string()),
            ("model", identity.name.clone()),
            ("pci_bus_id", identity.pci.clone()),
        ];
        vec![(labels, 1.0)]
    }),
    ("upscale_gpu_memory_total_bytes", "Installed memory", |view| {
        plain(view.memory.as_ref().ok().map(|memory| memory.total))
    }),
    ("upscale_gpu_memory_free_bytes", "Free memory as measured", |view| {
        plain(view.memory.as_ref().ok().map(|memory| memory.free))
    }),
    ("upscale_gpu_memory_reserved_bytes", "Memory that the driver keeps", |view| {
        plain(view.memory.as_ref().ok().and_then(|memory| memory.reserved))
    }),
    ("upscale_gpu_memory_unattributed_bytes", "Used memory that no process explains", |view| {
        plain(view.unattributed)
    }),
    ("upscale_gpu_processes", "Live processes by kind of owner", |view| {
        by_kind(view).into_iter().map(|(kind, (count, _))| (kind_label(kind), bytes(count))).collect()
    }),
    ("upscale_gpu_process_memory_bytes", "Memory of live processes by kind of owner", |view| {
        let known = by_kind(view).into_iter().filter_map(|(kind, (_, sum))| Some((kind, sum?)));
        known.map(|(kind, sum)| (kind_label(kind), bytes(sum))).collect()
    }),
];

fn by_kind(view: &View) -> BTreeMap<Kind, (u64, Option<u64>)> {
    let mut kinds = BTreeMap::new();
    let live = view.processes.iter().flatten().filter(|process| process.ended.is_none());
    for process in live {
        let (count, sum) = kinds.entry(process.owner.kind).or_insert((0u64, Some(0u64)));
        *count = count.saturating_add(1);
        *sum = sum.zip(process.listed.bytes).map(|(sum, bytes)| sum.saturating_add(bytes));
    }
    kinds
}

fn kind_label(kind: Kind) -> Labels<'static> {
    vec![("kind", kind.as_str().to_owned())]
}

fn plain(value: Option<u64>) -> Vec<(Labels<'static>, f64)> {
    value.map(|value| (Vec::new(), bytes(value))).into_iter().collect()
}

#[expect(clippy::cast_precision_loss, reason = "gauges are floating point; exact up to 8 PiB")]
const fn bytes(value: u64) -> f64 {
    value as f64
}

const fn flag(set: bool) -> f64 {
    if set { 1.0 } else { 0.0 }
}

fn gauges(
    encoder: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    values: Vec<(Labels<'_>, f64)>,
) -> Result<(), fmt::Error> {
    if values.is_empty() {
        return Ok(());
    }
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in values {
        ConstGauge::new(value).encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}
