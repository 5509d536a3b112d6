//! Amounts such as `500m` CPUs and `2Gi` of memory.

/// One billionth is the smallest part that a quantity has.
const NANOS: i128 = 1_000_000_000;

/// Suffixes and what they stand for, in billionths. The empty one is last: every text ends with it.
const SUFFIXES: [(&str, i128); 16] = [
    ("Ki", NANOS << 10),
    ("Mi", NANOS << 20),
    ("Gi", NANOS << 30),
    ("Ti", NANOS << 40),
    ("Pi", NANOS << 50),
    ("Ei", NANOS << 60),
    ("n", 1),
    ("u", 1_000),
    ("m", 1_000_000),
    ("k", NANOS * 1_000),
    ("M", NANOS * 1_000_000),
    ("G", NANOS * 1_000_000_000),
    ("T", NANOS * 1_000_000_000_000),
    ("P", NANOS * 1_000_000_000_000_000),
    ("E", NANOS * 1_000_000_000_000_000_000),
    ("", NANOS),
];

/// An amount, in billionths.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Quantity(i128);

impl Quantity {
    pub(crate) const ZERO: Quantity = Quantity(0);

    /// Reads a quantity as the API does; what is over its range is the end of the range.
    ///
    /// # Errors
    /// The API's own message for a text that is none.
    pub(crate) fn parse(text: &str) -> Result<Quantity, String> {
        const MISFIT: &str =
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
        let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
        let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
        let (digits, suffix) = unsigned.split_at(end);
        if !digits.bytes().any(|byte| byte.is_ascii_digit()) || digits.matches('.').count() > 1 {
            return Err(MISFIT.to_owned());
        }
        let scaled = match SUFFIXES.iter().find(|(known, _)| *known == suffix) {
            Some((_, scale)) => scaled(digits, *scale),
            None => {
                let exponent = suffix.strip_prefix(['e', 'E']).and_then(|exponent| exponent.parse().ok());
                exponential(digits, exponent.ok_or("unable to parse quantity's suffix")?)
            }
        };
        Ok(Quantity(if text.starts_with('-') { -scaled } else { scaled }))
    }

    /// How many times `unit` it is, rounded up; `None` for a unit that is not above zero.
    pub(crate) fn in_units_of(self, unit: Quantity) -> Option<i128> {
        if unit.0 <= 0 {
            return None;
        }
        let (whole, rest) = (self.0.div_euclid(unit.0), self.0.rem_euclid(unit.0));
        Some(whole.saturating_add(i128::from(rest > 0)))
    }
}

fn exponential(digits: &str, exponent: i32) -> i128 {
    let power = 10_i128.saturating_pow(exponent.unsigned_abs());
    if exponent < 0 { scaled(digits, NANOS) / power } else { scaled(digits, NANOS.saturating_mul(power)) }
}

fn scaled(digits: &str, scale: i128) -> i128 {
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let number = |digits: &str| match digits {
        "" => 0,
        digits => digits.parse().unwrap_or(i128::MAX),
    };
    let unit = u32::try_from(fraction.len()).map_or(i128::MAX, |places| 10_i128.saturating_pow(places));
    let part = number(fraction).saturating_mul(scale) / unit;
    number(whole).saturating_mul(scale).saturating_add(part)
}

#[cfg(test)]
mod tests {
    use super::Quantity;

    #[test]
    fn amounts_compare_across_suffixes() {
        let equal = [("1", "1000m"), ("1Ki", "1024"), ("1.5Gi", "1536Mi"), ("2e3", "2k"), ("5e-1", "500m")];
        for (one, other) in equal {
            assert_eq!(Quantity::parse(one), Quantity::parse(other), "{one} {other}");
        }
        assert!(Quantity::parse("-1").unwrap() < Quantity::ZERO);
        assert!(Quantity::parse("100m").unwrap() < Quantity::parse("1").unwrap());
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for text in ["", "x", "1.2.3", "1 Gi", "1Gb", "m", "1e", "."] {
            assert!(Quantity::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_amount_in_units_is_rounded_up() {
        for (amount, unit, expected) in [
            ("500m", "1", Some(1)),
            ("1500m", "1m", Some(1500)),
            ("1Gi", "1Mi", Some(1024)),
            ("1", "0", None),
        ] {
            let [amount, unit] = [amount, unit].map(|text| Quantity::parse(text).unwrap());
            assert_eq!(amount.in_units_of(unit), expected, "{amount:?} / {unit:?}");
        }
    }
}
