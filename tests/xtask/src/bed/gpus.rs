//! The simulated GPUs: ten cards of four models, and one driver per node.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use gpusim::config::{CardConfig, NodeConfig};

use super::Bed;
use super::daemon::Daemon;
use super::layout::NODES;
use crate::images::{Programs, digest};
use crate::tools::Tools;

/// Model and memory in GiB of each card, node by node.
const CARDS: [[(&str, u64); 5]; 2] = [
    [
        ("NVIDIA RTX A4000", 16),
        ("NVIDIA RTX A4000", 16),
        ("NVIDIA GeForce RTX 3060", 12),
        ("NVIDIA GeForce RTX 3060", 12),
        ("NVIDIA GeForce RTX 4090", 24),
    ],
    [
        ("NVIDIA RTX A4000", 16),
        ("NVIDIA RTX A4000", 16),
        ("NVIDIA GeForce RTX 3060", 12),
        ("NVIDIA GeForce RTX 3060", 12),
        ("NVIDIA A100-PCIE-40GB", 40),
    ],
];

/// The driver's files and what they are called beside the bed.
const FILES: [(&str, &str); 3] =
    [("gpusim", "gpusim"), ("gpu-hog", "gpu-hog"), ("libnvidia_ml.so", "libnvidia-ml.so.1")];

/// Name of a node's driver among the bed's processes.
pub fn daemon(node: &str) -> String {
    format!("gpusim-{node}")
}

/// Names what shapes the bed's processes; another shape needs a new bed.
///
/// # Errors
/// When a program cannot be read.
pub fn shape(programs: &Programs, tools: &Tools) -> Result<String> {
    let mut inputs = vec![format!("{tools:?} {CARDS:?}").into_bytes()];
    for (built, _) in FILES {
        let file = programs.path(built);
        inputs.push(fs::read(&file).with_context(|| format!("read {}", file.display()))?);
    }
    Ok(digest(inputs))
}

/// Starts the drivers of all nodes and waits until they answer.
///
/// # Errors
/// When a file cannot be copied, or a driver does not answer.
pub fn start(bed: &mut Bed, programs: &Programs) -> Result<()> {
    let folder = bed.layout.driver();
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    for (built, ours) in FILES {
        let (from, to) = (programs.path(built), folder.join(ours));
        fs::copy(&from, &to).with_context(|| format!("copy {} to {}", from.display(), to.display()))?;
    }
    let seed = u64::from_str_radix(&bed.layout.id, 16).context("read the bed's id")?;
    for (node, cards) in NODES.into_iter().zip(CARDS) {
        let device = bed.layout.device(node);
        fs::create_dir_all(&device).with_context(|| format!("create {}", device.display()))?;
        let config = folder.join(format!("{node}.json"));
        fs::write(&config, serde_json::to_vec_pretty(&described(node, seed, &cards))?)
            .with_context(|| format!("write {}", config.display()))?;
        let daemon = Daemon::new(daemon(node), &folder.join("gpusim"))
            .args(["daemon"])
            .flag("config", config)
            .flag("driver-dir", device)
            .flag("control", bed.layout.control(node))
            .flag("log", bed.layout.journal(node));
        bed.start(daemon)?;
        bed.wait(&format!("the GPUs of {node}"), Duration::from_secs(10), || {
            Ok(bed.control(node).is_ok().then_some(()))
        })?;
    }
    Ok(())
}

fn described(node: &str, seed: u64, cards: &[(&str, u64)]) -> NodeConfig {
    let card = |(model, gib): &(&str, u64)| CardConfig {
        model: (*model).to_owned(),
        total_mib: gib.saturating_mul(1024),
        reserved_mib: 0,
        need_percent: 100,
        pace_percent: 100,
    };
    NodeConfig {
        node: node.to_owned(),
        seed,
        driver_version: "580.95.05".to_owned(),
        cards: cards.iter().map(card).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn ten_cards_of_four_models_whose_configuration_the_driver_reads() {
        let all: Vec<_> = CARDS.iter().flatten().collect();
        let models: BTreeSet<_> = all.iter().map(|(model, _)| model).collect();
        assert_eq!((all.len(), models.len()), (10, 5 - 1));
        for (node, cards) in NODES.into_iter().zip(CARDS) {
            let text = serde_json::to_string(&described(node, 7, &cards)).unwrap();
            assert_eq!(NodeConfig::parse(&text).unwrap().cards.len(), 5);
        }
    }
}
