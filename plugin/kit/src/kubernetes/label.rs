//! Keys and values of labels, which are also those of node selectors and tolerations.

use paperclip_kubernetes::validation::{LABEL_MAX_BYTES, is_label_key, is_label_value};

use super::name::dns_subdomain;

/// Checks a key, `[prefix/]name`.
///
/// # Errors
/// What the key has to be.
pub fn key(key: &str) -> Result<(), String> {
    if is_label_key(key) {
        return Ok(());
    }
    if let Some((prefix, _)) = key.split_once('/') {
        dns_subdomain(prefix).map_err(|rule| format!("the part before `/` {rule}"))?;
    }
    Err(format!(
        "must be a name of at most {LABEL_MAX_BYTES} letters, digits, `-`, `_` and `.` that starts and ends with a letter or digit, with a domain and `/` before it if need be, such as `example.com/team`"
    ))
}

/// Checks a value.
///
/// # Errors
/// What the value has to be.
pub fn value(value: &str) -> Result<(), String> {
    if is_label_value(value) {
        return Ok(());
    }
    Err(format!(
        "must be at most {LABEL_MAX_BYTES} letters, digits, `-`, `_` and `.`, and start and end with a letter or digit"
    ))
}

/// Makes a label value of any text: drops what a label cannot contain, cuts, and trims the ends. `None` if nothing is left.
pub fn sanitized(text: &str) -> Option<String> {
    let kept: String = text.chars().filter(|c| is_inner(*c)).take(LABEL_MAX_BYTES).collect();
    let trimmed = kept.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    (!trimmed.is_empty()).then(|| trimmed.to_owned())
}

fn is_inner(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sanitizing_keeps_what_a_label_may_hold() {
        let long = format!("{}-tail", "x".repeat(62));
        for (text, expected) in [
            ("TES-12", Some("TES-12")),
            (" a b/c ", Some("abc")),
            ("__a__", Some("a")),
            ("é--", None),
            ("", None),
            (&long, Some(&long[..62])),
        ] {
            assert_eq!(sanitized(text).as_deref(), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_sanitized_is_a_label_value(text in ".{0,100}") {
            if let Some(label) = sanitized(&text) {
                prop_assert_eq!(value(&label), Ok(()));
                prop_assert!(!label.is_empty());
            }
        }
    }
}
