//! Errors of the API as `Status` objects, in the words of the Kubernetes API server.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ListMeta, Status, StatusCause, StatusDetails};
use serde_json::{Value, json};

use crate::resource::Resource;
use crate::store::Key;

/// A refused request: an HTTP code, a machine-readable reason and a message for a person.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    pub code: u16,
    pub reason: &'static str,
    pub message: String,
    pub details: Option<Box<StatusDetails>>,
    /// The token with which an expired list can be continued.
    pub continue_token: Option<String>,
}

impl ApiError {
    fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        ApiError { code, reason, message: message.into(), details: None, continue_token: None }
    }

    fn about(mut self, resource: Resource, name: &str) -> Self {
        let group = resource.group();
        self.details = Some(Box::new(StatusDetails {
            name: (!name.is_empty()).then(|| name.to_owned()),
            group: (!group.is_empty()).then(|| group.to_owned()),
            kind: Some(resource.plural().to_owned()),
            ..StatusDetails::default()
        }));
        self
    }

    /// 404: there is no such object.
    pub fn not_found(key: &Key) -> Self {
        let message = format!("{} \"{}\" not found", key.resource.qualified(), key.name);
        ApiError::new(404, "NotFound", message).about(key.resource, &key.name)
    }

    /// 404: there is no such path.
    pub fn no_such_path() -> Self {
        let mut error = ApiError::new(404, "NotFound", "the server could not find the requested resource");
        error.details = Some(Box::default());
        error
    }

    /// 409: the name is taken.
    pub fn already_exists(key: &Key) -> Self {
        let message = format!("{} \"{}\" already exists", key.resource.qualified(), key.name);
        ApiError::new(409, "AlreadyExists", message).about(key.resource, &key.name)
    }

    /// 409 for a write that was made from an outdated read.
    pub fn modified(key: &Key) -> Self {
        ApiError::conflict(
            key,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    /// 409 with a cause of its own, such as a failed precondition.
    pub fn conflict(key: &Key, why: &str) -> Self {
        let message =
            format!("Operation cannot be fulfilled on {} \"{}\": {why}", key.resource.qualified(), key.name);
        ApiError::new(409, "Conflict", message).about(key.resource, &key.name)
    }

    /// 403 for one object.
    pub fn forbidden(key: &Key, why: &str) -> Self {
        let message = format!("{} \"{}\" is forbidden: {why}", key.resource.qualified(), key.name);
        ApiError::new(403, "Forbidden", message).about(key.resource, &key.name)
    }

    /// 422: the object breaks the rules of its kind; one cause a broken rule.
    pub fn invalid(resource: Resource, name: &str, causes: Vec<StatusCause>) -> Self {
        let qualified = match resource.group() {
            "" => resource.kind().to_owned(),
            group => format!("{}.{group}", resource.kind()),
        };
        let mut lines: Vec<String> = causes.iter().map(cause_text).collect();
        lines.dedup();
        let text = match lines.as_slice() {
            [] => "[]".to_owned(),
            [only] => only.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let mut error = ApiError::new(422, "Invalid", format!("{qualified} \"{name}\" is invalid: {text}"));
        let group = resource.group();
        error.details = Some(Box::new(StatusDetails {
            name: (!name.is_empty()).then(|| name.to_owned()),
            group: (!group.is_empty()).then(|| group.to_owned()),
            kind: Some(resource.kind().to_owned()),
            causes: Some(causes),
            ..StatusDetails::default()
        }));
        error
    }

    /// 422 for a patch that does not fit the object.
    pub fn unprocessable(message: impl Into<String>) -> Self {
        ApiError::new(422, "Invalid", message)
    }

    /// 400: the request itself can't be understood.
    pub fn bad_request(message: impl Into<String>) -> Self {
        ApiError::new(400, "BadRequest", message)
    }

    /// 401: no token, or a wrong one.
    pub fn unauthorized() -> Self {
        ApiError::new(401, "Unauthorized", "Unauthorized")
    }

    /// 405: the path exists, the method does not apply to it.
    pub fn method_not_allowed() -> Self {
        let mut error = ApiError::new(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        );
        error.details = Some(Box::default());
        error
    }

    /// 406: none of the media types that the client accepts is supported here.
    pub fn not_acceptable(spoken: &str) -> Self {
        let message = format!("only the following media types are accepted: {spoken}");
        ApiError::new(406, "NotAcceptable", message)
    }

    /// 410: the version is older than the oldest change that is still known.
    pub fn expired(message: impl Into<String>) -> Self {
        ApiError::new(410, "Expired", message)
    }

    /// 413: the request is over the size limit.
    pub fn too_large(limit_bytes: usize) -> Self {
        let message = format!("Request entity too large: limit is {limit_bytes}");
        ApiError::new(413, "RequestEntityTooLarge", message)
    }

    /// 415: the body is in a format that is not supported here.
    pub fn unsupported_media_type(spoken: &str) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {spoken}"
        );
        ApiError::new(415, "UnsupportedMediaType", message)
    }

    /// 504 for a resourceVersion that lies in the future.
    pub fn future_version(asked: u64, current: u64) -> Self {
        let mut error = ApiError::new(
            504,
            "Timeout",
            format!("Timeout: Too large resource version: {asked}, current: {current}"),
        );
        error.details = Some(Box::new(StatusDetails {
            causes: Some(vec![StatusCause {
                field: None,
                message: Some("Too large resource version".to_owned()),
                reason: Some("ResourceVersionTooLarge".to_owned()),
            }]),
            retry_after_seconds: Some(1),
            ..StatusDetails::default()
        }));
        error
    }

    /// 500: a defect of the server, or an error of the disk.
    pub fn internal(message: impl std::fmt::Display) -> Self {
        ApiError::new(500, "InternalError", format!("Internal error occurred: {message}"))
    }

    /// The body of the answer, and of an `ERROR` event in a watch.
    pub fn to_status(&self) -> Value {
        let status = Status {
            code: Some(i32::from(self.code)),
            details: self.details.as_deref().cloned(),
            message: Some(self.message.clone()),
            metadata: ListMeta { continue_: self.continue_token.clone(), ..ListMeta::default() },
            reason: Some(self.reason.to_owned()),
            status: Some("Failure".to_owned()),
        };
        serde_json::to_value(status).unwrap_or_else(|_| json!({"kind": "Status", "status": "Failure"}))
    }
}

fn cause_text(cause: &StatusCause) -> String {
    let message = cause.message.as_deref().unwrap_or_default();
    match cause.field.as_deref() {
        None | Some("") => message.to_owned(),
        Some(field) => format!("{field}: {message}"),
    }
}
