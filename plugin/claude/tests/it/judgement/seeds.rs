//! What the reference adapter's fixes require of the judgement, by the number of the requirement.

use paperclip_kit::outcome::{DeletionTrace, ErrorCode, Termination};
use serde_json::{Value, json};

use super::story::{CODES, INIT, Story, assistant};

const STARTED: &str = "Claude started but did not produce a result (model: claude-opus-4-6) — check API credentials, \
                       model support, and adapter config";

#[test]
fn seed_1_a_run_without_an_end_is_truncated_only_if_its_end_was_not_seen() {
    let story = Story::new().starts().says("hi").with(|evidence| {
        evidence.pod.was_read = true;
        evidence.pod.phase = Some("Running".to_owned());
    });
    assert!(story.message().contains("container terminated state not yet observable (pod phase=Running)"));
    assert_eq!(story.succeeds().code(), None);
}

#[test]
fn seed_2_only_a_cancellation_cancels() {
    let story = Story::new().starts().succeeds();
    assert_eq!(story.code(), None);
    let cancelled = Story::new().starts().with(|evidence| evidence.is_cancelled = true);
    assert_eq!(cancelled.code(), Some(ErrorCode::CANCELLED));
}

#[test]
fn seed_4_a_deletion_is_reported_with_its_forensics() {
    let story = Story::new().starts().says("naïve").loses_its_job().with(|evidence| {
        evidence.deletion = DeletionTrace {
            detected_via: Some("job-watch-deleted".to_owned()),
            job: Some("ac-1".to_owned()),
            namespace: Some("agents".to_owned()),
            pod_running_sec: Some(42),
            job_observations: Some(3),
            last_job_conditions: Vec::new(),
        };
    });
    let bytes = INIT.len() + 1 + assistant("m", "naïve", 5).to_string().len() + 1;
    assert_eq!(
        story.message(),
        format!(
            "K8s Job was deleted externally before Claude could complete [detected_via=job-watch-deleted, job=ac-1, \
             ns=agents, elapsed_since_pod_running=42s, completion_polls=3, last_job_conditions=none_observed, \
             stdout_bytes={bytes}, stdout_nonempty_lines=2]: somebody else deleted the Job or its pod, such as by \
             `kubectl delete`; start the run again"
        )
    );
}

#[test]
fn seed_5_partial_runs_carry_the_containers_end() {
    let ended = |code: i32, reason: &str, message: Option<&str>, signal: Option<i32>| {
        Story::new().prints("boom").with(|evidence| {
            evidence.container = Some(Termination {
                exit_code: Some(code),
                reason: Some(reason.to_owned()),
                message: message.map(str::to_owned),
                signal,
            });
        })
    };
    assert_eq!(
        ended(137, "OOMKilled", Some(" Memory cgroup out of memory\n"), None).message(),
        "Claude exited with code 137: boom [pod: exit code 137, SIGKILL, reason=OOMKilled, message=Memory cgroup out of \
         memory, cause=oom_killed]"
    );
    assert_eq!(
        ended(143, "Error", None, Some(15)).message(),
        "Claude exited with code 143: boom [pod: exit code 143, SIGTERM, reason=Error, signal=15]"
    );
    assert_eq!(ended(1, "", None, None).message(), "Claude exited with code 1: boom [pod: exit code 1]");
    assert_eq!(
        ended(137, "", None, None).message(),
        "Claude exited with code 137: boom [pod: exit code 137, SIGKILL (commonly OOMKilled)]"
    );
}

#[test]
fn seed_6_an_exit_right_after_init_names_code_and_cause() {
    assert_eq!(
        Story::new().starts().exits(1).message(),
        "Claude exited immediately after init (model: claude-opus-4-6) (exit code 1) — the model may be unsupported or \
         the session may have been rejected before producing output [pod: exit code 1, reason=Error]"
    );
    let nameless = Story::new().prints(r#"{"type":"system","subtype":"init"}"#).exits(1);
    assert!(nameless.message().starts_with("Claude exited immediately after init (exit code 1) — "));
}

#[test]
fn seed_7_a_truncation_reports_how_the_container_ended() {
    let story = Story::new().starts().says("hi").runs_out_of_memory();
    assert_eq!(
        story.message(),
        "Claude run was truncated mid-stream (model: claude-opus-4-6) — assistant produced content but no result event \
         arrived [pod: exit code 137, SIGKILL, reason=OOMKilled, cause=oom_killed]"
    );
}

#[test]
fn seed_8_content_without_a_result_is_truncated() {
    assert_eq!(Story::new().starts().says("hi").exits(1).code(), Some(CODES.truncated));
    assert_eq!(Story::new().starts().says("hi").exits(0).code(), Some(CODES.truncated));
}

#[test]
fn seed_11_an_empty_response_is_the_apis_fault_unless_a_result_follows() {
    let story = Story::new().starts().gets_nothing();
    assert_eq!(story.code(), Some(ErrorCode::LLM_API_ERROR));
    assert_eq!(
        story.message(),
        "LLM API returned an empty response (stop_reason: null, output_tokens: 0) — the upstream model API may be \
         degraded or misconfigured"
    );
    assert_eq!(story.succeeds().code(), None);
}

#[test]
fn seed_12_a_vanished_job_is_not_an_exit_with_minus_1() {
    let story = Story::new().starts().loses_its_job();
    assert!(story.message().starts_with("K8s Job was deleted externally before Claude could complete ["));
    assert!(!Story::new().message().contains("-1"));
}

#[test]
fn seed_14_and_15_no_event_is_ever_quoted() {
    for event in [
        json!({"type": "rate_limit_event", "rate_limit_info": {"status": "allowed"}}),
        json!({"type": "user", "message": {"content": [{"type": "text", "text": "hi"}]}}),
        json!({"type": "assistant", "message": {"content": [], "stop_reason": "end_turn"}}),
        json!({"type": "something_new", "text": "usage limit reached"}),
    ] {
        assert_eq!(Story::new().starts().prints(&event).message(), STARTED, "{event}");
    }
}

#[test]
fn seed_21_a_failed_pod_is_described_by_its_container() {
    let story = Story::new().exits(2).with(|evidence| evidence.pod.phase = Some("Failed".to_owned()));
    assert_eq!(story.message(), "Claude exited with code 2 [pod: exit code 2, reason=Error]");
}

#[test]
fn seed_23_a_line_that_is_not_an_event_is_quoted() {
    let story =
        Story::new().prints("").prints("  \r").prints("\u{1b}[31mfirst\u{1b}[0m\r").prints("second").exits(1);
    assert_eq!(story.message(), "Claude exited with code 1: second [pod: exit code 1, reason=Error]");
    let cut = Story::new().prints("{\"type\":\"assistant\",\"mess").exits(1);
    assert_eq!(cut.message(), "Claude exited with code 1 [pod: exit code 1, reason=Error]");
    let object = Story::new().prints(r#"{"error":"boom"}"#).exits(1);
    assert_eq!(
        object.message(),
        "Claude exited with code 1: {\"error\":\"boom\"} [pod: exit code 1, reason=Error]"
    );
}

#[test]
fn text_that_the_database_cannot_hold_is_replaced() {
    let event = r#"{"type":"result","subtype":"success","result":"a\u0000b","note":"c\u0000"}"#;
    let result = Story::new().prints(&event).exits(0).result();
    assert_eq!(result.summary.as_deref(), Some("a\u{fffd}b"));
    assert_eq!(Value::Object(result.result_json.unwrap())["note"], "c\u{fffd}");
    let tail = Story::new().prints("x\0y").exits(1).result().result_json.unwrap();
    assert_eq!(tail["stdoutTail"], "x\u{fffd}y\n");
}
