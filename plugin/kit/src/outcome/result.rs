//! Paperclip's `AdapterExecutionResult`: what a run returns to the server.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::code::{ErrorCode, ErrorFamily};
use super::session::{SessionParams, Workspace};

/// `resultJson` as the server stores it, in bytes of JSON.
pub const RESULT_JSON_BYTES: usize = 64 * 1024;

/// The result of a run in the server's names. The server calls a run succeeded if the exit code is 0 or null and
/// there is neither an error message nor a signal; so every failure has a message and a code.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AdapterResult {
    /// As the container's status told it, null where it could not be read.
    pub exit_code: Option<i32>,
    /// Always null: a signal is told in the message and in `resultJson.termination`.
    pub signal: Option<String>,
    pub timed_out: bool,
    pub error_message: Option<String>,
    pub error_code: Option<ErrorCode>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_family: Option<ErrorFamily>,
    /// A time in ISO 8601 before which a retry is pointless.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_not_before: Option<String>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub error_meta: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage_basis: Option<UsageBasis>,
    /// Absent keeps the server's session, `Some(None)` (null) drops it; the same for the two fields below.
    #[serde(with = "nullable", skip_serializing_if = "Option::is_none")]
    pub session_id: Option<Option<String>>,
    #[serde(with = "nullable", skip_serializing_if = "Option::is_none")]
    pub session_params: Option<Option<SessionParams>>,
    #[serde(with = "nullable", skip_serializing_if = "Option::is_none")]
    pub session_display_id: Option<Option<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub biller: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub billing_type: Option<BillingType>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<f64>,
    /// At most [`RESULT_JSON_BYTES`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result_json: Option<Map<String, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// Whether the server is to forget the task's session.
    pub clear_session: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub execution_recovery: Option<ExecutionRecovery>,
}

impl AdapterResult {
    /// A run that ended before its agent printed anything: guard, create, schedule, reattach.
    pub fn failed(code: ErrorCode, message: String) -> AdapterResult {
        AdapterResult {
            error_message: Some(message),
            error_code: Some(code),
            error_family: code.family(),
            ..AdapterResult::default()
        }
    }

    /// The session to go on with.
    pub fn keep_session(&mut self, id: String, workspace: &Workspace) {
        self.session_params = Some(Some(SessionParams::new(id.clone(), workspace)));
        self.session_display_id = Some(Some(id.clone()));
        self.session_id = Some(Some(id));
    }

    /// No session to go on with, and the server's is to be dropped.
    pub fn drop_session(&mut self) {
        self.session_id = Some(None);
        self.session_params = Some(None);
        self.session_display_id = Some(None);
        self.clear_session = true;
    }

    /// Whether the server will call the run succeeded.
    pub fn is_success(&self) -> bool {
        self.exit_code.unwrap_or(0) == 0 && self.error_message.is_none() && self.signal.is_none()
    }
}

/// Tokens of this run alone ([`UsageBasis::PerRun`]).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Usage {
    pub input_tokens: u64,
    pub cached_input_tokens: u64,
    pub output_tokens: u64,
}

impl Usage {
    pub fn add(&mut self, other: Usage) {
        self.input_tokens = self.input_tokens.saturating_add(other.input_tokens);
        self.cached_input_tokens = self.cached_input_tokens.saturating_add(other.cached_input_tokens);
        self.output_tokens = self.output_tokens.saturating_add(other.output_tokens);
    }
}

/// How [`Usage`] counts. Without it the server takes the difference to the session's last run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UsageBasis {
    PerRun,
}

/// Paperclip's `AdapterBillingType`, as far as it is told here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BillingType {
    Api,
}

/// Proof that the server may start the run again by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecutionRecovery {
    kind: RecoveryKind,
    provider_work_started: bool,
}

impl ExecutionRecovery {
    /// The run ended before its agent's provider had begun any work.
    pub const BOOTSTRAP: ExecutionRecovery =
        ExecutionRecovery { kind: RecoveryKind::Bootstrap, provider_work_started: false };
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RecoveryKind {
    Bootstrap,
}

/// A field that is absent, null or there.
mod nullable {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer, T: Serialize>(
        field: &Option<Option<T>>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        field.as_ref().and_then(Option::as_ref).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
        from: D,
    ) -> Result<Option<Option<T>>, D::Error> {
        Option::deserialize(from).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_failure_before_the_stream_says_nothing_of_the_session() {
        let result = AdapterResult::failed(ErrorCode::K8sJobCreateFailed, "no quota".to_owned());
        assert_eq!(
            serde_json::to_value(&result).unwrap(),
            json!({
                "exitCode": null, "signal": null, "timedOut": false, "errorMessage": "no quota",
                "errorCode": "k8s_job_create_failed", "clearSession": false,
            })
        );
        assert!(!result.is_success());
        let transient = AdapterResult::failed(ErrorCode::LlmApiError, String::new());
        assert_eq!(transient.error_family, ErrorCode::LlmApiError.family());
    }

    #[test]
    fn usages_add_up_and_do_not_overflow() {
        let mut sum = Usage { input_tokens: 1, cached_input_tokens: 2, output_tokens: 3 };
        sum.add(Usage { input_tokens: 10, cached_input_tokens: 20, output_tokens: u64::MAX });
        assert_eq!(sum, Usage { input_tokens: 11, cached_input_tokens: 22, output_tokens: u64::MAX });
    }

    #[test]
    fn a_dropped_session_is_null_and_survives_a_round_trip() {
        let mut result = AdapterResult::default();
        assert!(result.is_success());
        result.drop_session();
        result.execution_recovery = Some(ExecutionRecovery::BOOTSTRAP);
        let value = serde_json::to_value(&result).unwrap();
        assert_eq!(
            value,
            json!({
                "exitCode": null, "signal": null, "timedOut": false, "errorMessage": null, "errorCode": null,
                "sessionId": null, "sessionParams": null, "sessionDisplayId": null, "clearSession": true,
                "executionRecovery": {"kind": "bootstrap", "providerWorkStarted": false},
            })
        );
        assert_eq!(serde_json::from_value::<AdapterResult>(value).unwrap(), result);
    }

    #[test]
    fn a_kept_session_has_its_workspace() {
        let mut result = AdapterResult::default();
        let workspace = Workspace { cwd: Some("/paperclip/w".to_owned()), ..Workspace::default() };
        result.keep_session("s1".to_owned(), &workspace);
        let value = serde_json::to_value(&result).unwrap();
        assert_eq!(value["sessionParams"], json!({"sessionId": "s1", "cwd": "/paperclip/w"}));
        assert_eq!(value["sessionDisplayId"], "s1");
        assert_eq!(serde_json::from_value::<AdapterResult>(value).unwrap(), result);
    }

    #[test]
    fn an_exit_code_alone_is_a_failure() {
        let result = AdapterResult { exit_code: Some(1), ..AdapterResult::default() };
        assert!(!result.is_success());
    }
}
