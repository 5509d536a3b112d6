//! `/v1/runs`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Extension, Path, Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::StreamExt as _;
use paperclip_diagnostic::Diagnose as _;
use paperclip_engine::intake;
use paperclip_prepare::{McpServer, Supplied, SuppliedFile};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::App;
use super::body::{Intaken, check_values};
use super::forwarding::{Head, Lists, ask_others, forward};
use super::text::with_text;
use crate::metrics::Metrics;
use crate::refusal::{Kind, Refusal};
use crate::supervisor::{FollowFrom, Found, RunState, StartRequest, Started};

const NDJSON: HeaderValue = HeaderValue::from_static("application/x-ndjson");

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Start {
    #[serde(default)]
    adapter: Option<String>,
    /// Paperclip's execution context, which is read before the other members.
    #[serde(rename = "context")]
    _context: IgnoredAny,
    #[serde(default)]
    files: Option<Vec<SuppliedFile>>,
    #[serde(default)]
    instructions_entry: Option<String>,
    #[serde(default)]
    mcp_servers: Vec<McpServer>,
    #[serde(default)]
    resumes: Option<String>,
    #[serde(default)]
    pushes_cancel: bool,
}

#[derive(Debug, Deserialize)]
pub(super) struct Filter {
    /// False: only runs that are over and whose result the server does not have.
    #[serde(default)]
    taken: Option<bool>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Events {
    #[serde(default)]
    from: u64,
    /// That of the last record that the client has; it is used in place of the number.
    #[serde(default)]
    cursor: Option<String>,
    /// With the text for people beside each line.
    #[serde(default)]
    text: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cancel {
    #[serde(default)]
    reason: Option<String>,
}

pub(super) async fn start(
    State(app): State<App>,
    head: Head,
    intaken: Option<Extension<Intaken>>,
    body: Bytes,
) -> Result<Response, Refusal> {
    let start = parse(&body)?;
    let memory = intaken.and_then(|Extension(Intaken(reserved))| reserved);
    // The body is passed on as it came if another host has the run.
    let Started { run_id, follows } = match app.supervisor.start(StartRequest { memory, ..start }).await? {
        Found::Here(started) => started,
        Found::Elsewhere(elsewhere) => return forward(&app, &elsewhere, head, body).await,
    };
    let mut answer = json!({ "runId": run_id });
    if let Some(follows) = follows {
        answer["follows"] = follows.into();
    }
    Ok((StatusCode::ACCEPTED, Json(answer)).into_response())
}

/// Parses a start. Nothing is built of a context or a body of too many values.
fn parse(body: &Bytes) -> Result<StartRequest, Refusal> {
    #[derive(Deserialize)]
    struct Peeked<'a> {
        #[serde(borrow)]
        context: Option<&'a RawValue>,
    }
    let wrong = |error: serde_json::Error| {
        Refusal::new(
            Kind::BadRequest,
            format!("the body: {error}"),
            "send a JSON object as /v1/openapi.json describes it, with Content-Type: application/json",
        )
    };
    let Peeked { context } = serde_json::from_slice(body).map_err(wrong)?;
    let context = context.map(|context| intake::parse(context.get())).transpose();
    let context = context.map_err(|error| Refusal::bad_context(error.diagnostic()))?;
    check_values(body)?;
    let Start { adapter, files, instructions_entry, mcp_servers, resumes, pushes_cancel, .. } =
        serde_json::from_slice(body).map_err(wrong)?;
    let context = context.unwrap_or_default();
    let supplied = Supplied { files, instructions_entry, mcp_servers };
    Ok(StartRequest { adapter, context, supplied, resumes, pushes_cancel, memory: None })
}

/// Lists the runs of all hosts that answer.
pub(super) async fn list(
    State(app): State<App>,
    filter: Result<Query<Filter>, QueryRejection>,
    head: Head,
) -> Result<Json<Value>, Refusal> {
    let Query(Filter { taken }) = filter?;
    let runs = app.supervisor.list().await?.into_iter();
    let runs: Vec<RunState> = match taken {
        None => runs.collect(),
        Some(true) => runs.filter(|run| run.taken).map(RunState::of_owner).collect(),
        Some(false) => runs.filter(RunState::is_untaken).map(RunState::of_owner).collect(),
    };
    let runs = runs.into_iter().map(|run| json!(run)).collect();
    let Lists { answers, missing } = ask_others(&app, &head).await;
    let others = answers.into_iter().filter_map(|mut answer| match answer["runs"].take() {
        Value::Array(runs) => Some(runs),
        _ => None,
    });
    let mut answer = json!({ "runs": merge(runs, others.flatten()) });
    if !missing.is_empty() {
        answer["missing"] = missing.into();
    }
    Ok(Json(answer))
}

/// Merges lists of runs by id. A run that a host has detached from is described by the one that drives it.
fn merge(here: Vec<Value>, others: impl Iterator<Item = Value>) -> Vec<Value> {
    let mut by_id = BTreeMap::<String, Value>::new();
    for run in here.into_iter().chain(others) {
        let id = run["runId"].as_str().unwrap_or_default().to_owned();
        let known = by_id.entry(id).or_insert_with(|| run.clone());
        if known["state"] == "detached" {
            *known = run;
        }
    }
    by_id.into_values().collect()
}

/// Records that the server has stored the result.
pub(super) async fn take(
    State(app): State<App>,
    id: Result<Path<String>, PathRejection>,
    head: Head,
) -> Result<Response, Refusal> {
    match app.supervisor.take(&id?).await? {
        Found::Here(()) => Ok(StatusCode::NO_CONTENT.into_response()),
        Found::Elsewhere(elsewhere) => forward(&app, &elsewhere, head, Bytes::new()).await,
    }
}

pub(super) async fn get(
    State(app): State<App>,
    id: Result<Path<String>, PathRejection>,
    head: Head,
) -> Result<Response, Refusal> {
    let id = id?;
    match app.supervisor.find(&id).await? {
        Found::Here(run) => Ok(Json(app.supervisor.describe(run).await?.of(&id)).into_response()),
        Found::Elsewhere(elsewhere) => forward(&app, &elsewhere, head, Bytes::new()).await,
    }
}

/// Streams the records from a number on, one per line, until the result.
pub(super) async fn events(
    State(app): State<App>,
    id: Result<Path<String>, PathRejection>,
    query: Result<Query<Events>, QueryRejection>,
    head: Head,
) -> Result<Response, Refusal> {
    let run = match app.supervisor.find(&id?).await? {
        Found::Here(run) => run,
        Found::Elsewhere(elsewhere) => return forward(&app, &elsewhere, head, Bytes::new()).await,
    };
    let Query(Events { from, cursor, text }) = query?;
    let from = match cursor {
        None => FollowFrom::Number(from),
        Some(cursor) => FollowFrom::After(cursor.parse().map_err(|()| not_a_cursor(&cursor))?),
    };
    let following = Following::new(app.supervisor.metrics());
    let mut closing = app.closing.clone();
    let closed = async move {
        // The sender is dropped without a signal only if this process keeps running.
        if closing.wait_for(|is_closing| *is_closing).await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let lines = run.feed.follow(&from).take_until(Box::pin(closed)).map(move |chunk| {
        let _following = &following;
        chunk
    });
    let body = if text {
        Body::from_stream(with_text(lines, app.supervisor.tools(&run.info).await?))
    } else {
        Body::from_stream(lines)
    };
    Ok(([(CONTENT_TYPE, NDJSON)], body).into_response())
}

pub(super) async fn cancel(
    State(app): State<App>,
    id: Result<Path<String>, PathRejection>,
    head: Head,
    body: Bytes,
) -> Result<Response, Refusal> {
    let cancel: Cancel = if body.is_empty() {
        Cancel::default()
    } else {
        check_values(&body)?;
        serde_json::from_slice(&body).map_err(|error| {
            Refusal::new(
                Kind::BadRequest,
                format!("the body is {error}"),
                "send {\"reason\": \"...\"} or nothing",
            )
        })?
    };
    let id = id?;
    let run = match app.supervisor.cancel(&id, cancel.reason).await? {
        Found::Here(run) => run,
        Found::Elsewhere(elsewhere) => return forward(&app, &elsewhere, head, body).await,
    };
    let state = app.supervisor.describe(run).await?.of(&id);
    Ok((StatusCode::ACCEPTED, Json(state)).into_response())
}

fn not_a_cursor(text: &str) -> Refusal {
    let shown: String = text.chars().take(60).collect();
    let message = format!("{shown:?} is not a cursor of this API");
    Refusal::new(
        Kind::BadRequest,
        message,
        "give the cursor of the last record that was received, or leave it out",
    )
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_listed_once_as_the_host_that_drives_it_describes_it() {
        let run = |id: &str, state: &str| json!({ "runId": id, "state": state });
        let here = vec![run("b", "detached"), run("c", "running")];
        let others = [run("b", "running"), run("a", "queued"), run("c", "detached")];
        assert_eq!(
            merge(here, others.into_iter()),
            [run("a", "queued"), run("b", "running"), run("c", "running")]
        );
    }
}
