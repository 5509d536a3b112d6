//! Lists that come in pages.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::error::ApiError;
use crate::store::Key;

const TOO_OLD: &str = "The provided continue parameter is too old to display a consistent list result. You can start a new \
    list without the continue parameter, or use the continue token in this response to retrieve the remainder of the \
    results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or \
    deleted between the time the first chunk was returned and now may show up in the list.";

/// Where the next page starts.
#[derive(Serialize, Deserialize, PartialEq, Debug)]
pub(super) struct Continue {
    /// The version that the list shows; `None` for whatever is there now.
    #[serde(rename = "rv", skip_serializing_if = "Option::is_none")]
    pub(super) revision: Option<u64>,
    /// The last object of the page before.
    #[serde(rename = "ns", default, skip_serializing_if = "String::is_empty")]
    namespace: String,
    #[serde(rename = "name")]
    name: String,
}

impl Continue {
    pub(super) fn after(revision: Option<u64>, last: &Key) -> Continue {
        Continue { revision, namespace: last.namespace.clone(), name: last.name.clone() }
    }

    pub(super) fn parse(token: &str) -> Result<Continue, ApiError> {
        let bytes = URL_SAFE_NO_PAD.decode(token).ok();
        bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).ok_or_else(|| {
            ApiError::bad_request(
                "continue key is not valid: it is not a token from an earlier page of this list",
            )
        })
    }

    pub(super) fn token(&self) -> String {
        // Plain texts and a number can always be written.
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    /// Whether an object belongs to this page or a later one.
    pub(super) fn is_before(&self, key: &Key) -> bool {
        (self.namespace.as_str(), self.name.as_str()) < (key.namespace.as_str(), key.name.as_str())
    }

    /// 410 for a list that cannot be continued at its version, with a token that continues it at the current version.
    pub(super) fn expired(&self) -> ApiError {
        let mut error = ApiError::expired(TOO_OLD);
        let onward = Continue { revision: None, namespace: self.namespace.clone(), name: self.name.clone() };
        error.continue_token = Some(onward.token());
        error
    }
}
