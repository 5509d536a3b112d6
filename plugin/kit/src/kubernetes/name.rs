//! Names of objects.

use paperclip_kubernetes::validation::{
    LABEL_MAX_BYTES, SUBDOMAIN_MAX_BYTES, is_dns_label, is_dns_subdomain, is_portable_env_name,
};

/// Checks an RFC 1123 label: the name of a namespace, a container, a volume or a Job.
///
/// # Errors
/// What the name has to be.
pub fn dns_label(name: &str) -> Result<(), String> {
    if is_dns_label(name) {
        return Ok(());
    }
    Err(format!(
        "must be at most {LABEL_MAX_BYTES} lower-case letters, digits and `-`, and start and end with a letter or digit"
    ))
}

/// Checks an RFC 1123 subdomain: the name of a service account, a Secret, a ConfigMap, a volume claim or a Lease.
///
/// # Errors
/// What the name has to be.
pub fn dns_subdomain(name: &str) -> Result<(), String> {
    if is_dns_subdomain(name) {
        return Ok(());
    }
    Err(format!(
        "must be at most {SUBDOMAIN_MAX_BYTES} lower-case letters, digits, `-` and `.`, and each part between dots must start and end with a letter or digit"
    ))
}

/// Checks the name of an environment variable by the rule of every version of Kubernetes.
///
/// # Errors
/// What the name has to be.
pub fn variable(name: &str) -> Result<(), String> {
    if is_portable_env_name(name) {
        return Ok(());
    }
    Err("must be letters, digits, `_`, `-` and `.`, and not start with a digit".into())
}
