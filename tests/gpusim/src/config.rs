//! The cards of a node, as the daemon's `--config` file describes them.

use serde::{Deserialize, Serialize};

/// One node's driver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    /// Name of the node; part of the cards' identity.
    pub node: String,
    /// Makes the UUIDs of one bed differ from another's; default 0.
    #[serde(default)]
    pub seed: u64,
    /// Version that the driver reports; default 580.95.05.
    #[serde(default = "driver_version")]
    pub driver_version: String,
    /// The cards, in index order.
    pub cards: Vec<CardConfig>,
}

fn driver_version() -> String {
    "580.95.05".to_owned()
}

/// One card.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CardConfig {
    /// Product name, as NVML says it: `NVIDIA RTX A4000`.
    pub model: String,
    /// All its memory, MiB.
    pub total_mib: u64,
    /// Memory that the driver keeps to itself, MiB; default 0.
    #[serde(default)]
    pub reserved_mib: u64,
    /// What an engine truly needs on this card, in percent of the published formula; 1-1000, default 100.
    #[serde(default = "percent_100")]
    pub need_percent: u32,
    /// How long an engine takes to load, to grow and at least to hold its memory, in percent of the usual; 1-1000,
    /// default 100. Little is for tests that nobody watches the card in.
    #[serde(default = "percent_100")]
    pub pace_percent: u32,
}

const fn percent_100() -> u32 {
    100
}

/// A configuration that describes no node.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not JSON, or not of this form.
    #[error("read configuration: {0}")]
    Form(#[from] serde_json::Error),
    /// A card that cannot be.
    #[error("card {index} ({model}): {what}")]
    Card {
        /// Position in the list.
        index: usize,
        /// Its product name.
        model: String,
        /// What is wrong with it.
        what: &'static str,
    },
}

impl NodeConfig {
    /// Reads a configuration and checks its figures.
    ///
    /// # Errors
    /// When the text is not of this form, or a card cannot be.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let config: Self = serde_json::from_str(text)?;
        for (index, card) in config.cards.iter().enumerate() {
            let what = match card {
                CardConfig { total_mib: 1..=16_777_216, reserved_mib, .. }
                    if *reserved_mib >= card.total_mib =>
                {
                    "reserved_mib must be less than total_mib"
                }
                CardConfig {
                    total_mib: 1..=16_777_216,
                    need_percent: 1..=1000,
                    pace_percent: 1..=1000,
                    ..
                } => continue,
                CardConfig { total_mib: 1..=16_777_216, .. } => {
                    "need_percent and pace_percent must be 1-1000"
                }
                _ => "total_mib must be 1-16777216",
            };
            return Err(ConfigError::Card { index, model: card.model.clone(), what });
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_has_a_default_and_what_cannot_be_is_refused() {
        let config = NodeConfig::parse(r#"{"node":"a","cards":[{"model":"X","total_mib":8192}]}"#).unwrap();
        assert_eq!((config.seed, config.cards[0].need_percent), (0, 100));
        for bad in [
            r#"{"node":"a","cards":[{"model":"X","total_mib":0}]}"#,
            r#"{"node":"a","cards":[{"model":"X","total_mib":8,"reserved_mib":8}]}"#,
            r#"{"node":"a","cards":[{"model":"X","total_mib":8,"need_percent":0}]}"#,
            r#"{"node":"a","cards":[{"model":"X","total_mib":8,"pace_percent":0}]}"#,
            r#"{"node":"a","cards":[{"model":"X","total_mib":8,"vram":1}]}"#,
        ] {
            assert!(NodeConfig::parse(bad).is_err(), "{bad}");
        }
    }
}
