//! Whether a run starts once more with a fresh session, because the one it resumed is of no use.

use paperclip_kit::outcome::Evidence;
use serde::{Deserialize, Serialize};

use super::deciding_rule;
use super::facts::Case;
use crate::phrases::UNPROCESSABLE_IMAGE;
use crate::stream::Stream;

/// The rows that say so themselves; an image the API refuses each time has no row of its own.
const UNKNOWN_SESSION_ROW: u8 = 3;
const POISONED_ROW: u8 = 7;
const FAILED_ROW: u8 = 12;

/// What is wrong with the session that was resumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryReason {
    Unavailable,
    PoisonedMessageId,
    UnprocessableImage,
}

impl RetryReason {
    /// The line that the run's log shows before the second attempt.
    pub fn log_line(self, session_id: &str) -> String {
        let what = match self {
            RetryReason::Unavailable => "is unavailable",
            RetryReason::PoisonedMessageId => "returned a poisoned message-id",
            RetryReason::UnprocessableImage => "contains an unprocessable image",
        };
        format!("[paperclip] Claude resume session \"{session_id}\" {what}; retrying with a fresh session.")
    }
}

/// Why this attempt is to be followed by one with a fresh session, if it is: it resumed a session, it failed because
/// of it, and nothing had been done by then.
pub fn may_retry_fresh(evidence: &Evidence, stream: &Stream) -> Option<RetryReason> {
    let run = &evidence.run;
    let is_possible = run.may_retry_fresh_session && !run.is_fresh_retry && run.resumed_session_id.is_some();
    if !is_possible || stream.has_content() {
        return None;
    }
    let case = Case::new(evidence, stream);
    match deciding_rule(&case).row {
        UNKNOWN_SESSION_ROW => Some(RetryReason::Unavailable),
        POISONED_ROW => Some(RetryReason::PoisonedMessageId),
        FAILED_ROW => case
            .result
            .is_some_and(|event| event.cli_says(UNPROCESSABLE_IMAGE))
            .then_some(RetryReason::UnprocessableImage),
        _ => None,
    }
}
