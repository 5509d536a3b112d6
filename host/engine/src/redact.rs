//! Masks secrets in everything that leaves the engine: journal, plugin and sink receive `[redacted:NAME]` instead.
//!
//! A secret is found as it is and as a JSON encoder writes it, in a document of its own or quoted within another one. Each line of a
//! multi-line secret is found too, because a log has it line by line.

use std::collections::BTreeSet;

use aho_corasick::{AhoCorasick, BuildError, MatchKind};

/// Shorter values, in bytes, are not masked: they would be found everywhere.
pub const MIN_SECRET_BYTES: usize = 8;

/// Finds secrets in text. Its `Debug` output contains their names only.
///
/// ```
/// use paperclip_engine::redact::Redactor;
///
/// let redactor = Redactor::new([("API_KEY", "sk-0123456789")])?;
/// assert_eq!(redactor.mask("key: sk-0123456789".to_owned()), "key: [redacted:API_KEY]");
/// // A line whose middle is missing: the part of a secret at the cut is masked, too.
/// let (head, tail) = redactor.mask_cut("key: sk-01234".to_owned(), "ok".to_owned());
/// assert_eq!((head.as_str(), tail.as_str()), ("key: [redacted:API_KEY]", "ok"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default)]
pub struct Redactor {
    finder: Option<AhoCorasick>,
    /// The forms that the finder searches for, with their names.
    forms: Vec<(String, usize)>,
    names: Vec<String>,
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redactor").field("names", &self.names).finish_non_exhaustive()
    }
}

impl Redactor {
    /// Returns a redactor of these names and values.
    ///
    /// # Errors
    /// The values are together larger than a search automaton can be, which is about 2 GiB.
    pub fn new<N, V>(secrets: impl IntoIterator<Item = (N, V)>) -> Result<Self, BuildError>
    where
        N: Into<String>,
        V: AsRef<str>,
    {
        let mut redactor = Self::default();
        for (name, value) in secrets {
            let forms = forms(value.as_ref());
            let name_at = redactor.names.len();
            redactor.forms.extend(forms.into_iter().map(|form| (form, name_at)));
            redactor.names.push(name.into());
        }
        if !redactor.forms.is_empty() {
            let finder = AhoCorasick::builder()
                .match_kind(MatchKind::LeftmostLongest)
                .build(redactor.forms.iter().map(|(form, _)| form))?;
            redactor.finder = Some(finder);
        }
        Ok(redactor)
    }

    /// Returns the text without secrets. It is not copied if it has none.
    pub fn mask(&self, text: String) -> String {
        let spans = self.find(&text);
        self.replace(text, &spans)
    }

    /// Returns start and end of a text whose middle is missing, without secrets, and with less than [`MIN_SECRET_BYTES`] of a secret that
    /// the cut divides.
    pub fn mask_cut(&self, head: String, tail: String) -> (String, String) {
        let (mut in_head, mut in_tail) = (self.find(&head), self.find(&tail));
        if let Some((bytes, form)) = self.longest(|form| suffix_bytes(head.as_bytes(), form)) {
            let mut edge = Span { from: head.len() - bytes, to: head.len(), form };
            while let Some(last) = in_head.pop_if(|span| span.to > edge.from) {
                edge.from = edge.from.min(last.from);
            }
            in_head.push(edge);
        }
        if let Some((bytes, form)) = self.longest(|form| prefix_bytes(tail.as_bytes(), form)) {
            let overlapping = in_tail.iter().take_while(|span| span.from < bytes).count();
            let to = in_tail.drain(..overlapping).map(|span| span.to).fold(bytes, usize::max);
            in_tail.insert(0, Span { from: 0, to, form });
        }
        (self.replace(head, &in_head), self.replace(tail, &in_tail))
    }

    fn find(&self, text: &str) -> Vec<Span> {
        let found = self.finder.iter().flat_map(|finder| finder.find_iter(text));
        found
            .map(|found| Span { from: found.start(), to: found.end(), form: found.pattern().as_usize() })
            .collect()
    }

    /// Replaces the spans, which are in order and do not overlap, by their names.
    fn replace(&self, text: String, spans: &[Span]) -> String {
        if spans.is_empty() {
            return text;
        }
        let mut masked = String::with_capacity(text.len());
        let mut from = 0;
        for span in spans {
            masked.push_str(&text[from..span.from]);
            masked.push_str("[redacted:");
            masked.push_str(&self.names[self.forms[span.form].1]);
            masked.push(']');
            from = span.to;
        }
        masked.push_str(&text[from..]);
        masked
    }

    /// Returns the form with the most bytes at an edge: how many, and which form.
    fn longest(&self, at_edge: impl Fn(&[u8]) -> Option<usize>) -> Option<(usize, usize)> {
        let forms = self.forms.iter().enumerate();
        forms.filter_map(|(at, (form, _))| Some((at_edge(form.as_bytes())?, at))).max()
    }
}

/// A part of a text that contains a form of a secret.
struct Span {
    from: usize,
    to: usize,
    form: usize,
}

/// Returns the length of the suffix of `text` that is the start of a form.
fn suffix_bytes(text: &[u8], form: &[u8]) -> Option<usize> {
    let longest = form.len().min(text.len());
    within(text, form)
        .or_else(|| (MIN_SECRET_BYTES..=longest).rev().find(|bytes| text.ends_with(&form[..*bytes])))
}

/// Returns the length of the prefix of `text` that is the end of a form.
fn prefix_bytes(text: &[u8], form: &[u8]) -> Option<usize> {
    let longest = form.len().min(text.len());
    within(text, form).or_else(|| {
        (MIN_SECRET_BYTES..=longest).rev().find(|bytes| text.starts_with(&form[form.len() - *bytes..]))
    })
}

/// Returns the length of the text if it is only a part of a form.
fn within(text: &[u8], form: &[u8]) -> Option<usize> {
    let may_be = (MIN_SECRET_BYTES..=form.len()).contains(&text.len());
    (may_be && form.windows(text.len()).any(|piece| piece == text)).then_some(text.len())
}

/// Returns all forms in which a line may contain a value.
fn forms(value: &str) -> BTreeSet<String> {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn redactor(secrets: &[(&str, &str)]) -> Redactor {
        Redactor::new(secrets.iter().copied()).unwrap()
    }

    #[test]
    fn masks_by_name_and_leaves_the_rest() {
        let redactor =
            redactor(&[("authToken", "sk-12345678"), ("LONGER", "sk-123456789abc"), ("PIN", "1234567")]);
        for (text, masked) in [
            ("nothing here", "nothing here"),
            ("sk-12345678", "[redacted:authToken]"),
            ("a sk-123456789abc, sk-12345678.", "a [redacted:LONGER], [redacted:authToken]."),
            ("pin 1234567", "pin 1234567"),
            ("", ""),
        ] {
            assert_eq!(redactor.mask(text.to_owned()), masked);
        }
    }

    #[test]
    fn does_not_copy_a_text_without_secrets() {
        let text = "no secret in here".to_owned();
        let at = text.as_ptr();
        let masked = redactor(&[("TOKEN", "0123456789")]).mask(text);
        assert_eq!(masked.as_ptr(), at);
        assert_eq!(Redactor::default().mask(String::new()), "");
    }

    #[test]
    fn masks_what_json_encoders_make_of_a_secret() {
        let redactor = redactor(&[("S", "p\u{e4}ss/\"w\\\t<x>\u{1}\u{1f600}")]);
        for text in [
            r#"päss/\"w\\\t<x>\u0001😀"#,
            r#"p\u00e4ss/\"w\\\t<x>\u0001\ud83d\ude00"#,
            r#"p\u00e4ss\/\"w\\\t<x>\u0001\ud83d\ude00"#,
            r#"p\u00E4ss\/\"w\\\u0009\u003Cx\u003E\u0001\uD83D\uDE00"#,
            r#"päss/\"w\\\t\u003cx\u003e\u0001😀"#,
            r#"päss/\\\"w\\\\\\t<x>\\u0001😀"#,
        ] {
            assert_eq!(redactor.mask(format!("<{text}>")), "<[redacted:S]>", "{text}");
        }
    }

    #[test]
    fn masks_each_line_of_a_secret_of_several_lines() {
        let redactor = redactor(&[("KEY", "-----BEGIN KEY-----\nMIIEvgIBADAN\nend\n")]);
        assert_eq!(redactor.mask("MIIEvgIBADAN".to_owned()), "[redacted:KEY]");
        assert_eq!(
            redactor.mask(r#"{"k":"-----BEGIN KEY-----\nMIIEvgIBADAN\nend\n"}"#.to_owned()),
            r#"{"k":"[redacted:KEY]"}"#
        );
    }

    #[test]
    fn debug_shows_names_only() {
        let shown = format!("{:?}", redactor(&[("TOKEN", "0123456789")]));
        assert!(shown.contains("TOKEN") && !shown.contains("0123"), "{shown}");
    }

    #[test]
    fn a_cut_line_shows_at_most_seven_bytes_of_a_secret_at_its_edges() {
        let secret = "0123456789abcdefghij";
        let redactor = redactor(&[("TOKEN", secret)]);
        for cut in 0..=secret.len() {
            let (head, tail) =
                redactor.mask_cut(format!("head {}", &secret[..cut]), format!("{} tail", &secret[cut..]));
            assert_eq!(head.contains("[redacted:TOKEN]"), cut >= 8, "{head}");
            assert_eq!(tail.contains("[redacted:TOKEN]"), secret.len() - cut >= 8, "{tail}");
        }
        let masked = redactor.mask_cut(secret[3..15].to_owned(), secret[5..18].to_owned());
        assert_eq!(masked, ("[redacted:TOKEN]".to_owned(), "[redacted:TOKEN]".to_owned()));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_eight_bytes_of_a_secret_are_left_at_a_cut(
            secret in "[ab\"é]{8,16}", before in "[ab]{0,12}", after in "[ab]{0,12}", cut in 0_usize..60,
        ) {
            let redactor = redactor(&[("X", &secret)]);
            let line = format!("{before}{secret}{after}");
            let cut = (0..=cut.min(line.len())).rev().find(|at| line.is_char_boundary(*at)).unwrap_or(0);
            let (head, tail) = redactor.mask_cut(line[..cut].to_owned(), line[cut..].to_owned());
            prop_assert!(!redactor.mask(line.clone()).contains(&secret));
            let is_left_in_tail = |text: &str| {
                (0..secret.len()).any(|at| secret.get(at..).is_some_and(|rest| {
                    rest.len() >= 8 && (text.starts_with(rest) || text.contains(&secret))
                }))
            };
            prop_assert!(!is_left_in_tail(&tail), "{tail}");
            let is_left_in_head = (8..=secret.len()).any(|at| secret.get(..at).is_some_and(|part| head.ends_with(part)));
            prop_assert!(!is_left_in_head, "{head}");
        }
    }
}
