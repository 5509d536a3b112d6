//! The routes, and what applies to all of them.

use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Method};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde_json::{Value, json};

use super::connections::Origin;
use super::peer::{Peer, Who};
use super::rate::Identity;
use super::{App, body, forwarding, peer, plugins, quota, runs, version};
use crate::metrics::{AnswerLabels, CONTENT_TYPE as METRICS_TYPE};
use crate::refusal::{Kind, Refusal};

/// The API's description: OpenAPI 3.1.
pub(super) const OPENAPI: &str = include_str!("openapi.json");

pub(super) fn router(app: App) -> Router {
    let limited = Router::new()
        .route("/v1/runs", get(runs::list).post(runs::start))
        .route("/v1/runs/{id}", get(runs::get))
        .route("/v1/runs/{id}/events", get(runs::events))
        .route("/v1/runs/{id}/taken", post(runs::take))
        .route("/v1/plugins", get(plugins::list))
        .route("/v1/plugins/reload", post(plugins::reload))
        .route("/v1/plugins/{type}/revert", post(plugins::revert))
        .route("/v1/adapters/{type}", get(plugins::adapter))
        .route("/v1/adapters/{type}/check", post(plugins::check))
        .route("/v1/adapters/{type}/skills", post(plugins::skills))
        .route("/v1/adapters/{type}/quota", get(quota::quota))
        .route("/v1/version", get(version::version))
        .route("/metrics", get(metrics))
        .route_layer(middleware::from_fn_with_state(app.clone(), body::read))
        .route_layer(middleware::from_fn_with_state(app.clone(), limit_rate));
    // A cancellation is never refused for the rate of other requests.
    let urgent = Router::new()
        .route("/v1/runs/{id}/cancel", post(runs::cancel))
        .route_layer(middleware::from_fn_with_state(app.clone(), body::read));
    let guarded = limited.merge(urgent).route_layer(middleware::from_fn_with_state(app.clone(), authorize));
    let admin = Router::new()
        .route("/v1/plugins/{type}", put(plugins::install))
        .route_layer(middleware::from_fn_with_state(app.clone(), body::read_plugin))
        .route_layer(middleware::from_fn_with_state(app.clone(), authorize_admin));
    Router::new()
        .merge(guarded)
        .merge(admin)
        .route("/v1/openapi.json", get(openapi))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .fallback(unknown)
        .method_not_allowed_fallback(not_allowed)
        // `body::read` has the limit.
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn(peer::refuse_browsers))
        .layer(middleware::from_fn_with_state(app.clone(), observe))
        .with_state(app)
}

/// Admits whoever has a token, and the users of the Unix socket.
async fn authorize(State(app): State<App>, mut request: Request, next: Next) -> Result<Response, Refusal> {
    let peer = request.extensions().get::<Peer>().cloned().ok_or_else(unknown_peer)?;
    let identity = match (peer.who, &app.tokens) {
        (Who::User(user), _) => Identity::User(user),
        (Who::Address(address), Some(tokens)) => {
            let admitted = match forwarding::is_of_peer(&app, request.headers()) {
                Ok(true) => Ok(()),
                Ok(false) => tokens.check(request.headers()),
                Err(refused) => Err(refused),
            };
            if let Err(refused) = admitted {
                app.rates.take_unauthorised(Origin::from(address))?;
                return Err(refused);
            }
            Identity::Token
        }
        (Who::Address(_), None) => return Err(unknown_peer()),
    };
    peer.ticket.authorised();
    request.extensions_mut().insert(identity);
    Ok(next.run(request).await)
}

/// Admits whoever has an admin token, also on the Unix socket: a plugin decides what every agent of its type runs.
async fn authorize_admin(State(app): State<App>, request: Request, next: Next) -> Result<Response, Refusal> {
    let peer = request.extensions().get::<Peer>().cloned().ok_or_else(unknown_peer)?;
    let Some(tokens) = &app.admin_tokens else {
        return Err(Refusal::new(
            Kind::Forbidden,
            "no plugin can be put into this host by a request",
            "name a file with a token in admin_token_file (--admin-token-file), or copy the plugin into the plugins folder",
        ));
    };
    if let Err(refused) = tokens.check(request.headers()) {
        if let Who::Address(address) = peer.who {
            app.rates.take_unauthorised(Origin::from(address))?;
        }
        return Err(refused);
    }
    peer.ticket.authorised();
    Ok(next.run(request).await)
}

fn unknown_peer() -> Refusal {
    Refusal::new(Kind::Unauthorized, "this host cannot say who sends the request", "use its Unix socket")
}

/// Limits how often an identity changes something.
async fn limit_rate(State(app): State<App>, request: Request, next: Next) -> Result<Response, Refusal> {
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD);
    if let (true, Some(identity)) = (changes, request.extensions().get::<Identity>()) {
        app.rates.take(*identity)?;
    }
    Ok(next.run(request).await)
}

/// Counts answers.
async fn observe(State(app): State<App>, request: Request, next: Next) -> Response {
    let route = match request.extensions().get::<MatchedPath>() {
        Some(path) => path.as_str().to_owned(),
        None => "none".to_owned(),
    };
    let response = next.run(request).await;
    let labels = AnswerLabels { route, status: response.status().as_u16() };
    app.supervisor.metrics().answers.get_or_create(&labels).inc();
    response
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
