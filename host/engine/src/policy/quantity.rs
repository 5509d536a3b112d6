//! Amounts of resources as Kubernetes writes them: `500m`, `2`, `1.5Gi`, `1e3`.

/// Thousandths of the unit, rounded up. None for what is no amount, and for what no machine has.
pub(super) fn milli(text: &str) -> Option<u128> {
    let digits = text.find(|char: char| !char.is_ascii_digit() && char != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let mantissa: u128 = format!("{whole}{fraction}").parse().ok()?;
    let divisor = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    // In billionths, since `n` is the smallest suffix.
    let unit_nano = unit_nano(suffix)?;
    let scaled = mantissa.checked_mul(unit_nano)?;
    Some(scaled.div_ceil(divisor).div_ceil(1_000_000))
}

fn unit_nano(suffix: &str) -> Option<u128> {
    const ONE: u128 = 1_000_000_000;
    let binary = |power: u32| ONE.checked_mul(1_u128 << (10 * power));
    match suffix {
        "n" => Some(1),
        "u" => Some(1_000),
        "m" => Some(1_000_000),
        "" => Some(ONE),
        "k" => Some(ONE * 1_000),
        "M" => Some(ONE * 1_000_000),
        "G" => Some(ONE * 1_000_000_000),
        "T" => Some(ONE * 1_000_000_000_000),
        "P" => Some(ONE * 1_000_000_000_000_000),
        "E" => Some(ONE * 1_000_000_000_000_000_000),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        exponent => {
            let power = exponent.strip_prefix(['e', 'E'])?.parse::<u32>().ok()?;
            10_u128.checked_pow(power)?.checked_mul(ONE)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::milli;

    #[test]
    fn amounts_are_read_as_kubernetes_reads_them() {
        for (text, wanted) in [
            ("1", Some(1_000)),
            ("500m", Some(500)),
            ("0.5", Some(500)),
            (".5", Some(500)),
            ("1n", Some(1)),
            ("1.5Gi", Some(1_610_612_736_000)),
            ("2k", Some(2_000_000)),
            ("1e3", Some(1_000_000)),
            ("1E3", Some(1_000_000)),
            ("1E", Some(1_000_000_000_000_000_000_000)),
            ("", None),
            (".", None),
            ("-1", None),
            ("1.2.3", None),
            ("1 Gi", None),
            ("1e999", None),
            ("99999999999999999999999999999999999999999999", None),
        ] {
            assert_eq!(milli(text), wanted, "{text:?}");
        }
    }
}
