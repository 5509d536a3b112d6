//! Paperclip's `AdapterExecutionResult`: what a run returns to the server.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::code::{ErrorCode, ErrorFamily};
use super::session::{SessionParams, Workspace};

/// `resultJson` as the server stores it, in bytes of JSON.
pub const RESULT_JSON_BYTES: usize = 64 * 1024;

/// The result of a run in the server's names. The server calls a run succeeded if the exit code is 0 or null and
/// there is neither an error message nor a signal; so every failure has a message and a code.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AdapterResult {
    /// As in the container's status; null where it was not observed, or the container was ended after its agent's success.
    pub exit_code: Option<i32>,
    /// Always null: a signal is named in the message and in `resultJson.termination`.
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

/// The value of `resultJson.conversationContinuation` with which the server keeps a failed run's task open.
const CONTINUE_CONVERSATION: &str = "continue_conversation_v1";

impl AdapterResult {
    /// Returns the result of a run that ended before its agent printed anything: guard, create, schedule, reattach.
    pub fn failed(code: ErrorCode, message: String) -> AdapterResult {
        let mut result = AdapterResult {
            error_message: Some(message),
            error_family: code.family(),
            error_code: Some(code),
            ..AdapterResult::default()
        };
        result.continue_conversation();
        result
    }

    /// Lets the server continue the task after a failure, unless the failure's code forbids it.
    pub fn continue_conversation(&mut self) {
        if self.error_code.is_some_and(ErrorCode::may_be_continued) {
            self.add_to_json("conversationContinuation", CONTINUE_CONVERSATION.into());
        }
    }

    /// Proves to the server that nothing was done by the agent, so that it may start the run again. If trying again can help, the
    /// result is also of the family `transient_upstream`, unless it has another one.
    pub fn declare_bootstrap(&mut self) {
        self.set_recovery(ExecutionRecovery::BOOTSTRAP);
        if self.error_code.is_some_and(|code| !code.is_configuration_error()) {
            let family = *self.error_family.get_or_insert(ErrorFamily::TransientUpstream);
            self.add_to_json("errorFamily", family.as_str().into());
        }
    }

    /// Acknowledges a cancellation whose agent is known to have ended. `at` is now, in ISO 8601. A session that is kept may be
    /// continued.
    pub fn acknowledge_cancellation(&mut self, at: Option<&str>) {
        self.add_to_json("executionCancellation", json!({"state": "acknowledged", "acknowledgedAt": at}));
        if matches!(self.session_id, Some(Some(_))) {
            self.set_recovery(ExecutionRecovery::INTERRUPTED);
        }
    }

    /// As a field of its own and in `resultJson`, which the server stores verbatim.
    fn set_recovery(&mut self, recovery: ExecutionRecovery) {
        self.execution_recovery = Some(recovery);
        let json = serde_json::to_value(recovery).expect("a recovery is plain data");
        self.add_to_json("executionRecovery", json);
    }

    fn add_to_json(&mut self, name: &str, value: Value) {
        self.result_json.get_or_insert_with(Map::new).insert(name.to_owned(), value);
    }

    /// Keeps a session for the next run.
    pub fn keep_session(&mut self, id: String, workspace: &Workspace) {
        self.session_params = Some(Some(SessionParams::new(id.clone(), workspace)));
        self.session_display_id = Some(Some(id.clone()));
        self.session_id = Some(Some(id));
    }

    /// Drops the session, also the one that the server has.
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

/// Paperclip's `AdapterBillingType`, as far as it is reported here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BillingType {
    /// By tokens, with a key.
    Api,
    /// By a plan, with a login.
    Subscription,
    #[default]
    Unknown,
}

/// Who serves an agent's model, and who is paid for it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Billing {
    /// Such as `anthropic`.
    pub provider: Option<String>,
    /// Such as `aws_bedrock`.
    pub biller: Option<String>,
    pub billing_type: BillingType,
}

impl Billing {
    /// Creates a billing from names.
    pub fn new(provider: &str, biller: &str, billing_type: BillingType) -> Billing {
        Billing { provider: Some(provider.to_owned()), biller: Some(biller.to_owned()), billing_type }
    }
}

/// Proof for the server of what an ended run has left behind. `kind` names it; the other members depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecutionRecovery {
    kind: RecoveryKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider_work_started: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider_stopped: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_preserved: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    action_outcomes: Option<ActionOutcomes>,
}

impl ExecutionRecovery {
    /// The run ended before its agent did anything: the server may start it again.
    pub const BOOTSTRAP: ExecutionRecovery = ExecutionRecovery {
        kind: RecoveryKind::Bootstrap,
        provider_work_started: Some(false),
        provider_stopped: None,
        session_preserved: None,
        action_outcomes: None,
    };
    /// The run was cancelled and its agent has ended: the next run continues its session.
    pub const INTERRUPTED: ExecutionRecovery = ExecutionRecovery {
        kind: RecoveryKind::Interrupted,
        provider_work_started: None,
        provider_stopped: Some(true),
        session_preserved: Some(true),
        action_outcomes: Some(ActionOutcomes::Settled),
    };
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RecoveryKind {
    Bootstrap,
    Interrupted,
}

/// Whether what an agent did has come to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ActionOutcomes {
    Settled,
}

/// A field that is absent, null or has a value.
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
    fn a_failure_before_the_stream_leaves_the_session_alone() {
        let result = AdapterResult::failed(ErrorCode::K8S_JOB_CREATE_FAILED, "no quota".to_owned());
        assert_eq!(
            serde_json::to_value(&result).unwrap(),
            json!({
                "exitCode": null, "signal": null, "timedOut": false, "errorMessage": "no quota",
                "errorCode": "k8s_job_create_failed", "clearSession": false,
                "resultJson": {"conversationContinuation": "continue_conversation_v1"},
            })
        );
        assert!(!result.is_success());
        let transient = AdapterResult::failed(ErrorCode::LLM_API_ERROR, String::new());
        assert_eq!(transient.error_family, ErrorCode::LLM_API_ERROR.family());
    }

    #[test]
    fn a_run_that_did_nothing_may_be_started_again() {
        let bootstrap = json!({"kind": "bootstrap", "providerWorkStarted": false});
        for (code, family) in [
            (ErrorCode::K8S_JOB_CREATE_FAILED, json!("transient_upstream")),
            (ErrorCode::PROVIDER_QUOTA, json!("provider_quota")),
            (ErrorCode::K8S_CONFIG_INVALID, Value::Null),
        ] {
            let mut result = AdapterResult::failed(code, "x".to_owned());
            result.declare_bootstrap();
            let value = serde_json::to_value(&result).unwrap();
            assert_eq!(value.get("errorFamily").unwrap_or(&Value::Null), &family);
            assert_eq!(value["executionRecovery"], bootstrap);
            assert_eq!(value["resultJson"]["executionRecovery"], bootstrap);
        }
    }

    #[test]
    fn an_acknowledged_cancellation_preserves_the_session_that_there_is() {
        let acknowledged = |session: Option<&str>| {
            let mut result = AdapterResult::failed(ErrorCode::CANCELLED, "Run cancelled".to_owned());
            if let Some(id) = session {
                result.keep_session(id.to_owned(), &Workspace::default());
            }
            result.acknowledge_cancellation(Some("t"));
            serde_json::to_value(&result).unwrap()
        };
        let none = acknowledged(None);
        assert_eq!(
            none["resultJson"],
            json!({"executionCancellation": {"state": "acknowledged", "acknowledgedAt": "t"}})
        );
        assert_eq!(none.get("executionRecovery"), None);
        let interrupted = json!({"kind": "interrupted", "providerStopped": true, "sessionPreserved": true,
            "actionOutcomes": "settled"});
        assert_eq!(acknowledged(Some("s"))["executionRecovery"], interrupted);
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
