//! What may be a name, a label, a key. Each check gives the messages of `apimachinery/pkg/util/validation`.

const LABEL_MAX_BYTES: usize = 63;
const SUBDOMAIN_MAX_BYTES: usize = 253;
const PORT_NAME_MAX_BYTES: usize = 15;

const DNS_LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must \
    start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const DNS_SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or \
    '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const QUALIFIED_NAME: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
    alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
    '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const QUALIFIED_PREFIX: &str = " with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or \
    '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used \
    for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const CONFIG_KEY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name', \
    or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
const ENV_NAME: &str =
    "a valid environment variable name must consist only of printable ASCII characters other than '='";

pub(super) fn dns_label(name: &str) -> Vec<String> {
    checks(name, LABEL_MAX_BYTES, is_dns_label(name), DNS_LABEL)
}

pub(super) fn dns_subdomain(name: &str) -> Vec<String> {
    checks(name, SUBDOMAIN_MAX_BYTES, name.split('.').all(is_dns_label), DNS_SUBDOMAIN)
}

pub(crate) fn label_value(value: &str) -> Vec<String> {
    checks(value, LABEL_MAX_BYTES, value.is_empty() || is_name(value), LABEL_VALUE)
}

/// A label key, a finalizer, a resource name: `name` or `prefix/name`.
pub(crate) fn qualified_name(key: &str) -> Vec<String> {
    let mut messages = Vec::new();
    let name = match key.split_once('/') {
        None => key,
        Some((_, rest)) if rest.contains('/') => {
            return vec![format!("a qualified name {QUALIFIED_NAME}{QUALIFIED_PREFIX}")];
        }
        Some((prefix, name)) => {
            if prefix.is_empty() {
                messages.push("prefix part must be non-empty".to_owned());
            } else {
                messages.extend(dns_subdomain(prefix).iter().map(|message| format!("prefix part {message}")));
            }
            name
        }
    };
    if name.is_empty() {
        messages.push("name part must be non-empty".to_owned());
    } else if name.len() > LABEL_MAX_BYTES {
        messages.push(format!("name part {}", too_long(LABEL_MAX_BYTES)));
    }
    if !is_name(name) {
        messages.push(format!("name part {QUALIFIED_NAME}"));
    }
    messages
}

/// A key of a Secret or ConfigMap: it becomes a file name.
pub(super) fn config_key(key: &str) -> Vec<String> {
    let fits = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    let mut messages = checks(key, SUBDOMAIN_MAX_BYTES, fits, CONFIG_KEY);
    match key {
        "." => messages.push("must not be '.'".to_owned()),
        ".." => messages.push("must not be '..'".to_owned()),
        key if key.starts_with("..") => messages.push("must not start with '..'".to_owned()),
        _ => {}
    }
    messages
}

pub(super) fn env_name(name: &str) -> Vec<String> {
    let fits = !name.is_empty() && name.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'=');
    if fits { Vec::new() } else { vec![ENV_NAME.to_owned()] }
}

pub(super) fn port_name(name: &str) -> Vec<String> {
    let mut messages = Vec::new();
    if name.len() > PORT_NAME_MAX_BYTES {
        messages.push(too_long(PORT_NAME_MAX_BYTES));
    }
    if !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        messages.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !name.bytes().any(|b| b.is_ascii_lowercase()) {
        messages.push("must contain at least one letter (a-z)".to_owned());
    }
    if name.contains("--") {
        messages.push("must not contain consecutive hyphens".to_owned());
    }
    if name.starts_with('-') || name.ends_with('-') {
        messages.push("must not begin or end with a hyphen".to_owned());
    }
    messages
}

fn checks(text: &str, max_bytes: usize, fits: bool, misfit: &str) -> Vec<String> {
    let mut messages = Vec::new();
    if text.len() > max_bytes {
        messages.push(too_long(max_bytes));
    }
    if !fits {
        messages.push(misfit.to_owned());
    }
    messages
}

fn too_long(max_bytes: usize) -> String {
    format!("must be no more than {max_bytes} bytes")
}

fn is_dns_label(label: &str) -> bool {
    let is_inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    is_framed(label, is_inner, |b| is_inner(b) || b == b'-')
}

fn is_name(name: &str) -> bool {
    is_framed(name, |b| b.is_ascii_alphanumeric(), |b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

/// Not empty, with ends of one class and the rest of another.
fn is_framed(text: &str, is_end: impl Fn(u8) -> bool, is_inner: impl Fn(u8) -> bool) -> bool {
    let (Some(first), Some(last)) = (text.bytes().next(), text.bytes().last()) else { return false };
    is_end(first) && is_end(last) && text.bytes().all(is_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_fit_and_names_that_do_not() {
        let long = "a".repeat(64);
        for good in ["a", "a-b", "1"] {
            assert!(dns_label(good).is_empty(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a_b", &long] {
            assert!(!dns_label(bad).is_empty(), "{bad}");
        }
        for good in ["a.b", "a", &long] {
            assert!(dns_subdomain(good).is_empty(), "{good}");
        }
        for bad in ["a..b", ".a", "a.B"] {
            assert!(!dns_subdomain(bad).is_empty(), "{bad}");
        }
        for good in ["a", "A.b_c", "example.com/Name"] {
            assert!(qualified_name(good).is_empty(), "{good}");
        }
        for bad in ["", "/a", "a/", "a/b/c", "a b", "Ex/a"] {
            assert!(!qualified_name(bad).is_empty(), "{bad}");
        }
        assert!(label_value("").is_empty());
        assert!(!label_value("a b").is_empty());
        assert!(config_key(".dockerconfigjson").is_empty());
        assert!(!config_key("..data").is_empty());
        assert!(env_name("a.b-c").is_empty());
        assert!(!env_name("a=b").is_empty());
    }
}
