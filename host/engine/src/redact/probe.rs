//! Whether a text may contain a secret: a search that is cheap, because nearly every line contains none.
//!
//! Whatever writes a secret, and however often it is quoted, its letters and digits stay as they are; in base64 they are others, which
//! stay as they are, too. So a text without the longest sequence of them in each of these forms does not contain the secret.

use std::collections::BTreeSet;

use aho_corasick::packed::{MatchKind, Searcher};
use aho_corasick::{AhoCorasick, AhoCorasickKind, BuildError, packed};

use super::forms::{base64_forms, pieces, wholes};

/// More parts than this are not searched for by one vectorized search.
const MAX_PARTS: usize = 64;

/// Finds texts that may contain a secret.
#[derive(Clone, Default)]
pub(super) struct Probe(Vec<Search>);

/// A search for some of the parts.
#[derive(Clone)]
enum Search {
    /// By the vector instructions of the processor: ten times as fast as an automaton.
    Vectorized(Searcher),
    Automaton(AhoCorasick),
}

impl Probe {
    /// Returns a probe for these [`parts`] of secrets.
    ///
    /// # Errors
    /// They are together too large.
    pub(super) fn new(parts: &[String]) -> Result<Probe, BuildError> {
        let parts: BTreeSet<&String> = parts.iter().collect();
        let parts: Vec<&String> = parts.into_iter().collect();
        parts.chunks(MAX_PARTS).map(Search::new).collect::<Result<_, _>>().map(Probe)
    }

    pub(super) fn is_match(&self, text: &str) -> bool {
        self.0.iter().any(|search| search.is_match(text))
    }
}

impl Search {
    fn new(parts: &[&String]) -> Result<Search, BuildError> {
        let mut builder = packed::Config::new().match_kind(MatchKind::LeftmostFirst).builder();
        // None without such instructions, and for an empty part.
        if let Some(searcher) = builder.extend(parts).build() {
            return Ok(Search::Vectorized(searcher));
        }
        let kind = Some(AhoCorasickKind::ContiguousNFA);
        AhoCorasick::builder().kind(kind).build(parts).map(Search::Automaton)
    }

    fn is_match(&self, text: &str) -> bool {
        match self {
            Search::Vectorized(searcher) => searcher.find(text).is_some(),
            Search::Automaton(automaton) => automaton.is_match(text),
        }
    }
}

/// Returns texts of which one is in each form of a secret. One is empty, and so in every text, if the secret has no letter or digit.
pub(super) fn parts(value: &str) -> Vec<String> {
    let in_base64 = wholes(value).flat_map(|whole| base64_forms(whole.as_bytes()));
    let in_base64 = in_base64.map(|form| longest(&form, |c| c.is_ascii_alphanumeric()).to_owned());
    pieces(value).map(|piece| longest(piece, is_plain).to_owned()).chain(in_base64).collect()
}

/// Whether neither JSON nor a URL writes a character in another way.
fn is_plain(character: char) -> bool {
    character.is_ascii_alphanumeric() || "-._".contains(character)
}

/// Returns the longest part of a text that consists of such characters.
fn longest(text: &str, is_such: impl Fn(char) -> bool) -> &str {
    text.split(|c: char| !is_such(c)).max_by_key(|part| part.len()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Redactor;
    use super::super::forms::forms;
    use super::*;

    #[test]
    fn a_secret_without_letters_is_searched_in_every_text() {
        let redactor = Redactor::new([("S", "\u{e4}\u{f6}\"\u{fc}\u{df}")]).expect("small");
        assert_eq!(redactor.mask("x \u{e4}\u{f6}\"\u{fc}\u{df}".to_owned()), "x [redacted:S]");
        assert_eq!(redactor.mask("x \\u00e4\\u00f6\\u0022\\u00fc\\u00df".to_owned()), "x [redacted:S]");
    }

    #[test]
    fn each_of_many_secrets_is_found() {
        let secrets: Vec<(String, String)> =
            (0..100).map(|number| (format!("S{number}"), format!("secret-{number:03}/x"))).collect();
        let redactor = Redactor::new(secrets.iter().cloned()).expect("small");
        for (name, value) in secrets {
            assert_eq!(redactor.mask(format!("a {value} b")), format!("a [redacted:{name}] b"));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_form_of_a_secret_escapes_the_probe(value in "[a-z+/\"\\\\ \n\u{e9}<.-]{8,20}") {
            let probe = Probe::new(&parts(&value)).expect("small");
            for form in forms(&value) {
                prop_assert!(probe.is_match(&form), "{form}");
            }
        }
    }
}
