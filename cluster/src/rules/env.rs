//! Environment variables of a container and where their values come from.

use k8s_openapi::api::core::v1::{EnvFromSource, EnvVar, EnvVarSource};
use paperclip_kubernetes::validation;

use super::field::{Errors, Path};

const POD_FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
const CONTAINER_RESOURCES: [&str; 6] = [
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
];

pub(super) fn check(env: &[EnvVar], path: &Path, errors: &mut Errors) {
    for (index, variable) in env.iter().enumerate() {
        let path = path.index(index);
        match variable.name.as_str() {
            "" => errors.required(&path.field("name"), ""),
            name => errors.invalid_each(&path.field("name"), name, validation::env_name(name)),
        }
        if let Some(source) = &variable.value_from {
            let has_value = variable.value.as_ref().is_some_and(|value| !value.is_empty());
            check_source(source, has_value, &path.field("valueFrom"), errors);
        }
    }
}

pub(super) fn check_from(sources: &[EnvFromSource], path: &Path, errors: &mut Errors) {
    for (index, source) in sources.iter().enumerate() {
        let path = path.index(index);
        if let Some(prefix) = source.prefix.as_deref().filter(|prefix| !prefix.is_empty()) {
            errors.invalid_each(&path.field("prefix"), prefix, validation::env_name(prefix));
        }
        let config_map = source.config_map_ref.as_ref().map(|it| ("configMapRef", &it.name));
        let secret = source.secret_ref.as_ref().map(|it| ("secretRef", &it.name));
        match (config_map, secret) {
            (None, None) => {
                errors.invalid(&path, "", "must specify one of: `configMapRef` or `secretRef`");
            }
            (Some(_), Some(_)) => {
                errors.invalid(&path, "", "may not have more than one field specified at a time");
            }
            (Some((field, name)), None) | (None, Some((field, name))) => {
                check_object_name(name, &path.field(field).field("name"), errors);
            }
        }
    }
}

fn check_source(source: &EnvVarSource, has_value: bool, path: &Path, errors: &mut Errors) {
    let mut given = 0;
    if let Some(field) = &source.field_ref {
        given += 1;
        let path = path.field("fieldRef");
        match field.field_path.as_str() {
            "" => errors.required(&path.field("fieldPath"), ""),
            map if map.starts_with("metadata.labels['") || map.starts_with("metadata.annotations['") => {}
            plain => errors.one_of(&path.field("fieldPath"), plain, &POD_FIELDS),
        }
    }
    if let Some(resource) = &source.resource_field_ref {
        given += 1;
        let path = path.field("resourceFieldRef").field("resource");
        if !resource.resource.contains("hugepages-") {
            errors.one_of(&path, &resource.resource, &CONTAINER_RESOURCES);
        }
    }
    let keys = [
        ("configMapKeyRef", source.config_map_key_ref.as_ref().map(|it| (&it.name, &it.key))),
        ("secretKeyRef", source.secret_key_ref.as_ref().map(|it| (&it.name, &it.key))),
    ];
    for (field, selector) in keys {
        let Some((name, key)) = selector else { continue };
        given += 1;
        let path = path.field(field);
        check_object_name(name, &path.field("name"), errors);
        match key.as_str() {
            "" => errors.required(&path.field("key"), ""),
            key => errors.invalid_each(&path.field("key"), key, validation::config_key(key)),
        }
    }
    if source.file_key_ref.is_some() {
        given += 1;
    }
    match given {
        0 => errors.invalid(
            path,
            "",
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`",
        ),
        _ if has_value => errors.invalid(path, "", "may not be specified when `value` is not empty"),
        1 => {}
        _ => errors.invalid(path, "", "may not have more than one field specified at a time"),
    }
}

pub(super) fn check_object_name(name: &str, path: &Path, errors: &mut Errors) {
    match name {
        "" => errors.required(path, ""),
        name => errors.invalid_each(path, name, validation::dns_subdomain(name)),
    }
}
