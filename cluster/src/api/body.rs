//! Bodies of requests: their format, and the object in them.

use axum::body::Body;
use http::{HeaderMap, header};
use serde_json::Value;

use super::media::JSON;
use super::protobuf;
use super::query::FieldValidation;
use crate::error::ApiError;
use crate::resource::Resource;
use crate::schema;

/// The API server's `--max-resource-write-bytes`, and about what etcd takes.
const BODY_MAX_BYTES: usize = 3 * 1024 * 1024;

/// The whole body.
///
/// # Errors
/// `RequestEntityTooLarge` over the limit, `BadRequest` if the client stops sending.
pub(super) async fn read(body: Body) -> Result<Vec<u8>, ApiError> {
    match axum::body::to_bytes(body, BODY_MAX_BYTES).await {
        Ok(bytes) => Ok(bytes.into()),
        Err(e) if is_length_limit(&e) => Err(ApiError::too_large(BODY_MAX_BYTES)),
        Err(e) => Err(ApiError::bad_request(format!("the body can't be read: {e}"))),
    }
}

fn is_length_limit(error: &axum::Error) -> bool {
    let mut source: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = source {
        if error.is::<http_body_util::LengthLimitError>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// The media type of the body without its parameters; JSON if none is named.
pub(super) fn media_type(headers: &HeaderMap) -> &str {
    let named = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or(JSON);
    named.split(';').next().unwrap_or(named).trim()
}

/// The value in a body, written as JSON or protobuf.
///
/// # Errors
/// `UnsupportedMediaType` for another format; `BadRequest` for a broken document.
pub(super) fn parse(headers: &HeaderMap, body: &[u8]) -> Result<Value, ApiError> {
    match media_type(headers) {
        JSON | "*/*" | "" => serde_json::from_slice(body)
            .map_err(|e| ApiError::bad_request(format!("couldn't get version/kind; json parse error: {e}"))),
        protobuf::MEDIA_TYPE => protobuf::decode(body)
            .map_err(|e| ApiError::bad_request(format!("the protobuf message can't be decoded: {e}"))),
        _ => Err(ApiError::unsupported_media_type("application/json, application/vnd.kubernetes.protobuf")),
    }
}

/// An object as its kind has it, and what the client should be warned of.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) object: Value,
    pub(super) warnings: Vec<String>,
}

/// Reads a value as an object of a resource.
///
/// # Errors
/// `BadRequest` for another version or kind, for a value of a wrong type, and under strict validation for an unknown field.
pub(super) fn object(
    resource: Resource,
    value: Value,
    validation: FieldValidation,
) -> Result<Draft, ApiError> {
    of_kind(&resource.api_version(), resource.kind(), value, validation)
}

/// As [`object`], for a kind that is not stored, such as a review.
pub(super) fn of_kind(
    api_version: &str,
    kind: &str,
    value: Value,
    validation: FieldValidation,
) -> Result<Draft, ApiError> {
    check_kind(api_version, kind, &value)?;
    let version = api_version.rsplit('/').next().unwrap_or(api_version);
    let refuse = |why: &str| {
        ApiError::bad_request(format!("{kind} in version \"{version}\" cannot be handled as a {kind}: {why}"))
    };
    let decoded = schema::decode(kind, value).map_err(|why| refuse(&why))?;
    let mut unknown: Vec<String> =
        decoded.unknown.iter().map(|path| format!("unknown field \"{path}\"")).collect();
    // The order in which a document's fields are met says nothing.
    unknown.sort();
    match validation {
        FieldValidation::Strict if !unknown.is_empty() => {
            return Err(refuse(&format!("strict decoding error: {}", unknown.join(", "))));
        }
        FieldValidation::Ignore => unknown.clear(),
        FieldValidation::Strict | FieldValidation::Warn => {}
    }
    Ok(Draft { object: decoded.value, warnings: unknown })
}

fn check_kind(api_version: &str, kind: &str, value: &Value) -> Result<(), ApiError> {
    if !value.is_object() {
        return Err(ApiError::bad_request(
            "couldn't get version/kind; json parse error: json: cannot unmarshal a value that is no object into Go value \
             of type struct { APIVersion string; Kind string }",
        ));
    }
    // What the path contains can be left out.
    let found_version = value["apiVersion"].as_str().unwrap_or(api_version);
    let found_kind = value["kind"].as_str().unwrap_or(kind);
    if found_version != api_version {
        return Err(ApiError::bad_request(format!(
            "the API version in the data ({found_version}) does not match the expected API version ({api_version})"
        )));
    }
    if found_kind != kind {
        let version = api_version.rsplit('/').next().unwrap_or(api_version);
        return Err(ApiError::bad_request(format!(
            "{found_kind} in version \"{version}\" cannot be handled as a {kind}: converting ({found_version}.{found_kind}) to \
             ({api_version}.{kind}): unknown conversion"
        )));
    }
    Ok(())
}
