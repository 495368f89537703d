//! Kubernetes quantities (`7910Mi`, `500m`, `2`, `1e3`) as whole numbers.

/// Reads a quantity in thousandths of its unit, rounded up. `None` for anything else, negative or beyond 64 bits.
pub fn thousandths(text: &str) -> Option<u64> {
    let at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at_checked(at)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || digits.len() > 24 {
        return None;
    }
    let mantissa: u128 = digits.parse().ok()?;
    let (factor, divisor) = scale(suffix)?;
    let divisor = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?.checked_mul(divisor)?;
    let value = mantissa.checked_mul(factor)?.checked_mul(1000)?.div_ceil(divisor);
    u64::try_from(value).ok()
}

/// Reads a quantity in its unit, rounded up.
pub fn whole(text: &str) -> Option<u64> {
    // Beyond 2^64 thousandths a byte count still has to be read: those are given without a fraction.
    if let Ok(plain) = text.parse::<u64>() {
        return Some(plain);
    }
    thousandths(text).map(|value| value.div_ceil(1000))
}

/// Factor and divisor of a suffix.
fn scale(suffix: &str) -> Option<(u128, u128)> {
    Some(match suffix {
        "" => (1, 1),
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1000),
        "k" => (1000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        exponent => {
            let power: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            let tens = 10_u128.checked_pow(power.unsigned_abs())?;
            if power < 0 { (1, tens) } else { (tens, 1) }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_of_nodes_and_pods_read() {
        for (text, value) in [
            ("500m", Some(500)),
            ("2", Some(2000)),
            ("0.1", Some(100)),
            ("1e3", Some(1_000_000)),
            ("100n", Some(1)),
            ("", None),
            ("-1", None),
            ("x", None),
            ("1Q", None),
            ("1e99", None),
        ] {
            assert_eq!(thousandths(text), value, "{text}");
        }
        for (text, value) in [
            ("16Gi", Some(16 << 30)),
            ("7910Mi", Some(7910 << 20)),
            ("129e6", Some(129_000_000)),
            ("1.5Ki", Some(1536)),
        ] {
            assert_eq!(whole(text), value, "{text}");
        }
        assert_eq!(whole("18446744073709551615"), Some(u64::MAX));
    }
}
