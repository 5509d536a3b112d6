//! `/v1/runs`.

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::StreamExt as _;
use serde::Deserialize;
use serde_json::{Value, json};

use super::App;
use crate::supervisor::{Kind, Metrics, Refusal, Shown};
use std::sync::Arc;

const NDJSON: HeaderValue = HeaderValue::from_static("application/x-ndjson");

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Start {
    #[serde(default)]
    adapter: Option<String>,
    /// Paperclip's execution context.
    context: Value,
}

#[derive(Debug, Deserialize)]
pub(super) struct From {
    #[serde(default)]
    from: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cancel {
    #[serde(default)]
    reason: Option<String>,
}

pub(super) async fn start(
    State(app): State<App>,
    body: Result<Json<Start>, JsonRejection>,
) -> Result<Response, Refusal> {
    let Json(start) = body?;
    let entry = app.supervisor.start(start.adapter.as_deref(), &start.context)?;
    Ok((StatusCode::ACCEPTED, Json(json!({ "runId": entry.about.run_id }))).into_response())
}

pub(super) async fn list(State(app): State<App>) -> Json<Value> {
    Json(json!({ "runs": app.supervisor.list() }))
}

pub(super) async fn get(
    State(app): State<App>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Shown>, Refusal> {
    let entry = app.supervisor.get(&id?)?;
    Ok(Json(app.supervisor.show(&entry)))
}

/// The records from a number on, a line each, live until the result.
pub(super) async fn events(
    State(app): State<App>,
    id: Result<Path<String>, PathRejection>,
    from: Result<Query<From>, QueryRejection>,
) -> Result<Response, Refusal> {
    let entry = app.supervisor.get(&id?)?;
    let Query(From { from }) = from?;
    let following = Following::new(app.supervisor.metrics());
    let mut closing = app.closing.clone();
    let closed = async move {
        // Never told: this process goes on.
        if closing.wait_for(|is_closing| *is_closing).await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let lines = entry.feed.follow(from).take_until(Box::pin(closed)).map(move |chunk| {
        let _following = &following;
        chunk
    });
    Ok(([(CONTENT_TYPE, NDJSON)], Body::from_stream(lines)).into_response())
}

pub(super) async fn cancel(
    State(app): State<App>,
    id: Result<Path<String>, PathRejection>,
    body: Bytes,
) -> Result<Response, Refusal> {
    let cancel: Cancel = if body.is_empty() {
        Cancel::default()
    } else {
        serde_json::from_slice(&body).map_err(|error| {
            Refusal::new(
                Kind::BadRequest,
                format!("the body is {error}"),
                "send {\"reason\": \"...\"} or nothing",
            )
        })?
    };
    let entry = app.supervisor.cancel(&id?, cancel.reason).await?;
    Ok((StatusCode::ACCEPTED, Json(app.supervisor.show(&entry))).into_response())
}

/// An open event stream, for as long as it is held.
struct Following(Arc<Metrics>);

impl Following {
    fn new(metrics: &Arc<Metrics>) -> Following {
        metrics.followers.inc();
        Following(Arc::clone(metrics))
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.0.followers.dec();
    }
}
