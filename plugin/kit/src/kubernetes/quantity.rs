//! Amounts of CPU and memory: `250m`, `1.5`, `2Gi`, `1e9`.

use std::fmt;

/// An amount in billionths, the finest that Kubernetes keeps. Ordered by amount, however it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quantity {
    nanos: i128,
}

const NANOS: i128 = 1_000_000_000;
/// The largest amount that Kubernetes keeps exactly: 2^63 - 1 units.
const MAX_UNITS: i128 = i64::MAX as i128;
/// Longer numbers are no amounts that anybody means.
const NUMBER_MAX_BYTES: usize = 40;

/// Why a text is no quantity: what would be right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAQuantity;

impl fmt::Display for NotAQuantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "must be an amount that is not negative, such as `500m` or `2` (CPU), `512Mi` or `4Gi` (memory); the units are n, u, m, k, M, G, T, P, E, Ki, Mi, Gi, Ti, Pi and Ei",
        )
    }
}

impl Quantity {
    /// Reads an amount as Kubernetes does; what is finer than a billionth is rounded up.
    ///
    /// # Errors
    /// Not a number with a known unit, negative, or more than Kubernetes keeps.
    pub fn parse(text: &str) -> Result<Quantity, NotAQuantity> {
        if text.len() > NUMBER_MAX_BYTES {
            return Err(NotAQuantity);
        }
        let unsigned = text.strip_prefix('+').unwrap_or(text);
        let number_bytes = unsigned.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
        let (number, unit) = unsigned.split_at(number_bytes);
        let (mantissa, fraction_digits) = decimal(number)?;
        let scale = Scale::of(unit)?;
        let exponent = scale.ten - i32::try_from(fraction_digits).map_err(|_| NotAQuantity)? + 9;
        let nanos = mantissa
            .checked_mul(scale.two)
            .and_then(|amount| shift(amount, exponent))
            .filter(|nanos| *nanos <= MAX_UNITS * NANOS)
            .ok_or(NotAQuantity)?;
        Ok(Quantity { nanos })
    }

    /// Whether this is a whole number of units, as an amount of memory must be.
    pub fn is_whole(self) -> bool {
        self.nanos % NANOS == 0
    }
}

/// The digits of a decimal number without its point, and how many of them stand behind it.
fn decimal(number: &str) -> Result<(i128, usize), NotAQuantity> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return Err(NotAQuantity);
    }
    let mantissa = format!("{whole}{fraction}").parse().map_err(|_| NotAQuantity)?;
    Ok((mantissa, fraction.len()))
}

/// A unit: a factor and a power of ten.
struct Scale {
    two: i128,
    ten: i32,
}

impl Scale {
    fn of(unit: &str) -> Result<Scale, NotAQuantity> {
        let decimal = |ten| Ok(Scale { two: 1, ten });
        let binary = |power: u32| Ok(Scale { two: 1 << (10 * power), ten: 0 });
        match unit {
            "" => decimal(0),
            "n" => decimal(-9),
            "u" => decimal(-6),
            "m" => decimal(-3),
            "k" => decimal(3),
            "M" => decimal(6),
            "G" => decimal(9),
            "T" => decimal(12),
            "P" => decimal(15),
            "E" => decimal(18),
            "Ki" => binary(1),
            "Mi" => binary(2),
            "Gi" => binary(3),
            "Ti" => binary(4),
            "Pi" => binary(5),
            "Ei" => binary(6),
            exponent => {
                let digits = exponent.strip_prefix(['e', 'E']).ok_or(NotAQuantity)?;
                let ten: i32 = digits.parse().map_err(|_| NotAQuantity)?;
                if ten.abs() > 18 { Err(NotAQuantity) } else { decimal(ten) }
            }
        }
    }
}

/// `amount * 10^exponent`, rounded up; none if it does not fit.
fn shift(amount: i128, exponent: i32) -> Option<i128> {
    let factor = 10_i128.checked_pow(exponent.unsigned_abs());
    if exponent >= 0 {
        return amount.checked_mul(factor?);
    }
    // So fine that nothing but the rounding is left.
    let Some(factor) = factor else { return Some(i128::from(amount > 0)) };
    Some(amount / factor + i128::from(amount % factor > 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn nanos(text: &str) -> i128 {
        Quantity::parse(text).unwrap().nanos
    }

    #[test]
    fn amounts() {
        for (text, expected) in [
            ("0", 0),
            ("1", NANOS),
            ("+1", NANOS),
            ("1.", NANOS),
            (".5", NANOS / 2),
            ("1.5", 1_500_000_000),
            ("250m", 250_000_000),
            ("1u", 1_000),
            ("1n", 1),
            ("0.1n", 1),
            ("1k", 1_000 * NANOS),
            ("2Gi", 2 * 1024 * 1024 * 1024 * NANOS),
            ("0.5Ki", 512 * NANOS),
            ("1e3", 1_000 * NANOS),
            ("1E3", 1_000 * NANOS),
            ("1E", 1_000_000_000_000_000_000 * NANOS),
            ("12e-1", 1_200_000_000),
            ("0000000000000000000000001", NANOS),
        ] {
            assert_eq!(nanos(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_amount() {
        for text in [
            "",
            "m",
            "-1",
            "1 Gi",
            " 1",
            "1GiB",
            "1gi",
            "1K",
            "lots",
            "1.2.3",
            "1e",
            "1e99",
            "1ee3",
            "0x10",
            "1,5",
            ".",
            "+",
            "1Mi1",
            "é",
            "16Ei",
            "9999999999999999999999999999999999999999",
        ] {
            assert_eq!(Quantity::parse(text), Err(NotAQuantity), "{text}");
        }
    }

    #[test]
    fn amounts_compare_across_units() {
        let parse = |text| Quantity::parse(text).unwrap();
        assert!(parse("1000m") == parse("1"));
        assert!(parse("1G") < parse("1Gi"));
        assert!(parse("4000m") < parse("4001m"));
        assert!(parse("512Mi").is_whole() && !parse("500m").is_whole());
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[0-9.+-]{0,45}[a-zA-Z]{0,3}[0-9+-]{0,12}|.*") {
            let _ = Quantity::parse(&text);
        }

        #[test]
        fn whole_numbers_keep_their_order(a: u32, b: u32) {
            let parse = |n: u32| Quantity::parse(&n.to_string()).unwrap();
            prop_assert_eq!(a.cmp(&b), parse(a).cmp(&parse(b)));
        }
    }
}
