//! The CLI's retries of its own requests, as `api_retry` events report them.

use paperclip_kit::outcome::head;
use serde::{Deserialize, Serialize};

use paperclip_kit::json::{count, pick, some_text};
use paperclip_kit::stream::http_status;

/// The last retry that neither an answer nor a result has followed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ApiRetry {
    attempt: u64,
    max_retries: u64,
    pub(crate) status: Option<u16>,
    /// The CLI's name of the error, such as `overloaded`.
    error: String,
}

impl ApiRetry {
    const NAME_BYTES: usize = 64;

    pub(crate) fn read(json: &str) -> ApiRetry {
        let names = ["attempt", "max_retries", "error_status", "error"];
        let [attempt, max_retries, status, error] = pick(json, &names).unwrap_or_default();
        ApiRetry {
            attempt: count(attempt),
            max_retries: count(max_retries),
            status: http_status(status),
            error: head(&some_text(error).unwrap_or_default(), Self::NAME_BYTES).into_owned(),
        }
    }

    /// Whether the credentials of a cloud provider cannot be loaded.
    pub(crate) fn misses_cloud_credentials(&self) -> bool {
        self.error == "cloud_credential_error"
    }

    /// `API retry 4 of 10: 529 overloaded`.
    pub(crate) fn describe(&self) -> String {
        let status = self.status.map(|status| status.to_string());
        let what: Vec<&str> = status
            .as_deref()
            .into_iter()
            .chain([self.error.as_str()])
            .filter(|text| !text.is_empty())
            .collect();
        let what = if what.is_empty() { "no answer".to_owned() } else { what.join(" ") };
        format!("API retry {} of {}: {what}", self.attempt, self.max_retries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retry_is_described_by_its_count_status_and_error() {
        for (event, expected) in [
            (
                r#"{"attempt":4,"max_retries":10,"error_status":529,"error":"overloaded"}"#,
                "API retry 4 of 10: 529 overloaded",
            ),
            (
                r#"{"attempt":1,"max_retries":2,"error_status":null,"error":"unknown"}"#,
                "API retry 1 of 2: unknown",
            ),
            ("{}", "API retry 0 of 0: no answer"),
        ] {
            assert_eq!(ApiRetry::read(event).describe(), expected);
        }
        assert!(ApiRetry::read(r#"{"error":"cloud_credential_error"}"#).misses_cloud_credentials());
    }
}
