//! The form of a response that a client accepts, and the response in that form.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, StatusCode, header};
use serde_json::{Value, json};

use super::query::Params;
use super::table;
use crate::error::ApiError;
use crate::resource::Resource;
use crate::store::Object;

pub(super) const JSON: &str = "application/json";

/// The form in which a client requests objects.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum View {
    Whole,
    /// `PartialObjectMetadata`: no spec, no status.
    Metadata,
    /// Rows for a person, as `kubectl get` prints them.
    Table(Include),
}

/// The part of the object that accompanies a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Include {
    Nothing,
    Metadata,
    Object,
}

impl View {
    /// Returns the first accepted form that is known here.
    ///
    /// # Errors
    /// `NotAcceptable` if there is none.
    pub(super) fn negotiate(headers: &HeaderMap, params: &Params) -> Result<View, ApiError> {
        let accepted = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("*/*");
        for form in accepted.split(',') {
            let mut parts = form.split(';').map(str::trim);
            let media_type = parts.next().unwrap_or_default();
            if !matches!(media_type, JSON | "application/*" | "*/*" | "") {
                continue;
            }
            let mut transform = None;
            let mut is_v1 = true;
            for part in parts {
                match part.split_once('=') {
                    Some(("as", name)) => transform = Some(name),
                    Some(("v", version)) => is_v1 = version == "v1",
                    Some(_) | None => {}
                }
            }
            match transform {
                None => return Ok(View::Whole),
                Some("Table") if is_v1 => return include(params).map(View::Table),
                Some("PartialObjectMetadata" | "PartialObjectMetadataList") if is_v1 => {
                    return Ok(View::Metadata);
                }
                Some(_) => {}
            }
        }
        Err(ApiError::not_acceptable(JSON))
    }

    /// One object in this form. A table has its columns, unless they were sent before.
    pub(super) fn one(self, resource: Resource, object: &Object, has_columns: bool) -> Value {
        match self {
            View::Whole => object.clone(),
            View::Metadata => metadata_of(object),
            View::Table(include) => {
                let version = json!({"resourceVersion": object["metadata"]["resourceVersion"]});
                table::of(resource, [object], include, &version, has_columns)
            }
        }
    }

    /// A list in this form; `metadata` is the list's own.
    pub(super) fn many(self, resource: Resource, items: &[Arc<Object>], metadata: &Value) -> Value {
        match self {
            View::Whole => json!({
                "kind": format!("{}List", resource.kind()),
                "apiVersion": resource.api_version(),
                "metadata": metadata,
                "items": items.iter().map(AsRef::as_ref).collect::<Vec<&Object>>(),
            }),
            View::Metadata => json!({
                "kind": "PartialObjectMetadataList",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": metadata,
                "items": items.iter().map(|object| metadata_of(object)).collect::<Vec<_>>(),
            }),
            View::Table(include) => {
                table::of(resource, items.iter().map(AsRef::as_ref), include, metadata, true)
            }
        }
    }
}

fn include(params: &Params) -> Result<Include, ApiError> {
    match params.get("includeObject") {
        None | Some("Metadata") => Ok(Include::Metadata),
        Some("None") => Ok(Include::Nothing),
        Some("Object") => Ok(Include::Object),
        Some(other) => Err(ApiError::bad_request(format!(
            "unrecognized includeObject value: \"{other}\": supported values: None, Metadata, Object"
        ))),
    }
}

pub(super) fn metadata_of(object: &Object) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]})
}

/// An answer with a JSON body.
pub(super) fn answer(status: StatusCode, body: &Value) -> Response {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static(JSON));
    response
}

/// Adds a warning for the person at the client, as `kubectl` prints it.
pub(super) fn warn(response: &mut Response, text: &str) {
    let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
    if let Ok(value) = http::HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
        response.headers_mut().append(header::WARNING, value);
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, header};

    use super::{Include, View};
    use crate::api::query::Params;

    fn negotiate(accept: &'static str) -> Result<View, u16> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
        View::negotiate(&headers, &Params::default()).map_err(|error| error.code)
    }

    #[test]
    fn the_first_known_form_is_taken() {
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(negotiate(kubectl), Ok(View::Table(Include::Metadata)));
        assert_eq!(negotiate("application/vnd.kubernetes.protobuf,application/json"), Ok(View::Whole));
        assert_eq!(
            negotiate("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"),
            Ok(View::Metadata)
        );
        assert_eq!(negotiate("*/*"), Ok(View::Whole));
        assert_eq!(negotiate("application/json;as=Table;v=v1beta1,application/json"), Ok(View::Whole));
        assert_eq!(negotiate("application/cbor"), Err(406));
    }
}
