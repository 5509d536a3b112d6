//! Rows 1 to 7: a run that ended well, was stopped, or could not start or continue as it was asked to.

use super::*;

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
