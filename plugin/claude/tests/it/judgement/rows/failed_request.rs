//! Rows 8 to 16: the provider, or the program, says why the run failed.

use super::*;

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
    let recording = include_str!("../../../../../../tests/fixtures/claude-cli-2.1.330/401.ndjson");
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
