//! What the fleet keeps of a node: where pods may go, and what its agent says. Parsed once per change, at the door;
//! a broken or hostile annotation makes its GPUs unusable and harms nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Taint};
use sha2::{Digest, Sha256};

use super::resource;
use crate::api::keys;
use crate::api::report::{self, Report, ReportError, State};

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
    Invalid(ReportError),
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
        match Self::read(text, annotations.get(keys::HEARTBEAT).map(String::as_str)) {
            Ok(known) => known,
            Err(error) => Self::Invalid(error),
        }
    }

    /// A report may stand alone: its agent has written no heartbeat of its own yet.
    fn read(text: &str, heartbeat: Option<&str>) -> Result<Self, ReportError> {
        let (report, beat) = match heartbeat {
            Some(heartbeat) => report::read(text, heartbeat).map(|(report, beat)| (report, Some(beat)))?,
            None => (Report::parse(text)?, None),
        };
        // A heartbeat that names the report's digest was written with it or after it, whatever the node's clock says.
        let digest =
            Sha256::new().chain_update(text).chain_update([0]).chain_update(heartbeat.unwrap_or_default());
        Ok(Self::Known {
            state: beat.as_ref().map_or(report.state, |beat| beat.state),
            at: beat.map_or(report.at, |beat| beat.at),
            sign: digest.finalize().into(),
            report: Arc::new(report),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::fleet::fixtures::{at, gpu, gpu_with, report as written};

    fn inventory(report: &str, heartbeat: Option<&str>) -> Inventory {
        let mut notes = BTreeMap::from([(keys::REPORT.to_owned(), report.to_owned())]);
        notes.extend(heartbeat.map(|text| (keys::HEARTBEAT.to_owned(), text.to_owned())));
        Inventory::of(&notes)
    }

    #[test]
    fn reports_that_no_sound_agent_writes_are_refused_with_the_reason() {
        let good = written(&[gpu(0, "GPU-A", 24)], at(0));
        let with = |key: &str, value: Value| {
            let mut changed = good.clone();
            changed[key] = value;
            changed.to_string()
        };
        assert!(matches!(inventory(&good.to_string(), None), Inventory::Known { .. }));
        for (text, why) in [
            (String::new(), "cannot be parsed"),
            ("[]".to_owned(), "cannot be parsed"),
            ("[".repeat(10_000), "cannot be parsed"),
            (with("v", json!(2)), "version 2"),
            (with("seq", json!(1_u64 << 54)), "number 18014398509481984"),
            (with("gpus", json!([gpu_with(0, "GPU-A", 1, json!({"tot": u64::MAX}))])), "which cannot be"),
            (with("drv", json!("x".repeat(report::MAX_BYTES))), "bytes; at most"),
        ] {
            let Inventory::Invalid(said) = inventory(&text, None) else { panic!("{why}") };
            assert!(said.to_string().contains(why), "{said}");
        }
    }

    #[test]
    fn a_heartbeat_is_a_sign_of_life_and_vouches_for_its_report() {
        let text = written(&[gpu(0, "GPU-A", 24)], at(0)).to_string();
        let sha = report::digest(&text);
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
        for clock in [300, -300] {
            let Inventory::Known { state, at: newest, .. } =
                inventory(&text, Some(&beat(at(clock), "stopped", &sha)))
            else {
                panic!("refused")
            };
            assert_eq!((state, newest), (State::Stopped, at(clock)), "however the node's clock was set");
        }
        assert!(matches!(inventory(&text, Some(&beat(at(300), "ok", "00000000"))), Inventory::Invalid(_)));
        assert!(matches!(inventory(&text, Some("\u{1F600} = =x sha")), Inventory::Invalid(_)));
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
