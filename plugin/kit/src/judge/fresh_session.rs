//! Whether a run starts again with a fresh session, because the one that it resumed can never work again.

use serde::{Deserialize, Serialize};

use super::deciding_rule;
use super::facts::Case;
use super::rules::SessionEffect;
use crate::outcome::{ErrorCode, Evidence};
use crate::stream::AgentStream;

/// What is wrong with the session that was resumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryReason {
    Unavailable,
    TooLong,
    Unusable,
}

impl RetryReason {
    /// Returns the line that the run's log shows before the second attempt.
    pub fn log_line(self, name: &str, session_id: &str) -> String {
        let what = match self {
            RetryReason::Unavailable => "is unavailable",
            RetryReason::TooLong => "no longer fits into the model's context",
            RetryReason::Unusable => "cannot be continued",
        };
        format!("[paperclip] {name} resume session \"{session_id}\" {what}; retrying with a fresh session.")
    }
}

/// Returns why this attempt is to be followed by one with a fresh session: it resumed a session, the session's state made it fail,
/// and it had produced no content of its own.
pub fn may_retry_fresh<S: AgentStream>(evidence: &Evidence, stream: &S) -> Option<RetryReason> {
    let run = &evidence.run;
    let is_possible = run.may_retry_fresh_session && !run.is_fresh_retry && run.resumed_session_id.is_some();
    if !is_possible || stream.kept().has_content {
        return None;
    }
    let rule = deciding_rule(&Case::new(evidence, stream));
    if rule.session != SessionEffect::Drop {
        return None;
    }
    Some(match rule.code {
        Some(ErrorCode::SESSION_UNAVAILABLE) => RetryReason::Unavailable,
        Some(ErrorCode::CONTEXT_EXCEEDED) => RetryReason::TooLong,
        Some(_) | None => RetryReason::Unusable,
    })
}
