//! The rules for names, labels and keys.
//!
//! Each rule exists as a predicate, and as a function that returns the API server's messages; no message means that the
//! text is valid. They follow `k8s.io/apimachinery/pkg/util/validation` and `pkg/api/validate/content` of Kubernetes 1.37.

/// The longest DNS label, such as the name of a namespace, a container or a volume.
pub const LABEL_MAX_BYTES: usize = 63;
/// The longest DNS subdomain, such as the name of most objects.
pub const SUBDOMAIN_MAX_BYTES: usize = 253;
const PORT_NAME_MAX_BYTES: usize = 15;

const DNS_LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must \
    start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const DNS_SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or \
    '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL_KEY: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
    alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
    '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_KEY_PREFIX: &str = " with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or \
    '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used \
    for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const CONFIG_KEY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name', \
    or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
const ENV_NAME: &str =
    "a valid environment variable name must consist only of printable ASCII characters other than '='";

/// Whether a text is an RFC 1123 label: the name of a namespace, a container, a volume, or a Job (whose name becomes a
/// label value of its Pods).
pub fn is_dns_label(name: &str) -> bool {
    name.len() <= LABEL_MAX_BYTES && has_form_of_dns_label(name)
}

/// Whether a text is an RFC 1123 subdomain: the name of a Secret, a ConfigMap, a service account, a volume claim, a Lease.
pub fn is_dns_subdomain(name: &str) -> bool {
    name.len() <= SUBDOMAIN_MAX_BYTES && has_form_of_dns_subdomain(name)
}

/// Whether a text is `name` or `prefix/name`: the key of a label, an annotation or a node selector, a finalizer, a resource.
pub fn is_label_key(key: &str) -> bool {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    prefix.is_none_or(is_dns_subdomain) && name.len() <= LABEL_MAX_BYTES && has_form_of_name(name)
}

/// Whether a text is the value of a label; it can be empty.
pub fn is_label_value(value: &str) -> bool {
    value.is_empty() || (value.len() <= LABEL_MAX_BYTES && has_form_of_name(value))
}

/// Whether a text is a key of a Secret's or a ConfigMap's data. A mounted key becomes the name of a file.
pub fn is_config_key(key: &str) -> bool {
    key.len() <= SUBDOMAIN_MAX_BYTES && has_form_of_config_key(key) && key != "." && !key.starts_with("..")
}

/// Whether a text is a name of an environment variable that every version of Kubernetes accepts (`IsEnvVarName`). Since
/// 1.34 the API server accepts every printable ASCII character but `=`, as [`env_name`] does.
pub fn is_portable_env_name(name: &str) -> bool {
    has_form_of_config_key(name)
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name != "."
        && !name.starts_with("..")
}

/// Returns the messages for a name that has to be an RFC 1123 label (`IsDNS1123Label`).
pub fn dns_label(name: &str) -> Vec<String> {
    let mut messages = over_characters(name, LABEL_MAX_BYTES);
    if !has_form_of_dns_label(name) {
        let message = if has_form_of_dns_subdomain(name) { "must not contain dots" } else { DNS_LABEL };
        messages.push(message.to_owned());
    }
    messages
}

/// Returns the messages for a name that has to be an RFC 1123 subdomain (`IsDNS1123Subdomain`).
pub fn dns_subdomain(name: &str) -> Vec<String> {
    let mut messages = over_characters(name, SUBDOMAIN_MAX_BYTES);
    if !has_form_of_dns_subdomain(name) {
        messages.push(DNS_SUBDOMAIN.to_owned());
    }
    messages
}

/// Returns the messages for a text that has to be the value of a label (`IsLabelValue`).
pub fn label_value(value: &str) -> Vec<String> {
    let mut messages = Vec::new();
    if value.len() > LABEL_MAX_BYTES {
        messages.push(too_many_bytes(LABEL_MAX_BYTES));
    }
    if !value.is_empty() && !has_form_of_name(value) {
        messages.push(LABEL_VALUE.to_owned());
    }
    messages
}

/// Returns the messages for a text that has to be `name` or `prefix/name` (`IsLabelKey`).
pub fn label_key(key: &str) -> Vec<String> {
    let mut messages = Vec::new();
    let name = match key.split_once('/') {
        None => key,
        Some((_, rest)) if rest.contains('/') => {
            return vec![format!("a valid label key {LABEL_KEY}{LABEL_KEY_PREFIX}")];
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
        messages.push(format!("name part {}", too_many_bytes(LABEL_MAX_BYTES)));
    }
    if !has_form_of_name(name) {
        messages.push(format!("name part {LABEL_KEY}"));
    }
    messages
}

/// Returns the messages for a text that has to be a key of a Secret or a ConfigMap (`IsConfigMapKey`).
pub fn config_key(key: &str) -> Vec<String> {
    let mut messages = over_characters(key, SUBDOMAIN_MAX_BYTES);
    if !has_form_of_config_key(key) {
        messages.push(CONFIG_KEY.to_owned());
    }
    match key {
        "." => messages.push("must not be '.'".to_owned()),
        ".." => messages.push("must not be '..'".to_owned()),
        key if key.starts_with("..") => messages.push("must not start with '..'".to_owned()),
        _ => {}
    }
    messages
}

/// Returns the messages for the name of an environment variable (`IsRelaxedEnvVarName`).
pub fn env_name(name: &str) -> Vec<String> {
    let is_valid = name.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'=');
    match (name.is_empty(), is_valid) {
        (true, _) => vec!["environment variable name must be non-empty".to_owned()],
        (false, false) => vec![ENV_NAME.to_owned()],
        (false, true) => Vec::new(),
    }
}

/// Returns the messages for the name of a container's port (`IsValidPortName`).
pub fn port_name(name: &str) -> Vec<String> {
    let mut messages = over_characters(name, PORT_NAME_MAX_BYTES);
    if name.is_empty() || !name.bytes().all(|b| is_lower_alphanumeric(b) || b == b'-') {
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

// The two packages of Kubernetes word the same limit differently.
fn over_characters(text: &str, max_bytes: usize) -> Vec<String> {
    if text.len() <= max_bytes {
        return Vec::new();
    }
    vec![format!("must be no more than {max_bytes} characters")]
}

fn too_many_bytes(max_bytes: usize) -> String {
    format!("must be no more than {max_bytes} bytes")
}

fn has_form_of_dns_label(label: &str) -> bool {
    is_framed(label, is_lower_alphanumeric, |b| is_lower_alphanumeric(b) || b == b'-')
}

fn has_form_of_dns_subdomain(name: &str) -> bool {
    name.split('.').all(has_form_of_dns_label)
}

fn has_form_of_name(name: &str) -> bool {
    is_framed(name, |b| b.is_ascii_alphanumeric(), |b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

fn has_form_of_config_key(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
}

fn is_lower_alphanumeric(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

/// Whether a text is not empty, its ends are of one class of bytes, and all of it of another.
fn is_framed(text: &str, is_end: impl Fn(u8) -> bool, is_inner: impl Fn(u8) -> bool) -> bool {
    let (Some(first), Some(last)) = (text.bytes().next(), text.bytes().last()) else { return false };
    is_end(first) && is_end(last) && text.bytes().all(is_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A rule as a predicate and as messages.
    type Rule = (fn(&str) -> bool, fn(&str) -> Vec<String>);

    fn check((is_valid, messages): Rule, good: &[&str], bad: &[&str]) {
        for text in good {
            assert!(is_valid(text), "{text}");
            assert_eq!(messages(text), Vec::<String>::new(), "{text}");
        }
        for text in bad {
            assert!(!is_valid(text), "{text}");
            assert!(!messages(text).is_empty(), "{text}");
        }
    }

    #[test]
    fn dns_labels() {
        let (longest, too_long) = ("a".repeat(63), "a".repeat(64));
        check(
            (is_dns_label, dns_label),
            &["a", "0", "1", "a-b", "agents", "1-1", &longest],
            &["", "-a", "a-", "A", "a.b", "a_b", "é", "a b", &too_long],
        );
        assert_eq!(dns_label("a.b"), ["must not contain dots"]);
        assert_eq!(dns_label(&too_long), ["must be no more than 63 characters"]);
    }

    #[test]
    fn dns_subdomains() {
        let (longest, too_long) = (format!("{}.b", "a".repeat(251)), "a".repeat(254));
        check(
            (is_dns_subdomain, dns_subdomain),
            &["a", "a.b", "agent-sa", "a-1.b-2", &"a".repeat(64), &longest],
            &["", ".", "a..b", "a.", ".a", "a.-b", "A.b", "a.B", "a/b", "a.b\n", &too_long],
        );
    }

    #[test]
    fn label_keys() {
        let (longest, too_long) = (format!("example.com/{}", "a".repeat(63)), "a".repeat(64));
        let long_prefix = format!("{too_long}{too_long}{too_long}{too_long}/a");
        check(
            (is_label_key, label_key),
            &[
                "a",
                "team",
                "A_b.c-d",
                "A.b_c",
                "example.com/team",
                "example.com/Name",
                "kubernetes.io/arch",
                &longest,
            ],
            &[
                "",
                "/",
                "a/",
                "/a",
                "a/b/c",
                "Example.com/a",
                "Ex/a",
                "-a",
                "a.",
                "a b",
                "é",
                &too_long,
                &long_prefix,
            ],
        );
    }

    #[test]
    fn label_values() {
        let (longest, too_long) = ("x".repeat(63), "x".repeat(64));
        check(
            (is_label_value, label_value),
            &["", "a", "A.b_c-D", "1", &longest],
            &["-a", "a-", "_", "a b", "a/b", "a=b", "é", "a\n", &too_long],
        );
    }

    #[test]
    fn config_keys() {
        check(
            (is_config_key, config_key),
            &["prompt.000", "A_B", "1", ".dockerconfigjson"],
            &["", ".", "..", "..data", "a/b", &"a".repeat(254)],
        );
    }

    #[test]
    fn env_names() {
        for name in ["A", "_a", "a.b-c", "PATH", "-x", ".x"] {
            assert!(is_portable_env_name(name), "{name}");
            assert!(env_name(name).is_empty(), "{name}");
        }
        for name in ["", "1A", "A B", "A=B", "é", "A\n", ".", "..", "..a"] {
            assert!(!is_portable_env_name(name), "{name}");
        }
        for name in ["", "a=b", "é", "A\n"] {
            assert!(!env_name(name).is_empty(), "{name}");
        }
        assert!(env_name("1 A").is_empty());
    }

    #[test]
    fn port_names() {
        assert!(port_name("http-1").is_empty());
        for name in ["", "1", "HTTP", "a--b", "-a", "a-", "abcdefghijklmnop"] {
            assert!(!port_name(name).is_empty(), "{name}");
        }
    }
}
