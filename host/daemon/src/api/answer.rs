//! Errors as the API answers them: `{"error":{"code","message","hint"}}`.

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::refusal::{Kind, Refusal};

#[derive(Serialize)]
struct Body {
    error: Error,
}

#[derive(Serialize)]
struct Error {
    code: &'static str,
    message: String,
    hint: String,
    /// The former name of `hint`, which is removed in the next version of the API.
    #[serde(rename = "mend")]
    former_hint: String,
}

/// The HTTP status of a kind of error.
const fn status(kind: Kind) -> StatusCode {
    match kind {
        Kind::BadRequest => StatusCode::BAD_REQUEST,
        Kind::Unauthorized => StatusCode::UNAUTHORIZED,
        Kind::Forbidden => StatusCode::FORBIDDEN,
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        Kind::DrivenElsewhere => StatusCode::MISDIRECTED_REQUEST,
        Kind::AgentBusy => StatusCode::CONFLICT,
        Kind::NoPlugin => StatusCode::UNPROCESSABLE_ENTITY,
        Kind::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Kind::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Kind::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
        Kind::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        Kind::QueueFull
        | Kind::StorageUnavailable
        | Kind::MemoryPressure
        | Kind::Stopping
        | Kind::NotReady => StatusCode::SERVICE_UNAVAILABLE,
        Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Seconds after which a repeated request may succeed.
const fn retry_after(kind: Kind) -> Option<HeaderValue> {
    match kind {
        Kind::RateLimited => Some(HeaderValue::from_static("1")),
        Kind::QueueFull | Kind::StorageUnavailable | Kind::MemoryPressure => {
            Some(HeaderValue::from_static("30"))
        }
        Kind::Stopping | Kind::NotReady => Some(HeaderValue::from_static("5")),
        Kind::BadRequest
        | Kind::Unauthorized
        | Kind::Forbidden
        | Kind::NotFound
        | Kind::MethodNotAllowed
        | Kind::DrivenElsewhere
        | Kind::AgentBusy
        | Kind::NoPlugin
        | Kind::BodyTooLarge
        | Kind::UnsupportedMediaType
        | Kind::RequestTimeout
        | Kind::Internal => None,
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Refusal { kind, message, hint } = self;
        let former_hint = hint.clone();
        let body = Body { error: Error { code: kind.code(), message, hint, former_hint } };
        let mut response = (status(kind), Json(body)).into_response();
        if let Some(seconds) = retry_after(kind) {
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        if kind == Kind::Unauthorized {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

pub(super) fn too_large() -> Refusal {
    Refusal::new(
        Kind::BodyTooLarge,
        "the body is larger than this host takes",
        "make it smaller, or raise limits.request_mib",
    )
}

impl From<QueryRejection> for Refusal {
    fn from(rejection: QueryRejection) -> Refusal {
        Refusal::new(Kind::BadRequest, rejection.body_text(), "give `from` as a number, or leave it out")
    }
}

impl From<PathRejection> for Refusal {
    fn from(rejection: PathRejection) -> Refusal {
        Refusal::new(Kind::BadRequest, rejection.body_text(), "correct the path")
    }
}
