//! Environment variables of containers: `$(NAME)` expansion and the kernel's limit.
//!
//! The expansion follows `k8s.io/kubernetes/third_party/forked/golang/expansion`, which the kubelet applies to commands,
//! arguments and literal values of variables.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::convert::Infallible;

/// The longest `NAME=value` or argument that a Linux kernel passes to a program, in bytes, with its closing NUL
/// (`MAX_ARG_STRLEN` in `include/uapi/linux/binfmts.h`: 32 pages of 4 KiB).
pub const VARIABLE_MAX_BYTES: usize = 128 * 1024;

/// Returns whether a variable's name fits a pattern, in which each `*` is any text.
///
/// ```
/// use paperclip_kubernetes::environment::fits;
///
/// assert!(fits("STRIPE_*", "STRIPE_KEY") && fits("*_MASTER_*", "A_MASTER_KEY"));
/// assert!(!fits("STRIPE_*", "MY_STRIPE_KEY") && !fits("PATH", "PATHS"));
/// ```
pub fn fits(pattern: &str, name: &str) -> bool {
    let Some((prefix, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(remaining) = name.strip_prefix(prefix) else { return false };
    // The text after `*` may match at any character of the remaining name.
    let ends = remaining.char_indices().map(|(at, _)| at).chain([remaining.len()]);
    rest.is_empty() || ends.into_iter().any(|at| fits(rest, &remaining[at..]))
}

/// Replaces every `$(NAME)` for which `lookup` returns a value, and `$$` by `$`. A reference without a value stays as it
/// is.
///
/// ```
/// use paperclip_kubernetes::environment::expand;
///
/// let lookup = |name: &str| (name == "HOST").then_some("db");
/// assert_eq!(expand("$(HOST):$(PORT) $$(HOST)", lookup), "db:$(PORT) $(HOST)");
/// ```
pub fn expand<'v>(text: &str, lookup: impl Fn(&str) -> Option<&'v str>) -> String {
    let Ok(expanded) = try_expand::<Infallible>(text, |name| Ok(lookup(name)));
    expanded
}

/// Replaces references as [`expand`] does, with a lookup that can fail.
///
/// # Errors
/// The first error that `lookup` returns.
pub fn try_expand<'v, E>(
    text: &str,
    lookup: impl Fn(&str) -> Result<Option<&'v str>, E>,
) -> Result<String, E> {
    let mut expanded = String::with_capacity(text.len());
    for piece in pieces(text) {
        match piece {
            Piece::Text(text) => expanded.push_str(text),
            Piece::EscapedDollar => expanded.push('$'),
            Piece::Reference { name, written } => expanded.push_str(lookup(name)?.unwrap_or(written)),
        }
    }
    Ok(expanded)
}

/// Writes a text so that [`expand`] returns it unchanged in a container that has these variables.
///
/// Only what the kubelet would replace is rewritten: references to `variables` and every `$$`.
pub fn escape<'a>(text: &'a str, variables: &BTreeSet<&str>) -> Cow<'a, str> {
    let is_replaced = |piece: &Piece<'_>| match piece {
        Piece::Text(_) => false,
        Piece::EscapedDollar => true,
        Piece::Reference { name, .. } => variables.contains(name),
    };
    if !pieces(text).any(|piece| is_replaced(&piece)) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 2);
    let mut rest = text;
    while let Some((piece, after)) = first_piece(rest) {
        match piece {
            Piece::Text(text) => escaped.push_str(text),
            Piece::EscapedDollar => escaped.push_str("$$$$"),
            // Only the dollar is doubled: what is in the parentheses is text of its own afterwards.
            Piece::Reference { name, .. } if variables.contains(name) => {
                escaped.push_str("$$");
                rest = &rest[1..];
                continue;
            }
            Piece::Reference { written, .. } => escaped.push_str(written),
        }
        rest = after;
    }
    Cow::Owned(escaped)
}

/// A part of a text that the kubelet expands.
enum Piece<'a> {
    /// Text that is copied.
    Text(&'a str),
    /// `$$`.
    EscapedDollar,
    /// `$(name)`.
    Reference { name: &'a str, written: &'a str },
}

fn pieces(text: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (piece, after) = first_piece(rest)?;
        rest = after;
        Some(piece)
    })
}

/// The first piece of a text and what follows it; `None` at the end.
fn first_piece(text: &str) -> Option<(Piece<'_>, &str)> {
    let Some(after) = text.strip_prefix('$') else {
        let (before, rest) = text.split_at(text.find('$').unwrap_or(text.len()));
        return (!before.is_empty()).then_some((Piece::Text(before), rest));
    };
    if let Some(rest) = after.strip_prefix('$') {
        return Some((Piece::EscapedDollar, rest));
    }
    match after.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
        Some((name, rest)) => {
            Some((Piece::Reference { name, written: &text[..text.len() - rest.len()] }, rest))
        }
        None => Some((Piece::Text(&text[..1]), after)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn expands_known_references_and_escapes() {
        let lookup = |name: &str| match name {
            "A" => Some("a"),
            "EMPTY" => Some(""),
            "NESTED" => Some("$(A)"),
            _ => None,
        };
        for (input, expected) in [
            ("", ""),
            ("plain", "plain"),
            ("$(A)", "a"),
            ("x$(A)y$(A)", "xaya"),
            ("$(EMPTY)!", "!"),
            ("$(NESTED)", "$(A)"),
            ("$(UNKNOWN)", "$(UNKNOWN)"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$a"),
            ("$$$$(A)", "$$(A)"),
            ("$A ${A} $", "$A ${A} $"),
            ("$(A", "$(A"),
            ("$()", "$()"),
            ("$($(A)", "$($(A)"),
            ("$(x $$ $(A", "$(x $ $(A"),
            ("é$(A)é", "éaé"),
        ] {
            assert_eq!(expand(input, lookup), expected, "{input}");
        }
    }

    #[test]
    fn failing_lookup_ends_the_expansion() {
        let lookup = |name: &str| if name == "A" { Ok(Some("a")) } else { Err(name.to_owned()) };
        assert_eq!(try_expand("$(A) $$(B)", lookup), Ok("a $(B)".to_owned()));
        assert_eq!(try_expand("$(A) $(B) $(C)", lookup), Err("B".to_owned()));
    }

    #[test]
    fn escapes_only_what_would_be_replaced() {
        let variables = BTreeSet::from(["HOME", "A"]);
        for (text, expected) in [
            ("", ""),
            ("costs $5, $HOME, $(id), $(", "costs $5, $HOME, $(id), $("),
            ("$(HOME)/x $(A)", "$$(HOME)/x $$(A)"),
            ("a $$ b", "a $$$$ b"),
            ("$$(HOME)", "$$$$(HOME)"),
            ("é$$$", "é$$$$$"),
            ("$(a $$ b)$$", "$(a $$ b)$$$$"),
        ] {
            assert_eq!(escape(text, &variables), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn expansion_of_escaped_text_is_the_text(text in "[$()AB x]{0,30}") {
            let variables = BTreeSet::from(["A", "AB"]);
            let lookup = |name: &str| variables.contains(name).then_some("EXPANDED");
            prop_assert_eq!(expand(&escape(&text, &variables), lookup), text);
        }
    }
}
