//! Byte quantities as people write them: `512Mi`, `1Gi`, and as we print them: `13.1Gi`.

/// Bytes in one MiB.
pub const MIB: u64 = 1 << 20;
/// Bytes in one GiB.
pub const GIB: u64 = 1 << 30;

/// Reads `[1-9][0-9]*(Mi|Gi)` or `0`, the form that the CRD admits. `None` for anything else or on overflow.
pub fn parse(text: &str) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    let (digits, unit) = match (text.strip_suffix("Mi"), text.strip_suffix("Gi")) {
        (Some(digits), _) => (digits, MIB),
        (_, Some(digits)) => (digits, GIB),
        _ => return None,
    };
    if digits.starts_with('0') || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

/// Prints bytes for people: one decimal in Gi from 1 GiB on, whole Mi below.
pub fn display(bytes: u64) -> String {
    if bytes >= GIB {
        const GIB_WIDE: u128 = 1 << 30;
        let tenths = u128::from(bytes).saturating_mul(10).saturating_add(GIB_WIDE / 2) / GIB_WIDE;
        format!("{}.{}Gi", tenths / 10, tenths % 10)
    } else {
        format!("{}Mi", bytes.saturating_add(MIB / 2) / MIB)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_read_as_the_schema_admits_them() {
        for (text, bytes) in [("0", Some(0)), ("1Gi", Some(GIB)), ("512Mi", Some(512 * MIB)), ("01Gi", None)]
        {
            assert_eq!(parse(text), bytes, "{text}");
        }
        for text in ["", "Gi", "1G", "-1Gi", "1.5Gi", " 1Gi", "99999999999999999999Gi"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn bytes_print_for_people() {
        assert_eq!(display(GIB), "1.0Gi");
        assert_eq!(display(14_066_000_000), "13.1Gi");
        assert_eq!(display(300 * MIB), "300Mi");
        assert_eq!(display(u64::MAX), "17179869184.0Gi");
    }
}
