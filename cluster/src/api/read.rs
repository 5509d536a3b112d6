//! `get` and `list`.

use std::sync::Arc;

use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json};

use super::Server;
use super::media::{View, answer};
use super::pages::Continue;
use super::query::Params;
use crate::error::ApiError;
use crate::resource::Resource;
use crate::store::{Key, Object, Store};

pub(super) fn get(server: &Server, key: &Key, view: View) -> Result<Response, ApiError> {
    let object = server.store.get(key).ok_or_else(|| ApiError::not_found(key))?;
    Ok(answer(StatusCode::OK, &view.one(key.resource, &object, true)))
}

pub(super) fn list(
    server: &Server,
    resource: Resource,
    namespace: Option<&str>,
    params: &Params,
    view: View,
) -> Result<Response, ApiError> {
    let selection = params.selection(resource)?;
    let limit = params.number("limit")?.and_then(|limit| usize::try_from(limit).ok()).filter(|n| *n > 0);
    let page = params.get("continue").map(Continue::parse).transpose()?;
    let Snapshot { revision, mut items } = match &page {
        None => snapshot(&server.store, resource, namespace, params)?,
        Some(page) => continued(&server.store, resource, namespace, page)?,
    };
    items.retain(|object| {
        let is_due = page.as_ref().is_none_or(|page| page.is_before(&Key::of(resource, object)));
        is_due && selection.matches(object)
    });
    let mut metadata = json!({"resourceVersion": revision.to_string()});
    if let Some(limit) = limit.filter(|limit| items.len() > *limit) {
        let remaining = items.split_off(limit).len();
        if let Some(last) = items.last() {
            let pinned = page.as_ref().is_none_or(|page| page.revision.is_some()).then_some(revision);
            metadata["continue"] = json!(Continue::after(pinned, &Key::of(resource, last)).token());
        }
        // With a selector the rest is not counted, as there is no cheap way to in a real cluster.
        if selection.is_everything() {
            metadata["remainingItemCount"] = json!(remaining);
        }
    }
    Ok(answer(StatusCode::OK, &view.many(resource, &items, &metadata)))
}

struct Snapshot {
    revision: u64,
    items: Vec<Arc<Object>>,
}

fn snapshot(
    store: &Store,
    resource: Resource,
    namespace: Option<&str>,
    params: &Params,
) -> Result<Snapshot, ApiError> {
    let requested = params.version("resourceVersion")?;
    match (requested, params.get("resourceVersionMatch")) {
        (Some(revision), Some("Exact")) if revision > 0 => {
            Ok(Snapshot { revision, items: store.list_at(resource, namespace, revision)? })
        }
        (None, Some(_)) => Err(ApiError::bad_request(
            "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided",
        )),
        (_, None | Some("NotOlderThan" | "Exact")) => {
            let (revision, items) = store.list(resource, namespace);
            match requested.filter(|requested| *requested > revision) {
                Some(future) => Err(ApiError::future_version(future, revision)),
                None => Ok(Snapshot { revision, items }),
            }
        }
        (_, Some(other)) => Err(ApiError::bad_request(format!(
            "resourceVersionMatch: Unsupported value: \"{other}\": supported values: \"Exact\", \"NotOlderThan\""
        ))),
    }
}

fn continued(
    store: &Store,
    resource: Resource,
    namespace: Option<&str>,
    page: &Continue,
) -> Result<Snapshot, ApiError> {
    match page.revision {
        None => {
            let (revision, items) = store.list(resource, namespace);
            Ok(Snapshot { revision, items })
        }
        Some(revision) => {
            let items = store.list_at(resource, namespace, revision).map_err(|_| page.expired())?;
            Ok(Snapshot { revision, items })
        }
    }
}

/// The objects of a collection as a list, whatever form the client likes.
pub(super) fn as_list(resource: Resource, items: &[Arc<Object>], revision: u64) -> Value {
    View::Whole.many(resource, items, &json!({"resourceVersion": revision.to_string()}))
}
