//! Lists, watches and changes of objects.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use futures::StreamExt as _;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::App;
use super::store::{Key, Refused};

/// Path and query parameters by name.
type Parameters = BTreeMap<String, String>;

/// Default timeout of a watch.
const WATCH_S: u64 = 300;

fn key(path: &Parameters, name: &str) -> Key {
    let part = |name: &str| path.get(name).cloned().unwrap_or_default();
    Key { resource: part("resource"), namespace: part("namespace"), name: name.to_owned() }
}

fn named(path: &Parameters) -> Key {
    key(path, path.get("name").map(String::as_str).unwrap_or_default())
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Selection {
    #[serde(default)]
    watch: bool,
    resource_version: Option<String>,
    timeout_seconds: Option<u64>,
    label_selector: Option<String>,
}

/// Answers a list, or a watch from a version on. Watches ignore the selector: all objects of this server have the requested label.
pub(super) async fn list(
    State(app): State<App>,
    Path(path): Path<Parameters>,
    Query(selection): Query<Selection>,
) -> Response {
    let Key { resource, namespace, .. } = key(&path, "");
    if selection.watch {
        let version = selection.resource_version.and_then(|version| version.parse().ok()).unwrap_or_default();
        let open = Duration::from_secs(selection.timeout_seconds.unwrap_or(WATCH_S));
        return watch(&app, resource, version).take_until(Box::pin(tokio::time::sleep(open))).into_body();
    }
    let (mut items, version) = app.store.list(&resource, &namespace);
    items.retain(|item| has_labels(item, selection.label_selector.as_deref().unwrap_or_default()));
    let (kind, api_version) = match resource.as_str() {
        "jobs" => ("JobList", "batch/v1"),
        "leases" => ("LeaseList", "coordination.k8s.io/v1"),
        "pods" => ("PodList", "v1"),
        _ => ("List", "v1"),
    };
    Json(json!({
        "kind": kind, "apiVersion": api_version, "metadata": { "resourceVersion": version.to_string() }, "items": items,
    }))
    .into_response()
}

fn has_labels(object: &Value, selector: &str) -> bool {
    let mut required = selector.split(',').filter_map(|pair| pair.split_once('='));
    required.all(|(name, value)| object["metadata"]["labels"][name] == value)
}

fn watch(
    app: &App,
    resource: String,
    version: usize,
) -> impl futures::Stream<Item = std::io::Result<Bytes>> + Send + use<> {
    let (store, changes) = (app.store.clone(), app.store.changes());
    futures::stream::unfold(
        (store, changes, resource, version),
        |(store, mut changes, resource, version)| async move {
            let mut version = version;
            loop {
                changes.borrow_and_update();
                let (lines, next) = store.since(&resource, version);
                version = next;
                if !lines.is_empty() {
                    return Some((Ok(Bytes::from(lines.concat())), (store, changes, resource, version)));
                }
                changes.changed().await.ok()?;
            }
        },
    )
}

/// Turns a stream into an answer.
trait IntoBody {
    fn into_body(self) -> Response;
}

impl<S: futures::Stream<Item = std::io::Result<Bytes>> + Send + 'static> IntoBody for S {
    fn into_body(self) -> Response {
        Body::from_stream(self).into_response()
    }
}

pub(super) async fn create_core(
    state: State<App>,
    path: Path<Parameters>,
    query: Query<Parameters>,
    body: Bytes,
) -> Result<Response, Refused> {
    create(state, path, query, body).await
}

pub(super) async fn create(
    State(app): State<App>,
    Path(path): Path<Parameters>,
    Query(query): Query<Parameters>,
    body: Bytes,
) -> Result<Response, Refused> {
    let object = read(&body)?;
    if query.contains_key("dryRun") {
        return Ok((StatusCode::CREATED, Json(object)).into_response());
    }
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let created = app.store.create(key(&path, &name), object)?;
    Ok((StatusCode::CREATED, Json(created)).into_response())
}

pub(super) async fn get(
    State(app): State<App>,
    Path(path): Path<Parameters>,
) -> Result<Json<Value>, Refused> {
    app.store.get(&named(&path)).map(Json)
}

pub(super) async fn delete(
    State(app): State<App>,
    Path(path): Path<Parameters>,
    body: Bytes,
) -> Result<Json<Value>, Refused> {
    let options = if body.is_empty() { Value::Null } else { read(&body)? };
    app.store.delete(&named(&path), |object| check(object, &options["preconditions"])).map(Json)
}

pub(super) async fn replace(
    State(app): State<App>,
    Path(path): Path<Parameters>,
    body: Bytes,
) -> Result<Json<Value>, Refused> {
    let new = read(&body)?;
    let replaced = app.store.change(&named(&path), |object| {
        if new["metadata"]["resourceVersion"] != object["metadata"]["resourceVersion"] {
            return Err(Refused::Conflict);
        }
        *object = new;
        Ok(())
    });
    replaced.map(Json)
}

/// Applies a merge patch. Its UID and resourceVersion, if it has them, must be the object's. A Job that is no longer suspended starts.
pub(super) async fn patch(
    State(app): State<App>,
    Path(path): Path<Parameters>,
    body: Bytes,
) -> Result<Json<Value>, Refused> {
    let patch = read(&body)?;
    let key = named(&path);
    let mut starts = false;
    let patched = app.store.change(&key, |object| {
        check(object, &patch["metadata"])?;
        let was_suspended = object["spec"]["suspend"] == true;
        json_patch::merge(object, &patch);
        starts = was_suspended && object["spec"]["suspend"] == false;
        Ok(())
    })?;
    if starts {
        tokio::spawn(app.agents.clone().live(app.store.clone(), key, patched.clone()));
    }
    Ok(Json(patched))
}

/// Compares an object with the UID and the resourceVersion that a request names.
fn check(object: &Value, named: &Value) -> Result<(), Refused> {
    let is_same = |field: &str| named[field].is_null() || named[field] == object["metadata"][field];
    if is_same("uid") && is_same("resourceVersion") { Ok(()) } else { Err(Refused::Conflict) }
}

/// Parses a body; the host sends JSON only.
fn read(body: &[u8]) -> Result<Value, Refused> {
    serde_json::from_slice(body).map_err(|_| Refused::Conflict)
}
