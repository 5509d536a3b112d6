//! The rules of Secrets and ConfigMaps, of claims, Leases and Events.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Event, PersistentVolumeClaim, Secret};
use paperclip_kubernetes::{Quantity, validation};

use super::field::{Errors, Path};

/// Of a Secret or ConfigMap, all values together.
const DATA_MAX_BYTES: usize = 1024 * 1024;
const ACCESS_MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
const FROZEN: &str = "field is immutable when `immutable` is set";

/// The key that a Secret of a type has to have.
const TYPE_KEYS: [(&str, &[&str]); 4] = [
    ("kubernetes.io/dockerconfigjson", &[".dockerconfigjson"]),
    ("kubernetes.io/dockercfg", &[".dockercfg"]),
    ("kubernetes.io/ssh-auth", &["ssh-privatekey"]),
    ("kubernetes.io/tls", &["tls.crt", "tls.key"]),
];

pub(super) fn check_secret(secret: &Secret, errors: &mut Errors) {
    let data = secret.data.clone().unwrap_or_default();
    let path = Path::new("data");
    check_entries(data.iter().map(|(key, ByteString(value))| (key, value.len())), &path, errors);
    let kind = secret.type_.as_deref().unwrap_or_default();
    for (_, keys) in TYPE_KEYS.iter().filter(|(known, _)| *known == kind) {
        for key in keys.iter().filter(|key| !data.contains_key(**key)) {
            errors.required(&path.key(key), "");
        }
    }
}

pub(super) fn check_secret_change(old: &Secret, new: &Secret, errors: &mut Errors) {
    errors.unchanged(&Path::new("type"), &old.type_, &new.type_);
    if old.immutable == Some(true) {
        frozen("data", &old.data, &new.data, errors);
        frozen("immutable", &old.immutable, &new.immutable, errors);
    }
}

pub(super) fn check_config_map(config_map: &ConfigMap, errors: &mut Errors) {
    let text: BTreeMap<String, String> = config_map.data.clone().unwrap_or_default();
    let binary = config_map.binary_data.clone().unwrap_or_default();
    let all = text
        .iter()
        .map(|(key, value)| (key, value.len()))
        .chain(binary.iter().map(|(key, ByteString(value))| (key, value.len())));
    check_entries(all, &Path::new("data"), errors);
    for key in binary.keys().filter(|key| text.contains_key(*key)) {
        errors.invalid(&Path::new("data").key(key), key, "duplicate of key present in binaryData");
    }
}

pub(super) fn check_config_map_change(old: &ConfigMap, new: &ConfigMap, errors: &mut Errors) {
    if old.immutable == Some(true) {
        frozen("data", &old.data, &new.data, errors);
        frozen("binaryData", &old.binary_data, &new.binary_data, errors);
        frozen("immutable", &old.immutable, &new.immutable, errors);
    }
}

pub(super) fn check_claim(claim: &PersistentVolumeClaim, errors: &mut Errors) {
    let spec = claim.spec.clone().unwrap_or_default();
    let path = Path::new("spec");
    let modes = spec.access_modes.unwrap_or_default();
    if modes.is_empty() {
        errors.required(&path.field("accessModes"), "at least 1 access mode is required");
    }
    for mode in &modes {
        errors.one_of(&path.field("accessModes"), mode, &ACCESS_MODES);
    }
    let path = path.field("resources").key("storage");
    let requests = spec.resources.and_then(|resources| resources.requests).unwrap_or_default();
    match requests.get("storage") {
        None => errors.required(&path, ""),
        Some(size) if Quantity::parse(&size.0).is_ok_and(|size| size <= Quantity::ZERO) => {
            errors.invalid(&path, &size.0, "must be greater than zero");
        }
        Some(_) => {}
    }
}

pub(super) fn check_claim_change(
    old: &PersistentVolumeClaim,
    new: &PersistentVolumeClaim,
    errors: &mut Errors,
) {
    let (Some(old), Some(new)) = (&old.spec, &new.spec) else { return };
    let mut expected = old.clone();
    expected.resources.clone_from(&new.resources);
    if expected != *new {
        errors.forbidden(
            &Path::new("spec"),
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims",
        );
    }
}

pub(super) fn check_lease(lease: &Lease, errors: &mut Errors) {
    let Some(spec) = &lease.spec else { return };
    let path = Path::new("spec");
    if let Some(seconds) = spec.lease_duration_seconds.filter(|seconds| *seconds <= 0) {
        errors.invalid(&path.field("leaseDurationSeconds"), seconds, "must be greater than 0");
    }
    errors.not_negative(&path.field("leaseTransitions"), spec.lease_transitions);
}

pub(super) fn check_event(event: &Event, errors: &mut Errors) {
    let about = event.involved_object.namespace.as_deref().unwrap_or_default();
    let namespace = event.metadata.namespace.as_deref().unwrap_or_default();
    // Events about what has no namespace stand in `default`.
    let fits = about == namespace || (about.is_empty() && namespace == "default");
    if !fits {
        let path = Path::new("involvedObject").field("namespace");
        errors.invalid(&path, about, "does not match event.namespace");
    }
}

fn check_entries<'a>(entries: impl Iterator<Item = (&'a String, usize)>, path: &Path, errors: &mut Errors) {
    let mut size_bytes = 0;
    for (key, value_bytes) in entries {
        errors.invalid_each(&path.key(key), key, validation::config_key(key));
        size_bytes += value_bytes;
    }
    if size_bytes > DATA_MAX_BYTES {
        errors.too_long(path, DATA_MAX_BYTES);
    }
}

fn frozen<T: PartialEq>(field: &str, old: &T, new: &T, errors: &mut Errors) {
    if old != new {
        errors.forbidden(&Path::new(field), FROZEN);
    }
}
