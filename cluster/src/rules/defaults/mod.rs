//! Default values of fields.

mod job;
mod pod;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::resource::Resource;
use crate::store::{Object, meta};

/// The class of every volume here: a folder of this machine.
const STORAGE_CLASS: &str = "local";

/// Fills in the defaults of a kind; an object that has them already stays as it is.
pub(crate) fn apply(resource: Resource, object: &mut Object) {
    match resource {
        Resource::Jobs => job::apply(object),
        Resource::Pods => pod::apply(object),
        Resource::Secrets => {
            merge_string_data(object);
            fill(object, "type", json!("Opaque"));
        }
        Resource::PersistentVolumeClaims => {
            fill(&mut object["spec"], "volumeMode", json!("Filesystem"));
            fill(&mut object["spec"], "storageClassName", json!(STORAGE_CLASS));
        }
        Resource::Namespaces => {
            let name = meta(object, "name").to_owned();
            fill(&mut object["metadata"]["labels"], "kubernetes.io/metadata.name", json!(name));
        }
        Resource::ConfigMaps
        | Resource::Events
        | Resource::ServiceAccounts
        | Resource::Nodes
        | Resource::Leases => {}
    }
}

/// Gives a new object, which already has its name and uid, its initial status, and what only the server sets.
pub(crate) fn start(resource: Resource, object: &mut Object) {
    match resource {
        Resource::Jobs => job::start(object),
        Resource::Pods => pod::start(object),
        // The node binds it to a folder.
        Resource::PersistentVolumeClaims => object["status"] = json!({"phase": "Pending"}),
        Resource::Namespaces => {
            object["spec"] = json!({"finalizers": ["kubernetes"]});
            object["status"] = json!({"phase": "Active"});
        }
        Resource::Secrets
        | Resource::ConfigMaps
        | Resource::Events
        | Resource::ServiceAccounts
        | Resource::Nodes
        | Resource::Leases => {}
    }
}

/// Sets a field that is missing; makes an object of what has no fields yet.
fn fill(object: &mut Value, field: &str, value: Value) {
    if object.is_null() {
        *object = Value::Object(Map::new());
    }
    if let Some(fields) = object.as_object_mut() {
        fields.entry(field).or_insert(value);
    }
}

/// The items of a list, changeable; none if there is no list.
fn each<'a>(object: &'a mut Value, list: &str) -> impl Iterator<Item = &'a mut Value> {
    object.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten()
}

/// `stringData` is for writing only: its values become `data`.
fn merge_string_data(secret: &mut Object) {
    let Some(fields) = secret.as_object_mut() else { return };
    let Some(Value::Object(plain)) = fields.remove("stringData") else { return };
    for (key, value) in plain {
        let encoded = STANDARD.encode(value.as_str().unwrap_or_default());
        secret["data"][key] = Value::String(encoded);
    }
}
