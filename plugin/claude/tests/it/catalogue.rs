//! Compares `docs/errors.md` with the error codes and the rows of the judgement.

use std::collections::BTreeSet;

use paperclip_kit::outcome::ErrorCode;

use crate::judgement::story::CODES;

const CATALOGUE: &str = include_str!("../../../../docs/errors.md");

/// The codes that have a heading of their own, in terms of this agent type.
fn headings() -> Vec<String> {
    let headings = CATALOGUE.lines().filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`'));
    let of_this = headings.filter(|code| !code.starts_with("opencode_"));
    of_this.map(|code| code.replace("<agent>", "claude")).collect()
}

/// Every code that this agent type may return.
fn codes() -> Vec<ErrorCode> {
    ErrorCode::SHARED.iter().copied().chain(CODES.all()).collect()
}

#[test]
fn every_code_is_explained_once() {
    let explained: BTreeSet<_> = headings().into_iter().collect();
    assert_eq!(explained.len(), headings().len(), "a code has two headings");
    let known: BTreeSet<_> = codes().into_iter().map(|code| code.to_string()).collect();
    assert_eq!(explained, known);
}

#[test]
fn the_codes_are_explained_in_their_order() {
    for codes in [ErrorCode::SHARED, &CODES.all()] {
        let known: Vec<_> = codes.iter().map(ToString::to_string).collect();
        let explained: Vec<_> = headings().into_iter().filter(|code| known.contains(code)).collect();
        assert_eq!(explained, known);
    }
}

#[test]
fn every_explanation_says_what_to_do() {
    for section in CATALOGUE.split("\n### `").skip(1) {
        let code = section.split('`').next().unwrap_or_default();
        assert!(section.contains("**Means.**") && section.contains("**Do.**"), "{code}");
    }
}

#[test]
fn every_family_is_named_with_its_codes() {
    for code in codes() {
        let heading = format!("{}`", code.as_str().replace("claude_", "<agent>_"));
        let section = CATALOGUE.split("\n### `").find(|section| section.starts_with(&heading)).unwrap();
        let is_named = section.contains("Family ");
        assert_eq!(is_named, code.family().is_some(), "{code}");
        if let Some(family) = code.family() {
            assert!(section.contains(&format!("Family `{}`", family.as_str())), "{code}");
        }
    }
}
