//! `create`, `update` and `patch`.

use axum::response::Response;
use http::{HeaderMap, StatusCode};
use serde_json::Value;

use super::Server;
use super::body::{self, Draft};
use super::media::{View, answer, warn};
use super::query::{FieldValidation, Params};
use crate::error::ApiError;
use crate::patch::Patch;
use crate::resource::Resource;
use crate::rules;
use crate::store::{Key, Object, Store, complete, meta};

/// Which half of an object a request may write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Half {
    /// Everything but the status.
    Main,
    /// Everything but the spec.
    Status,
}

/// The mode of a write, by the parameters of its request.
struct Mode {
    store: Store,
    validation: FieldValidation,
    view: View,
}

impl Mode {
    fn of(server: &Server, params: &Params, view: View) -> Result<Mode, ApiError> {
        let store = if params.is_dry_run()? { server.store.dry_run() } else { server.store.clone() };
        Ok(Mode { store, validation: params.field_validation()?, view })
    }

    fn answer(
        &self,
        status: StatusCode,
        resource: Resource,
        object: &Object,
        warnings: &[String],
    ) -> Response {
        let mut response = answer(status, &self.view.one(resource, object, true));
        for warning in warnings {
            warn(&mut response, warning);
        }
        response
    }
}

pub(super) fn create(
    server: &Server,
    resource: Resource,
    namespace: Option<&str>,
    params: &Params,
    view: View,
    (headers, bytes): (&HeaderMap, &[u8]),
) -> Result<Response, ApiError> {
    if resource.is_namespaced() && namespace.is_none() {
        return Err(ApiError::method_not_allowed());
    }
    let mode = Mode::of(server, params, view)?;
    let Draft { mut object, warnings } =
        body::object(resource, body::parse(headers, bytes)?, mode.validation)?;
    settle_namespace(namespace, &mut object)?;
    if !meta(&object, "resourceVersion").is_empty() {
        return Err(ApiError::bad_request("resourceVersion should not be set on objects to be created"));
    }
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.retain(|field, _| field != "uid" && field != "managedFields");
    }
    check_has_name(resource, &object)?;
    complete(resource, &mut object)?;
    rules::apply_defaults(resource, &mut object);
    rules::start_life(resource, &mut object);
    rules::check_new(resource, &object)?;
    let made = mode.store.create(resource, object)?;
    Ok(mode.answer(StatusCode::CREATED, resource, &made, &warnings))
}

pub(super) fn update(
    server: &Server,
    key: &Key,
    half: Half,
    params: &Params,
    view: View,
    (headers, bytes): (&HeaderMap, &[u8]),
) -> Result<Response, ApiError> {
    let mode = Mode::of(server, params, view)?;
    let Draft { mut object, warnings } =
        body::object(key.resource, body::parse(headers, bytes)?, mode.validation)?;
    let namespace = key.resource.is_namespaced().then_some(key.namespace.as_str());
    settle_namespace(namespace, &mut object)?;
    let name = meta(&object, "name").to_owned();
    if name != key.name {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            key.name
        )));
    }
    if needs_version(key.resource) && meta(&object, "resourceVersion").is_empty() {
        return Err(rules::missing_version(key));
    }
    let written = mode.store.update(key, |old| {
        let (expected, found) = (meta(&object, "uid"), meta(old, "uid"));
        if !expected.is_empty() && expected != found {
            let why =
                format!("Precondition failed: UID in precondition: {expected}, UID in object meta: {found}");
            return Err(ApiError::conflict(key, &why));
        }
        *old = judged(key, half, old, object)?;
        Ok(())
    })?;
    Ok(mode.answer(StatusCode::OK, key.resource, &written, &warnings))
}

pub(super) fn patch(
    server: &Server,
    key: &Key,
    half: Half,
    params: &Params,
    view: View,
    (headers, bytes): (&HeaderMap, &[u8]),
) -> Result<Response, ApiError> {
    let mode = Mode::of(server, params, view)?;
    let patch = Patch::parse(body::media_type(headers), bytes)?;
    let mut warnings = Vec::new();
    let written = mode.store.update(key, |old| {
        let mut patched = old.clone();
        patch.apply(key.resource.kind(), &mut patched)?;
        let draft = body::object(key.resource, patched, mode.validation)?;
        warnings = draft.warnings;
        *old = judged(key, half, old, draft.object)?;
        Ok(())
    })?;
    Ok(mode.answer(StatusCode::OK, key.resource, &written, &warnings))
}

/// Returns the object that replaces `old` when a client writes `new`.
fn judged(key: &Key, half: Half, old: &Object, mut new: Object) -> Result<Object, ApiError> {
    let resource = key.resource;
    let version = meta(&new, "resourceVersion");
    if !version.is_empty() && version != meta(old, "resourceVersion") {
        return Err(ApiError::modified(key));
    }
    match half {
        Half::Main if resource.has_status() => keep(old, &mut new, "status"),
        Half::Main => {}
        Half::Status => keep(old, &mut new, "spec"),
    }
    // Parts of the identity that a client leaves out are kept.
    for field in ["name", "namespace", "uid", "creationTimestamp"] {
        if new["metadata"][field].is_null() && !old["metadata"][field].is_null() {
            new["metadata"][field] = old["metadata"][field].clone();
        }
    }
    if let Some(metadata) = new["metadata"].as_object_mut() {
        metadata.retain(|field, value| field != "managedFields" && !value.is_null());
    }
    rules::apply_defaults(resource, &mut new);
    rules::check_change(resource, old, &new)?;
    Ok(new)
}

fn keep(old: &Object, new: &mut Object, field: &str) {
    let Some(fields) = new.as_object_mut() else { return };
    match old.get(field) {
        Some(value) => fields.insert(field.to_owned(), value.clone()),
        None => fields.remove(field),
    };
}

/// Whether an update has to say which version it changes; of the others it may be left out.
const fn needs_version(resource: Resource) -> bool {
    match resource {
        Resource::Leases | Resource::Namespaces | Resource::ServiceAccounts => true,
        Resource::Pods
        | Resource::Secrets
        | Resource::ConfigMaps
        | Resource::Events
        | Resource::PersistentVolumeClaims
        | Resource::Nodes
        | Resource::Jobs => false,
    }
}

/// The namespace of the path holds; an object that names another one is refused.
fn settle_namespace(namespace: Option<&str>, object: &mut Object) -> Result<(), ApiError> {
    if object["metadata"].is_null() {
        object["metadata"] = Value::Object(serde_json::Map::new());
    }
    match (meta(object, "namespace"), namespace) {
        (_, None) => {}
        ("", Some(namespace)) => object["metadata"]["namespace"] = Value::from(namespace),
        (found, Some(namespace)) if found != namespace => {
            return Err(ApiError::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        (_, Some(_)) => {}
    }
    Ok(())
}

/// Without a name the other rules have no object to report.
fn check_has_name(resource: Resource, object: &Object) -> Result<(), ApiError> {
    let has = |field| !meta(object, field).is_empty();
    if has("name") || has("generateName") { Ok(()) } else { rules::check_new(resource, object) }
}
