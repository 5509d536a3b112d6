//! The error codes a run can end with: those of all agent types, and the names that each agent type completes with its own prefix.
//! `docs/errors.md` explains them; a test compares the two.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

/// Why a run failed, as Paperclip's server stores it (`errorCode`): lower-case words, separated by `_`.
///
/// The set is open: an agent type has codes of its own. What the server does about a code follows from its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct ErrorCode(&'static str);

/// Declares codes and lists them in order.
macro_rules! codes {
    ($($name:ident = $text:literal,)*) => {
        impl ErrorCode {
            $(#[doc = concat!("`", $text, "`")] pub const $name: ErrorCode = ErrorCode::new($text);)*

            /// The codes that the kit itself or every agent type may return, in the order of the catalogue.
            pub const SHARED: &[ErrorCode] = &[$(ErrorCode::$name),*];
        }
    };
}

codes! {
    // Before a stream exists.
    K8S_CONFIG_INVALID = "k8s_config_invalid",
    K8S_AGENT_ID_INVALID = "k8s_agent_id_invalid",
    K8S_CONCURRENCY_GUARD_UNREACHABLE = "k8s_concurrency_guard_unreachable",
    K8S_CONCURRENT_RUN_BLOCKED = "k8s_concurrent_run_blocked",
    K8S_ORPHAN_TASK_UNKNOWN = "k8s_orphan_task_unknown",
    K8S_ORPHAN_SESSION_MISMATCH = "k8s_orphan_session_mismatch",
    K8S_PROMPT_SECRET_CREATE_FAILED = "k8s_prompt_secret_create_failed",
    K8S_JOB_CREATE_FAILED = "k8s_job_create_failed",
    K8S_POD_SCHEDULE_FAILED = "k8s_pod_schedule_failed",
    K8S_POD_REATTACH_FAILED = "k8s_pod_reattach_failed",
    K8S_LOGS_FORBIDDEN = "k8s_logs_forbidden",
    // What the host itself reports.
    HOST_RESTARTED = "host_restarted",
    PLUGIN_FAILED = "plugin_failed",
    PLUGIN_REFUSED = "plugin_refused",
    JOURNAL_UNAVAILABLE = "journal_unavailable",
    HOST_STOPPING = "host_stopping",
    SNAPSHOT_UNREADABLE = "snapshot_unreadable",
    // The end of any run.
    CANCELLED = "cancelled",
    TIMEOUT = "timeout",
    AGENT_QUIET = "agent_quiet",
    K8S_JOB_DELETED_EXTERNALLY = "k8s_job_deleted_externally",
    // What the agent or its provider reported.
    SESSION_UNAVAILABLE = "session_unavailable",
    MAX_TURNS_EXHAUSTED = "max_turns_exhausted",
    BUDGET_EXHAUSTED = "budget_exhausted",
    CONTEXT_EXCEEDED = "context_exceeded",
    SESSION_UNUSABLE = "session_unusable",
    MODEL_NOT_FOUND = "model_not_found",
    PROVIDER_QUOTA = "provider_quota",
    LLM_API_ERROR = "llm_api_error",
    // The agent ended without a report.
    AGENT_NOT_FOUND = "agent_not_found",
}

/// The ends of the names from which a family follows.
const TRANSIENT_UPSTREAM: &str = "_transient_upstream";
const REFUSAL: &str = "_refusal";

impl ErrorCode {
    /// Names a code.
    pub const fn new(name: &'static str) -> ErrorCode {
        ErrorCode(name)
    }

    /// The code as it crosses to the server.
    pub const fn as_str(self) -> &'static str {
        self.0
    }

    /// The family by which the server decides about a retry: `provider_quota` has its own, `…_transient_upstream` and `llm_api_error`
    /// are transient, `…_refusal` is the model's.
    pub fn family(self) -> Option<ErrorFamily> {
        match self.as_str() {
            "provider_quota" => Some(ErrorFamily::ProviderQuota),
            "llm_api_error" => Some(ErrorFamily::TransientUpstream),
            name if name.ends_with(TRANSIENT_UPSTREAM) => Some(ErrorFamily::TransientUpstream),
            name if name.ends_with(REFUSAL) => Some(ErrorFamily::ModelRefusal),
            _ => None,
        }
    }

    /// Whether only another configuration helps: trying again does not.
    pub fn is_configuration_error(self) -> bool {
        matches!(self.as_str(), "k8s_config_invalid" | "k8s_agent_id_invalid" | "plugin_refused")
    }

    /// Whether the task may be continued after a run that ended so. Without it the server locks the task.
    pub fn may_be_continued(self) -> bool {
        self.as_str() != "cancelled" && !self.as_str().ends_with(REFUSAL)
    }
}

impl<'de> Deserialize<'de> for ErrorCode {
    /// A snapshot holds shared codes alone: others are those of a result that was written down elsewhere, and live as long as the program.
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<ErrorCode, D::Error> {
        let name = String::deserialize(from)?;
        let shared = ErrorCode::SHARED.iter().find(|code| code.0 == name).copied();
        Ok(shared.unwrap_or_else(|| ErrorCode(name.leak())))
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The codes that every agent type completes with its own prefix. [`agent_codes!`](crate::agent_codes) makes them.
#[derive(Debug, Clone, Copy)]
pub struct AgentCodes {
    /// Credentials are missing or refused.
    pub auth_required: ErrorCode,
    /// The model declined.
    pub refusal: ErrorCode,
    /// The provider cannot serve at the moment.
    pub transient_upstream: ErrorCode,
    /// The agent was interrupted.
    pub aborted: ErrorCode,
    /// The agent reported another failure.
    pub run_failed: ErrorCode,
    /// The output ends before the agent's report.
    pub truncated: ErrorCode,
    /// The agent started and ended at once.
    pub init_failed: ErrorCode,
    /// The agent exited with 0, and its output says nothing.
    pub output_unparseable: ErrorCode,
    /// The agent ended without a report.
    pub exited: ErrorCode,
}

impl AgentCodes {
    /// Returns the codes in the order of the catalogue.
    pub const fn all(&self) -> [ErrorCode; 9] {
        let &AgentCodes {
            auth_required,
            refusal,
            transient_upstream,
            aborted,
            run_failed,
            truncated,
            init_failed,
            output_unparseable,
            exited,
        } = self;
        [
            auth_required,
            refusal,
            transient_upstream,
            aborted,
            run_failed,
            truncated,
            init_failed,
            output_unparseable,
            exited,
        ]
    }
}

/// Makes the [`AgentCodes`] with a prefix.
///
/// ```
/// use paperclip_kit::outcome::AgentCodes;
///
/// const CODES: AgentCodes = paperclip_kit::agent_codes!("echo");
/// assert_eq!(CODES.auth_required.as_str(), "echo_auth_required");
/// ```
#[macro_export]
macro_rules! agent_codes {
    ($prefix:literal) => {
        $crate::outcome::AgentCodes {
            auth_required: $crate::outcome::ErrorCode::new(concat!($prefix, "_auth_required")),
            refusal: $crate::outcome::ErrorCode::new(concat!($prefix, "_refusal")),
            transient_upstream: $crate::outcome::ErrorCode::new(concat!($prefix, "_transient_upstream")),
            aborted: $crate::outcome::ErrorCode::new(concat!($prefix, "_aborted")),
            run_failed: $crate::outcome::ErrorCode::new(concat!($prefix, "_run_failed")),
            truncated: $crate::outcome::ErrorCode::new(concat!($prefix, "_truncated")),
            init_failed: $crate::outcome::ErrorCode::new(concat!($prefix, "_init_failed")),
            output_unparseable: $crate::outcome::ErrorCode::new(concat!($prefix, "_output_unparseable")),
            exited: $crate::outcome::ErrorCode::new(concat!($prefix, "_exited")),
        }
    };
}

/// Paperclip's `AdapterExecutionErrorFamily`, as far as the agent types here report it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorFamily {
    /// The provider is overloaded or broken for the moment.
    TransientUpstream,
    /// The account's quota is used up until it is reset.
    ProviderQuota,
    /// The model declined.
    ModelRefusal,
    /// Another program has used the login's refresh token.
    RefreshTokenReused,
    /// The login's refresh token has expired.
    RefreshTokenExpired,
    /// The login's refresh token was revoked.
    RefreshTokenInvalidated,
}

impl ErrorFamily {
    pub const fn as_str(self) -> &'static str {
        match self {
            ErrorFamily::TransientUpstream => "transient_upstream",
            ErrorFamily::ProviderQuota => "provider_quota",
            ErrorFamily::ModelRefusal => "model_refusal",
            ErrorFamily::RefreshTokenReused => "refresh_token_reused",
            ErrorFamily::RefreshTokenExpired => "refresh_token_expired",
            ErrorFamily::RefreshTokenInvalidated => "refresh_token_invalidated",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const CODES: AgentCodes = agent_codes!("echo");

    #[test]
    fn the_name_of_a_code_is_the_same_in_json_and_in_text() {
        for code in ErrorCode::SHARED.iter().copied().chain(CODES.all()) {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
            assert_eq!(code.to_string(), code.as_str());
            if let Some(family) = code.family() {
                assert_eq!(serde_json::to_value(family).unwrap(), family.as_str());
            }
        }
    }

    #[test]
    fn what_the_server_decides_about_has_a_family() {
        let codes = ErrorCode::SHARED.iter().copied().chain(CODES.all());
        let with_family: Vec<_> =
            codes.filter_map(|code| Some((code.as_str(), code.family()?.as_str()))).collect();
        assert_eq!(
            with_family,
            [
                ("provider_quota", "provider_quota"),
                ("llm_api_error", "transient_upstream"),
                ("echo_refusal", "model_refusal"),
                ("echo_transient_upstream", "transient_upstream"),
            ]
        );
    }

    #[test]
    fn every_code_is_listed_once() {
        let names: BTreeSet<_> = ErrorCode::SHARED.iter().copied().chain(CODES.all()).collect();
        assert_eq!(names.len(), ErrorCode::SHARED.len() + CODES.all().len());
    }
}
