//! The HTTP server: routing, authentication and responses.

mod body;
mod discovery;
mod logs;
mod media;
mod openapi;
mod pages;
mod protobuf;
mod query;
mod read;
mod remove;
mod review;
mod selector;
mod table;
mod target;
mod watch;
mod write;

use std::future::Future;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, Method, Request, StatusCode, header};

use crate::error::ApiError;
use crate::node::logs::Logs;
use crate::store::Store;
use media::{View, answer};
use query::Params;
use review::Review;
use target::{Subresource, Target};
use write::Half;

/// The state behind the HTTP server.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) store: Store,
    pub(crate) logs: Logs,
    /// The bearer token; `None` accepts every client.
    pub(crate) token: Option<String>,
    /// Turns true when the server stops, and open streams have to end.
    pub(crate) stop: tokio::sync::watch::Receiver<bool>,
}

impl Server {
    fn stopped(&self) -> impl Future<Output = ()> + use<> {
        let mut stop = self.stop.clone();
        async move {
            // A dropped sender means the same.
            let _dropped = stop.wait_for(|is_stopping| *is_stopping).await;
        }
    }
}

/// The service for every path.
pub(crate) fn router(server: Server) -> axum::Router {
    axum::Router::new().fallback(handle).with_state(Arc::new(server))
}

async fn handle(State(server): State<Arc<Server>>, request: Request<Body>) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let response = respond(&server, request).await.unwrap_or_else(IntoResponse::into_response);
    tracing::debug!(%method, path, status = response.status().as_u16(), "answered");
    response
}

async fn respond(server: &Server, request: Request<Body>) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let path = percent_decoded(parts.uri.path())?;
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    if let Some(health) = health(&segments) {
        return Ok(health);
    }
    check_token(server, &parts.headers)?;
    let params = Params::of(&parts.uri)?;
    if let Some(review) = Review::find(&segments) {
        if parts.method != Method::POST {
            return Err(ApiError::method_not_allowed());
        }
        let bytes = body::read(body).await?;
        return review::answer_review(review, &params, (&parts.headers, &bytes));
    }
    if parts.method == Method::GET {
        let document = discovery::find(&segments).or_else(|| openapi::find(&segments));
        if let Some(document) = document {
            return Ok(document);
        }
    }
    let target = Target::parse(&segments).ok_or_else(ApiError::no_such_path)?;
    let view = match (&parts.method, &target) {
        // A log is text, whatever the client accepts otherwise.
        (&Method::GET, Target::Part(key, Subresource::Log)) => return logs::read(server, key, &params).await,
        (_, _) => View::negotiate(&parts.headers, &params)?,
    };
    let bytes = body::read(body).await?;
    dispatch(server, &parts.method, &target, &params, view, (&parts.headers, &bytes))
}

fn dispatch(
    server: &Server,
    method: &Method,
    target: &Target,
    params: &Params,
    view: View,
    body: (&HeaderMap, &[u8]),
) -> Result<Response, ApiError> {
    match target {
        Target::Collection { resource, namespace } => {
            let namespace = namespace.as_deref();
            match *method {
                Method::GET if params.flag("watch")? => {
                    watch::watch(server, *resource, namespace, params, view)
                }
                Method::GET => read::list(server, *resource, namespace, params, view),
                Method::POST => write::create(server, *resource, namespace, params, view, body),
                Method::DELETE => remove::delete_collection(server, *resource, namespace, params, body),
                _ => Err(ApiError::method_not_allowed()),
            }
        }
        Target::Object(key) => match *method {
            Method::GET if params.flag("watch")? => watch::watch_one(server, key, params, view),
            Method::GET => read::get(server, key, view),
            Method::PUT => write::update(server, key, Half::Main, params, view, body),
            Method::PATCH => write::patch(server, key, Half::Main, params, view, body),
            Method::DELETE => remove::delete(server, key, params, body),
            _ => Err(ApiError::method_not_allowed()),
        },
        Target::Part(key, Subresource::Status) => match *method {
            Method::GET => read::get(server, key, view),
            Method::PUT => write::update(server, key, Half::Status, params, view, body),
            Method::PATCH => write::patch(server, key, Half::Status, params, view, body),
            _ => Err(ApiError::method_not_allowed()),
        },
        Target::Part(key, Subresource::Eviction) => match *method {
            Method::POST => remove::evict(server, key, params, body),
            _ => Err(ApiError::method_not_allowed()),
        },
        Target::Part(_, Subresource::Log) => Err(ApiError::method_not_allowed()),
    }
}

/// Health checks need no token.
fn health(segments: &[&str]) -> Option<Response> {
    match segments {
        ["livez" | "readyz" | "healthz", ..] => Some("ok".into_response()),
        _ => None,
    }
}

fn check_token(server: &Server, headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(token) = &server.token else { return Ok(()) };
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| value.split_once(' '));
    match given {
        Some((scheme, given)) if scheme.eq_ignore_ascii_case("bearer") && is_same(given.trim(), token) => {
            Ok(())
        }
        Some(_) | None => Err(ApiError::unauthorized()),
    }
}

/// Compares in constant time, so that the time reveals nothing about the token.
fn is_same(guess: &str, token: &str) -> bool {
    let differences = guess.bytes().zip(token.bytes()).fold(0, |found, (a, b)| found | (a ^ b));
    guess.len() == token.len() && differences == 0
}

fn percent_decoded(path: &str) -> Result<String, ApiError> {
    percent_encoding::percent_decode_str(path)
        .decode_utf8()
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| ApiError::no_such_path())
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = answer(status, &self.to_status());
        let retry = self.details.as_ref().and_then(|details| details.retry_after_seconds);
        if let Some(seconds) = retry {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        if self.code == 401 {
            let challenge = http::HeaderValue::from_static("Bearer realm=\"paperclip-local\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_a_status() {
        let status = ApiError::no_such_path().to_status();
        assert_eq!(status["kind"], "Status");
        assert_eq!(status["apiVersion"], "v1");
        assert_eq!(status["status"], "Failure");
    }
}
