//! One request to the Kubernetes API and its whole response, with the headers that kube's typed calls drop.

use std::time::Duration;

use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt, Limited};
use kube::Client;
use kube::client::Body;
use kube::core::Status;
use paperclip_contract::types::ApiError;
use serde::de::DeserializeOwned;

use crate::transport;

/// Largest response that is read: a list of Jobs of a full namespace, with a margin.
const MAX_ANSWER_BYTES: usize = 64 << 20;
/// Most characters that a message quotes of a response that is not Kubernetes'.
const QUOTED_CHARS: usize = 300;

/// A successful response.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    /// Parses the body as an object of the API.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        serde_json::from_slice(&self.body).map_err(|error| {
            no_answer(format!("the answer is not what Kubernetes answers ({error}): {}", quote(&self.body)))
        })
    }
}

/// Sends a request once and reads the response. A status other than 2xx is an error, and so is a missing response at the deadline.
pub(crate) async fn exchange(
    client: &Client,
    request: http::Request<Vec<u8>>,
    deadline: Duration,
) -> Result<Answer, ApiError> {
    match tokio::time::timeout(deadline, send(client, request)).await {
        Ok(outcome) => outcome,
        Err(_elapsed) => Err(no_answer(format!("no answer within {} s", deadline.as_secs()))),
    }
}

async fn send(client: &Client, request: http::Request<Vec<u8>>) -> Result<Answer, ApiError> {
    let response = client.send(request.map(Body::from)).await.map_err(|error| unsent(&error))?;
    let (head, body) = response.into_parts();
    let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await;
    let body =
        body.map_err(|error| no_answer(format!("the answer broke off: {}", transport::explain(&*error))))?;
    let body = body.to_bytes();
    if head.status.is_success() {
        Ok(Answer { headers: head.headers, body })
    } else {
        Err(refusal(head.status, &head.headers, &body))
    }
}

/// No connection, or it broke before the status came.
pub(crate) fn unsent(error: &kube::Error) -> ApiError {
    no_answer(transport::explain(error))
}

/// An error without a status: whether the request was carried out is not known.
pub(crate) fn no_answer(message: String) -> ApiError {
    ApiError { status: None, reason: None, message, retry_after_ms: None }
}

/// An error of an invalid request that was not sent: a retry would not help.
pub(crate) fn not_sent(message: String) -> ApiError {
    ApiError { status: Some(400), reason: Some("BadRequest".to_owned()), message, retry_after_ms: None }
}

/// Returns the error of a response with an error status. Kubernetes sends a Status object; a proxy may send anything.
pub(crate) fn refusal(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> ApiError {
    let status_object: Option<Status> = serde_json::from_slice(body).ok().filter(is_failure);
    let details_s = status_object
        .as_ref()
        .and_then(|status| status.details.as_ref())
        .map(|details| details.retry_after_seconds);
    let header_s = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse::<u64>().ok());
    let retry_after_s = header_s.or(details_s.map(u64::from).filter(|seconds| *seconds > 0));
    let reason =
        status_object.as_ref().map(|status| status.reason.clone()).filter(|reason| !reason.is_empty());
    let message = match status_object {
        Some(object) if !object.message.is_empty() => object.message,
        Some(_) | None if body.is_empty() => status.to_string(),
        Some(_) | None => format!("{status}: {}", quote(body)),
    };
    ApiError {
        status: Some(status.as_u16()),
        reason,
        message,
        retry_after_ms: retry_after_s.map(|seconds| seconds.saturating_mul(1_000)),
    }
}

/// Any JSON object reads as a Status; a real one says that it failed.
fn is_failure(status: &Status) -> bool {
    status.is_failure() || !status.reason.is_empty()
}

fn quote(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(4 * QUOTED_CHARS)]);
    text.trim().chars().take(QUOTED_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn refused(status: u16, headers: &[(http::HeaderName, &'static str)], body: &str) -> ApiError {
        let headers =
            headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect();
        refusal(StatusCode::from_u16(status).expect("a status"), &headers, body.as_bytes())
    }

    #[test]
    fn a_status_object_gives_reason_and_message() {
        let body = r#"{"kind":"Status","status":"Failure","reason":"AlreadyExists","message":"jobs.batch \"j\" already exists","code":409}"#;
        let error = refused(409, &[], body);
        assert_eq!((error.status, error.reason.as_deref()), (Some(409), Some("AlreadyExists")));
        assert_eq!(error.message, "jobs.batch \"j\" already exists");
        assert_eq!(error.retry_after_ms, None);
    }

    #[test]
    fn rule_26_the_wait_comes_from_the_header_or_the_details() {
        let body = r#"{"kind":"Status","status":"Failure","reason":"TooManyRequests","message":"m","details":{"retryAfterSeconds":3}}"#;
        assert_eq!(refused(429, &[], body).retry_after_ms, Some(3_000));
        assert_eq!(refused(429, &[(RETRY_AFTER, "7")], body).retry_after_ms, Some(7_000));
        assert_eq!(refused(503, &[(RETRY_AFTER, "Wed, 21 Oct 2026 07:28:00 GMT")], "").retry_after_ms, None);
    }

    #[test]
    fn an_answer_that_is_not_kubernetes_is_quoted_and_has_no_reason() {
        let error = refused(404, &[], "<html>no such page</html>");
        assert_eq!((error.status, error.reason), (Some(404), None));
        assert_eq!(error.message, "404 Not Found: <html>no such page</html>");
        assert_eq!(refused(502, &[], "").message, "502 Bad Gateway");
        let error = refused(404, &[], r#"{"detail":"another server"}"#);
        assert_eq!(
            (error.reason, error.message.as_str()),
            (None, r#"404 Not Found: {"detail":"another server"}"#)
        );
    }
}
