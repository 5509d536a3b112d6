//! Requests for runs of other hosts: passed on once to the host that has the run, with the key that hosts share and never with the token
//! of the client.

use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::FromRequestParts;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use futures::StreamExt as _;
use paperclip_shell::hosts::OtherHost;
use paperclip_shell::peers::FORWARDED;
use serde_json::{Value, json};

use super::App;
use crate::refusal::{Kind, Refusal};
use crate::supervisor::{Elsewhere, PeerProblem};

/// How long other hosts have to list their runs.
const LIST_DEADLINE: Duration = Duration::from_secs(5);
/// Longest list that is read of another host.
const MAX_LIST_BYTES: usize = 64 << 20;

/// The head of a request, from which it can be passed on.
#[derive(Debug)]
pub(super) struct Head {
    method: Method,
    uri: Uri,
    content_type: Option<HeaderValue>,
    /// Another host has passed it on.
    is_forwarded: bool,
}

impl<S: Sync> FromRequestParts<S> for Head {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Head, Self::Rejection> {
        Ok(Head {
            method: parts.method.clone(),
            uri: parts.uri.clone(),
            content_type: parts.headers.get(CONTENT_TYPE).cloned(),
            is_forwarded: parts.headers.contains_key(FORWARDED),
        })
    }
}

/// Returns whether another host has passed the request on.
///
/// # Errors
/// It says so without the key that hosts share.
pub(super) fn is_of_peer(app: &App, headers: &HeaderMap) -> Result<bool, Refusal> {
    if !headers.contains_key(FORWARDED) {
        return Ok(false);
    }
    let token = headers.get(AUTHORIZATION).and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    let access = app.supervisor.peer_access();
    if token.zip(access).is_some_and(|(token, access)| access.admits(token)) {
        return Ok(true);
    }
    Err(Refusal::new(
        Kind::Unauthorized,
        "the request was passed on without the key of this host's peers.key_file",
        "give every replica the same key",
    ))
}

/// What other hosts answer to a request for a list.
#[derive(Debug, Default)]
pub(super) struct Lists {
    pub(super) answers: Vec<Value>,
    /// The hosts that have not answered, each with the reason.
    pub(super) missing: Vec<Value>,
}

/// Sends a request for a list to all other hosts, unless one of them has passed it on.
pub(super) async fn ask_others(app: &App, head: &Head) -> Lists {
    let (Some(peers), Some(path), false) =
        (app.supervisor.peers(), head.uri.path_and_query(), head.is_forwarded)
    else {
        return Lists::default();
    };
    let asked = app.supervisor.other_hosts().into_iter().map(|OtherHost { host, address }| async move {
        let answer = async {
            app.supervisor.check_peer(&address).await.map_err(|problem| problem.why)?;
            let answer = peers.send(&address, path, Request::new(Bytes::new())).await?;
            if !answer.status().is_success() {
                return Err(format!("it answers {}", answer.status()));
            }
            let body = to_bytes(Body::new(answer.into_body()), MAX_LIST_BYTES).await;
            let body = body.map_err(|error| error.to_string())?;
            serde_json::from_slice(&body).map_err(|error| error.to_string())
        };
        let answer = tokio::time::timeout(LIST_DEADLINE, answer).await;
        let answer =
            answer.unwrap_or_else(|_| Err(format!("no answer within {} s", LIST_DEADLINE.as_secs())));
        answer.map_err(|why: String| json!({ "host": host, "address": address, "why": why }))
    });
    let mut lists = Lists::default();
    for answer in futures::future::join_all(asked).await {
        match answer {
            Ok(answer) => lists.answers.push(answer),
            Err(missing) => lists.missing.push(missing),
        }
    }
    lists
}

/// Passes a request on to the host that has the run, and returns its answer.
///
/// # Errors
/// The host cannot be reached, must not be sent to, or a host has passed the request on already.
pub(super) async fn forward(
    app: &App,
    elsewhere: &Elsewhere,
    head: Head,
    body: Bytes,
) -> Result<Response, Refusal> {
    let Elsewhere { run_id, host, address, .. } = elsewhere;
    let (Some(peers), Some(address), false) = (app.supervisor.peers(), address, head.is_forwarded) else {
        return Err(elsewhere.refusal());
    };
    app.supervisor.check_peer(address).await.map_err(|PeerProblem { kind, why, hint }| {
        let message = format!(
            "run {run_id} is driven by host {host}, but the request is not passed on to {address}: {why}"
        );
        Refusal::new(kind, message, hint)
    })?;
    let path = head.uri.path_and_query().cloned().ok_or_else(|| elsewhere.refusal())?;
    let mut request = Request::new(body);
    *request.method_mut() = head.method;
    if let Some(content_type) = head.content_type {
        request.headers_mut().insert(CONTENT_TYPE, content_type);
    }
    let answer = peers.send(address, &path, request).await.map_err(|error| {
        Refusal::new(
            Kind::NotReady,
            format!("run {run_id} is driven by host {host} at {address}, which does not answer: {error}"),
            "try again in some seconds: if that host is lost, another one adopts its runs",
        )
    })?;
    let (parts, body) = answer.into_parts();
    if parts.status == StatusCode::UNAUTHORIZED {
        return Err(Refusal::new(
            Kind::DrivenElsewhere,
            format!("run {run_id} is driven by host {host} at {address}, which has another peers.key_file"),
            "give every replica the same key",
        ));
    }
    let mut closing = app.closing.clone();
    let closed = async move {
        if closing.wait_for(|is_closing| *is_closing).await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let chunks = Body::new(body).into_data_stream().take_until(Box::pin(closed));
    let mut response = (parts.status, Body::from_stream(chunks)).into_response();
    for name in [CONTENT_TYPE, RETRY_AFTER] {
        if let Some(value) = parts.headers.get(&name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    Ok(response)
}
