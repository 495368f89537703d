//! What the fleet keeps of a node: where pods may go, and what its agent says. Parsed once per change, at the door;
//! a broken or hostile annotation makes its GPUs unusable and harms nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Taint};
use sha2::{Digest, Sha256};

use super::resource;
use crate::api::keys;
use crate::api::report::{self, Report, State};

/// Most GPUs of one node that are looked at.
const MAX_GPUS: usize = 64;
/// Largest number that travels safely through JSON.
const MAX_NUMBER: u64 = 1 << 53;

/// What the fleet keeps of a node.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeFacts {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Taints that keep new pods away (`NoSchedule`, `NoExecute`).
    pub taints: Vec<Taint>,
    /// Cordoned.
    pub unschedulable: bool,
    /// Condition `Ready` is true.
    pub ready: bool,
    /// What pods may use of it.
    pub allocatable: Allocatable,
    /// GPUs that the administrator takes out.
    pub excluded: Exclusion,
    /// What the agent says.
    pub inventory: Inventory,
}

/// What pods may use of a node; the largest number where the node does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allocatable {
    /// Thousandths of a processor.
    pub cpu_millis: u64,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Bytes of ephemeral storage.
    pub ephemeral_bytes: u64,
    /// Pods.
    pub pods: u64,
}

/// GPUs that the administrator takes out, by the annotation [`keys::EXCLUDE_GPUS`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Exclusion {
    /// None.
    #[default]
    None,
    /// All.
    All,
    /// Those with these indexes or UUIDs (lower case).
    These(BTreeSet<String>),
}

/// What the agent of a node says.
#[derive(Clone, Debug, PartialEq)]
pub enum Inventory {
    /// No report.
    Missing,
    /// A report that cannot be used, and why.
    Invalid(String),
    /// A report.
    Known {
        /// The report.
        report: Arc<Report>,
        /// State as the newest of report and heartbeat says.
        state: State,
        /// Time of the newest sample, by the node's clock.
        at: Timestamp,
        /// Changes with every sign of life.
        sign: [u8; 32],
    },
}

impl NodeFacts {
    /// Reads a node; `None` if it has no name.
    pub fn of(node: &Node) -> Option<Self> {
        let spec = node.spec.as_ref();
        let taints = spec.and_then(|spec| spec.taints.as_ref()).into_iter().flatten();
        let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
        let empty = BTreeMap::new();
        let annotations = node.metadata.annotations.as_ref().unwrap_or(&empty);
        Some(Self {
            name: node.metadata.name.clone()?,
            labels: node.metadata.labels.clone().unwrap_or_default(),
            taints: taints.filter(|taint| taint.effect != "PreferNoSchedule").cloned().collect(),
            unschedulable: spec.and_then(|spec| spec.unschedulable).unwrap_or(false),
            ready: conditions.into_iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True"),
            allocatable: Allocatable::of(node),
            excluded: annotations
                .get(keys::EXCLUDE_GPUS)
                .map(|text| Exclusion::parse(text))
                .unwrap_or_default(),
            inventory: Inventory::of(annotations),
        })
    }

    /// The report, if there is a usable one.
    pub fn report(&self) -> Option<&Arc<Report>> {
        match &self.inventory {
            Inventory::Known { report, .. } => Some(report),
            Inventory::Missing | Inventory::Invalid(_) => None,
        }
    }
}

impl Allocatable {
    fn of(node: &Node) -> Self {
        let all = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
        let text = |key: &str| all.and_then(|all| all.get(key)).map(|quantity| quantity.0.as_str());
        let whole = |key: &str| text(key).and_then(resource::whole).unwrap_or(u64::MAX);
        Self {
            cpu_millis: text("cpu").and_then(resource::thousandths).unwrap_or(u64::MAX),
            memory_bytes: whole("memory"),
            ephemeral_bytes: whole("ephemeral-storage"),
            pods: whole("pods"),
        }
    }
}

impl Exclusion {
    fn parse(text: &str) -> Self {
        let words = text.split(',').map(|word| word.trim().to_ascii_lowercase());
        let words: BTreeSet<String> = words.filter(|word| !word.is_empty()).take(256).collect();
        if words.contains("all") {
            Self::All
        } else if words.is_empty() {
            Self::None
        } else {
            Self::These(words)
        }
    }

    /// Whether the GPU with that index and UUID is out.
    pub fn covers(&self, index: u32, uuid: &str) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::These(words) => {
                words.contains(&index.to_string()) || words.contains(&uuid.to_ascii_lowercase())
            }
        }
    }
}

impl Inventory {
    fn of(annotations: &BTreeMap<String, String>) -> Self {
        let Some(text) = annotations.get(keys::REPORT) else { return Self::Missing };
        let report = match report_of(text) {
            Ok(report) => report,
            Err(why) => return Self::Invalid(why),
        };
        let digest = Sha256::digest(text.as_bytes());
        let beat = annotations.get(keys::HEARTBEAT).map(|text| Beat::parse(text)).unwrap_or_default();
        if beat.sha.as_ref().is_some_and(|sha| *sha != short(&digest)) {
            return Self::Invalid("the report is not the one that the heartbeat speaks of".to_owned());
        }
        let heartbeat = annotations.get(keys::HEARTBEAT).map(String::as_bytes).unwrap_or_default();
        let at = beat.at.map_or(report.at, |at| at.max(report.at));
        let state = if beat.at.is_some_and(|at| at >= report.at) {
            beat.state.unwrap_or(report.state)
        } else {
            report.state
        };
        Self::Known {
            state,
            at,
            sign: Sha256::new().chain_update(digest).chain_update(heartbeat).finalize().into(),
            report: Arc::new(report),
        }
    }
}

/// Reads a report and refuses what no sound agent writes.
fn report_of(text: &str) -> Result<Report, String> {
    if text.len() > report::MAX_BYTES {
        return Err(format!("the report has {} bytes, more than {}", text.len(), report::MAX_BYTES));
    }
    let mut report: Report =
        serde_json::from_str(text).map_err(|error| format!("the report cannot be read: {error}"))?;
    if report.v != report::VERSION {
        return Err(format!(
            "the report is of version {}, this controller reads {}",
            report.v,
            report::VERSION
        ));
    }
    if report.gpus.len() > MAX_GPUS {
        return Err(format!("the report has {} GPUs, more than {MAX_GPUS}", report.gpus.len()));
    }
    let mut seen = BTreeSet::new();
    for gpu in &mut report.gpus {
        let speakable = !gpu.id.is_empty()
            && gpu.id.len() <= 63
            && gpu.id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if !speakable || gpu.id.starts_with('-') || gpu.id.ends_with('-') {
            return Err(format!("GPU {} has no usable UUID", gpu.i));
        }
        if !seen.insert(gpu.id.to_ascii_lowercase()) {
            return Err(format!("{} stands in the report twice", gpu.id));
        }
        if [gpu.tot, gpu.rsv, gpu.free, gpu.una].into_iter().flatten().any(|bytes| bytes > MAX_NUMBER) {
            return Err(format!("{} has a number beyond 2^53", gpu.id));
        }
        // More free than there is: the numbers are not to be believed, so nothing is free.
        let usable = gpu.tot.map(|total| total.saturating_sub(gpu.rsv.unwrap_or(0)).saturating_add(64 << 20));
        if gpu.free.zip(usable).is_none_or(|(free, usable)| free > usable) {
            gpu.free = None;
        }
    }
    Ok(report)
}

/// The heartbeat: `v1 seq=1842 inst=c1f0a9e2 at=... state=ok sha=9f31c2d0`.
#[derive(Debug, Default)]
struct Beat {
    at: Option<Timestamp>,
    state: Option<State>,
    sha: Option<String>,
}

impl Beat {
    fn parse(text: &str) -> Self {
        let mut beat = Self::default();
        for (key, value) in text
            .get(..text.len().min(512))
            .unwrap_or_default()
            .split(' ')
            .filter_map(|word| word.split_once('='))
        {
            match key {
                "at" => beat.at = value.parse().ok(),
                "state" => beat.state = serde_json::from_value(serde_json::Value::from(value)).ok(),
                "sha" => beat.sha = Some(value.to_owned()),
                _ => {}
            }
        }
        beat
    }
}

/// The first eight hex digits of a digest.
fn short(digest: &[u8]) -> String {
    digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::api::quantity::GIB;
    use crate::fleet::fixtures::{at, gpu, gpu_with, node_of, report};

    fn inventory(report: &str, heartbeat: Option<&str>) -> Inventory {
        let mut notes = BTreeMap::from([(keys::REPORT.to_owned(), report.to_owned())]);
        notes.extend(heartbeat.map(|text| (keys::HEARTBEAT.to_owned(), text.to_owned())));
        Inventory::of(&notes)
    }

    #[test]
    fn reports_that_no_sound_agent_writes_are_refused_with_the_reason() {
        let good = report(&[gpu(0, "GPU-A", 24)], at(0));
        let with = |key: &str, value: Value| {
            let mut report = good.clone();
            report[key] = value;
            report.to_string()
        };
        assert!(matches!(inventory(&good.to_string(), None), Inventory::Known { .. }));
        for (text, why) in [
            (String::new(), "cannot be read"),
            ("[]".to_owned(), "cannot be read"),
            ("[".repeat(10_000), "cannot be read"),
            (with("v", json!(2)), "version 2"),
            (with("gpus", json!([gpu(0, "GPU-A", 1), gpu(1, "gpu-a", 1)])), "twice"),
            (with("gpus", json!([gpu(0, "", 1)])), "no usable UUID"),
            (with("gpus", json!([gpu(0, "../GPU", 1)])), "no usable UUID"),
            (with("gpus", json!([gpu(0, &"G".repeat(64), 1)])), "no usable UUID"),
            (with("gpus", json!([gpu_with(0, "GPU-A", 1, json!({"tot": u64::MAX}))])), "2^53"),
            (with("drv", json!("x".repeat(report::MAX_BYTES))), "bytes, more than"),
        ] {
            let Inventory::Invalid(said) = inventory(&text, None) else { panic!("{why}") };
            assert!(said.contains(why), "{said}");
        }
    }

    #[test]
    fn a_heartbeat_is_a_sign_of_life_and_vouches_for_its_report() {
        let text = report(&[gpu(0, "GPU-A", 24)], at(0)).to_string();
        let sha = short(&Sha256::digest(text.as_bytes()));
        let beat = |at: Timestamp, state: &str, sha: &str| {
            format!("v1 seq=7 inst=c1f0a9e2 at={at} state={state} sha={sha}")
        };
        let signs: BTreeSet<_> = [None, Some(beat(at(0), "ok", &sha)), Some(beat(at(300), "ok", &sha))]
            .iter()
            .map(|beat| match inventory(&text, beat.as_deref()) {
                Inventory::Known { sign, .. } => sign,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(signs.len(), 3);
        let Inventory::Known { state, at: newest, .. } =
            inventory(&text, Some(&beat(at(300), "stopped", &sha)))
        else {
            panic!("refused")
        };
        assert_eq!((state, newest), (State::Stopped, at(300)));
        assert!(matches!(inventory(&text, Some(&beat(at(300), "ok", "00000000"))), Inventory::Invalid(_)));
        assert!(matches!(inventory(&text, Some("\u{1F600} = =x sha")), Inventory::Known { .. }));
    }

    #[test]
    fn more_free_than_there_is_is_not_believed() {
        for (free, believed) in [(24 * GIB + (64 << 20), true), (24 * GIB + (65 << 20), false)] {
            let gpu = gpu_with(0, "GPU-A", 24, json!({"free": free}));
            let node = NodeFacts::of(&node_of("node-a", &report(&[gpu], at(0)), json!({}))).unwrap();
            assert_eq!(node.report().unwrap().gpus[0].free.is_some(), believed);
        }
    }

    #[test]
    fn a_bare_node_is_read_as_not_ready_and_without_limits() {
        let node = serde_json::from_value(json!({"metadata": {"name": "node-a"}})).unwrap();
        let facts = NodeFacts::of(&node).unwrap();
        assert_eq!(
            (facts.ready, facts.allocatable.pods, &facts.inventory),
            (false, u64::MAX, &Inventory::Missing)
        );
    }
}
