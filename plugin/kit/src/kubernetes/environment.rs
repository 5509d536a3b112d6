//! Environment variables of containers.

use std::borrow::Cow;
use std::collections::BTreeSet;

/// The longest `NAME=value` that a Linux kernel passes to a program, its closing NUL included (MAX_ARG_STRLEN).
pub const VARIABLE_MAX_BYTES: usize = 128 * 1024;
const SECRET_KEY_MAX_BYTES: usize = 253;

/// A name that every version of Kubernetes takes.
pub fn name(name: &str) -> Result<(), String> {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let is_first_good = name.bytes().next().is_some_and(|byte| is_inner(byte) && !byte.is_ascii_digit());
    if is_first_good && name.bytes().all(is_inner) && !matches!(name, "." | "..") && !name.starts_with("..") {
        return Ok(());
    }
    Err("must be letters, digits, `_`, `-` and `.`, and not begin with a digit".into())
}

/// A key of a Secret's or ConfigMap's data.
pub fn is_data_key(key: &str) -> bool {
    !key.is_empty()
        && key.len() <= SECRET_KEY_MAX_BYTES
        && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
        && key != "."
        && !key.starts_with("..")
}

/// Writes text so that the kubelet, which replaces `$(NAME)` by a variable of the container and `$$` by `$` in commands
/// and literal values, ends up with the text as it was. Text without either stays as it is.
pub fn unexpanded<'a>(text: &'a str, variables: &BTreeSet<&str>) -> Cow<'a, str> {
    let mut out = String::new();
    let mut rest = text;
    let mut is_changed = false;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let from_dollar = &rest[at..];
        let (written, read_bytes) = match reference(from_dollar) {
            _ if from_dollar.starts_with("$$") => ("$$$$", 2),
            Some(name) if variables.contains(name) => ("$$", 1),
            // The kubelet copies a reference that it cannot resolve, whatever stands in it.
            Some(name) => (&from_dollar[..name.len() + 3], name.len() + 3),
            None => ("$", 1),
        };
        is_changed |= written.len() != read_bytes;
        out.push_str(written);
        rest = &from_dollar[read_bytes..];
    }
    if !is_changed {
        return Cow::Borrowed(text);
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// The name in `$(name)`, if the text begins with that.
fn reference(text: &str) -> Option<&str> {
    text.strip_prefix("$(")?.split_once(')').map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names() {
        for good in ["A", "_a", "a.b-c", "PATH", "-x", ".x"] {
            assert_eq!(name(good), Ok(()), "{good}");
        }
        for bad in ["", "1A", "A B", "A=B", "é", "A\n", ".", "..", "..a"] {
            assert!(name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn data_keys() {
        assert!(is_data_key("prompt.000") && is_data_key("A_B") && is_data_key("1"));
        assert!(
            !is_data_key("") && !is_data_key("..") && !is_data_key("a/b") && !is_data_key(&"a".repeat(254))
        );
    }

    /// What the kubelet makes of a text: `third_party/forked/golang/expansion`.
    fn expanded(text: &str, variables: &BTreeSet<&str>) -> String {
        let mut out = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            out.push_str(&rest[..at]);
            let after = &rest[at + 1..];
            if let Some(after) = after.strip_prefix('$') {
                out.push('$');
                rest = after;
            } else if let Some((name, after)) =
                after.strip_prefix('(').and_then(|inner| inner.split_once(')'))
            {
                match variables.contains(name) {
                    true => out.push_str("EXPANDED"),
                    false => out.push_str(&format!("$({name})")),
                }
                rest = after;
            } else {
                out.push('$');
                rest = after;
            }
        }
        out + rest
    }

    #[test]
    fn only_what_would_be_replaced_is_rewritten() {
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
            assert_eq!(unexpanded(text, &variables), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn the_kubelet_gives_back_the_text(text in "[$()AB x]{0,30}") {
            let variables = BTreeSet::from(["A", "AB"]);
            prop_assert_eq!(expanded(&unexpanded(&text, &variables), &variables), text);
        }
    }
}
