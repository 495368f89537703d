//! GPU memory of SeedVR2 7B in half precision, by closed forms through the figures of the profile that is offered.

/// Bytes of a MiB.
const MIB: u64 = 1 << 20;

/// Of the picture's coder with tiles of `tile` output pixels a side.
#[must_use]
pub fn coder(tile: u64) -> u64 {
    (1623 * MIB).saturating_add(tile.saturating_mul(tile).saturating_mul(16_777))
}

/// Of the model with `batch` pictures of `pixels` output pixels at once, and that many of its blocks in host memory.
#[must_use]
pub fn model(batch: u64, swapped_blocks: u64, pixels: u64) -> u64 {
    let latents = batch.saturating_add(3).checked_div(4).unwrap_or(0);
    let weights = (15_770 * MIB).saturating_sub(swapped_blocks.saturating_mul(419 * MIB));
    weights.saturating_add(latents.saturating_mul(514).saturating_mul(pixels))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closed_forms_go_through_the_profiles_figures() {
        let near = |bytes: u64, mib: u64| (bytes / MIB).abs_diff(mib) * 100 <= mib;
        for (tile, mib) in [(1024, 18_400), (768, 11_060), (512, 5_830)] {
            assert!(near(coder(tile), mib), "{tile}: {}", coder(tile) / MIB);
        }
        for (batch, a_pixel) in [(45, 6168), (21, 3084), (5, 1028)] {
            assert_eq!(model(batch, 0, 1 << 20) - model(batch, 0, 0), a_pixel << 20);
        }
        assert_eq!(model(5, 0, 0) / MIB, 15_770);
        assert!(near(model(5, 16, 0), 9_050));
        assert!((model(5, 36, 0) / MIB).abs_diff(700) < 20);
    }
}
