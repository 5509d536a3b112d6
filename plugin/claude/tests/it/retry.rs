//! Whether a run starts once more with a fresh session.

use claude_k8s::outcome::{RetryReason, may_retry_fresh};
use serde_json::json;

use crate::story::Story;

fn reason(story: &Story) -> Option<RetryReason> {
    may_retry_fresh(&story.evidence, &story.stream)
}

fn resumed(text: &str) -> Story {
    let story = Story::new().fails(text, &json!({})).exits(1);
    story.with(|evidence| evidence.run.resumed_session_id = Some("S".to_owned()))
}

const GONE: &str = "No conversation found with session ID: S";

#[test]
fn a_session_that_is_of_no_use_is_replaced() {
    let poisoned = "400 diagnostics.previous_message_id: (starts with `msg_`)";
    for (text, expected, line) in [
        (GONE, RetryReason::Unavailable, "is unavailable"),
        (poisoned, RetryReason::PoisonedMessageId, "returned a poisoned message-id"),
        (
            "API Error: 400 Could not process image",
            RetryReason::UnprocessableImage,
            "contains an unprocessable image",
        ),
    ] {
        assert_eq!(reason(&resumed(text)), Some(expected));
        assert_eq!(
            expected.log_line("S"),
            format!("[paperclip] Claude resume session \"S\" {line}; retrying with a fresh session.")
        );
    }
}

#[test]
fn a_run_is_retried_once_and_only_if_it_resumed_and_did_nothing() {
    assert_eq!(reason(&resumed("boom")), None);
    let is_none = |change: fn(Story) -> Story| assert_eq!(reason(&change(resumed(GONE))), None);
    is_none(|story| story.with(|evidence| evidence.run.resumed_session_id = None));
    is_none(|story| story.with(|evidence| evidence.run.may_retry_fresh_session = false));
    is_none(|story| story.with(|evidence| evidence.run.is_fresh_retry = true));
    is_none(|story| story.with(|evidence| evidence.is_cancelled = true));
    is_none(|story| story.with(|evidence| evidence.is_timed_out = true));
    is_none(|story| story.says("something"));
}
