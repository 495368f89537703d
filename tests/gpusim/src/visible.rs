//! What `NVIDIA_VISIBLE_DEVICES` means, as NVIDIA's container toolkit documents it.

/// Vendor and class of a CDI device name.
const CDI: &str = "nvidia.com/gpu=";

/// Positions among `uuids` that `spec` names, ascending: `all`, or a list of indexes and UUIDs, each also as a CDI
/// name (`nvidia.com/gpu=...`). Empty, `none` and `void` name nothing; neither does what is unknown.
#[must_use]
pub fn select(spec: &str, uuids: &[&str]) -> Vec<usize> {
    let names: Vec<&str> =
        spec.split(',').map(str::trim).map(|name| name.strip_prefix(CDI).unwrap_or(name)).collect();
    let named = |position: usize, uuid: &str| {
        names.iter().any(|name| *name == "all" || *name == uuid || name.parse() == Ok(position))
    };
    uuids
        .iter()
        .enumerate()
        .filter(|(position, uuid)| named(*position, uuid))
        .map(|(position, _)| position)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_names_what_the_toolkit_says() {
        let cards = ["GPU-a", "GPU-b", "GPU-c"];
        let table: [(&str, &[usize]); 12] = [
            ("all", &[0, 1, 2]),
            ("GPU-b", &[1]),
            ("2,0", &[0, 2]),
            ("GPU-c, 0", &[0, 2]),
            ("nvidia.com/gpu=GPU-b", &[1]),
            ("nvidia.com/gpu=1", &[1]),
            ("nvidia.com/gpu=all", &[0, 1, 2]),
            ("", &[]),
            ("none", &[]),
            ("void", &[]),
            ("GPU-x", &[]),
            ("7", &[]),
        ];
        for (spec, want) in table {
            assert_eq!(select(spec, &cards), want, "{spec:?}");
        }
    }
}
