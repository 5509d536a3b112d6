//! Answers in Kubernetes' format.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Value, json};

use super::store::Refused;

pub(super) async fn version() -> Json<Value> {
    Json(json!({
        "major": "1", "minor": "37", "gitVersion": "v1.37.0", "gitCommit": "", "gitTreeState": "", "buildDate": "",
        "goVersion": "", "compiler": "", "platform": "",
    }))
}

/// Everything is.
pub(super) async fn allowed(Json(mut review): Json<Value>) -> Json<Value> {
    review["status"] = json!({ "allowed": true });
    Json(review)
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let (status, reason) = match self {
            Refused::Missing => (StatusCode::NOT_FOUND, "NotFound"),
            Refused::Exists => (StatusCode::CONFLICT, "AlreadyExists"),
            Refused::Conflict => (StatusCode::CONFLICT, "Conflict"),
        };
        let body = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": reason, "reason": reason, "code": status.as_u16(),
        });
        (status, Json(body)).into_response()
    }
}
