//! Secrets in documents that are quoted within other documents.
//!
//! An agent's event has the output of a tool as a string. If that output is JSON, the strings in it are escaped twice, and those of a
//! document within it three times, each time as the program likes that wrote it. The forms of `forms.rs` are those of one program, and
//! of two that escape alike. Here the escapes of a text are removed, one level after another, and each level is searched.

use std::ops::Range;

use aho_corasick::{AhoCorasick, AhoCorasickKind, BuildError, MatchKind};

/// Escapes are removed this many times at most.
const MAX_LEVELS: usize = 6;

/// Finds the secrets that an encoder may escape. A value that is the same however often it is quoted is not searched for.
#[derive(Clone, Default)]
pub(super) struct Nested {
    finder: Option<AhoCorasick>,
    /// The place of each pattern in the redactor's forms.
    forms: Vec<usize>,
}

/// A secret in a text, as bytes of the text, and the form of it that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) range: Range<usize>,
    pub(super) form: usize,
}

impl Nested {
    /// Returns a finder of those values that some JSON encoder escapes, each with the place of its form.
    ///
    /// # Errors
    /// The values are together too large.
    pub(super) fn new<'a>(values: impl IntoIterator<Item = (&'a str, usize)>) -> Result<Nested, BuildError> {
        let (values, forms): (Vec<&str>, Vec<usize>) =
            values.into_iter().filter(|(value, _)| value.chars().any(may_be_escaped)).unzip();
        if values.is_empty() {
            return Ok(Nested::default());
        }
        let finder = AhoCorasick::builder()
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .match_kind(MatchKind::LeftmostLongest)
            .build(values)?;
        Ok(Nested { finder: Some(finder), forms })
    }

    /// Returns the secrets in the text behind escapes: in no order, and those of different levels may overlap.
    pub(super) fn find(&self, text: &str) -> Vec<Found> {
        let Some(finder) = self.finder.as_ref().filter(|_| text.contains('\\')) else { return Vec::new() };
        let mut found = Vec::new();
        let mut level = Unescaped::of(text);
        for _ in 0..MAX_LEVELS {
            let Some(next) = level.unescape() else { break };
            level = next;
            found.extend(finder.find_iter(&level.text).map(|secret| Found {
                range: level.original(secret.start())..level.original(secret.end()),
                form: self.forms[secret.pattern().as_usize()],
            }));
        }
        found
    }
}

/// Whether a JSON encoder writes a character in another way than as itself.
fn may_be_escaped(character: char) -> bool {
    !character.is_ascii() || character.is_ascii_control() || "\"\\/<>&'+`=".contains(character)
}

/// A text whose escapes were removed.
struct Unescaped {
    text: String,
    /// Where parts of the text start, and where they start in the original text; in order. Within a part both advance alike, except that
    /// a part that was an escape has one character only.
    parts: Vec<(usize, usize)>,
}

impl Unescaped {
    fn of(text: &str) -> Unescaped {
        Unescaped { text: text.to_owned(), parts: vec![(0, 0)] }
    }

    /// Returns where a character, or the end of the text, is in the original text.
    fn original(&self, at: usize) -> usize {
        let part = self.parts.partition_point(|(start, _)| *start <= at).saturating_sub(1);
        let (start, original) = self.parts[part];
        original + (at - start)
    }

    /// Removes one level of escapes; `None` if there are none.
    fn unescape(&self) -> Option<Unescaped> {
        let mut next = Unescaped { text: String::with_capacity(self.text.len()), parts: Vec::new() };
        let (mut from, mut at) = (0, 0);
        while let Some(found) = self.text[at..].find('\\') {
            let start = at + found;
            let Some((character, bytes)) = escape(&self.text[start..]) else {
                at = start + 1;
                continue;
            };
            self.copy(from..start, &mut next);
            next.parts.push((next.text.len(), self.original(start)));
            next.text.push(character);
            (from, at) = (start + bytes, start + bytes);
        }
        if from == 0 {
            return None;
        }
        self.copy(from..self.text.len(), &mut next);
        next.parts.push((next.text.len(), self.original(self.text.len())));
        Some(next)
    }

    /// Copies a piece without escapes, with the parts that start in it.
    fn copy(&self, piece: Range<usize>, to: &mut Unescaped) {
        if piece.is_empty() {
            return;
        }
        let at = to.text.len();
        to.parts.push((at, self.original(piece.start)));
        let from = self.parts.partition_point(|(start, _)| *start <= piece.start);
        let inside = self.parts[from..].iter().take_while(|(start, _)| *start < piece.end);
        to.parts.extend(inside.map(|(start, original)| (at + start - piece.start, *original)));
        to.text.push_str(&self.text[piece]);
    }
}

/// Returns the character of the escape that a text starts with, and the length of the escape.
fn escape(text: &str) -> Option<(char, usize)> {
    let character = match text.as_bytes().get(1)? {
        byte @ (b'"' | b'\\' | b'/') => char::from(*byte),
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => return unicode_escape(text),
        _ => return None,
    };
    Some((character, 2))
}

fn unicode_escape(text: &str) -> Option<(char, usize)> {
    let first = unit(text)?;
    let pair = || Some([first, text.get(6..).and_then(unit)?]);
    let units = if (0xd800..0xdc00).contains(&first) { pair()?.to_vec() } else { vec![first] };
    let character = char::decode_utf16(units.iter().copied()).next()?.ok()?;
    Some((character, 6 * units.len()))
}

/// Reads `\u` and four digits.
fn unit(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    u16::from_str_radix(digits, 16).ok().filter(|_| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::Redactor;
    use super::*;

    /// As Go writes a string, with the characters of HTML by number.
    fn go(text: &str) -> String {
        json!(text).to_string().replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
    }

    /// As .NET writes a string: also quotation marks by number.
    fn dot_net(text: &str) -> String {
        let escape = |character: char| match character {
            '"' | '\'' | '<' | '>' | '&' | '+' | '`' => format!("\\u{:04X}", u32::from(character)),
            '\\' => "\\\\".to_owned(),
            '\n' => "\\n".to_owned(),
            character if !character.is_ascii() => {
                character.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04X}")).collect()
            }
            character => character.to_string(),
        };
        format!("\"{}\"", text.chars().map(escape).collect::<String>())
    }

    fn plain(text: &str) -> String {
        json!(text).to_string()
    }

    const ENCODERS: [fn(&str) -> String; 3] = [plain, go, dot_net];

    #[test]
    fn a_secret_is_masked_however_deep_and_by_whichever_programs_it_is_quoted() {
        let redactor = Redactor::new([("S", "p\"w\\x<1>\n\u{e9}+\u{1f600}'z")]).expect("small");
        for first in ENCODERS {
            for second in ENCODERS {
                for third in ENCODERS {
                    let line = third(&second(&first("a p\"w\\x<1>\n\u{e9}+\u{1f600}'z b")));
                    let masked = redactor.mask(line.clone());
                    assert!(masked.contains("a [redacted:S] b"), "{line}: {masked}");
                }
            }
        }
    }

    #[test]
    fn an_event_stays_an_event_when_a_document_in_one_of_its_strings_is_masked() {
        let secret = "type\":\"x\",\"k";
        let redactor = Redactor::new([("S", secret)]).expect("small").with_protocol(&["type".to_owned()]);
        let inner = json!({"log": json!({"value": secret}).to_string()}).to_string();
        let event = json!({"type": "tool_result", "output": inner, "id": 3}).to_string();
        let masked = redactor.mask_line(event);
        let read: serde_json::Value = serde_json::from_str(&masked).expect("an event");
        assert_eq!((&read["type"], &read["id"]), (&json!("tool_result"), &json!(3)));
        let document: serde_json::Value =
            serde_json::from_str(read["output"].as_str().expect("a text")).expect("a document");
        assert_eq!(document["log"], r#"{"value":"[redacted:S]"}"#);
    }

    #[test]
    fn a_value_that_no_encoder_escapes_is_not_searched_behind_escapes() {
        let nested = Nested::new([("sk-ant-0123456789_.~", 0)]).expect("small");
        assert!(nested.finder.is_none());
    }

    #[test]
    fn what_only_looks_like_an_escape_is_left() {
        for text in [r"\", r"\x", r"\u12", r"\ud800", r"\ud800\u0041", r"\u+123", "\\u12\u{e9}4"] {
            assert_eq!(escape(text), None, "{text}");
        }
        assert_eq!(escape(r"\ud83d\ude00x"), Some(('\u{1f600}', 12)));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn only_the_secret_is_replaced(
            before in "[a-z\"\\\\\n/é]{0,12}", after in "[a-z\"\\\\\n/é]{0,12}", levels in 1_usize..6, by in 0_usize..3,
        ) {
            let redactor = Redactor::new([("S", "S3CR\"E\\T/É")]).expect("small");
            let quote = |text: String| (0..levels).fold(text, |text, _| {
                let quoted = ENCODERS[by](&text);
                quoted[1..quoted.len() - 1].to_owned()
            });
            let masked = redactor.mask(quote(format!("{before}S3CR\"E\\T/É{after}")));
            prop_assert_eq!(masked, format!("{}[redacted:S]{}", quote(before), quote(after)));
        }

        #[test]
        fn no_text_is_misread(text in "[\\\\u0-9a-f\"n\u{e9}\u{1f600}]{0,60}") {
            let redactor = Redactor::new([("S", "a\"b\\cdefgh")]).expect("small");
            prop_assert_eq!(redactor.mask(text.clone()), text);
        }
    }
}
