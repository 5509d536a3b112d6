//! Keys and values of labels, which are also those of node selectors and tolerations.

use super::name::{LABEL_MAX_BYTES, dns_subdomain};

/// `[prefix/]name`: the prefix a DNS subdomain, the name up to 63 characters.
pub fn key(key: &str) -> Result<(), String> {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    if let Some(prefix) = prefix {
        dns_subdomain(prefix).map_err(|rule| format!("the part before `/` {rule}"))?;
    }
    if !name.is_empty() && is_value(name) {
        return Ok(());
    }
    Err(format!(
        "must be a name of at most {LABEL_MAX_BYTES} letters, digits, `-`, `_` and `.` that begins and ends with a letter or digit, with a domain and `/` before it if need be, such as `example.com/team`"
    ))
}

/// Up to 63 characters, or nothing.
pub fn value(value: &str) -> Result<(), String> {
    if is_value(value) {
        return Ok(());
    }
    Err(format!(
        "must be at most {LABEL_MAX_BYTES} letters, digits, `-`, `_` and `.`, and begin and end with a letter or digit"
    ))
}

/// Makes a label value of any text: drops what a label may not hold, cuts, and trims the ends. None if nothing is left.
pub fn sanitized(text: &str) -> Option<String> {
    let kept: String = text.chars().filter(|c| is_inner(*c)).take(LABEL_MAX_BYTES).collect();
    let trimmed = kept.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    (!trimmed.is_empty()).then(|| trimmed.to_owned())
}

fn is_value(value: &str) -> bool {
    let is_end = |byte: Option<u8>| byte.is_none_or(|byte| byte.is_ascii_alphanumeric());
    value.len() <= LABEL_MAX_BYTES
        && value.chars().all(is_inner)
        && is_end(value.bytes().next())
        && is_end(value.bytes().last())
}

fn is_inner(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys() {
        let longest = format!("example.com/{}", "a".repeat(63));
        for good in ["a", "team", "A_b.c-d", "example.com/team", "kubernetes.io/arch", &longest] {
            assert_eq!(key(good), Ok(()), "{good}");
        }
        let too_long = "a".repeat(64);
        for bad in ["", "/", "a/", "/a", "a/b/c", "Example.com/a", "-a", "a.", "a b", "é", &too_long] {
            assert!(key(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn values() {
        let longest = "x".repeat(63);
        for good in ["", "a", "A.b_c-D", "1", &longest] {
            assert_eq!(value(good), Ok(()), "{good}");
        }
        let too_long = "x".repeat(64);
        for bad in ["-a", "a-", "_", "a b", "a/b", "a=b", "é", "a\n", &too_long] {
            assert!(value(bad).is_err(), "{bad}");
        }
    }

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
