//! Whether a run starts again with a fresh session.

use claude_k8s::outcome::{RetryReason, may_retry_fresh};
use serde_json::json;

use crate::judgement::story::Story;

fn reason(story: &Story) -> Option<RetryReason> {
    may_retry_fresh(&story.evidence, &story.stream)
}

fn resumes(story: Story) -> Story {
    story.exits(1).with(|evidence| evidence.run.resumed_session_id = Some("S".to_owned()))
}

fn resumed(text: &str) -> Story {
    resumes(Story::new().gets_an_error(text, &json!({})))
}

const UNKNOWN: &str = "No conversation found with session ID: S";

#[test]
fn a_session_that_can_never_work_again_is_replaced() {
    for (text, expected, line) in [
        (UNKNOWN, RetryReason::Unavailable, "is unavailable"),
        ("Prompt is too long", RetryReason::TooLong, "no longer fits into the model's context"),
        ("API Error: 400 due to tool use concurrency issues.", RetryReason::Unusable, "cannot be continued"),
        (
            "400 diagnostics.previous_message_id: (starts with `msg_`)",
            RetryReason::Unusable,
            "cannot be continued",
        ),
    ] {
        assert_eq!(reason(&resumed(text)), Some(expected), "{text}");
        assert_eq!(
            expected.log_line("Claude", "S"),
            format!("[paperclip] Claude resume session \"S\" {line}; retrying with a fresh session.")
        );
    }
    let on_stderr = resumes(Story::new().prints_on_stderr(UNKNOWN));
    assert_eq!(reason(&on_stderr), Some(RetryReason::Unavailable));
    let without_result = resumes(Story::new().starts().shows_an_error("Prompt is too long", &json!({})));
    assert_eq!(reason(&without_result), Some(RetryReason::TooLong));
}

#[test]
fn a_run_is_retried_once_and_only_if_it_resumed_and_did_nothing() {
    assert_eq!(reason(&resumed("boom")), None);
    let is_none = |change: fn(Story) -> Story| {
        for text in [UNKNOWN, "Prompt is too long"] {
            assert_eq!(reason(&change(resumed(text))), None);
        }
    };
    is_none(|story| story.with(|evidence| evidence.run.resumed_session_id = None));
    is_none(|story| story.with(|evidence| evidence.run.may_retry_fresh_session = false));
    is_none(|story| story.with(|evidence| evidence.run.is_fresh_retry = true));
    is_none(|story| story.with(|evidence| evidence.is_cancelled = true));
    is_none(|story| story.with(|evidence| evidence.is_timed_out = true));
    is_none(|story| story.says("something"));
}
