//! Rows 17 to 24: a run without a report about its end.

use super::*;

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
    let recording = include_str!("../../../../../../tests/fixtures/claude-cli-2.1.330/killed.ndjson");
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
