//! `pods/log`.

use axum::body::Body;
use axum::response::Response;
use futures::StreamExt as _;
use http::{HeaderValue, StatusCode, header};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde::Deserialize as _;

use super::Server;
use super::query::Params;
use crate::error::ApiError;
use crate::node::logs::LogOptions;
use crate::store::Key;

/// States that nothing is rotated away that a reader has still to read. A Kubernetes API server has no such header.
const KEEPS_UNREAD: &str = "paperclip-log-keeps-unread";

pub(super) async fn read(server: &Server, key: &Key, params: &Params) -> Result<Response, ApiError> {
    let options = parse(params)?;
    let object = server.store.get(key).ok_or_else(|| ApiError::not_found(key))?;
    let pod = Pod::deserialize(&*object).map_err(ApiError::internal)?;
    let mut response = match server.logs.open(&pod, params.get("container"), &options).await? {
        Some(bytes) => Response::new(Body::from_stream(bytes.take_until(server.stopped()))),
        None => {
            let mut empty = Response::new(Body::empty());
            *empty.status_mut() = StatusCode::NO_CONTENT;
            empty
        }
    };
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response.headers_mut().insert(KEEPS_UNREAD, HeaderValue::from_static("true"));
    Ok(response)
}

fn parse(params: &Params) -> Result<LogOptions, ApiError> {
    // Choosing a stream is behind a feature gate that a real cluster has closed.
    if params.get("stream").is_some_and(|stream| stream != "All") {
        return Err(ApiError::unprocessable(
            "PodLogOptions \"\" is invalid: stream: Forbidden: may not be specified",
        ));
    }
    let since_time = params.get("sinceTime").map(|text| {
        text.parse::<Timestamp>().map_err(|_| {
            ApiError::bad_request(format!(
                "parsing time \"{text}\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"{text}\" as \"2006\""
            ))
        })
    });
    Ok(LogOptions {
        follow: params.flag("follow")?,
        timestamps: params.flag("timestamps")?,
        since_time: since_time.transpose()?,
        since_seconds: params.number("sinceSeconds")?,
        tail_lines: params.number("tailLines")?,
        limit_bytes: params.number("limitBytes")?,
        previous: params.flag("previous")?,
    })
}
