//! Each row of the precedence, with what its result carries.

use paperclip_kit::outcome::{ErrorCode, InfraCause, JobOutcome, SessionParams, Termination, Usage};
use serde_json::{Value, json};

use super::story::{CODES, RESETS_AT, Story};

fn as_json(story: &Story) -> Value {
    serde_json::to_value(story.result()).expect("a result is JSON")
}

const CONTINUE: &str = "continue_conversation_v1";
const AT_MS: i64 = RESETS_AT * 1000 - 3_600_000;

fn bootstrap() -> Value {
    json!({"kind": "bootstrap", "providerWorkStarted": false})
}

#[test]
fn row_1_a_reported_success_stays_a_success() {
    let good = || Story::new().starts().says("hi").succeeds();
    let ended = |code: i32, reason: &str, signal: Option<i32>| {
        good().with(|evidence| {
            evidence.container = Some(Termination {
                exit_code: Some(code),
                reason: Some(reason.to_owned()),
                signal,
                ..Termination::default()
            });
        })
    };
    for (story, exit) in [
        (good(), Value::Null),
        (good().exits(0), json!(0)),
        (good().loses_its_job(), Value::Null),
        (ended(129, "Error", None), Value::Null),
        (ended(137, "Error", None), Value::Null),
        (ended(143, "Error", None), Value::Null),
        (ended(159, "Error", None), Value::Null),
        (ended(1, "Error", Some(9)), Value::Null),
        (ended(137, "ContainerStatusUnknown", None), Value::Null),
        (ended(137, "OOMKilled", None), Value::Null),
        (ended(1, "OOMKilled", None), Value::Null),
        (good().exits(1).with(|evidence| evidence.is_cancelled = true), Value::Null),
        (good().exits(1).with(|evidence| evidence.is_timed_out = true), Value::Null),
        (good().exits(1).with(|evidence| evidence.is_stopped_after_report = true), Value::Null),
        (good().exits(1).with(|evidence| evidence.job = JobOutcome::DeadlineExceeded), Value::Null),
    ] {
        assert_eq!(story.rows()[0], "1");
        assert!(story.result().is_success());
        let result = as_json(&story);
        assert_eq!(result["exitCode"], exit);
        assert_eq!((&result["summary"], &result["usageBasis"]), (&json!("done"), &json!("per_run")));
        assert_eq!(result["resultJson"].get("conversationContinuation"), None);
    }
    let lost = as_json(&good().loses_its_pod(InfraCause::NodeLost));
    assert_eq!(lost["resultJson"]["termination"], json!({"cause": "node_lost"}));
    assert_eq!(as_json(&ended(143, "Error", None))["resultJson"]["termination"]["exitCode"], 143);
}

#[test]
fn row_1_turns_without_a_failure_are_a_success_that_ends_the_session() {
    let event =
        json!({"type": "result", "subtype": "success", "stop_reason": "max_turns", "session_id": "s1"});
    let result = Story::new().prints(&event).exits(0).result();
    assert!(result.is_success() && result.clear_session);
    assert_eq!(result.session_id, Some(Some("s1".to_owned())));
}

#[test]
fn row_1_a_cancelled_success_acknowledges_the_cancellation() {
    let result =
        as_json(&Story::new().starts().succeeds().exits(143).with(|evidence| evidence.is_cancelled = true));
    assert_eq!(result.get("errorCode"), Some(&Value::Null));
    assert_eq!(result["resultJson"]["executionCancellation"]["state"], "acknowledged");
    assert_eq!(result["executionRecovery"]["kind"], "interrupted");
}

#[test]
fn row_2_a_cancelled_run_keeps_session_and_usage() {
    let story = Story::new().starts().says("hi").exits(143).with(|evidence| {
        evidence.is_cancelled = true;
        evidence.at_ms = Some(1_780_000_000_000);
    });
    let result = as_json(&story);
    assert_eq!(result["errorCode"], "cancelled");
    assert_eq!(result["errorMessage"], "Run cancelled");
    assert_eq!(result["sessionId"], "s1");
    assert_eq!(result["usage"], json!({"inputTokens": 2, "cachedInputTokens": 0, "outputTokens": 5}));
    let acknowledged = json!({"state": "acknowledged", "acknowledgedAt": "2026-05-28T20:26:40.000Z"});
    assert_eq!(result["resultJson"]["executionCancellation"], acknowledged);
    let interrupted = json!({"kind": "interrupted", "providerStopped": true, "sessionPreserved": true,
        "actionOutcomes": "settled"});
    assert_eq!(result["executionRecovery"], interrupted);
    assert_eq!(result["clearSession"], false);
    assert_eq!(result["resultJson"].get("conversationContinuation"), None);
}

#[test]
fn row_2_a_cancellation_is_not_acknowledged_while_the_agent_may_run() {
    let unseen = as_json(&Story::new().starts().with(|evidence| evidence.is_cancelled = true));
    assert_eq!(unseen["resultJson"].get("executionCancellation"), None);
    assert_eq!(unseen.get("executionRecovery"), None);
    let unstarted = as_json(&Story::new().with(|evidence| {
        evidence.is_cancelled = true;
        evidence.has_never_started = true;
    }));
    assert_eq!(unstarted["resultJson"]["executionCancellation"]["state"], "acknowledged");
    assert_eq!(unstarted.get("executionRecovery"), None);
}

#[test]
fn row_3_a_timeout_keeps_what_the_stream_reported() {
    let story = Story::new().starts().fails("x", &json!({})).exits(143).with(|evidence| {
        evidence.is_timed_out = true;
        evidence.run.timeout_sec = 600.0;
    });
    let result = as_json(&story);
    assert_eq!(result["errorMessage"], "Timed out after 600s [pod: exit code 143, SIGTERM, reason=Error]");
    assert_eq!((&result["timedOut"], &result["exitCode"]), (&json!(true), &json!(143)));
    assert_eq!((&result["costUsd"], &result["sessionId"]), (&json!(0.5), &json!("s1")));
    assert_eq!(result["resultJson"]["conversationContinuation"], CONTINUE);
}

#[test]
fn row_3_a_deadline_of_the_job_is_a_timeout() {
    let deadline = Story::new().with(|evidence| evidence.job = JobOutcome::DeadlineExceeded);
    assert_eq!(deadline.message(), "Timed out: the Job's activeDeadlineSeconds passed [pod: cause=deadline]");
    assert_eq!(as_json(&deadline)["resultJson"]["termination"]["cause"], "deadline");
    let ended_before = deadline.exits(1).with(|evidence| evidence.job = JobOutcome::DeadlineExceeded);
    assert_eq!(ended_before.code(), Some(CODES.exited));
}

#[test]
fn row_3_a_timeout_names_the_open_retry() {
    let story = Story::new().starts().retries(Some(529), "overloaded").with(|evidence| {
        evidence.is_timed_out = true;
        evidence.run.timeout_sec = 600.0;
    });
    assert_eq!(
        story.message(),
        "Timed out after 600s while the API was retried: API retry 4 of 10: 529 overloaded"
    );
}

#[test]
fn row_3b_a_quiet_run_reports_its_last_action() {
    let tool = json!({"type": "assistant", "message": {"content": [{"type": "tool_use", "name": "Bash"}]}});
    let story = Story::new().starts().prints(&tool).with(|evidence| evidence.quiet_sec = Some(900));
    assert_eq!(story.code(), Some(ErrorCode::AGENT_QUIET));
    assert_eq!(
        story.message(),
        "Claude printed nothing for 900s; the last event was a call of the tool Bash"
    );
    assert_eq!(story.result().session_id, Some(Some("s1".to_owned())));
}

#[test]
fn row_4_a_wrapper_that_fails_after_a_success_is_explained() {
    let story = Story::new().starts().succeeds().prints_on_stderr("git push failed: rejected").exits(1);
    assert_eq!(story.code(), Some(CODES.run_failed));
    assert_eq!(
        story.message(),
        "Claude reported success, but its container exited with code 1: git push failed: rejected [pod: exit code 1, \
         reason=Error]"
    );
    assert_eq!(as_json(&story)["resultJson"]["stderrTail"], "git push failed: rejected");
    let with = |code: i32| Story::new().succeeds().exits(code).code();
    assert_eq!([with(128), with(160)], [Some(CODES.run_failed); 2]);
}

#[test]
fn row_5_an_unknown_session_is_dropped() {
    for text in [
        "No conversation found with session ID: abc",
        "Unknown session",
        "Session abc not found",
        "abc is not a valid UUID",
        "--resume requires a valid session ID",
        "\"x\" is not a UUID",
        "does not match any session title",
    ] {
        let result = as_json(&Story::new().starts().fails(text, &json!({"num_turns": 0})).exits(1));
        assert_eq!(result["errorCode"], "session_unavailable", "{text}");
        assert_eq!(
            result["errorMessage"],
            format!("Claude run failed: subtype=error_during_execution: {text}")
        );
        assert_eq!(result["sessionId"], Value::Null);
        assert!(result.as_object().unwrap().contains_key("sessionParams"));
        assert_eq!(result["clearSession"], true);
        assert_eq!(result["executionRecovery"], bootstrap());
        assert_eq!(result["errorFamily"], "transient_upstream");
        assert_eq!(result["resultJson"]["conversationContinuation"], CONTINUE);
    }
}

#[test]
fn row_5_is_not_about_a_run_that_had_worked() {
    let story = Story::new().starts().says("hi").fails("Session abc not found", &json!({})).exits(1);
    assert_eq!(story.code(), Some(CODES.run_failed));
    let turns = Story::new().gets_an_error("API Error: 400 Session abc not found", &json!({"num_turns": 1}));
    assert_eq!(turns.code(), Some(CODES.run_failed));
}

#[test]
fn row_5_lines_say_so_where_no_event_does() {
    let line = "No conversation found with session ID: abc";
    for story in [Story::new().prints(line), Story::new().prints_on_stderr(line)] {
        let result = as_json(&story.clone().exits(1));
        assert_eq!(
            (&result["errorCode"], &result["clearSession"]),
            (&json!("session_unavailable"), &json!(true))
        );
        assert_eq!(story.exits(0).code(), Some(CODES.output_unparseable));
    }
    assert_eq!(Story::new().prints("Session abc not found").exits(1).code(), Some(CODES.exited));
    let worked = Story::new().says("hi").prints_on_stderr(line).exits(1);
    assert_eq!(worked.code(), Some(CODES.truncated));
}

#[test]
fn row_6_max_turns_are_reported_by_the_cli_only() {
    for more in [
        json!({"subtype": "error_max_turns"}),
        json!({"terminal_reason": "max_turns"}),
        json!({"stop_reason": "max_turns"}),
        json!({"stopReason": "Turn_Limit"}),
        json!({"error_code": "turn_limit_exhausted"}),
    ] {
        let result = as_json(&Story::new().starts().fails("", &more).exits(1));
        assert_eq!(result["errorCode"], "max_turns_exhausted", "{more}");
        assert_eq!(result["resultJson"]["stopReason"], "max_turns_exhausted");
        assert_eq!((&result["clearSession"], &result["sessionId"]), (&json!(true), &json!("s1")));
    }
    let text = Story::new().fails("Reached maximum number of turns", &json!({}));
    assert_eq!((text.code(), text.result().clear_session), (Some(CODES.run_failed), false));
}

#[test]
fn row_7_a_used_up_budget_keeps_the_session() {
    for more in [json!({"subtype": "error_max_budget_usd"}), json!({"terminal_reason": "budget_exhausted"})] {
        let result = as_json(&Story::new().starts().fails("Reached maximum budget ($1)", &more).exits(1));
        assert_eq!(result["errorCode"], "budget_exhausted", "{more}");
        assert_eq!((&result["clearSession"], &result["sessionId"]), (&json!(false), &json!("s1")));
    }
}

#[test]
fn row_8_a_conversation_that_cannot_be_continued_is_dropped() {
    for (text, more, code) in [
        ("Prompt is too long", json!({"terminal_reason": "prompt_too_long"}), "context_exceeded"),
        (
            "Prompt is too long",
            json!({"subtype": "error_during_execution", "terminal_reason": "prompt_too_long"}),
            "context_exceeded",
        ),
        ("API Error: The model has reached its context window limit.", json!({}), "context_exceeded"),
        ("x", json!({"api_error_status": 413}), "context_exceeded"),
        ("API Error: 500 prompt is too long", json!({"api_error_status": 500}), "context_exceeded"),
        ("API Error: 400 image exceeds 5 MB maximum", json!({"api_error_status": 400}), "context_exceeded"),
        (
            "API Error: 400 due to tool use concurrency issues.",
            json!({"api_error_status": 400}),
            "session_unusable",
        ),
        ("API Error: 400 Invalid `signature` in `thinking` block", json!({}), "session_unusable"),
        (
            "API Error: 400 diagnostics.previous_message_id: must be an id (starts with `msg_`)",
            json!({}),
            "session_unusable",
        ),
        ("Claude ended this conversation. Start a new session to continue.", json!({}), "session_unusable"),
    ] {
        let result = as_json(&Story::new().starts().gets_an_error(text, &more).exits(1));
        assert_eq!(result["errorCode"], code, "{text}");
        assert_eq!((&result["clearSession"], &result["sessionId"]), (&json!(true), &Value::Null));
        assert_eq!(result.get("executionRecovery"), None);
    }
    let agent = Story::new().fails("Start a new session", &json!({}));
    assert_eq!(agent.code(), Some(CODES.run_failed));
    let rate = Story::new().gets_an_error("API Error: prompt is too long", &json!({"api_error_status": 429}));
    assert_eq!(rate.code(), Some(CODES.transient_upstream));
}

#[test]
fn row_9_a_model_is_missing() {
    for (text, more) in [
        ("API Error: 404 model not found: x", json!({})),
        (
            "There's an issue with the selected model (x). It may not exist or you may not have access to it.",
            json!({}),
        ),
        ("not_found_error: model: claude-x", json!({"api_error_status": 404})),
        ("claude-opus-4-6", json!({"api_error_status": 404})),
        ("You don't have access to the model with the specified model ID.", json!({"api_error_status": 403})),
    ] {
        let story = Story::new().starts().gets_an_error(text, &more);
        assert_eq!(story.code(), Some(ErrorCode::MODEL_NOT_FOUND), "{text}");
    }
    let other = Story::new().starts().gets_an_error("no such path", &json!({"api_error_status": 404}));
    assert_eq!(other.code(), Some(CODES.run_failed));
}

#[test]
fn row_10_requests_credentials() {
    for (text, more) in [
        ("Invalid API key · Please run /login", json!({})),
        ("Not logged in · Please run /login", json!({})),
        ("API Error", json!({"api_error_status": 401})),
        ("API Error", json!({"error_status": "403"})),
        ("OAuth token has expired", json!({})),
        ("Failed to authenticate", json!({})),
        ("x", json!({"api_error_type": "authentication_error"})),
        ("x", json!({"api_error_type": "permission_error", "api_error_status": 403})),
        ("API Error: Could not load credentials from any providers", json!({})),
    ] {
        let story = Story::new().gets_an_error(text, &more);
        assert_eq!(story.code(), Some(CODES.auth_required), "{text} {more}");
        assert_eq!(as_json(&story)["resultJson"]["conversationContinuation"], CONTINUE);
    }
    for (text, more) in [
        ("API Error: Unexpected token < in JSON, invalid", json!({})),
        ("API Error: the max_tokens value is invalid", json!({"api_error_status": 400})),
        ("x", json!({"error": "authentication_failed"})),
    ] {
        assert_eq!(Story::new().gets_an_error(text, &more).code(), Some(CODES.run_failed), "{text}");
    }
}

#[test]
fn row_10_names_where_to_log_in() {
    let story = Story::new().prints("Log in at https://claude.ai/oauth?x=1.");
    let result = as_json(&story.gets_an_error("Not logged in", &json!({})));
    assert_eq!(result["errorMeta"], json!({"loginUrl": "https://claude.ai/oauth?x=1"}));
}

#[test]
fn row_10_the_recorded_401_asks_for_credentials() {
    let recording = include_str!("../../../../../tests/fixtures/claude-cli-2.1.330/401.ndjson");
    let result = recording.lines().fold(Story::new().exits(1), Story::prints).result();
    assert_eq!(result.error_code, Some(CODES.auth_required));
    assert_eq!(result.error_message.unwrap(), "Claude run failed: Invalid API key · Fix external API key");
    assert_eq!(result.model.as_deref(), Some("claude-sonnet-4-6"));
}

#[test]
fn row_11_a_quota_reports_its_reset_time() {
    let reported = |text: &str, status: u16, at_ms: i64| {
        let story = Story::new().starts().gets_an_error(text, &json!({"api_error_status": status}));
        as_json(&story.with(|evidence| evidence.at_ms = Some(at_ms)))
    };
    let result =
        reported("You've hit your session limit - resets at 4pm (America/Chicago).", 429, 1_776_870_900_000);
    assert_eq!(
        (&result["errorCode"], &result["errorFamily"]),
        (&json!("provider_quota"), &json!("provider_quota"))
    );
    assert_eq!(result["retryNotBefore"], "2026-04-22T21:00:00.000Z");
    assert_eq!(result["resultJson"]["retryNotBefore"], "2026-04-22T21:00:00.000Z");
    assert_eq!(result["resultJson"]["errorFamily"], "provider_quota");
    for (text, status) in [
        ("API Error: 402 This request requires more credits", 402),
        ("API Error: Request rejected (429) · Insufficient balance", 429),
        ("Credit balance is too low", 400),
        ("API Error: Usage credits required for 1M context", 429),
    ] {
        assert_eq!(reported(text, status, 0)["errorCode"], "provider_quota", "{text}");
        assert_eq!(reported(text, status, 0).get("retryNotBefore"), None);
    }
}

#[test]
fn row_11_a_rejected_limit_decides_unless_something_overtook_it() {
    let fails = |story: Story| {
        story.gets_an_error("API Error: whatever", &json!({})).with(|evidence| evidence.at_ms = Some(AT_MS))
    };
    let rejected = as_json(&fails(Story::new().starts().gets_rejected()));
    assert_eq!(rejected["errorCode"], "provider_quota");
    assert_eq!(rejected["retryNotBefore"], "2026-05-28T20:26:40.000Z");
    let overtaken = fails(Story::new().starts().gets_rejected().says("continued"));
    assert_eq!(overtaken.code(), Some(CODES.run_failed));
    let allowed = json!({"type": "rate_limit_event", "rate_limit_info": {"status": "allowed"}});
    assert_eq!(fails(Story::new().gets_rejected().prints(&allowed)).code(), Some(CODES.run_failed));
}

#[test]
fn row_11_a_reset_in_the_past_is_not_a_time_to_wait_for() {
    let story = Story::new().gets_rejected().gets_an_error("API Error: x", &json!({}));
    let at =
        |at_ms: i64| story.clone().with(|evidence| evidence.at_ms = Some(at_ms)).result().retry_not_before;
    assert!(at(RESETS_AT * 1000).is_some());
    assert_eq!(at(RESETS_AT * 1000 + 1), None);
    assert_eq!(at(RESETS_AT * 1000 - 36 * 86_400_000), None);
}

#[test]
fn row_12_a_refusal_is_one_whatever_the_exit() {
    for (exit, more) in [
        (0, json!({"stop_reason": "refusal", "is_error": false, "subtype": "success"})),
        (1, json!({"stop_reason": "refusal", "is_error": false, "subtype": "success"})),
        (1, json!({"subtype": "model_refusal"})),
        (0, json!({"subtype": "refusal", "is_error": false})),
        (
            1,
            json!({"subtype": "success", "stop_reason": "refusal", "result": "No.",
            "errors": ["API Error: Start a new session to continue."]}),
        ),
    ] {
        let result = as_json(&Story::new().fails("No.", &more).exits(exit));
        assert_eq!(result["errorCode"], "claude_refusal", "{more}");
        assert_eq!(result["errorMessage"], "Claude refused the request: No.");
        assert_eq!(
            (&result["errorFamily"], &result["resultJson"]["stopReason"]),
            (&json!("model_refusal"), &json!("refusal"))
        );
        assert_eq!(result["resultJson"].get("conversationContinuation"), None);
    }
    assert_eq!(
        Story::new().fails("", &json!({"subtype": "refusal"})).message(),
        "Claude refused the request"
    );
}

#[test]
fn row_13_an_overloaded_provider_is_transient() {
    for (text, more) in [
        ("API Error: Overloaded", json!({})),
        ("API Error: rate_limit_error", json!({})),
        ("x", json!({"api_error_status": 500})),
        ("x", json!({"error_status": 504})),
        ("x", json!({"api_error_status": 408})),
        ("x", json!({"api_error_status": 409})),
        ("x", json!({"api_error_status": 425})),
        ("x", json!({"api_error_status": 429})),
        (
            "API Error: 500 litellm - Invalid API Key provided upstream token",
            json!({"api_error_status": 500}),
        ),
        ("API Error: 529 {\"type\":\"error\"}", json!({})),
        ("API Error: Connection refused (ECONNREFUSED)", json!({})),
        ("API Error: Request timed out.", json!({})),
        ("", json!({"errors": [{"type": "overloaded_error", "message": "x"}]})),
    ] {
        let result = as_json(&Story::new().gets_an_error(text, &more));
        assert_eq!(result["errorCode"], "claude_transient_upstream", "{text} {more}");
        assert_eq!(result["errorFamily"], "transient_upstream");
    }
    assert_eq!(
        Story::new().gets_an_error("x", &json!({"api_error_status": 400})).code(),
        Some(CODES.run_failed)
    );
}

#[test]
fn row_13_an_overloaded_provider_may_say_when_it_serves_again() {
    let text = "API Error: Overloaded - resets at 4pm (America/Chicago)";
    let story = Story::new().gets_an_error(text, &json!({}));
    let result = as_json(&story.with(|evidence| evidence.at_ms = Some(1_776_870_900_000)));
    assert_eq!(result["errorCode"], "claude_transient_upstream");
    assert_eq!(result["retryNotBefore"], "2026-04-22T21:00:00.000Z");
}

#[test]
fn row_14_an_empty_answer_is_the_apis() {
    let text =
        "API Error: API returned an empty or malformed response (HTTP 200) — check for a proxy or gateway";
    let result = Story::new().gets_an_error(text, &json!({})).result();
    assert_eq!(result.error_code, Some(ErrorCode::LLM_API_ERROR));
    assert_eq!(result.error_family.unwrap().as_str(), "transient_upstream");
    for reason in ["model_error", "malformed_tool_use_exhausted"] {
        let story = Story::new().fails("x", &json!({"terminal_reason": reason}));
        assert_eq!(story.code(), Some(ErrorCode::LLM_API_ERROR), "{reason}");
    }
    let answered =
        |status: u16| Story::new().gets_an_error(text, &json!({"api_error_status": status})).code();
    assert_eq!(answered(200), Some(ErrorCode::LLM_API_ERROR));
    assert_eq!(answered(405), Some(CODES.run_failed));
}

#[test]
fn rows_8_to_14_judge_a_message_of_the_cli_where_no_result_event_came() {
    for (text, more, code) in [
        ("Prompt is too long", json!({"api_error_status": 400}), ErrorCode::CONTEXT_EXCEEDED),
        ("API Error: 400 due to tool use concurrency issues.", json!({}), ErrorCode::SESSION_UNUSABLE),
        (
            "There's an issue with the selected model (x).",
            json!({"api_error_status": 404}),
            ErrorCode::MODEL_NOT_FOUND,
        ),
        ("Invalid API key", json!({"api_error_status": 401}), CODES.auth_required),
        ("Credit balance is too low", json!({"api_error_status": 400}), ErrorCode::PROVIDER_QUOTA),
        ("API Error: 529 Overloaded.", json!({"api_error_status": 529}), CODES.transient_upstream),
        ("API Error: API returned an empty or malformed response", json!({}), ErrorCode::LLM_API_ERROR),
    ] {
        let story = Story::new().starts().says("hi").shows_an_error(text, &more);
        assert_eq!(story.code(), Some(code), "{text}");
        assert_eq!(story.message(), format!("Claude run failed: {text}"));
        assert_eq!(story.says("continued").code(), Some(CODES.truncated), "{text}");
    }
}

#[test]
fn row_15_an_interrupted_run_is_not_explained_by_a_diagnostic() {
    let more = json!({"result": null, "errors": ["[ede_diagnostic] result_type=user"],
        "terminal_reason": "aborted_tools"});
    let story = Story::new().starts().says("hi").fails("", &more).exits(0);
    assert_eq!(story.code(), Some(CODES.aborted));
    assert_eq!(story.message(), "Claude was interrupted");
}

#[test]
fn row_16_any_other_failure_reports_what_is_known() {
    let failed = |text: &str, more: Value, exit: i32| Story::new().fails(text, &more).exits(exit).message();
    assert_eq!(
        failed("boom", json!({}), 1),
        "Claude run failed: subtype=error_during_execution: boom [pod: exit code 1, reason=Error]"
    );
    assert_eq!(failed("boom", json!({}), 0), "Claude run failed: subtype=error_during_execution: boom");
    assert_eq!(failed("", json!({"subtype": ""}), 0), "Claude run failed");
    assert_eq!(failed("", json!({"subtype": ""}), 3), "Claude run failed [pod: exit code 3, reason=Error]");
    assert_eq!(
        failed("", json!({"subtype": "success", "errors": [{"code": "E1"}]}), 0),
        "Claude run failed: E1"
    );
    let story = Story::new().fails("boom", &json!({})).prints_on_stderr("Error: why").exits(0);
    assert_eq!(story.message(), "Claude run failed: subtype=error_during_execution: boom: Error: why");
}

#[test]
fn row_16_an_error_with_exit_0_is_a_failure() {
    let story = Story::new().fails("x", &json!({"subtype": "success"})).exits(0);
    assert_eq!(story.code(), Some(CODES.run_failed));
    assert_eq!(as_json(&story)["exitCode"], 0);
}

#[test]
fn row_17_a_deletion_needs_an_unknown_exit() {
    let story = Story::new().starts().says("hi").loses_its_job();
    assert_eq!(story.code(), Some(ErrorCode::K8S_JOB_DELETED_EXTERNALLY));
    let ended = |code: i32, reason: &str| {
        story.clone().with(|evidence| {
            evidence.container = Some(Termination {
                exit_code: Some(code),
                reason: Some(reason.to_owned()),
                ..Termination::default()
            });
        })
    };
    assert_eq!(ended(143, "Error").code(), Some(CODES.truncated));
    assert_eq!(ended(137, "ContainerStatusUnknown").code(), Some(ErrorCode::K8S_JOB_DELETED_EXTERNALLY));
}

#[test]
fn row_18_an_empty_response_is_transient() {
    let story = Story::new().starts().gets_nothing();
    let result = story.clone().exits(1).result();
    assert_eq!(result.error_code, Some(ErrorCode::LLM_API_ERROR));
    assert_eq!(result.error_family.unwrap().as_str(), "transient_upstream");
    assert_eq!(story.clone().says("x").exits(1).code(), Some(CODES.truncated));
    assert_eq!(story.clone().runs_out_of_memory().code(), Some(CODES.init_failed));
    assert_eq!(story.loses_its_pod(InfraCause::Evicted).code(), Some(CODES.exited));
}

#[test]
fn row_19_the_recorded_kill_is_a_truncation() {
    let recording = include_str!("../../../../../tests/fixtures/claude-cli-2.1.330/killed.ndjson");
    let story = recording.lines().fold(Story::new(), Story::prints).exits(143).with(|evidence| {
        if let Some(container) = &mut evidence.container {
            container.signal = Some(15);
        }
    });
    assert_eq!(
        story.message(),
        "Claude run was truncated mid-stream (model: claude-opus-4-6) — assistant produced content but no result \
         event arrived [pod: exit code 143, SIGTERM, reason=Error, signal=15]"
    );
    let result = story.result();
    assert_eq!(result.usage, Some(Usage { input_tokens: 200, cached_input_tokens: 60, output_tokens: 2 }));
    assert_eq!(result.summary.as_deref(), Some("working on it\n\nworking on it"));
    assert_eq!(result.cost_usd, None);
    let json = result.result_json.unwrap();
    assert!(json["stdoutTail"].as_str().unwrap().ends_with("}\n"));
    assert_eq!(json["usageIsPartial"], true);
}

#[test]
fn row_19_a_truncation_names_its_cause() {
    let story =
        Story::new().starts().says("hi").prints_on_stderr("Error: ENOSPC: no space left on device, write");
    assert!(
        story
            .exits(1)
            .message()
            .contains(": Error: ENOSPC: no space left on device, write [pod: exit code 1")
    );
}

#[test]
fn row_20_a_rejected_limit_comes_before_a_retry_and_lines() {
    let story =
        Story::new().starts().gets_rejected().retries(Some(529), "overloaded").prints("Invalid API key");
    let story = story.with(|evidence| evidence.at_ms = Some(AT_MS));
    assert_eq!(story.code(), Some(ErrorCode::PROVIDER_QUOTA));
    assert!(story.message().ends_with(" [rate limit: five_hour rejected, resets 2026-05-28T20:26:40.000Z]"));
    assert_eq!(story.result().retry_not_before.as_deref(), Some("2026-05-28T20:26:40.000Z"));
    assert_eq!(story.exits(0).code(), Some(CODES.output_unparseable));
}

#[test]
fn row_20_an_open_retry_decides_by_its_status() {
    for (status, error, code) in [
        (Some(401), "authentication_failed", CODES.auth_required),
        (Some(403), "authentication_failed", CODES.auth_required),
        (Some(402), "billing_error", ErrorCode::PROVIDER_QUOTA),
        (Some(429), "rate_limit", CODES.transient_upstream),
        (Some(529), "overloaded", CODES.transient_upstream),
        (None, "unknown", CODES.transient_upstream),
        (None, "cloud_credential_error", CODES.auth_required),
    ] {
        let story = Story::new().starts().retries(status, error).exits(143);
        assert_eq!(story.code(), Some(code), "{status:?} {error}");
        assert!(story.message().contains("API retry 4 of 10: "), "{}", story.message());
    }
    let answered = Story::new().starts().retries(Some(529), "overloaded").says("hi").exits(143);
    assert_eq!(answered.code(), Some(CODES.truncated));
}

#[test]
fn row_20_lines_say_what_no_event_did() {
    let printed = |line: &str| Story::new().prints(line).exits(1);
    for story in [printed("Unknown model x"), Story::new().prints_on_stderr("Unknown model x").exits(1)] {
        assert_eq!(story.code(), Some(ErrorCode::MODEL_NOT_FOUND));
    }
    assert_eq!(printed("Invalid API key · Please run /login").code(), Some(CODES.auth_required));
    assert_eq!(printed("[mcp:x] Invalid API key").code(), Some(CODES.exited));
    assert_eq!(printed("HTTP 429: Too Many Requests").code(), Some(CODES.transient_upstream));
    let quota = printed("Claude AI usage limit reached|1780000000").result();
    assert_eq!(quota.error_code, Some(ErrorCode::PROVIDER_QUOTA));
    assert_eq!(quota.retry_not_before.as_deref(), Some("2026-05-28T20:26:40.000Z"));
    assert_eq!(
        quota.error_message.unwrap(),
        "Claude exited with code 1: Claude AI usage limit reached|1780000000 [pod: exit code 1, reason=Error]"
    );
    let unseen = Story::new().prints("please log in");
    assert_eq!(unseen.code(), Some(CODES.auth_required));
    assert_eq!(unseen.exits(0).code(), Some(CODES.output_unparseable));
}

#[test]
fn row_21_an_image_without_the_cli_is_named() {
    let of_runtime = Story::new().exits(128).with(|evidence| {
        evidence.container.as_mut().unwrap().message =
            Some("exec: \"claude\": executable file not found in $PATH".to_owned());
    });
    for story in [
        Story::new().exits(127),
        Story::new().prints("/bin/sh: claude: not found").exits(1),
        Story::new().prints_on_stderr("sh: 1: claude: not found").exits(127),
        of_runtime,
    ] {
        assert_eq!(story.code(), Some(ErrorCode::AGENT_NOT_FOUND));
        assert!(story.message().starts_with("The image has no `claude` on PATH"), "{}", story.message());
    }
    let started = Story::new().starts().exits(127);
    assert_eq!(started.code(), Some(ErrorCode::AGENT_NOT_FOUND));
    assert!(started.message().starts_with("A command of the agent's container was not found"));
    assert_eq!(Story::new().prints("sh: jq: not found").exits(1).code(), Some(CODES.exited));
}

#[test]
fn row_22_needs_a_known_exit() {
    assert_eq!(Story::new().starts().exits(1).code(), Some(CODES.init_failed));
    assert_eq!(Story::new().starts().code(), Some(CODES.exited));
    let explained = Story::new().starts().prints("boom").exits(1);
    assert_eq!(explained.code(), Some(CODES.init_failed));
    assert_eq!(
        explained.message(),
        "Claude exited immediately after init (model: claude-opus-4-6) (exit code 1): boom [pod: exit code 1, \
         reason=Error]"
    );
}

#[test]
fn row_22_a_signal_is_not_blamed_on_the_model() {
    let story = Story::new().starts().exits(143);
    assert_eq!(story.code(), Some(CODES.init_failed));
    assert_eq!(
        story.message(),
        "Claude was ended by a signal right after init (exit code 143, SIGTERM) [pod: exit code 143, SIGTERM, \
         reason=Error]"
    );
}

#[test]
fn row_23_exit_0_without_a_result_is_not_a_success() {
    for (story, what) in [
        (Story::new(), "it printed not one byte"),
        (Story::new().prints("\r"), "it printed blank lines only"),
        (Story::new().prints("hello"), "it printed text only, no events: hello"),
        (Story::new().prints("[1]"), "it printed a JSON array without a result event: [1]"),
        (Story::new().starts(), "it printed events, but no result event"),
        (Story::new().starts().prints("{\"type\":\"result\",\"subt"), "its last event is cut"),
    ] {
        let story = story.exits(0);
        assert_eq!(story.code(), Some(CODES.output_unparseable));
        assert_eq!(story.message(), format!("Failed to parse Claude JSON output: {what}"));
    }
}

#[test]
fn row_24_an_unknown_exit_is_named_as_such() {
    assert_eq!(Story::new().message(), "Claude ended without a readable exit code");
    assert_eq!(Story::new().prints("boom").message(), "Claude ended without a readable exit code: boom");
    assert_eq!(Story::new().exits(2).message(), "Claude exited with code 2 [pod: exit code 2, reason=Error]");
    let lost = Story::new().exits(137).with(|evidence| {
        evidence.container.as_mut().unwrap().reason = Some("ContainerStatusUnknown".to_owned());
    });
    assert_eq!(
        lost.message(),
        "Claude ended without a readable exit code [pod: exit code unknown, reason=ContainerStatusUnknown]"
    );
    assert_eq!(as_json(&lost)["exitCode"], Value::Null);
}

#[test]
fn only_the_init_event_names_the_model() {
    let other = json!({"type": "system", "subtype": "status", "model": "another", "session_id": "s1"});
    let result = as_json(&Story::new().starts().prints(&other).succeeds().exits(0));
    assert_ne!(result["model"], "another");
}

#[test]
fn a_result_names_who_bills_it() {
    let result = as_json(&Story::new().starts().succeeds().exits(0));
    let named = ["provider", "biller", "billingType"].map(|field| result[field].as_str().unwrap_or_default());
    assert_eq!(named, ["anthropic", "anthropic", "api"]);
}

#[test]
fn a_result_names_the_version_of_the_cli_and_unknown_events() {
    let init = r#"{"type":"system","subtype":"init","claude_code_version":"2.1.332"}"#;
    let json = Story::new()
        .prints(init)
        .prints(r#"{"type":"new"}"#)
        .succeeds()
        .exits(0)
        .result()
        .result_json
        .unwrap();
    assert_eq!((&json["cliVersion"], &json["unknownEvents"]), (&json!("2.1.332"), &json!({"new": 1})));
}

#[test]
fn texts_are_bounded_and_short_ones_are_whole() {
    let long = |bytes: usize| "m".repeat(bytes);
    let failed = |bytes: usize| Story::new().fails(&long(bytes), &json!({})).message();
    assert!(failed(5_000).contains(&long(5_000)));
    assert_eq!(failed(20_000).len(), 8 * 1024);
    let summary = |bytes: usize| {
        let story = Story::new().starts().says(&long(bytes)).exits(1);
        as_json(&story)["summary"].as_str().unwrap_or_default().len()
    };
    assert_eq!((summary(20_000), summary(50_000)), (20_000, 32 * 1024));
}

#[test]
fn the_reports_of_a_run_are_all_in_its_summary() {
    let report = |text: &str| json!({"type": "result", "subtype": "success", "result": text});
    let story = Story::new().starts().prints(&report("the report")).says("x").prints(&report("bye"));
    assert_eq!(as_json(&story.exits(0))["summary"], "the report\n\nbye");
}

#[test]
fn an_agent_that_writes_about_limits_is_healthy() {
    let text = "You hit your limit: 429 rate limit, unauthorized, model not found, unknown session";
    let event = json!({"type": "result", "subtype": "success", "is_error": false, "result": text});
    let tool = json!({"type": "user", "message": {"content": [{"type": "tool_result", "content": text}]}});
    let story = Story::new().starts().says(text).prints(&tool);
    assert_eq!(story.clone().prints(&event).exits(0).code(), None);
    assert_eq!(story.clone().exits(1).code(), Some(CODES.truncated));
    assert_eq!(story.prints(&event).exits(1).code(), Some(CODES.run_failed));
}

#[test]
fn a_run_that_the_cluster_ended_before_content_may_be_started_again() {
    let lost = Story::new().starts().loses_its_pod(InfraCause::NodeLost);
    let result = as_json(&lost);
    assert_eq!(result["executionRecovery"], bootstrap());
    assert_eq!(result["resultJson"]["executionRecovery"], bootstrap());
    assert_eq!(result["errorFamily"], "transient_upstream");
    assert_eq!(result["resultJson"]["termination"], json!({"cause": "node_lost"}));
    assert!(lost.message().ends_with(" [pod: cause=node_lost]"), "{}", lost.message());
    let killed = as_json(&Story::new().starts().runs_out_of_memory());
    assert_eq!(killed["resultJson"]["termination"]["cause"], "oom_killed");
    assert_eq!(killed["executionRecovery"]["kind"], "bootstrap");
    assert_eq!(as_json(&Story::new().starts().loses_its_job())["executionRecovery"], bootstrap());
    let content = Story::new().starts().says("x").runs_out_of_memory().result();
    assert_eq!((content.execution_recovery, content.error_family), (None, None));
    assert_eq!(Story::new().starts().exits(1).result().execution_recovery, None);
    let reported =
        Story::new().starts().gets_an_error("Overloaded", &json!({})).loses_its_pod(InfraCause::NodeLost);
    assert_eq!(reported.result().execution_recovery, None);
}

#[test]
fn a_result_carries_the_session_it_knows() {
    let before = |story: Story| {
        story.with(|evidence| {
            evidence.run.previous_session_id = Some("before".to_owned());
            evidence.run.workspace.cwd = Some("/paperclip/w".to_owned());
        })
    };
    let params = |story: Story| story.result().session_params.flatten();
    let session = |id: &str| SessionParams {
        session_id: id.to_owned(),
        cwd: Some("/paperclip/w".to_owned()),
        workspace_id: None,
        repo_url: None,
        repo_ref: None,
        prompt_bundle_key: None,
    };
    assert_eq!(params(before(Story::new())), Some(session("before")));
    assert_eq!(params(before(Story::new().starts())), Some(session("s1")));
    assert_eq!(Story::new().result().session_id, None);
    let fresh = before(Story::new()).with(|evidence| evidence.run.is_fresh_retry = true).result();
    assert_eq!((fresh.session_id, fresh.clear_session), (Some(None), true));
}

#[test]
fn names_the_provider_as_the_biller() {
    assert_eq!(Story::new().result().biller.as_deref(), Some("anthropic"));
    let bedrock = Story::new().with(|evidence| evidence.run.billing.biller = Some("aws_bedrock".to_owned()));
    assert_eq!(bedrock.result().biller.as_deref(), Some("aws_bedrock"));
}

#[test]
fn a_cost_that_is_not_a_number_is_0() {
    let event = json!({"type": "result", "subtype": "success", "total_cost_usd": "free"});
    assert_eq!(Story::new().prints(&event).result().cost_usd, Some(0.0));
    assert_eq!(
        Story::new().prints(r#"{"type":"result","total_cost_usd":0.0004890000000000001}"#).result().cost_usd,
        Some(0.000_489_000_000_000_000_1)
    );
}

#[test]
fn the_model_is_the_last_inits_else_the_results_and_never_the_configs() {
    let config = |story: Story| story.with(|evidence| evidence.run.model = Some("configured".to_owned()));
    let model = |story: Story| story.result().model;
    let result = r#"{"type":"result","model":"reported"}"#;
    assert_eq!(model(config(Story::new())), None);
    assert_eq!(model(config(Story::new().prints(result))).unwrap(), "reported");
    let again = r#"{"type":"system","subtype":"init","model":"second"}"#;
    assert_eq!(model(config(Story::new().starts().prints(again).prints(result))).unwrap(), "second");
}
