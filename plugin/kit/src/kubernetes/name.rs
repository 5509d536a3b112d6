//! Names of objects.

/// The longest DNS label: namespaces, volumes, containers.
pub const LABEL_MAX_BYTES: usize = 63;
/// The longest DNS subdomain: most other names.
pub const SUBDOMAIN_MAX_BYTES: usize = 253;

/// RFC 1123 label: namespaces, containers, volumes, Jobs (whose names become label values of their Pods).
pub fn dns_label(name: &str) -> Result<(), String> {
    if name.len() <= LABEL_MAX_BYTES && is_dns_label(name) {
        return Ok(());
    }
    Err(format!(
        "must be at most {LABEL_MAX_BYTES} lower-case letters, digits and `-`, and begin and end with a letter or digit"
    ))
}

/// RFC 1123 subdomain: service accounts, Secrets, ConfigMaps, volume claims, leases.
pub fn dns_subdomain(name: &str) -> Result<(), String> {
    if name.len() <= SUBDOMAIN_MAX_BYTES && name.split('.').all(is_dns_label) {
        return Ok(());
    }
    Err(format!(
        "must be at most {SUBDOMAIN_MAX_BYTES} lower-case letters, digits, `-` and `.`, and each part between dots must begin and end with a letter or digit"
    ))
}

fn is_dns_label(name: &str) -> bool {
    let bytes = name.as_bytes();
    let is_alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    bytes.first().is_some_and(is_alphanumeric)
        && bytes.last().is_some_and(is_alphanumeric)
        && bytes.iter().all(|byte| is_alphanumeric(byte) || *byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels() {
        let longest = "a".repeat(63);
        for good in ["a", "0", "a-b", "agents", "1-1", &longest] {
            assert_eq!(dns_label(good), Ok(()), "{good}");
        }
        let too_long = "a".repeat(64);
        for bad in ["", "-a", "a-", "A", "a.b", "a_b", "é", "a b", &too_long] {
            assert!(dns_label(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn subdomains() {
        let longest = format!("{}.b", "a".repeat(251));
        for good in ["a", "a.b", "agent-sa", "a-1.b-2", &longest] {
            assert_eq!(dns_subdomain(good), Ok(()), "{good}");
        }
        let too_long = "a".repeat(254);
        for bad in ["", ".", "a..b", "a.", ".a", "a.-b", "A.b", "a/b", "a.b\n", &too_long] {
            assert!(dns_subdomain(bad).is_err(), "{bad}");
        }
    }
}
