//! `/v1/runs`.

use std::sync::Arc;

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
use crate::metrics::Metrics;
use crate::refusal::{Kind, Refusal};
use crate::supervisor::RunState;

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
    let run = app.supervisor.start(start.adapter.as_deref(), &start.context).await?;
    Ok((StatusCode::ACCEPTED, Json(json!({ "runId": run.info.run_id }))).into_response())
}

pub(super) async fn list(State(app): State<App>) -> Result<Json<Value>, Refusal> {
    Ok(Json(json!({ "runs": app.supervisor.list().await? })))
}

pub(super) async fn get(
    State(app): State<App>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<RunState>, Refusal> {
    let run = app.supervisor.get(&id?).await?;
    app.supervisor.describe(run).await.map(Json)
}

/// Streams the records from a number on, one per line, until the result.
pub(super) async fn events(
    State(app): State<App>,
    id: Result<Path<String>, PathRejection>,
    from: Result<Query<From>, QueryRejection>,
) -> Result<Response, Refusal> {
    let run = app.supervisor.get(&id?).await?;
    let Query(From { from }) = from?;
    let following = Following::new(app.supervisor.metrics());
    let mut closing = app.closing.clone();
    let closed = async move {
        // The sender is dropped without a signal only if this process keeps running.
        if closing.wait_for(|is_closing| *is_closing).await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let lines = run.feed.follow(from).take_until(Box::pin(closed)).map(move |chunk| {
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
    let run = app.supervisor.cancel(&id?, cancel.reason).await?;
    let state = app.supervisor.describe(run).await?;
    Ok((StatusCode::ACCEPTED, Json(state)).into_response())
}

/// Counts an open event stream for as long as it exists.
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
