//! Permission reviews. A client with the token has every permission.

use axum::response::Response;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::body;
use super::media::answer;
use super::query::Params;
use crate::error::ApiError;

const AUTHORIZATION: &str = "authorization.k8s.io/v1";
const AUTHENTICATION: &str = "authentication.k8s.io/v1";
/// Who every caller is.
const USER: &str = "local-admin";

/// A question that is answered at once and not kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Review {
    SelfAccess,
    SelfSubject,
}

impl Review {
    pub(super) const ALL: [Review; 2] = [Review::SelfAccess, Review::SelfSubject];

    pub(super) const fn api_version(self) -> &'static str {
        match self {
            Review::SelfAccess => AUTHORIZATION,
            Review::SelfSubject => AUTHENTICATION,
        }
    }

    pub(super) const fn plural(self) -> &'static str {
        match self {
            Review::SelfAccess => "selfsubjectaccessreviews",
            Review::SelfSubject => "selfsubjectreviews",
        }
    }

    pub(super) const fn kind(self) -> &'static str {
        match self {
            Review::SelfAccess => "SelfSubjectAccessReview",
            Review::SelfSubject => "SelfSubjectReview",
        }
    }

    pub(super) fn find(segments: &[&str]) -> Option<Review> {
        let (group, version, plural) = match segments {
            ["apis", group, version, plural] => (*group, *version, *plural),
            _ => return None,
        };
        let api_version = format!("{group}/{version}");
        Review::ALL
            .into_iter()
            .find(|review| review.api_version() == api_version && review.plural() == plural)
    }
}

pub(super) fn answer_review(
    review: Review,
    params: &Params,
    (headers, bytes): (&HeaderMap, &[u8]),
) -> Result<Response, ApiError> {
    let question = body::parse(headers, bytes)?;
    let draft = body::of_kind(review.api_version(), review.kind(), question, params.field_validation()?)?;
    let mut object = draft.object;
    object["apiVersion"] = json!(review.api_version());
    object["kind"] = json!(review.kind());
    if object["metadata"].is_null() {
        object["metadata"] = json!({});
    }
    object["status"] = match review {
        Review::SelfAccess => access(&object["spec"])?,
        Review::SelfSubject => json!({
            "userInfo": {"username": USER, "groups": ["system:masters", "system:authenticated"]},
        }),
    };
    Ok(answer(StatusCode::CREATED, &object))
}

fn access(spec: &Value) -> Result<Value, ApiError> {
    if spec["resourceAttributes"].is_object() == spec["nonResourceAttributes"].is_object() {
        return Err(ApiError::unprocessable(
            "spec.resourceAuthorizationAttributes: Invalid value: null: exactly one of nonResourceAttributes or \
             resourceAttributes must be specified",
        ));
    }
    Ok(json!({"allowed": true, "reason": "the local cluster allows everything to whoever has its token"}))
}
