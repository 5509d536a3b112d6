//! Each row of the precedence, with what its result carries.

use paperclip_kit::outcome::{ErrorCode, InfraCause, JobOutcome, SessionParams, Termination, Usage};
use serde_json::{Value, json};

use crate::recordings::recording;
use crate::story::Story;

fn as_json(story: &Story) -> Value {
    serde_json::to_value(story.result()).expect("a result is JSON")
}

#[test]
fn row_1_a_cancelled_run_keeps_session_and_usage() {
    let story = Story::new().begins().says("hi").with(|evidence| {
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
    assert_eq!(result["clearSession"], false);
}

#[test]
fn row_2_a_timeout_keeps_what_the_result_told() {
    let story = Story::new().begins().succeeds().exits(0).with(|evidence| {
        evidence.is_timed_out = true;
        evidence.run.timeout_sec = 600.0;
    });
    let result = as_json(&story);
    assert_eq!(result["errorMessage"], "Timed out after 600s");
    assert_eq!((&result["timedOut"], &result["exitCode"]), (&json!(true), &json!(0)));
    assert_eq!((&result["costUsd"], &result["sessionId"]), (&json!(0.5), &json!("s1")));
    let deadline = Story::new().with(|evidence| evidence.job = JobOutcome::DeadlineExceeded);
    assert_eq!(deadline.message(), "Timed out: the Job's activeDeadlineSeconds passed");
    assert_eq!(as_json(&deadline)["resultJson"]["termination"]["cause"], "deadline");
}

#[test]
fn row_3_a_session_that_is_gone_is_dropped() {
    for text in [
        "No conversation found with session ID: abc",
        "Unknown session",
        "Session abc not found",
        "abc is not a valid UUID",
        "--resume requires a valid session ID",
        "\"x\" is not a UUID",
        "does not match any session title",
    ] {
        let result = as_json(&Story::new().begins().fails(text, &json!({})).exits(1));
        assert_eq!(result["errorCode"], "session_unavailable", "{text}");
        assert_eq!(
            result["errorMessage"],
            format!("Claude run failed: subtype=error_during_execution: {text}")
        );
        assert_eq!(result["sessionId"], Value::Null);
        assert!(result.as_object().unwrap().contains_key("sessionParams"));
        assert_eq!(result["clearSession"], true);
        assert_eq!(result["executionRecovery"], json!({"kind": "bootstrap", "providerWorkStarted": false}));
    }
}

#[test]
fn row_3_a_run_that_had_worked_is_not_to_be_begun_again() {
    let story = Story::new().begins().says("hi").fails("Session abc not found", &json!({})).exits(1);
    assert_eq!(story.code(), Some(ErrorCode::SessionUnavailable));
    assert_eq!(story.result().execution_recovery, None);
}

#[test]
fn row_4_a_login_is_asked_for() {
    for (text, more) in [
        ("Invalid API key · Please run /login", json!({})),
        ("Not logged in · Please run /login", json!({})),
        ("API Error", json!({"api_error_status": 401})),
        ("API Error", json!({"error_status": "403"})),
        ("OAuth token has expired", json!({})),
        ("Failed to authenticate", json!({})),
        ("x", json!({"api_error_type": "authentication_error"})),
        ("", json!({"errors": [{"message": "The access token was revoked"}]})),
    ] {
        assert_eq!(Story::new().fails(text, &more).code(), Some(ErrorCode::ClaudeAuthRequired), "{text}");
    }
    let story = Story::new().prints("Log in at https://claude.ai/oauth?x=1.").prints("please log in");
    let result = as_json(&story.fails("x", &json!({})));
    assert_eq!(result["errorCode"], "claude_auth_required");
    assert_eq!(result["errorMeta"], json!({"loginUrl": "https://claude.ai/oauth?x=1"}));
    let parser = Story::new().fails("SyntaxError: Unexpected token < in JSON, invalid", &json!({}));
    assert_eq!(parser.code(), Some(ErrorCode::ClaudeRunFailed));
}

#[test]
fn row_4_the_recorded_401_asks_for_login() {
    let recording = recording("401");
    let mut story = Story::new().exits(recording.exit_code.unwrap());
    recording.text.lines().for_each(|line| story.stream.push_line(line));
    let result = story.result();
    assert_eq!(result.error_code, Some(ErrorCode::ClaudeAuthRequired));
    assert_eq!(
        result.error_message.unwrap(),
        "Claude run failed: subtype=success: Invalid API key · Fix external API key"
    );
    assert_eq!(result.model.as_deref(), Some("claude-sonnet-4-6"));
}

#[test]
fn row_5_a_model_is_missing() {
    for (text, more) in [
        ("API Error: 404 model not found: x", json!({})),
        (
            "There's an issue with the selected model (x). It may not exist or you may not have access to it.",
            json!({}),
        ),
        ("not_found_error: model: claude-x", json!({"api_error_status": 404})),
        ("claude-opus-4-6", json!({"api_error_status": 404})),
    ] {
        assert_eq!(Story::new().begins().fails(text, &more).code(), Some(ErrorCode::ModelNotFound), "{text}");
    }
    let other = Story::new().begins().fails("no such path", &json!({"api_error_status": 404}));
    assert_eq!(other.code(), Some(ErrorCode::ClaudeRunFailed));
}

#[test]
fn row_6_max_turns_are_told_by_the_cli_only() {
    for more in [
        json!({"subtype": "error_max_turns"}),
        json!({"stop_reason": "max_turns"}),
        json!({"stopReason": "Turn_Limit"}),
        json!({"error_code": "turn_limit_exhausted"}),
    ] {
        let result = as_json(&Story::new().begins().fails("", &more).exits(1));
        assert_eq!(result["errorCode"], "max_turns_exhausted", "{more}");
        assert_eq!(result["resultJson"]["stopReason"], "max_turns_exhausted");
        assert_eq!((&result["clearSession"], &result["sessionId"]), (&json!(true), &json!("s1")));
    }
    let text = Story::new().fails("Reached maximum number of turns", &json!({}));
    assert_eq!((text.code(), text.result().clear_session), (Some(ErrorCode::ClaudeRunFailed), false));
}

#[test]
fn row_6_max_turns_without_a_failure_are_a_success_that_ends_the_session() {
    let event =
        json!({"type": "result", "subtype": "success", "stop_reason": "max_turns", "session_id": "s1"});
    let story = Story::new().prints(&event).exits(0);
    let result = story.result();
    assert!(result.is_success() && result.clear_session);
}

#[test]
fn row_7_a_poisoned_message_id_drops_the_session() {
    let text = "API Error: 400 diagnostics.previous_message_id: must be the `id` from a prior response (starts with `msg_`)";
    let result = as_json(&Story::new().begins().fails(text, &json!({"subtype": "success"})));
    assert_eq!(result["errorCode"], "claude_poisoned_previous_message_id");
    assert_eq!(result["resultJson"]["stopReason"], "claude_poisoned_previous_message_id");
    assert_eq!((&result["clearSession"], &result["sessionId"]), (&json!(true), &Value::Null));
    assert_eq!(result.get("executionRecovery"), None);
}

#[test]
fn row_8_a_quota_tells_when_it_is_reset() {
    let told = |text: &str, limit: Option<u64>| {
        let mut story = Story::new().begins();
        if let Some(resets_at) = limit {
            story = story.prints(&json!({"type": "rate_limit_event",
                "rate_limit_info": {"status": "rejected", "resetsAt": resets_at}}));
        }
        let story = story.fails(text, &json!({})).with(|evidence| evidence.at_ms = Some(1_776_870_900_000));
        as_json(&story)
    };
    let result = told("You've hit your session limit - resets at 4pm (America/Chicago).", None);
    assert_eq!(
        (&result["errorCode"], &result["errorFamily"]),
        (&json!("provider_quota"), &json!("provider_quota"))
    );
    assert_eq!(result["retryNotBefore"], "2026-04-22T21:00:00.000Z");
    assert_eq!(result["resultJson"]["retryNotBefore"], "2026-04-22T21:00:00.000Z");
    assert_eq!(result["resultJson"]["errorFamily"], "provider_quota");
    assert_eq!(told("whatever", Some(1_780_000_000))["retryNotBefore"], "2026-05-28T20:26:40.000Z");
    assert_eq!(told("usage limit reached", None).get("retryNotBefore"), None);
}

#[test]
fn row_9_an_overloaded_provider_is_transient() {
    for (text, more) in [
        ("API Error: Overloaded", json!({})),
        ("rate_limit_error", json!({})),
        ("x", json!({"api_error_status": 500})),
        ("x", json!({"error_status": 504})),
        ("", json!({"errors": [{"type": "overloaded_error", "message": "Overloaded"}]})),
    ] {
        let result = as_json(&Story::new().fails(text, &more));
        assert_eq!(result["errorCode"], "claude_transient_upstream", "{text} {more}");
        assert_eq!(result["errorFamily"], "transient_upstream");
    }
    assert_eq!(
        Story::new().fails("x", &json!({"api_error_status": 400})).code(),
        Some(ErrorCode::ClaudeRunFailed)
    );
}

#[test]
fn row_9_an_overloaded_provider_may_tell_when_it_serves_again() {
    let story = Story::new().fails("API Error: Overloaded - resets at 4pm (America/Chicago)", &json!({}));
    let result = as_json(&story.with(|evidence| evidence.at_ms = Some(1_776_870_900_000)));
    assert_eq!(result["errorCode"], "claude_transient_upstream");
    assert_eq!(result["retryNotBefore"], "2026-04-22T21:00:00.000Z");
}

#[test]
fn standard_error_counts_as_untyped_text() {
    let story = Story::new().exits(1);
    assert_eq!(story.code(), Some(ErrorCode::ClaudeExited));
    let story = story.prints_on_stderr("Not logged in. Please run /login");
    assert_eq!(story.code(), Some(ErrorCode::ClaudeAuthRequired));
}

#[test]
fn only_the_init_event_tells_the_model() {
    let other = json!({"type": "system", "subtype": "status", "model": "another", "session_id": "s1"});
    let result = as_json(&Story::new().begins().prints(&other).succeeds().exits(0));
    assert_ne!(result["model"], "another");
}

#[test]
fn a_result_tells_who_bills_it() {
    let result = as_json(&Story::new().begins().succeeds().exits(0));
    let told = ["provider", "biller", "billingType"].map(|field| result[field].as_str().unwrap_or_default());
    assert_eq!(told, ["anthropic", "anthropic", "api"]);
}

#[test]
fn texts_are_bounded_and_short_ones_are_whole() {
    let long = |bytes: usize| "m".repeat(bytes);
    let failed = |bytes: usize| Story::new().fails(&long(bytes), &json!({})).message();
    assert!(failed(5_000).contains(&long(5_000)));
    assert_eq!(failed(20_000).len(), 8 * 1024);
    let summary = |bytes: usize| {
        let story = Story::new().begins().says(&long(bytes)).exits(1);
        as_json(&story)["summary"].as_str().unwrap_or_default().len()
    };
    assert_eq!((summary(20_000), summary(50_000)), (20_000, 32 * 1024));
}

#[test]
fn row_10_an_answer_that_is_none_is_the_apis() {
    let text =
        "API Error: API returned an empty or malformed response (HTTP 200) — check for a proxy or gateway";
    let result = Story::new().fails(text, &json!({})).result();
    assert_eq!(result.error_code, Some(ErrorCode::LlmApiError));
    assert_eq!(result.error_family.unwrap().as_str(), "transient_upstream");
    let answered = |status: u16| Story::new().fails(text, &json!({"api_error_status": status})).code();
    assert_eq!(answered(200), Some(ErrorCode::LlmApiError));
    assert_eq!(answered(400), Some(ErrorCode::ClaudeRunFailed));
}

#[test]
fn row_11_a_refusal_is_one_whatever_the_exit() {
    for (exit, more) in [
        (0, json!({"stop_reason": "refusal", "is_error": false, "subtype": "success"})),
        (1, json!({"subtype": "model_refusal"})),
        (0, json!({"subtype": "refusal", "is_error": false})),
    ] {
        let result = as_json(&Story::new().fails("No.", &more).exits(exit));
        assert_eq!(result["errorCode"], "claude_refusal", "{more}");
        assert_eq!(result["errorMessage"], "Claude refused the request: No.");
        assert_eq!(
            (&result["errorFamily"], &result["resultJson"]["stopReason"]),
            (&json!("model_refusal"), &json!("refusal"))
        );
    }
    assert_eq!(
        Story::new().fails("", &json!({"subtype": "refusal"})).message(),
        "Claude refused the request"
    );
}

#[test]
fn row_12_any_other_failure_tells_what_it_can() {
    let failed = |text: &str, more: Value, exit: i32| Story::new().fails(text, &more).exits(exit).message();
    assert_eq!(
        failed("boom", json!({}), 1),
        "Claude run failed: subtype=error_during_execution: boom [pod: reason=Error]"
    );
    assert_eq!(failed("boom", json!({}), 0), "Claude run failed: subtype=error_during_execution: boom");
    assert_eq!(failed("", json!({"subtype": ""}), 0), "Claude run failed");
    assert_eq!(failed("", json!({"subtype": ""}), 3), "Claude exited with code 3 [pod: reason=Error]");
    assert_eq!(failed("", json!({"subtype": "", "errors": [{"code": "E1"}]}), 0), "Claude run failed: E1");
}

#[test]
fn row_13_a_success_needs_no_exit_code() {
    for story in [Story::new().begins().succeeds(), Story::new().begins().succeeds().loses_its_job()] {
        let result = as_json(&story);
        assert!(story.result().is_success());
        assert_eq!(result["exitCode"], Value::Null);
        assert_eq!(result["resultJson"].get("termination"), None);
        assert_eq!((&result["summary"], &result["usageBasis"]), (&json!("done"), &json!("per_run")));
    }
}

#[test]
fn row_13_an_error_with_exit_0_is_none() {
    assert_eq!(
        Story::new().fails("x", &json!({"subtype": "success"})).exits(0).code(),
        Some(ErrorCode::ClaudeRunFailed)
    );
    assert_eq!(Story::new().succeeds().exits(1).code(), Some(ErrorCode::ClaudeRunFailed));
}

#[test]
fn row_14_needs_an_unknown_exit() {
    let story = Story::new().begins().says("hi").loses_its_job();
    assert_eq!(story.code(), Some(ErrorCode::K8sJobDeletedExternally));
    let seen = story.with(|evidence| {
        evidence.container = Some(Termination { exit_code: Some(143), ..Termination::default() });
    });
    assert_eq!(seen.code(), Some(ErrorCode::ClaudeTruncated));
}

#[test]
fn row_15_an_empty_response_is_transient() {
    let result = Story::new().begins().gets_nothing().exits(1).result();
    assert_eq!(result.error_code, Some(ErrorCode::LlmApiError));
    assert_eq!(result.error_family.unwrap().as_str(), "transient_upstream");
    assert_eq!(
        Story::new().begins().gets_nothing().says("x").exits(1).code(),
        Some(ErrorCode::ClaudeTruncated)
    );
}

#[test]
fn row_16_the_recorded_kill_is_a_truncation() {
    let mut story = Story::new();
    recording("killed").text.lines().for_each(|line| story.stream.push_line(line));
    let story = story.exits(143).with(|evidence| {
        if let Some(container) = &mut evidence.container {
            container.signal = Some(15);
        }
    });
    assert_eq!(
        story.message(),
        "Claude run was truncated mid-stream (model: claude-opus-4-6) — assistant produced content but no result \
         event arrived; exit code 143, SIGTERM, signal 15, reason=Error"
    );
    let result = story.result();
    assert_eq!(result.usage, Some(Usage { input_tokens: 200, cached_input_tokens: 60, output_tokens: 2 }));
    assert_eq!(result.summary.as_deref(), Some("working on it\n\nworking on it"));
    assert_eq!(result.cost_usd, None);
    assert!(result.result_json.unwrap()["stdoutTail"].as_str().unwrap().ends_with("}\n"));
}

#[test]
fn row_17_lines_tell_what_no_event_did() {
    let told = |line: &str| Story::new().prints(line).exits(1);
    assert_eq!(told("Invalid API key · Please run /login").code(), Some(ErrorCode::ClaudeAuthRequired));
    assert_eq!(told("OAuth token has expired").code(), Some(ErrorCode::ClaudeExited));
    assert_eq!(told("Unknown model x").code(), Some(ErrorCode::ModelNotFound));
    assert_eq!(told("HTTP 429: Too Many Requests").code(), Some(ErrorCode::ClaudeTransientUpstream));
    let quota = told("Claude AI usage limit reached|1780000000").result();
    assert_eq!(quota.error_code, Some(ErrorCode::ProviderQuota));
    assert_eq!(quota.retry_not_before.as_deref(), Some("2026-05-28T20:26:40.000Z"));
    assert_eq!(
        quota.error_message.unwrap(),
        "Claude exited with code 1: Claude AI usage limit reached|1780000000 [pod: reason=Error]"
    );
    assert_eq!(
        Story::new().prints("please log in").exits(0).code(),
        Some(ErrorCode::ClaudeOutputUnparseable)
    );
}

#[test]
fn row_17_a_limit_that_an_event_told_stands_in_the_message() {
    let event = json!({"type": "rate_limit_event",
        "rate_limit_info": {"status": "rejected", "rateLimitType": "five_hour", "resetsAt": 1_780_000_000}});
    let story = Story::new().begins().prints(&event);
    assert_eq!(story.code(), Some(ErrorCode::ProviderQuota));
    assert!(story.message().ends_with(" [rate limit: five_hour rejected, resets 2026-05-28T20:26:40.000Z]"));
}

#[test]
fn row_18_needs_a_known_exit_and_no_line() {
    assert_eq!(Story::new().begins().exits(1).code(), Some(ErrorCode::ClaudeInitFailed));
    assert_eq!(Story::new().begins().code(), Some(ErrorCode::ClaudeExited));
    assert_eq!(Story::new().begins().prints("boom").exits(1).code(), Some(ErrorCode::ClaudeExited));
    assert_eq!(
        Story::new().begins().prints(r#"{"type":"ass"#).exits(1).code(),
        Some(ErrorCode::ClaudeInitFailed)
    );
}

#[test]
fn row_19_exit_0_without_a_result_is_no_success() {
    let story = Story::new().begins().prints("{\"type\":\"result\",\"subt").exits(0);
    assert_eq!(story.code(), Some(ErrorCode::ClaudeOutputUnparseable));
    assert_eq!(story.message(), "Failed to parse Claude JSON output");
}

#[test]
fn row_20_an_unknown_exit_is_told_as_such() {
    assert_eq!(Story::new().message(), "Claude ended without a readable exit code");
    assert_eq!(Story::new().prints("boom").message(), "Claude ended without a readable exit code: boom");
    assert_eq!(Story::new().exits(2).message(), "Claude exited with code 2 [pod: reason=Error]");
}

#[test]
fn an_agent_that_writes_about_limits_is_healthy() {
    let text = "You hit your limit: 429 rate limit, unauthorized, model not found, unknown session";
    let event = json!({"type": "result", "subtype": "success", "is_error": false, "result": text});
    let tool = json!({"type": "user", "message": {"content": [{"type": "tool_result", "content": text}]}});
    let story = Story::new().begins().says(text).prints(&tool);
    assert_eq!(story.clone().prints(&event).exits(0).code(), None);
    assert_eq!(story.clone().exits(1).code(), Some(ErrorCode::ClaudeTruncated));
    let fair = text.replace("unknown session", "");
    let event = json!({"type": "result", "subtype": "success", "is_error": false, "result": fair});
    assert_eq!(story.prints(&event).exits(1).code(), Some(ErrorCode::ClaudeRunFailed));
}

#[test]
fn a_run_that_the_cluster_took_away_before_it_began_may_be_begun_again() {
    let lost = Story::new().begins().loses_its_pod(InfraCause::NodeLost);
    let result = as_json(&lost);
    assert_eq!(result["executionRecovery"], json!({"kind": "bootstrap", "providerWorkStarted": false}));
    assert_eq!(result["resultJson"]["termination"], json!({"cause": "node_lost"}));
    assert!(lost.message().ends_with(" [pod: cause=node_lost]"), "{}", lost.message());
    let killed = as_json(&Story::new().begins().runs_out_of_memory());
    assert_eq!(killed["resultJson"]["termination"]["cause"], "oom_killed");
    assert_eq!(killed["executionRecovery"]["kind"], "bootstrap");
    assert_eq!(Story::new().begins().says("x").runs_out_of_memory().result().execution_recovery, None);
    assert_eq!(Story::new().begins().loses_its_job().result().execution_recovery, None);
    assert_eq!(Story::new().begins().exits(1).result().execution_recovery, None);
    let told = Story::new().begins().fails("Overloaded", &json!({})).loses_its_pod(InfraCause::NodeLost);
    assert_eq!(told.result().execution_recovery, None);
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
    assert_eq!(params(before(Story::new().begins())), Some(session("s1")));
    assert_eq!(Story::new().result().session_id, None);
    let fresh = before(Story::new()).with(|evidence| evidence.run.is_fresh_retry = true).result();
    assert_eq!((fresh.session_id, fresh.clear_session), (Some(None), true));
}

#[test]
fn the_bill_goes_to_who_serves() {
    assert_eq!(Story::new().result().biller.as_deref(), Some("anthropic"));
    let bedrock = Story::new().with(|evidence| evidence.run.is_bedrock = true);
    assert_eq!(bedrock.result().biller.as_deref(), Some("aws_bedrock"));
}

#[test]
fn a_cost_that_is_no_number_is_0() {
    let event = json!({"type": "result", "subtype": "success", "total_cost_usd": "free"});
    assert_eq!(Story::new().prints(&event).result().cost_usd, Some(0.0));
    assert_eq!(
        Story::new().prints(r#"{"type":"result","total_cost_usd":0.0004890000000000001}"#).result().cost_usd,
        Some(0.000_489_000_000_000_000_1)
    );
}

#[test]
fn the_model_is_the_last_inits_else_the_results_else_the_configs() {
    let config = |story: Story| story.with(|evidence| evidence.run.model = Some("configured".to_owned()));
    let model = |story: Story| story.result().model.unwrap();
    let result = r#"{"type":"result","model":"told"}"#;
    assert_eq!(model(config(Story::new())), "configured");
    assert_eq!(model(config(Story::new().prints(result))), "told");
    let again = r#"{"type":"system","subtype":"init","model":"second"}"#;
    assert_eq!(model(config(Story::new().begins().prints(again).prints(result))), "second");
}
