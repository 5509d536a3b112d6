//! Masks secrets in everything that leaves the engine: journal, plugin and sink receive `[redacted:NAME]` instead.
//!
//! A secret is found as it is and as JSON encoders write it, in a document of its own or quoted within others, up to six levels deep. Each
//! line of a multi-line secret is found too, because a log has it line by line.
//!
//! Masking does not change what an event of the agent is: see `events.rs`.

mod events;
mod forms;
mod nested;
mod probe;

use std::cmp::Reverse;
use std::ops::Range;

use aho_corasick::{AhoCorasick, AhoCorasickKind, BuildError, MatchKind};

use events::Members;
use forms::{forms, pieces};
use nested::Nested;
use probe::Probe;

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
    probe: Probe,
    finder: Option<AhoCorasick>,
    /// The forms that the finder searches for, with their names.
    forms: Vec<(String, usize)>,
    names: Vec<String>,
    nested: Nested,
    members: Members,
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
        let (mut plain, mut parts) = (Vec::new(), Vec::new());
        for (name, value) in secrets {
            parts.extend(probe::parts(value.as_ref()));
            let name_at = redactor.names.len();
            for form in forms(value.as_ref()) {
                if pieces(value.as_ref()).any(|piece| piece == form) {
                    plain.push(redactor.forms.len());
                }
                redactor.forms.push((form, name_at));
            }
            redactor.names.push(name.into());
        }
        redactor.probe = Probe::new(&parts)?;
        redactor.nested = Nested::new(plain.into_iter().map(|at| (redactor.forms[at].0.as_str(), at)))?;
        if !redactor.forms.is_empty() {
            // Few texts reach it: its size matters, which a run has all the time, more than its speed.
            let finder = AhoCorasick::builder()
                .kind(Some(AhoCorasickKind::ContiguousNFA))
                .match_kind(MatchKind::LeftmostLongest)
                .build(redactor.forms.iter().map(|(form, _)| form))?;
            redactor.finder = Some(finder);
        }
        Ok(redactor)
    }

    /// Returns a redactor that leaves these members of the agent's events as they are: paths such as `type` and `message.model`
    /// (`protocol-members` of the plugin's descriptor).
    #[must_use]
    pub fn with_protocol(self, members: &[String]) -> Self {
        Redactor { members: Members::new(members), ..self }
    }

    /// Returns the text without secrets. It is not copied if it has none.
    pub fn mask(&self, text: String) -> String {
        if !self.probe.is_match(&text) {
            return text;
        }
        let spans = self.find(&text, 0..text.len());
        self.replace(text, &spans)
    }

    /// Returns a line of the agent without secrets. Of its events only the values of strings are masked, and no members of the protocol.
    ///
    /// ```
    /// use paperclip_engine::redact::Redactor;
    ///
    /// let redactor = Redactor::new([("S", "is_error")])?.with_protocol(&["type".to_owned()]);
    /// assert_eq!(
    ///     redactor.mask_line(r#"{"type":"result","is_error":true,"result":"is_error"}"#.to_owned()),
    ///     r#"{"type":"result","is_error":true,"result":"[redacted:S]"}"#
    /// );
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn mask_line(&self, text: String) -> String {
        if self.members.is_empty() {
            return self.mask(text);
        }
        if !self.probe.is_match(&text) || self.find(&text, 0..text.len()).is_empty() {
            return text;
        }
        let spans = self.find_in_parts(&text, &self.parts(&text, false).ranges);
        self.replace(text, &spans)
    }

    /// Returns start and end of a line whose middle is missing, without secrets as [`mask_line`](Self::mask_line), and with less than
    /// [`MIN_SECRET_BYTES`] of a secret that the cut divides.
    pub fn mask_cut(&self, head: String, tail: String) -> (String, String) {
        if self.finder.is_none() {
            return (head, tail);
        }
        let parts_of_head = self.parts(&head, true);
        let parts_of_tail = if parts_of_head.is_open {
            events::parts_of_tail(&tail, &self.members)
        } else {
            self.parts(&tail, false).ranges
        };
        let mut in_head = self.find_in_parts(&head, &parts_of_head.ranges);
        let mut in_tail = self.find_in_parts(&tail, &parts_of_tail);
        let may_mask_cut = parts_of_head.ranges.last().is_some_and(|part| part.end == head.len());
        let edge = self.longest(|form| suffix_bytes(head.as_bytes(), form)).filter(|_| may_mask_cut);
        if let Some((bytes, form)) = edge {
            let mut edge = Span { from: head.len() - bytes, to: head.len(), form };
            while let Some(last) = in_head.pop_if(|span| span.to > edge.from) {
                edge.from = edge.from.min(last.from);
            }
            in_head.push(edge);
        }
        let may_mask_cut = parts_of_tail.first().is_some_and(|part| part.start == 0);
        let edge = self.longest(|form| prefix_bytes(tail.as_bytes(), form)).filter(|_| may_mask_cut);
        if let Some((bytes, form)) = edge {
            let overlapping = in_tail.iter().take_while(|span| span.from < bytes).count();
            let to = in_tail.drain(..overlapping).map(|span| span.to).fold(bytes, usize::max);
            in_tail.insert(0, Span { from: 0, to, form });
        }
        (self.replace(head, &in_head), self.replace(tail, &in_tail))
    }

    /// Returns the parts of a line that may be masked.
    fn parts(&self, text: &str, is_cut: bool) -> events::Parts {
        if self.members.is_empty() {
            let all = std::iter::once(0..text.len()).collect();
            return events::Parts { ranges: all, is_open: false };
        }
        let spans = self.find(text, 0..text.len());
        let is_secret = |at| spans.iter().any(|span| span.from <= at && at < span.to);
        events::parts(text, &self.members, is_cut, is_secret)
    }

    fn find_in_parts(&self, text: &str, parts: &[Range<usize>]) -> Vec<Span> {
        parts.iter().flat_map(|part| self.find(text, part.clone())).collect()
    }

    /// Finds the secrets in a part of a text.
    fn find(&self, text: &str, part: Range<usize>) -> Vec<Span> {
        let (from, text) = (part.start, &text[part]);
        let found = self.finder.iter().flat_map(|finder| finder.find_iter(text));
        let spans = found.map(|found| Span {
            from: from + found.start(),
            to: from + found.end(),
            form: found.pattern().as_usize(),
        });
        let nested = self.nested.find(text);
        if nested.is_empty() {
            return spans.collect();
        }
        let nested = nested.into_iter().map(|found| Span {
            from: from + found.range.start,
            to: from + found.range.end,
            form: found.form,
        });
        merged(spans.chain(nested).collect())
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

/// Returns spans in order, those that overlap as one with the name of the first.
fn merged(mut spans: Vec<Span>) -> Vec<Span> {
    spans.sort_by_key(|span| (span.from, Reverse(span.to)));
    let mut merged: Vec<Span> = Vec::with_capacity(spans.len());
    for span in spans {
        match merged.last_mut().filter(|last| span.from < last.to) {
            Some(last) => last.to = last.to.max(span.to),
            None => merged.push(span),
        }
    }
    merged
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
