//! Quantities of resources: `250m`, `1.5`, `2Gi`, `1e9`.
//!
//! Follows `ParseQuantity` in `k8s.io/apimachinery/pkg/api/resource/quantity.go`, with two differences: a text without a
//! digit, such as `m`, is refused (Kubernetes reads it as zero), and a binary amount over [`Quantity::MAX`] keeps its value
//! (Kubernetes caps it), so that a caller can refuse it.

use std::fmt;

/// An amount of a resource in billionths, the finest that Kubernetes keeps.
///
/// Amounts are ordered by value, independent of how they are written.
///
/// ```
/// use paperclip_kubernetes::Quantity;
///
/// assert_eq!(Quantity::parse("1.5Gi"), Quantity::parse("1536Mi"));
/// assert!(Quantity::parse("500m")? < Quantity::parse("1")?);
/// # Ok::<(), paperclip_kubernetes::ParseQuantityError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quantity {
    nanos: i128,
}

const NANOS: i128 = 1_000_000_000;
/// Shifting a decimal point further than this changes no result: it is past both ends of [`Quantity`].
const POINT_SHIFT_MAX: i64 = 64;

/// The reason why a text is not a quantity, in the API server's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParseQuantityError {
    /// The text is not a number followed by a suffix.
    Format,
    /// The suffix is unknown.
    Suffix,
}

impl fmt::Display for ParseQuantityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ParseQuantityError::Format => {
                "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
            }
            ParseQuantityError::Suffix => "unable to parse quantity's suffix",
        })
    }
}

impl std::error::Error for ParseQuantityError {}

impl Quantity {
    /// Zero units.
    pub const ZERO: Quantity = Quantity { nanos: 0 };
    /// A thousandth of a unit.
    pub const MILLI: Quantity = Quantity { nanos: NANOS / 1_000 };
    /// The largest amount that Kubernetes keeps exactly: 2^63 - 1 units.
    pub const MAX: Quantity = Quantity { nanos: i64::MAX as i128 * NANOS };

    /// Parses a quantity. Parts finer than a billionth are rounded away from zero; an amount far beyond [`Quantity::MAX`]
    /// saturates.
    ///
    /// # Errors
    /// The text is not a number, or its suffix is unknown.
    pub fn parse(text: &str) -> Result<Quantity, ParseQuantityError> {
        let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
        let number_bytes = unsigned.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
        let (number, suffix) = unsigned.split_at(number_bytes);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || !is_suffix_like(suffix) {
            return Err(ParseQuantityError::Format);
        }
        let (exponent_of_two, exponent_of_ten) = exponents(suffix).ok_or(ParseQuantityError::Suffix)?;
        let nanos = scaled(whole, fraction, exponent_of_ten, NANOS << exponent_of_two);
        Ok(Quantity { nanos: if text.starts_with('-') { -nanos } else { nanos } })
    }

    /// Whether this is a whole number of units, as an amount of memory has to be.
    pub fn is_whole(self) -> bool {
        self.nanos % NANOS == 0
    }

    /// Returns how many times `unit` fits, rounded up; `None` if `unit` is not above zero.
    ///
    /// ```
    /// # use paperclip_kubernetes::Quantity;
    /// let cpu = Quantity::parse("1.5")?;
    /// assert_eq!(cpu.in_units_of(Quantity::MILLI), Some(1_500));
    /// # Ok::<(), paperclip_kubernetes::ParseQuantityError>(())
    /// ```
    pub fn in_units_of(self, unit: Quantity) -> Option<i128> {
        if unit.nanos <= 0 {
            return None;
        }
        let (quotient, remainder) = (self.nanos.div_euclid(unit.nanos), self.nanos.rem_euclid(unit.nanos));
        Some(quotient.saturating_add(i128::from(remainder > 0)))
    }
}

/// Whether a text has the form of a suffix: letters that suffixes consist of, a sign, digits.
fn is_suffix_like(text: &str) -> bool {
    let rest = text.trim_start_matches(|c| "eEinumkKMGTP".contains(c));
    let digits = rest.strip_prefix(['+', '-']).unwrap_or(rest);
    digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// The powers of two and of ten that a suffix multiplies by.
fn exponents(suffix: &str) -> Option<(u32, i64)> {
    Some(match suffix {
        "" => (0, 0),
        "n" => (0, -9),
        "u" => (0, -6),
        "m" => (0, -3),
        "k" => (0, 3),
        "M" => (0, 6),
        "G" => (0, 9),
        "T" => (0, 12),
        "P" => (0, 15),
        "E" => (0, 18),
        "Ki" => (10, 0),
        "Mi" => (20, 0),
        "Gi" => (30, 0),
        "Ti" => (40, 0),
        "Pi" => (50, 0),
        "Ei" => (60, 0),
        exponent => (0, i64::from(exponent.strip_prefix(['e', 'E'])?.parse::<i32>().ok()?)),
    })
}

/// `whole.fraction * 10^exponent * unit`, rounded up, saturating.
fn scaled(whole: &str, fraction: &str, exponent: i64, unit: i128) -> i128 {
    let digits = || whole.bytes().chain(fraction.bytes()).map(|digit| i128::from(digit - b'0'));
    let count = i64::try_from(whole.len() + fraction.len()).unwrap_or(i64::MAX);
    // How many of the digits are before the decimal point, once the exponent has moved it.
    let point = i64::try_from(whole.len()).unwrap_or(i64::MAX).saturating_add(exponent);
    let split = usize::try_from(point.clamp(0, count)).unwrap_or_default();
    let mut units =
        digits().take(split).fold(0_i128, |sum, digit| sum.saturating_mul(10).saturating_add(digit));
    if units > 0 {
        for _ in 0..(point - count).clamp(0, POINT_SHIFT_MAX) {
            units = units.saturating_mul(10);
        }
    }
    // The digits behind the point, from the last one: what a division by ten leaves over only rounds up.
    let mut part = 0;
    let mut is_inexact = false;
    let mut shift = |digit: i128| {
        let sum = digit * unit + part;
        is_inexact |= sum % 10 != 0;
        part = sum / 10;
    };
    digits().rev().take(whole.len() + fraction.len() - split).for_each(&mut shift);
    (0..point.saturating_neg().clamp(0, POINT_SHIFT_MAX)).for_each(|_| shift(0));
    units.saturating_mul(unit).saturating_add(part + i128::from(is_inexact))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn nanos(text: &str) -> i128 {
        Quantity::parse(text).unwrap().nanos
    }

    #[test]
    fn parses_numbers_with_suffixes() {
        for (text, expected) in [
            ("0", 0),
            ("1", NANOS),
            ("+1", NANOS),
            ("-1", -NANOS),
            ("1.", NANOS),
            (".5", NANOS / 2),
            ("1.5", 1_500_000_000),
            ("250m", 250_000_000),
            ("1u", 1_000),
            ("1n", 1),
            ("0.1n", 1),
            ("-0.1n", -1),
            ("1.1n", 2),
            ("1k", 1_000 * NANOS),
            ("2k", 2_000 * NANOS),
            ("2Gi", 2 * 1024 * 1024 * 1024 * NANOS),
            ("1.5Gi", 1_610_612_736 * NANOS),
            ("0.5Ki", 512 * NANOS),
            ("0.3Gi", 322_122_547_200_000_000),
            ("0.0000000000000000001Ei", 115_292_151),
            ("1e3", 1_000 * NANOS),
            ("1E3", 1_000 * NANOS),
            ("1e+3", 1_000 * NANOS),
            ("1E", 1_000_000_000_000_000_000 * NANOS),
            ("12e-1", 1_200_000_000),
            ("123.456e1", 1_234_560_000_000),
            ("1.5e-1", 150_000_000),
            ("5e-99", 1),
            ("0e99", 0),
            ("0e-99", 0),
            ("0000000000000000000000001", NANOS),
            ("0.00000000000000000000000000000000000000000000000001e50", NANOS),
            ("0.99999999999999999999999999999999999999999999999999", NANOS),
        ] {
            assert_eq!(nanos(text), expected, "{text}");
        }
    }

    #[test]
    fn refuses_texts_that_are_not_quantities() {
        use ParseQuantityError::{Format, Suffix};
        for (text, expected) in [
            ("", Format),
            ("x", Format),
            ("m", Format),
            ("1 Gi", Format),
            (" 1", Format),
            ("1 ", Format),
            ("1GiB", Format),
            ("1Gb", Format),
            ("1gi", Format),
            ("1K", Suffix),
            ("lots", Format),
            ("1.2.3", Format),
            ("1.1.M", Format),
            ("1+1.0M", Format),
            ("0.1mi", Suffix),
            ("0.1am", Format),
            ("aoeu", Format),
            (".5i", Suffix),
            ("1i", Suffix),
            ("-3.01i", Suffix),
            ("-3.01e-", Suffix),
            ("1e", Suffix),
            ("1ee3", Suffix),
            ("0x10", Format),
            ("1,5", Format),
            (".", Format),
            ("+", Format),
            ("--1", Format),
            ("1Mi1", Suffix),
            ("é", Format),
        ] {
            assert_eq!(Quantity::parse(text), Err(expected), "{text}");
        }
    }

    #[test]
    fn keeps_amounts_over_the_maximum_over_the_maximum() {
        assert_eq!(Quantity::parse("9223372036854775807"), Ok(Quantity::MAX));
        for text in ["16Ei", "1e99", "1e999", "1e2147483647", "9999999999999999999999999999999999999999"] {
            assert!(Quantity::parse(text).unwrap() > Quantity::MAX, "{text}");
        }
    }

    #[test]
    fn amounts_compare_across_suffixes() {
        let equal = [("1", "1000m"), ("1Ki", "1024"), ("1.5Gi", "1536Mi"), ("2e3", "2k"), ("5e-1", "500m")];
        for (one, other) in equal {
            assert_eq!(Quantity::parse(one), Quantity::parse(other), "{one} {other}");
        }
        let parse = |text| Quantity::parse(text).unwrap();
        assert!(parse("-1") < Quantity::ZERO);
        assert!(parse("100m") < parse("1"));
        assert!(parse("1G") < parse("1Gi"));
        assert!(parse("4000m") < parse("4001m"));
        assert!(parse("512Mi").is_whole() && !parse("500m").is_whole());
    }

    #[test]
    fn amount_in_units_is_rounded_up() {
        for (amount, unit, expected) in [
            ("500m", "1", Some(1)),
            ("500m", "1m", Some(500)),
            ("1500m", "1m", Some(1500)),
            ("1n", "1m", Some(1)),
            ("1Gi", "1Mi", Some(1024)),
            ("1", "0", None),
        ] {
            let [amount, unit] = [amount, unit].map(|text| Quantity::parse(text).unwrap());
            assert_eq!(amount.in_units_of(unit), expected, "{amount:?} / {unit:?}");
        }
    }

    proptest! {
        #[test]
        fn parses_any_text_without_panic(text in "[0-9.+-]{0,45}[a-zA-Z]{0,3}[0-9+-]{0,12}|.*") {
            let _ = Quantity::parse(&text);
        }

        #[test]
        fn whole_numbers_keep_their_order(a: u32, b: u32) {
            let parse = |n: u32| Quantity::parse(&n.to_string()).unwrap();
            prop_assert_eq!(a.cmp(&b), parse(a).cmp(&parse(b)));
        }

        #[test]
        fn exponent_moves_the_point(mantissa in 0_u32.., places in 0_usize..9) {
            let digits = format!("{mantissa:010}");
            let (whole, fraction) = digits.split_at(digits.len() - places);
            prop_assert_eq!(nanos(&format!("{whole}.{fraction}")), nanos(&format!("{mantissa}e-{places}")));
        }
    }
}
