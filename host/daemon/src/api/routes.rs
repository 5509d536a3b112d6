//! The routes, and what applies to all of them.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, Method};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use super::answer::too_large;
use super::{App, Token, forwarding, plugins, runs, version};
use crate::metrics::{AnswerLabels, CONTENT_TYPE as METRICS_TYPE};
use crate::refusal::{Kind, Refusal};

/// The API's description: OpenAPI 3.1.
pub(super) const OPENAPI: &str = include_str!("openapi.json");

pub(super) fn router(app: App, token: Arc<Token>, body_bytes: usize) -> Router {
    let guarded = Router::new()
        .route("/v1/runs", get(runs::list).post(runs::start))
        .route("/v1/runs/{id}", get(runs::get))
        .route("/v1/runs/{id}/events", get(runs::events))
        .route("/v1/runs/{id}/cancel", post(runs::cancel))
        .route("/v1/runs/{id}/taken", post(runs::take))
        .route("/v1/plugins", get(plugins::list))
        .route("/v1/plugins/reload", post(plugins::reload))
        .route("/v1/plugins/{type}/revert", post(plugins::revert))
        .route("/v1/adapters/{type}", get(plugins::adapter))
        .route("/v1/adapters/{type}/check", post(plugins::check))
        .route("/v1/adapters/{type}/skills", post(plugins::skills))
        .route("/v1/version", get(version::version))
        .route("/metrics", get(metrics))
        .route_layer(middleware::from_fn_with_state((token, app.clone()), authorize));
    Router::new()
        .merge(guarded)
        .route("/v1/openapi.json", get(openapi))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .fallback(unknown)
        .method_not_allowed_fallback(not_allowed)
        .layer(DefaultBodyLimit::max(body_bytes))
        .layer(middleware::from_fn_with_state(app.clone(), observe))
        .with_state(app)
}

async fn authorize(
    State((token, app)): State<(Arc<Token>, App)>,
    request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    if !forwarding::is_of_peer(&app, request.headers())? {
        token.check(request.headers())?;
    }
    Ok(next.run(request).await)
}

/// Counts answers, and limits the rate and size of requests that change something.
async fn observe(State(app): State<App>, request: Request, next: Next) -> Response {
    let route = match request.extensions().get::<MatchedPath>() {
        Some(path) => path.as_str().to_owned(),
        None => "none".to_owned(),
    };
    let changes = *request.method() != Method::GET && *request.method() != Method::HEAD;
    let limit_bytes = u64::from(app.supervisor.host().config.limits.request_mib) << 20;
    let taken =
        if changes { app.rate.take().and_then(|()| fits(request.headers(), limit_bytes)) } else { Ok(()) };
    let response = match taken {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    };
    let labels = AnswerLabels { route, status: response.status().as_u16() };
    app.supervisor.metrics().answers.get_or_create(&labels).inc();
    response
}

/// Refuses a body by the size in its head, before any of it is read.
fn fits(headers: &HeaderMap, limit_bytes: u64) -> Result<(), Refusal> {
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_none_or(|bytes| bytes <= limit_bytes) { Ok(()) } else { Err(too_large()) }
}

async fn metrics(State(app): State<App>) -> Result<Response, Refusal> {
    let text = app.supervisor.encode_metrics().await?;
    Ok(([(CONTENT_TYPE, HeaderValue::from_static(METRICS_TYPE))], text).into_response())
}

async fn openapi() -> Response {
    ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], OPENAPI).into_response()
}

async fn healthz() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

async fn readyz(State(app): State<App>) -> Result<Json<Value>, Refusal> {
    app.supervisor.readiness().await?;
    let quarantined = app.supervisor.catalogue().list().quarantined;
    Ok(Json(json!({ "status": "ready", "quarantined": quarantined })))
}

async fn unknown(request: Request) -> Refusal {
    let path = request.uri().path().to_owned();
    Refusal::new(Kind::NotFound, format!("no route has the path {path}"), "/v1/openapi.json lists the routes")
}

async fn not_allowed(request: Request) -> Refusal {
    let what = format!("{} {} is not allowed", request.method(), request.uri().path());
    Refusal::new(Kind::MethodNotAllowed, what, "/v1/openapi.json lists the methods of each route")
}
