//! Deletion: options, preconditions and finalizers.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Key, Object, identity, is_deleting, meta};
use crate::error::ApiError;
use crate::resource::Resource;

/// Held until every object that blocks the deletion of its owner is deleted; the garbage collector removes it.
pub const FOREGROUND_FINALIZER: &str = "foregroundDeletion";
/// Held until the object's dependents no longer name it as owner; the garbage collector takes it away.
pub const ORPHAN_FINALIZER: &str = "orphan";

/// What becomes of the objects that the deleted one owns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Propagation {
    /// They are deleted after it.
    Background,
    /// They are deleted before it.
    Foreground,
    /// They stay.
    Orphan,
}

/// The options and preconditions of a deletion.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct DeleteOptions {
    /// Delete only the object with this uid.
    pub uid: Option<String>,
    /// Delete only this version of the object.
    pub resource_version: Option<String>,
    /// How long a running Pod may take to end; `None` leaves it to the Pod.
    pub grace_period_seconds: Option<i64>,
    /// `None` takes the resource's default: `Orphan` for Jobs (as batch/v1 does), else `Background`.
    pub propagation: Option<Propagation>,
}

/// How far a deletion got.
#[derive(Clone, PartialEq, Debug)]
pub enum Deletion {
    /// The object is deleted; this was its last state.
    Removed(Arc<Object>),
    /// The object is marked; a finalizer or a running process holds it.
    Pending(Arc<Object>),
}

impl Deletion {
    /// The object as the deletion left it.
    pub fn object(&self) -> &Arc<Object> {
        match self {
            Deletion::Removed(object) | Deletion::Pending(object) => object,
        }
    }
}

impl DeleteOptions {
    pub(super) fn check_preconditions(&self, key: &Key, object: &Object) -> Result<(), ApiError> {
        let checks = [
            ("UID", &self.uid, meta(object, "uid")),
            ("ResourceVersion", &self.resource_version, meta(object, "resourceVersion")),
        ];
        for (field, requested, found) in checks {
            if let Some(requested) = requested.as_deref().filter(|requested| *requested != found) {
                let why = format!(
                    "Precondition failed: {field} in precondition: {requested}, {field} in object meta: {found}"
                );
                return Err(ApiError::conflict(key, &why));
            }
        }
        Ok(())
    }
}

/// Marks an object as deleting. A second deletion may shorten the grace period, never lengthen it.
pub(super) fn mark(resource: Resource, object: &mut Object, options: &DeleteOptions) {
    set_propagation_finalizer(resource, object, options.propagation);
    let requested = grace_seconds(resource, object, options);
    let is_second = is_deleting(object);
    let standing = object["metadata"]["deletionGracePeriodSeconds"].as_i64();
    let grace = match standing.filter(|_| is_second) {
        Some(current) if current <= requested => return,
        Some(_) | None => requested,
    };
    let metadata = &mut object["metadata"];
    metadata["deletionTimestamp"] = Value::String(identity::seconds_from_now(grace));
    metadata["deletionGracePeriodSeconds"] = json!(grace);
    if !is_second && let Some(generation) = metadata["generation"].as_i64() {
        metadata["generation"] = json!(generation + 1);
    }
    if resource == Resource::Namespaces {
        object["status"]["phase"] = json!("Terminating");
    }
}

/// Whether a deleting object has nothing left that holds it.
pub(super) fn is_released(object: &Object) -> bool {
    let is_held_by = |list: &Value| list.as_array().is_some_and(|finalizers| !finalizers.is_empty());
    is_deleting(object)
        && object["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or_default() == 0
        && !is_held_by(&object["metadata"]["finalizers"])
        // Only a Namespace has finalizers here: `kubernetes`, until it is empty.
        && !is_held_by(&object["spec"]["finalizers"])
}

fn grace_seconds(resource: Resource, object: &Object, options: &DeleteOptions) -> i64 {
    if resource != Resource::Pods {
        return 0;
    }
    let is_bound = object["spec"]["nodeName"].as_str().is_some_and(|node| !node.is_empty());
    let is_over = matches!(object["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    if !is_bound || is_over {
        return 0;
    }
    match options.grace_period_seconds.or_else(|| object["spec"]["terminationGracePeriodSeconds"].as_i64()) {
        // As the API server reads it: a negative period is the shortest one.
        Some(seconds) if seconds < 0 => 1,
        Some(seconds) => seconds,
        None => 0,
    }
}

fn set_propagation_finalizer(resource: Resource, object: &mut Object, propagation: Option<Propagation>) {
    let requested = match propagation {
        Some(Propagation::Background) => None,
        Some(Propagation::Foreground) => Some(FOREGROUND_FINALIZER),
        Some(Propagation::Orphan) => Some(ORPHAN_FINALIZER),
        // Nothing is requested: an earlier deletion's choice is kept, else the default of the resource.
        None if has_propagation_finalizer(object) => return,
        None if resource == Resource::Jobs => Some(ORPHAN_FINALIZER),
        None => None,
    };
    let mut finalizers: Vec<Value> = object["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
    finalizers.retain(|finalizer| !is_propagation(finalizer));
    finalizers.extend(requested.map(Value::from));
    if let Some(metadata) = object["metadata"].as_object_mut() {
        if finalizers.is_empty() {
            metadata.remove("finalizers");
        } else {
            metadata.insert("finalizers".to_owned(), Value::Array(finalizers));
        }
    }
}

fn has_propagation_finalizer(object: &Object) -> bool {
    object["metadata"]["finalizers"].as_array().is_some_and(|list| list.iter().any(is_propagation))
}

fn is_propagation(finalizer: &Value) -> bool {
    matches!(finalizer.as_str(), Some(FOREGROUND_FINALIZER | ORPHAN_FINALIZER))
}
