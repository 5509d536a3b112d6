//! `delete`, `deletecollection` and the eviction of a Pod.

use std::sync::Arc;

use axum::response::Response;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::Server;
use super::body;
use super::media::{answer, warn};
use super::query::{FieldValidation, Params};
use super::read::as_list;
use crate::error::ApiError;
use crate::resource::Resource;
use crate::store::{DeleteOptions, Deletion, Key, Object, Propagation, Store, meta, now_seconds};

const JOB_PODS_STAY: &str = "child pods are preserved by default when jobs are deleted; set \
    propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning";

pub(super) fn delete(
    server: &Server,
    key: &Key,
    params: &Params,
    (headers, bytes): (&HeaderMap, &[u8]),
) -> Result<Response, ApiError> {
    let (store, options) = options_of(server, params, headers, bytes)?;
    let deletion = store.delete(key, &options)?;
    let body = match &deletion {
        Deletion::Pending(object) => Value::clone(object),
        Deletion::Removed(object) if returns_object(key.resource) => Value::clone(object),
        Deletion::Removed(object) => success(key, object),
    };
    let mut response = answer(StatusCode::OK, &body);
    if key.resource == Resource::Jobs && options.propagation.is_none() {
        warn(&mut response, JOB_PODS_STAY);
    }
    Ok(response)
}

pub(super) fn delete_collection(
    server: &Server,
    resource: Resource,
    namespace: Option<&str>,
    params: &Params,
    (headers, bytes): (&HeaderMap, &[u8]),
) -> Result<Response, ApiError> {
    // The objects of all namespaces, or all namespaces, cannot be deleted at once.
    if resource == Resource::Namespaces || (resource.is_namespaced() && namespace.is_none()) {
        return Err(ApiError::method_not_allowed());
    }
    let (store, options) = options_of(server, params, headers, bytes)?;
    let selection = params.selection(resource)?;
    let (revision, items) = store.list(resource, namespace);
    let mut deleted: Vec<Arc<Object>> = Vec::new();
    for object in items.iter().filter(|object| selection.matches(object)) {
        match store.delete(&Key::of(resource, object), &options) {
            Ok(deletion) => deleted.push(deletion.object().clone()),
            Err(error) if error.code == 404 => {}
            Err(error) => return Err(error),
        }
    }
    Ok(answer(StatusCode::OK, &as_list(resource, &deleted, revision)))
}

/// Ends a Pod as a disruption from outside, such as a drained node.
pub(super) fn evict(
    server: &Server,
    key: &Key,
    params: &Params,
    (headers, bytes): (&HeaderMap, &[u8]),
) -> Result<Response, ApiError> {
    let eviction = body::parse(headers, bytes)?;
    let draft = body::of_kind("policy/v1", "Eviction", eviction, FieldValidation::Warn)?;
    let named = meta(&draft.object, "name");
    if !named.is_empty() && named != key.name {
        return Err(ApiError::bad_request("name in URL does not match name in Eviction object"));
    }
    let options = parse_options(params, &draft.object["deleteOptions"])?;
    let store = if params.is_dry_run()? { server.store.dry_run() } else { server.store.clone() };
    let reason = json!({
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting",
        "lastTransitionTime": now_seconds(),
    });
    let pod = store.update(key, |pod| {
        let mut conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.retain(|condition| condition["type"] != "DisruptionTarget");
        conditions.push(reason);
        pod["status"]["conditions"] = Value::Array(conditions);
        Ok(())
    })?;
    let options = DeleteOptions { uid: Some(meta(&pod, "uid").to_owned()), ..options };
    store.delete(key, &options)?;
    Ok(answer(
        StatusCode::CREATED,
        &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}),
    ))
}

fn options_of(
    server: &Server,
    params: &Params,
    headers: &HeaderMap,
    bytes: &[u8],
) -> Result<(Store, DeleteOptions), ApiError> {
    let body = if bytes.is_empty() { Value::Null } else { body::parse(headers, bytes)? };
    let is_dry_run = match body["dryRun"].as_array() {
        Some(list) => list.iter().any(|value| value == "All"),
        None => params.is_dry_run()?,
    };
    let store = if is_dry_run { server.store.dry_run() } else { server.store.clone() };
    Ok((store, parse_options(params, &body)?))
}

/// The options of a body; where it has none, those of the query.
fn parse_options(params: &Params, body: &Value) -> Result<DeleteOptions, ApiError> {
    let policy = body["propagationPolicy"].as_str().or_else(|| params.get("propagationPolicy"));
    let orphan = match body["orphanDependents"].as_bool() {
        Some(orphan) => Some(orphan),
        None => params.optional_flag("orphanDependents")?,
    };
    let grace = match body["gracePeriodSeconds"].as_i64() {
        Some(seconds) => Some(seconds),
        None => params.number("gracePeriodSeconds")?,
    };
    let precondition = |field: &str| body["preconditions"][field].as_str().map(str::to_owned);
    Ok(DeleteOptions {
        uid: precondition("uid"),
        resource_version: precondition("resourceVersion"),
        grace_period_seconds: grace,
        propagation: propagation(policy, orphan)?,
    })
}

fn propagation(policy: Option<&str>, orphan: Option<bool>) -> Result<Option<Propagation>, ApiError> {
    match (policy, orphan) {
        (Some(_), Some(_)) => Err(ApiError::unprocessable(
            "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Invalid value: orphanDependents and \
             deletionPropagation cannot be both set",
        )),
        (Some("Background"), None) | (None, Some(false)) => Ok(Some(Propagation::Background)),
        (Some("Foreground"), None) => Ok(Some(Propagation::Foreground)),
        (Some("Orphan"), None) | (None, Some(true)) => Ok(Some(Propagation::Orphan)),
        (Some(other), None) => Err(ApiError::unprocessable(format!(
            "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Unsupported value: \"{other}\": supported \
             values: \"Background\", \"Foreground\", \"Orphan\", \"nil\""
        ))),
        (None, None) => Ok(None),
    }
}

/// Whether a deletion that is complete answers with the object rather than with a `Status`.
const fn returns_object(resource: Resource) -> bool {
    match resource {
        Resource::Pods | Resource::PersistentVolumeClaims | Resource::ServiceAccounts => true,
        Resource::Namespaces
        | Resource::Secrets
        | Resource::ConfigMaps
        | Resource::Events
        | Resource::Nodes
        | Resource::Jobs
        | Resource::Leases => false,
    }
}

fn success(key: &Key, object: &Object) -> Value {
    let mut details =
        json!({"name": key.name, "kind": key.resource.plural(), "uid": object["metadata"]["uid"]});
    if !key.resource.group().is_empty() {
        details["group"] = json!(key.resource.group());
    }
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}
