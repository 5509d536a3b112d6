//! The identity of an object: name, uid, times, generation.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{Object, meta};
use crate::error::ApiError;
use crate::random;
use crate::resource::Resource;

/// The letters of generated names: no vowels and nothing that reads like another, as Kubernetes does.
const NAME_LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const NAME_SUFFIX_LETTERS: usize = 5;
const NAME_MAX_LETTERS: usize = 63;

/// The time with whole seconds, as most fields of the API have it.
pub fn now_seconds() -> String {
    seconds_from_now(0)
}

/// The time with microseconds, as Leases and Events have it.
pub fn now_micros() -> String {
    format!("{:.6}", Timestamp::now())
}

pub(super) fn seconds_from_now(seconds: i64) -> String {
    let now = Timestamp::now();
    let then = now.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX);
    format!("{then:.0}")
}

pub(super) fn now_millis() -> u64 {
    u64::try_from(Timestamp::now().as_millisecond()).unwrap_or_default()
}

/// Gives a new object its name and what the server sets. One that already has a uid keeps it.
pub(crate) fn complete(resource: Resource, object: &mut Object) -> Result<(), ApiError> {
    if !object["metadata"].is_object() {
        return Err(ApiError::bad_request("the object has no metadata"));
    }
    if meta(object, "name").is_empty() {
        let base = meta(object, "generateName");
        if base.is_empty() {
            return Err(ApiError::bad_request("name or generateName is required"));
        }
        object["metadata"]["name"] = Value::String(generated_name(base));
    }
    object["apiVersion"] = Value::String(resource.api_version());
    object["kind"] = Value::String(resource.kind().to_owned());
    let metadata = &mut object["metadata"];
    if !metadata["uid"].is_string() {
        metadata["uid"] = Value::String(random::uuid());
    }
    metadata["creationTimestamp"] = Value::String(now_seconds());
    if resource.has_generation() {
        metadata["generation"] = json!(1);
    }
    if let Some(fields) = metadata.as_object_mut() {
        for set_by_server in
            ["resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"]
        {
            fields.remove(set_by_server);
        }
        if !resource.is_namespaced() {
            fields.remove("namespace");
        }
    }
    Ok(())
}

/// Takes back what no update may change, and counts a changed `spec`.
pub(super) fn keep(resource: Resource, old: &Object, new: &mut Object) {
    const IDENTITY: [&str; 7] = [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "resourceVersion",
        "generation",
    ];
    for field in ["apiVersion", "kind"] {
        new[field] = old[field].clone();
    }
    let Some(metadata) = new["metadata"].as_object_mut() else {
        new["metadata"] = old["metadata"].clone();
        return;
    };
    for field in IDENTITY {
        match old["metadata"].get(field) {
            Some(value) => metadata.insert(field.to_owned(), value.clone()),
            None => metadata.remove(field),
        };
    }
    if resource.has_generation() && old["spec"] != new["spec"] {
        let generation = old["metadata"]["generation"].as_i64().unwrap_or_default();
        new["metadata"]["generation"] = json!(generation + 1);
    }
}

/// A namespace as it is made on first use.
pub(super) fn namespace(name: &str) -> Object {
    stamped(
        Resource::Namespaces,
        json!({
            "metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}},
            "spec": {"finalizers": ["kubernetes"]},
            "status": {"phase": "Active"},
        }),
    )
}

/// The service account that every namespace has.
pub(super) fn service_account(namespace: &str) -> Object {
    stamped(Resource::ServiceAccounts, json!({"metadata": {"name": "default", "namespace": namespace}}))
}

fn stamped(resource: Resource, mut object: Object) -> Object {
    object["apiVersion"] = Value::String(resource.api_version());
    object["kind"] = Value::String(resource.kind().to_owned());
    object["metadata"]["uid"] = Value::String(random::uuid());
    object["metadata"]["creationTimestamp"] = Value::String(now_seconds());
    object
}

fn generated_name(base: &str) -> String {
    let kept = base.chars().take(NAME_MAX_LETTERS - NAME_SUFFIX_LETTERS);
    kept.chain(random::text(NAME_LETTERS, NAME_SUFFIX_LETTERS).chars()).collect()
}
