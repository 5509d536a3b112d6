//! The forms in which a line may contain a secret.

use std::collections::BTreeSet;

use super::MIN_SECRET_BYTES;

/// Returns all forms in which a line may contain a value.
pub(super) fn forms(value: &str) -> BTreeSet<String> {
    let pieces = [value, value.trim()].into_iter().chain(value.lines().map(str::trim));
    let mut forms = BTreeSet::new();
    for piece in pieces.filter(|piece| piece.len() >= MIN_SECRET_BYTES) {
        forms.insert(piece.to_owned());
        for encoder in Encoder::all() {
            let encoded = encoder.encode(piece);
            forms.insert(Encoder::default().encode(&encoded));
            forms.insert(encoded);
        }
    }
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
