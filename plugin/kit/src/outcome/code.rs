//! The error codes a run can end with. `docs/errors.md` explains each one; a test compares the two.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a run failed, as Paperclip's server stores it (`errorCode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    // Before a stream exists.
    K8sConfigInvalid,
    K8sAgentIdInvalid,
    K8sConcurrencyGuardUnreachable,
    K8sConcurrentRunBlocked,
    K8sOrphanTaskUnknown,
    K8sOrphanSessionMismatch,
    K8sPromptSecretCreateFailed,
    K8sJobCreateFailed,
    K8sPodScheduleFailed,
    K8sPodReattachFailed,
    K8sLogsForbidden,
    // What the host itself reports.
    HostRestarted,
    PluginFailed,
    PluginRefused,
    JournalUnavailable,
    HostStopping,
    SnapshotUnreadable,
    // The end of any run.
    Cancelled,
    Timeout,
    AgentQuiet,
    K8sJobDeletedExternally,
    // What the agent or its provider reported.
    SessionUnavailable,
    MaxTurnsExhausted,
    BudgetExhausted,
    ContextExceeded,
    SessionUnusable,
    ModelNotFound,
    ClaudeAuthRequired,
    ProviderQuota,
    ClaudeRefusal,
    ClaudeTransientUpstream,
    LlmApiError,
    ClaudeAborted,
    ClaudeRunFailed,
    // The agent ended without a report.
    ClaudeTruncated,
    AgentNotFound,
    ClaudeInitFailed,
    ClaudeOutputUnparseable,
    ClaudeExited,
}

impl ErrorCode {
    /// Every code, in the order of the catalogue.
    pub const ALL: [ErrorCode; 39] = [
        ErrorCode::K8sConfigInvalid,
        ErrorCode::K8sAgentIdInvalid,
        ErrorCode::K8sConcurrencyGuardUnreachable,
        ErrorCode::K8sConcurrentRunBlocked,
        ErrorCode::K8sOrphanTaskUnknown,
        ErrorCode::K8sOrphanSessionMismatch,
        ErrorCode::K8sPromptSecretCreateFailed,
        ErrorCode::K8sJobCreateFailed,
        ErrorCode::K8sPodScheduleFailed,
        ErrorCode::K8sPodReattachFailed,
        ErrorCode::K8sLogsForbidden,
        ErrorCode::HostRestarted,
        ErrorCode::PluginFailed,
        ErrorCode::PluginRefused,
        ErrorCode::JournalUnavailable,
        ErrorCode::HostStopping,
        ErrorCode::SnapshotUnreadable,
        ErrorCode::Cancelled,
        ErrorCode::Timeout,
        ErrorCode::AgentQuiet,
        ErrorCode::K8sJobDeletedExternally,
        ErrorCode::SessionUnavailable,
        ErrorCode::MaxTurnsExhausted,
        ErrorCode::BudgetExhausted,
        ErrorCode::ContextExceeded,
        ErrorCode::SessionUnusable,
        ErrorCode::ModelNotFound,
        ErrorCode::ClaudeAuthRequired,
        ErrorCode::ProviderQuota,
        ErrorCode::ClaudeRefusal,
        ErrorCode::ClaudeTransientUpstream,
        ErrorCode::LlmApiError,
        ErrorCode::ClaudeAborted,
        ErrorCode::ClaudeRunFailed,
        ErrorCode::ClaudeTruncated,
        ErrorCode::AgentNotFound,
        ErrorCode::ClaudeInitFailed,
        ErrorCode::ClaudeOutputUnparseable,
        ErrorCode::ClaudeExited,
    ];

    /// The code as it crosses to the server.
    pub const fn as_str(self) -> &'static str {
        match self {
            ErrorCode::K8sConfigInvalid => "k8s_config_invalid",
            ErrorCode::K8sAgentIdInvalid => "k8s_agent_id_invalid",
            ErrorCode::K8sConcurrencyGuardUnreachable => "k8s_concurrency_guard_unreachable",
            ErrorCode::K8sConcurrentRunBlocked => "k8s_concurrent_run_blocked",
            ErrorCode::K8sOrphanTaskUnknown => "k8s_orphan_task_unknown",
            ErrorCode::K8sOrphanSessionMismatch => "k8s_orphan_session_mismatch",
            ErrorCode::K8sPromptSecretCreateFailed => "k8s_prompt_secret_create_failed",
            ErrorCode::K8sJobCreateFailed => "k8s_job_create_failed",
            ErrorCode::K8sPodScheduleFailed => "k8s_pod_schedule_failed",
            ErrorCode::K8sPodReattachFailed => "k8s_pod_reattach_failed",
            ErrorCode::K8sLogsForbidden => "k8s_logs_forbidden",
            ErrorCode::HostRestarted => "host_restarted",
            ErrorCode::PluginFailed => "plugin_failed",
            ErrorCode::PluginRefused => "plugin_refused",
            ErrorCode::JournalUnavailable => "journal_unavailable",
            ErrorCode::HostStopping => "host_stopping",
            ErrorCode::SnapshotUnreadable => "snapshot_unreadable",
            ErrorCode::Cancelled => "cancelled",
            ErrorCode::Timeout => "timeout",
            ErrorCode::AgentQuiet => "agent_quiet",
            ErrorCode::K8sJobDeletedExternally => "k8s_job_deleted_externally",
            ErrorCode::SessionUnavailable => "session_unavailable",
            ErrorCode::MaxTurnsExhausted => "max_turns_exhausted",
            ErrorCode::BudgetExhausted => "budget_exhausted",
            ErrorCode::ContextExceeded => "context_exceeded",
            ErrorCode::SessionUnusable => "session_unusable",
            ErrorCode::ModelNotFound => "model_not_found",
            ErrorCode::ClaudeAuthRequired => "claude_auth_required",
            ErrorCode::ProviderQuota => "provider_quota",
            ErrorCode::ClaudeRefusal => "claude_refusal",
            ErrorCode::ClaudeTransientUpstream => "claude_transient_upstream",
            ErrorCode::LlmApiError => "llm_api_error",
            ErrorCode::ClaudeAborted => "claude_aborted",
            ErrorCode::ClaudeRunFailed => "claude_run_failed",
            ErrorCode::ClaudeTruncated => "claude_truncated",
            ErrorCode::AgentNotFound => "agent_not_found",
            ErrorCode::ClaudeInitFailed => "claude_init_failed",
            ErrorCode::ClaudeOutputUnparseable => "claude_output_unparseable",
            ErrorCode::ClaudeExited => "claude_exited",
        }
    }

    /// The family by which the server decides about a retry.
    pub const fn family(self) -> Option<ErrorFamily> {
        match self {
            ErrorCode::ProviderQuota => Some(ErrorFamily::ProviderQuota),
            ErrorCode::ClaudeTransientUpstream | ErrorCode::LlmApiError => {
                Some(ErrorFamily::TransientUpstream)
            }
            ErrorCode::ClaudeRefusal => Some(ErrorFamily::ModelRefusal),
            ErrorCode::K8sConfigInvalid
            | ErrorCode::K8sAgentIdInvalid
            | ErrorCode::K8sConcurrencyGuardUnreachable
            | ErrorCode::K8sConcurrentRunBlocked
            | ErrorCode::K8sOrphanTaskUnknown
            | ErrorCode::K8sOrphanSessionMismatch
            | ErrorCode::K8sPromptSecretCreateFailed
            | ErrorCode::K8sJobCreateFailed
            | ErrorCode::K8sPodScheduleFailed
            | ErrorCode::K8sPodReattachFailed
            | ErrorCode::K8sLogsForbidden
            | ErrorCode::HostRestarted
            | ErrorCode::PluginFailed
            | ErrorCode::PluginRefused
            | ErrorCode::JournalUnavailable
            | ErrorCode::HostStopping
            | ErrorCode::SnapshotUnreadable
            | ErrorCode::Cancelled
            | ErrorCode::Timeout
            | ErrorCode::K8sJobDeletedExternally
            | ErrorCode::SessionUnavailable
            | ErrorCode::ClaudeAuthRequired
            | ErrorCode::ModelNotFound
            | ErrorCode::MaxTurnsExhausted
            | ErrorCode::BudgetExhausted
            | ErrorCode::ContextExceeded
            | ErrorCode::SessionUnusable
            | ErrorCode::AgentQuiet
            | ErrorCode::AgentNotFound
            | ErrorCode::ClaudeAborted
            | ErrorCode::ClaudeRunFailed
            | ErrorCode::ClaudeTruncated
            | ErrorCode::ClaudeInitFailed
            | ErrorCode::ClaudeOutputUnparseable
            | ErrorCode::ClaudeExited => None,
        }
    }

    /// Whether only another configuration helps: trying again does not.
    pub const fn is_configuration_error(self) -> bool {
        matches!(self, ErrorCode::K8sConfigInvalid | ErrorCode::K8sAgentIdInvalid | ErrorCode::PluginRefused)
    }

    /// Whether the task may be continued after a run that ended so. Without it the server locks the task.
    pub const fn may_be_continued(self) -> bool {
        !matches!(self, ErrorCode::Cancelled | ErrorCode::ClaudeRefusal)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
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
}

impl ErrorFamily {
    pub const fn as_str(self) -> &'static str {
        match self {
            ErrorFamily::TransientUpstream => "transient_upstream",
            ErrorFamily::ProviderQuota => "provider_quota",
            ErrorFamily::ModelRefusal => "model_refusal",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_name_of_a_code_is_the_same_in_json_and_in_text() {
        for code in ErrorCode::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
            assert_eq!(code.to_string(), code.as_str());
            if let Some(family) = code.family() {
                assert_eq!(serde_json::to_value(family).unwrap(), family.as_str());
            }
        }
    }

    #[test]
    fn what_the_server_decides_about_has_a_family() {
        let with_family: Vec<_> =
            ErrorCode::ALL.iter().filter_map(|code| Some((code.as_str(), code.family()?.as_str()))).collect();
        assert_eq!(
            with_family,
            [
                ("provider_quota", "provider_quota"),
                ("claude_refusal", "model_refusal"),
                ("claude_transient_upstream", "transient_upstream"),
                ("llm_api_error", "transient_upstream"),
            ]
        );
    }

    #[test]
    fn every_code_is_listed_once() {
        let names: BTreeSet<_> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(names.len(), ErrorCode::ALL.len());
    }
}
