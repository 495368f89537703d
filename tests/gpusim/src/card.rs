//! Names of cards: identities that are the same on every start, and the two ways to point at a card.

use std::fmt::{self, Display};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Bytes of one MiB.
pub const MIB: u64 = 1 << 20;

/// UUID of the card at `index` of `node`: a function of the three, in the shape `GPU-8-4-4-4-12`.
#[must_use]
pub fn uuid(seed: u64, node: &str, index: u32) -> String {
    let digest = Sha256::digest(format!("{seed}/{node}/{index}"));
    let hex: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    format!("GPU-{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32))
}

/// PCI bus of the card at `index`: the first card sits on bus 1.
#[must_use]
pub fn pci_bus(index: u32) -> u32 {
    index.saturating_add(1)
}

/// A card of a node, by index or by UUID.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Gpu {
    /// Position on its node, from 0.
    Index(u32),
    /// `GPU-...`.
    Uuid(String),
}

/// Text that names no card.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} names no GPU: give its index on the node or its UUID (GPU-...)")]
pub struct NoSuchName(String);

impl FromStr for Gpu {
    type Err = NoSuchName;

    fn from_str(text: &str) -> Result<Self, NoSuchName> {
        match text.parse() {
            Ok(index) => Ok(Self::Index(index)),
            Err(_) if text.starts_with("GPU-") => Ok(Self::Uuid(text.to_owned())),
            Err(_) => Err(NoSuchName(text.to_owned())),
        }
    }
}

impl TryFrom<String> for Gpu {
    type Error = NoSuchName;

    fn try_from(text: String) -> Result<Self, NoSuchName> {
        text.parse()
    }
}

impl From<Gpu> for String {
    fn from(gpu: Gpu) -> Self {
        gpu.to_string()
    }
}

impl Display for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index(index) => index.fmt(f),
            Self::Uuid(uuid) => f.write_str(uuid),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_has_the_real_shape_and_depends_on_seed_node_and_index() {
        let one = uuid(7, "node-a", 0);
        let lengths: Vec<usize> = one.split('-').map(str::len).collect();
        assert_eq!(lengths, [3, 8, 4, 4, 4, 12]);
        assert_eq!(one, uuid(7, "node-a", 0));
        for other in [uuid(8, "node-a", 0), uuid(7, "node-b", 0), uuid(7, "node-a", 1)] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn a_card_is_named_by_index_or_uuid_and_nothing_else() {
        assert_eq!("3".parse::<Gpu>().unwrap(), Gpu::Index(3));
        assert_eq!("GPU-1".parse::<Gpu>().unwrap(), Gpu::Uuid("GPU-1".into()));
        for bad in ["", "-1", "all", "4294967296"] {
            assert!(bad.parse::<Gpu>().is_err(), "{bad}");
        }
    }
}
