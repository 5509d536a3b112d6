//! The three kinds of patch: JSON Patch (RFC 6902), JSON Merge Patch (RFC 7386) and Kubernetes' strategic merge.

mod strategic;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{StatusCause, StatusDetails};
use serde_json::Value;

use crate::error::ApiError;

/// A patch as it came in, not yet applied.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Patch {
    Json(json_patch::Patch),
    Merge(Value),
    Strategic(Value),
}

/// The media types of the supported patches, as the error message lists them.
pub(crate) const MEDIA_TYPES: &str =
    "application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json";

impl Patch {
    /// Reads a patch of a media type.
    ///
    /// # Errors
    /// `UnsupportedMediaType` for another media type (server-side apply among them); `BadRequest` if it is not a patch.
    pub(crate) fn parse(media_type: &str, body: &[u8]) -> Result<Patch, ApiError> {
        let unreadable = |e: serde_json::Error| ApiError::bad_request(format!("error decoding patch: {e}"));
        match media_type {
            "application/json-patch+json" => {
                serde_json::from_slice(body).map(Patch::Json).map_err(unreadable)
            }
            "application/merge-patch+json" => object(body).map(Patch::Merge),
            "application/strategic-merge-patch+json" => object(body).map(Patch::Strategic),
            _ => Err(ApiError::unsupported_media_type(MEDIA_TYPES)),
        }
    }

    /// Applies the patch to an object of a kind (`Job`).
    ///
    /// # Errors
    /// `Invalid` if it does not fit the object.
    pub(crate) fn apply(&self, definition: &str, object: &mut Value) -> Result<(), ApiError> {
        match self {
            Patch::Json(patch) => json_patch::patch(object, patch).map_err(|e| rejected(&e.to_string())),
            Patch::Merge(patch) => {
                json_patch::merge(object, patch);
                Ok(())
            }
            Patch::Strategic(patch) => strategic::merge(definition, object, patch).map_err(|e| rejected(&e)),
        }
    }
}

fn object(body: &[u8]) -> Result<Value, ApiError> {
    let value: Value = serde_json::from_slice(body)
        .map_err(|e| ApiError::bad_request(format!("error decoding patch: {e}")))?;
    if value.is_object() {
        return Ok(value);
    }
    Err(ApiError::bad_request("error decoding patch: a patch of this type is an object"))
}

/// The API server's generic answer to a patch that fails.
fn rejected(why: &str) -> ApiError {
    let mut error = ApiError::unprocessable("the server rejected our request due to an error in our request");
    error.details = Some(Box::new(StatusDetails {
        causes: Some(vec![StatusCause {
            field: Some("patch".to_owned()),
            message: Some(why.to_owned()),
            reason: Some("UnexpectedServerResponse".to_owned()),
        }]),
        ..StatusDetails::default()
    }));
    error
}
