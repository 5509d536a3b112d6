//! Compares `docs/errors.md` with the error codes and the rows of the judgement.

use std::collections::BTreeSet;

use paperclip_kit::outcome::ErrorCode;

const CATALOGUE: &str = include_str!("../../../../docs/errors.md");

/// The codes that have a heading of their own.
fn headings() -> Vec<&'static str> {
    CATALOGUE.lines().filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`')).collect()
}

#[test]
fn every_code_is_explained_once() {
    let explained: BTreeSet<_> = headings().into_iter().collect();
    assert_eq!(explained.len(), headings().len(), "a code has two headings");
    let known: BTreeSet<_> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(explained, known);
}

#[test]
fn the_codes_are_explained_in_their_order() {
    let known: Vec<_> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(headings(), known);
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
    for code in ErrorCode::ALL {
        let section =
            CATALOGUE.split("\n### `").find(|section| section.starts_with(&format!("{code}`"))).unwrap();
        let is_named = section.contains("Family ");
        assert_eq!(is_named, code.family().is_some(), "{code}");
        if let Some(family) = code.family() {
            assert!(section.contains(&format!("Family `{}`", family.as_str())), "{code}");
        }
    }
}
