//! The forms in which a line may contain a secret.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

use super::MIN_SECRET_BYTES;

/// Returns all forms in which a line may contain a value.
pub(super) fn forms(value: &str) -> BTreeSet<String> {
    let mut forms = BTreeSet::new();
    for whole in wholes(value) {
        forms.extend(base64_forms(whole.as_bytes()));
        forms.extend(url_forms(whole));
    }
    for piece in pieces(value) {
        forms.insert(piece.to_owned());
        for encoder in Encoder::all() {
            let encoded = encoder.encode(piece);
            forms.insert(Encoder::default().encode(&encoded));
            forms.insert(encoded);
        }
    }
    forms
}

/// Returns the value with and without the spaces around it, if they are long enough to be masked.
pub(super) fn wholes(value: &str) -> impl Iterator<Item = &str> {
    [value, value.trim()].into_iter().filter(|whole| whole.len() >= MIN_SECRET_BYTES)
}

/// Returns the value and its lines, as far as they are long enough to be masked. A piece may occur several times.
pub(super) fn pieces(value: &str) -> impl Iterator<Item = &str> {
    let pieces = [value, value.trim()].into_iter().chain(value.lines().map(str::trim));
    pieces.filter(|piece| piece.len() >= MIN_SECRET_BYTES)
}

/// Returns the texts by which base64 shows a value, wherever in the encoded bytes it starts: without the characters at its edges, which also
/// depend on what is beside it. With the alphabets of MIME and of URLs.
pub(super) fn base64_forms(value: &[u8]) -> Vec<String> {
    let mut forms = Vec::new();
    for before in 0..3 {
        // What is before the value fills a group of three bytes; the group in which both are depends on both.
        let bytes: Vec<u8> = std::iter::repeat_n(0, before).chain(value.iter().copied()).collect();
        let from = if before == 0 { 0 } else { before + 1 };
        let to = bytes.len() * 8 / 6;
        for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
            let encoded = engine.encode(&bytes);
            forms.extend(
                encoded.get(from..to).filter(|form| form.len() >= MIN_SECRET_BYTES).map(str::to_owned),
            );
        }
    }
    forms
}

/// Returns a value as URLs and forms contain it, if that differs from it.
fn url_forms(value: &str) -> Vec<String> {
    let encode = |is_plain: fn(u8) -> bool, digits: &str, space: &str| -> String {
        let mut encoded = String::with_capacity(value.len());
        for byte in value.bytes() {
            match byte {
                b' ' => encoded.push_str(space),
                byte if is_plain(byte) => encoded.push(char::from(byte)),
                byte => {
                    encoded.push('%');
                    encoded.extend(
                        [byte >> 4, byte & 15].map(|digit| char::from(digits.as_bytes()[usize::from(digit)])),
                    );
                }
            }
        }
        encoded
    };
    // As RFC 3986 says, as `encodeURIComponent` does it, and as forms do it.
    let strict = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let component = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!'()*".contains(&byte);
    let form = |byte: u8| byte.is_ascii_alphanumeric() || b"-._*".contains(&byte);
    let digits = ["0123456789ABCDEF", "0123456789abcdef"];
    let mut forms = Vec::new();
    for digits in digits {
        forms.push(encode(strict, digits, "%20"));
        forms.push(encode(component, digits, "%20"));
        forms.push(encode(form, digits, "+"));
    }
    forms.retain(|form| form != value);
    forms
}

/// How JSON encoders differ inside strings. The default is what most do, among them serde_json and `JSON.stringify`.
#[derive(Debug, Clone, Copy, Default)]
struct Encoder {
    /// `/` as `\/`, such as PHP.
    escapes_slashes: bool,
    /// `<`, `>`, `&` and the Unicode line separators by number, such as Go.
    escapes_html: bool,
    /// Everything that is not ASCII by number, such as Python.
    escapes_unicode: bool,
    /// Control characters by number even where they have a letter.
    escapes_by_number: bool,
    has_upper_digits: bool,
}

impl Encoder {
    fn all() -> impl Iterator<Item = Self> {
        (0_u8..32).map(|bits| Self {
            escapes_slashes: bits & 1 != 0,
            escapes_html: bits & 2 != 0,
            escapes_unicode: bits & 4 != 0,
            escapes_by_number: bits & 8 != 0,
            has_upper_digits: bits & 16 != 0,
        })
    }

    fn encode(self, text: &str) -> String {
        let mut encoded = String::with_capacity(text.len());
        for character in text.chars() {
            match character {
                '"' | '\\' => encoded.extend(['\\', character]),
                '/' if self.escapes_slashes => encoded.push_str("\\/"),
                '\u{8}' if !self.escapes_by_number => encoded.push_str("\\b"),
                '\u{c}' if !self.escapes_by_number => encoded.push_str("\\f"),
                '\n' if !self.escapes_by_number => encoded.push_str("\\n"),
                '\r' if !self.escapes_by_number => encoded.push_str("\\r"),
                '\t' if !self.escapes_by_number => encoded.push_str("\\t"),
                '\0'..='\u{1f}' => self.number(character, &mut encoded),
                '<' | '>' | '&' | '\u{2028}' | '\u{2029}' if self.escapes_html => {
                    self.number(character, &mut encoded);
                }
                _ if self.escapes_unicode && !character.is_ascii() => self.number(character, &mut encoded),
                _ => encoded.push(character),
            }
        }
        encoded
    }

    fn number(self, character: char, encoded: &mut String) {
        for unit in character.encode_utf16(&mut [0; 2]) {
            let escape =
                if self.has_upper_digits { format!("\\u{unit:04X}") } else { format!("\\u{unit:04x}") };
            encoded.push_str(&escape);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Redactor;
    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_secret_in_base64_is_masked_wherever_it_starts(
            secret in "[ -~]{12,40}", before in "[ -~]{0,7}", after in "[ -~]{0,7}", is_for_urls: bool,
        ) {
            let redactor = Redactor::new([("S", &secret)]).expect("small");
            let engine = if is_for_urls { URL_SAFE_NO_PAD } else { STANDARD_NO_PAD };
            let masked = redactor.mask(engine.encode(format!("{before}{secret}{after}")));
            prop_assert!(masked.contains("[redacted:S]"), "{masked}");
            let left: usize = masked.replace("[redacted:S]", "").len();
            // At most the two groups at the edges are shown, of which two characters depend on the secret.
            prop_assert!(left <= (before.len() + after.len()) * 4 / 3 + 8, "{masked}");
        }
    }

    #[test]
    fn a_secret_in_a_url_is_masked() {
        let redactor = Redactor::new([("S", "p/a ss+w%rd=\u{e9}!")]).expect("small");
        for text in [
            "p%2Fa%20ss%2Bw%25rd%3D%C3%A9%21",
            "p%2fa%20ss%2bw%25rd%3d%c3%a9%21",
            "p%2Fa%20ss%2Bw%25rd%3D%C3%A9!",
            "p%2Fa+ss%2Bw%25rd%3D%C3%A9%21",
        ] {
            assert_eq!(redactor.mask(format!("https://u:{text}@host/")), "https://u:[redacted:S]@host/");
        }
    }
}
