//! The rules of `metadata`, the same for every kind.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use paperclip_kubernetes::validation;

use super::field::{Errors, Path};
use crate::resource::Resource;

const ANNOTATIONS_MAX_BYTES: usize = 256 * 1024;
/// Finalizers that need no domain in front.
const STANDARD_FINALIZERS: [&str; 3] = ["kubernetes", "orphan", "foregroundDeletion"];

/// The rules of a new or changed object's metadata.
pub(super) fn check(resource: Resource, metadata: &ObjectMeta, errors: &mut Errors) {
    let path = Path::new("metadata");
    check_name(resource, metadata, &path, errors);
    check_labels(metadata.labels.iter().flatten(), &path.field("labels"), errors);
    check_annotations(metadata, &path.field("annotations"), errors);
    check_owners(
        metadata.owner_references.as_deref().unwrap_or_default(),
        &path.field("ownerReferences"),
        errors,
    );
    for finalizer in metadata.finalizers.iter().flatten() {
        let path = path.field("finalizers");
        errors.invalid_each(&path, finalizer, validation::label_key(finalizer));
        if !finalizer.contains('/') && !STANDARD_FINALIZERS.contains(&finalizer.as_str()) {
            let why = "name is neither a standard finalizer name nor is it fully qualified";
            errors.invalid(&path, finalizer, why);
        }
    }
}

/// Checks that immutable fields of an existing object are unchanged.
pub(super) fn check_change(old: &ObjectMeta, new: &ObjectMeta, errors: &mut Errors) {
    let path = Path::new("metadata");
    errors.unchanged(&path.field("name"), &old.name, &new.name);
    errors.unchanged(&path.field("namespace"), &old.namespace, &new.namespace);
    errors.unchanged(&path.field("uid"), &old.uid, &new.uid);
    errors.unchanged(&path.field("creationTimestamp"), &old.creation_timestamp, &new.creation_timestamp);
    if old.deletion_timestamp.is_some() {
        let before = old.finalizers.as_deref().unwrap_or_default();
        let added: Vec<&str> =
            new.finalizers.iter().flatten().filter(|f| !before.contains(f)).map(String::as_str).collect();
        if !added.is_empty() {
            let why = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                added.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
            );
            errors.forbidden(&path.field("finalizers"), &why);
        }
    }
}

/// Labels anywhere: of an object, a template, a selector.
pub(super) fn check_labels<'a>(
    labels: impl IntoIterator<Item = (&'a String, &'a String)>,
    path: &Path,
    errors: &mut Errors,
) {
    for (key, value) in labels {
        errors.invalid_each(path, key, validation::label_key(key));
        errors.invalid_each(path, value, validation::label_value(value));
    }
}

fn check_name(resource: Resource, metadata: &ObjectMeta, path: &Path, errors: &mut Errors) {
    let rule = match resource {
        Resource::Namespaces => validation::dns_label,
        Resource::Pods
        | Resource::Secrets
        | Resource::ConfigMaps
        | Resource::Events
        | Resource::PersistentVolumeClaims
        | Resource::ServiceAccounts
        | Resource::Nodes
        | Resource::Jobs
        | Resource::Leases => validation::dns_subdomain,
    };
    if let Some(base) = metadata.generate_name.as_deref().filter(|base| !base.is_empty()) {
        // The base of a name can end in a hyphen, which a name cannot: the suffix follows.
        let completed = format!("{}x", base.trim_end_matches('-'));
        errors.invalid_each(&path.field("generateName"), base, rule(&completed));
    }
    match metadata.name.as_deref().unwrap_or_default() {
        "" => errors.required(&path.field("name"), "name or generateName is required"),
        name => errors.invalid_each(&path.field("name"), name, rule(name)),
    }
    if let Some(namespace) = metadata.namespace.as_deref().filter(|_| resource.is_namespaced()) {
        errors.invalid_each(&path.field("namespace"), namespace, validation::dns_label(namespace));
    }
}

pub(super) fn check_annotations(metadata: &ObjectMeta, path: &Path, errors: &mut Errors) {
    let mut size_bytes = 0;
    for (key, value) in metadata.annotations.iter().flatten() {
        errors.invalid_each(path, key, validation::label_key(&key.to_lowercase()));
        size_bytes += key.len() + value.len();
    }
    if size_bytes > ANNOTATIONS_MAX_BYTES {
        errors.too_long(path, ANNOTATIONS_MAX_BYTES);
    }
}

fn check_owners(owners: &[OwnerReference], path: &Path, errors: &mut Errors) {
    for owner in owners {
        let fields = [
            ("apiVersion", &owner.api_version, "version must not be empty"),
            ("kind", &owner.kind, "must not be empty"),
            ("name", &owner.name, "must not be empty"),
            ("uid", &owner.uid, "must not be empty"),
        ];
        for (field, value, why) in fields {
            if value.is_empty() {
                errors.invalid(&path.field(field), value, why);
            }
        }
    }
    let controllers: Vec<&OwnerReference> =
        owners.iter().filter(|owner| owner.controller == Some(true)).collect();
    if let [first, second, ..] = controllers.as_slice() {
        let why = format!(
            "Only one reference can have Controller set to true. Found \"true\" in references for {}/{} and {}/{}",
            first.kind, first.name, second.kind, second.name
        );
        errors.invalid(path, owners, why);
    }
}
