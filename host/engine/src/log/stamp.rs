//! The kubelet's stamp before a line: RFC 3339 with up to nine fractional digits.

use serde::{Deserialize, Serialize};

/// The time on the node's clock that a line is stamped with. It is not unique, and it decreases when that clock is set back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Stamp {
    /// Seconds since 1970.
    pub s: i64,
    /// Nanoseconds of the second.
    pub ns: u32,
}

impl Stamp {
    /// Returns milliseconds since 1970.
    pub(super) fn ms(self) -> i64 {
        self.s.saturating_mul(1_000).saturating_add(i64::from(self.ns / 1_000_000))
    }

    /// Returns a hash seed that distinguishes equal lines with different stamps.
    pub(super) fn seed(self) -> u64 {
        self.s.cast_unsigned().wrapping_mul(1_000_000_000).wrapping_add(u64::from(self.ns))
    }
}

const SECONDS: &[u8; 19] = b"dddd-dd-ddTdd:dd:dd";

/// Returns the stamp at the start of `line`, and the offset of the text after it and its space.
pub(super) fn split(line: &[u8]) -> Option<(Stamp, usize)> {
    let (seconds, rest) = line.split_first_chunk::<19>()?;
    if !fits(seconds) {
        return None;
    }
    let (ns, fraction_bytes) = fraction(rest)?;
    let (offset_s, zone_bytes) = zone(&rest[fraction_bytes..])?;
    let text_at = 19 + fraction_bytes + zone_bytes;
    if line.get(text_at) != Some(&b' ') {
        return None;
    }
    let s = epoch_s(seconds)? - offset_s;
    Some((Stamp { s, ns }, text_at + 1))
}

/// Returns whether `text` may be a stamp that was cut before the line's text.
pub(super) fn is_cut(text: &[u8]) -> bool {
    if text.len() <= SECONDS.len() {
        return fits(text);
    }
    let rest = &text[SECONDS.len()..];
    fits(&text[..SECONDS.len()])
        && rest.len() <= ".123456789+00:00".len()
        && rest.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'Z' | b'+' | b'-' | b':'))
}

fn fits(text: &[u8]) -> bool {
    text.iter().zip(SECONDS).all(|(byte, expected)| match expected {
        b'd' => byte.is_ascii_digit(),
        literal => byte == literal,
    })
}

fn digits(text: &[u8]) -> i64 {
    text.iter().fold(0, |number, byte| number * 10 + i64::from(byte - b'0'))
}

fn epoch_s(text: &[u8; 19]) -> Option<i64> {
    let (year, month, day) = (digits(&text[..4]), digits(&text[5..7]), digits(&text[8..10]));
    let (hour, minute, second) = (digits(&text[11..13]), digits(&text[14..16]), digits(&text[17..]));
    let is_valid =
        (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second <= 60;
    is_valid.then(|| days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second)
}

/// Returns days since 1970-01-01 in the proleptic Gregorian calendar, counted in years that start in March.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// Parses nanoseconds. Returns them and their length in bytes, point included.
fn fraction(text: &[u8]) -> Option<(u32, usize)> {
    if text.first() != Some(&b'.') {
        return Some((0, 0));
    }
    let count = text[1..].iter().take(10).take_while(|byte| byte.is_ascii_digit()).count();
    if !(1..=9).contains(&count) {
        return None;
    }
    let unscaled = u32::try_from(digits(&text[1..=count])).ok()?;
    let scale = 10_u32.pow(9 - u32::try_from(count).ok()?);
    Some((unscaled * scale, count + 1))
}

/// Parses a zone. Returns its seconds east of UTC and its length in bytes.
fn zone(text: &[u8]) -> Option<(i64, usize)> {
    let sign = match text.first()? {
        b'Z' => return Some((0, 1)),
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let offset = text.get(1..6)?;
    let is_valid = offset[2] == b':' && [0, 1, 3, 4].iter().all(|&at| offset[at].is_ascii_digit());
    is_valid.then(|| (sign * (digits(&offset[..2]) * 3_600 + digits(&offset[3..]) * 60), 6))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_what_kubelets_print() {
        for (text, s, ns, at) in [
            ("2026-03-01T00:00:00.123456789Z x", 1_772_323_200, 123_456_789, 31),
            ("2026-03-01T02:00:00.5+02:00 x", 1_772_323_200, 500_000_000, 28),
            ("2026-02-28T19:30:00-04:30 ", 1_772_323_200, 0, 26),
            ("1970-01-01T00:00:00Z \r", 0, 0, 21),
            ("2024-02-29T12:00:00.000000001Z  two", 1_709_208_000, 1, 31),
        ] {
            assert_eq!(split(text.as_bytes()), Some((Stamp { s, ns }, at)), "{text}");
        }
    }

    #[test]
    fn rule_9_text_is_not_a_stamp() {
        for text in [
            "unable to retrieve container logs for containerd://1234",
            "failed to create fsnotify watcher: too many open files",
            "2026-03-01T00:00:00.123456789Z",
            "2026-03-01T00:00:00.1234567890Z x",
            "2026-03-01T00:00:00.Z x",
            "2026-13-01T00:00:00Z x",
            "2026-03-01 00:00:00Z x",
            "2026-03-01T00:00:00+2:00 x",
            "",
        ] {
            assert_eq!(split(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn every_prefix_of_a_stamp_is_a_cut_stamp() {
        let stamp = b"2026-03-01T00:00:00.123456789+02:00";
        for length in 0..=stamp.len() {
            assert!(is_cut(&stamp[..length]), "{length}");
        }
        assert!(!is_cut(b"2026-03-01T00:00:00.123456789Z text"));
        assert!(!is_cut(b"unable"));
    }
}
