use serde_json::json;

use super::*;

const FRESH: Setting = Setting { is_resuming: false, is_conversation: false, has_task: false };
const RESUMED: Setting = Setting { is_resuming: true, ..FRESH };

fn commented() -> Value {
    json!({
        "reason": "issue_commented",
        "issue": {
            "id": "i-1", "identifier": "TES-12", "title": "Fix the\nlogin", "description": "It fails with ``` in it.",
            "status": "in_progress", "priority": "high", "workMode": "standard",
        },
        "checkedOutByHarness": true,
        "executionWorkspace": {"branchName": "fix/`login`"},
        "commentIds": ["c1", "c2"], "latestCommentId": "c2",
        "commentWindow": {"requestedCount": 5, "includedCount": 2, "missingCount": 3},
        "comments": [
            {"id": "c1", "body": "Please also\n# log it", "createdAt": "2026-11-30T09:00:00Z", "author": {"type": "user", "id": "u1"}},
            {"id": "c2", "body": "```\ncode\n```", "bodyTruncated": true, "authorType": "agent", "authorId": "a2"},
            {"id": "c3", "body": "  "}, {"nobody": 1}, "x",
        ],
        "connectorSkillInstructions": "Use the connection.",
        "planReviewContext": {"threads": [{"id": "t1"}]},
        "simplifiedEnglishInteractions": false, "taskWatchdog": null, "annotationDeltas": [],
    })
}

#[test]
fn a_comment_on_a_task() {
    insta::assert_snapshot!("commented", text(&commented(), FRESH));
}

#[test]
fn a_comment_for_a_resumed_session() {
    insta::assert_snapshot!("commented_resumed", text(&commented(), Setting { has_task: true, ..RESUMED }));
}

#[test]
fn a_recovery() {
    let wake = json!({
        "reason": "source_scoped_recovery_action",
        "issue": {"identifier": "TES-3", "title": "Import"},
        "recovery": {
            "cause": "adapter_failed", "failureSummary": "401 from\nthe API", "originalAssignee": {"id": "a9", "name": "Mira"},
            "attemptCount": 1, "maxAttempts": 3, "nextAction": "restore the credentials",
        },
        "dependencyBlockedInteraction": true,
        "unresolvedBlockerSummaries": [{"identifier": "TES-1", "title": "Key", "status": "todo"}],
    });
    insta::assert_snapshot!("recovery", text(&wake, RESUMED));
    for (cause, says) in [
        ("process_lost", "Continue from what it left"),
        ("successful_run_missing_issue_disposition", "set the status that is true"),
        ("provider_quota", "quota is reset"),
    ] {
        let shown = text(&json!({"recovery": {"cause": cause}}), FRESH);
        assert!(shown.contains(says), "{shown}");
    }
}

#[test]
fn the_conversation_of_a_task() {
    let wake = json!({
        "reason": "issue_commented",
        "questionResponse": {"interactionId": "q1", "summaryMarkdown": "**Blue**", "truncated": true},
        "continuationSummary": {"body": "Half is done.", "bodyTruncated": true},
        "agentMessage": {"text": "Hello", "source": "plugin", "pluginKey": "chat", "untrustedToolResults": [{"toolName": "t"}]},
        "executionContinuation": {
            "version": 1, "objective": "Make it blue", "interruptedRunId": "r-0",
            "messages": [
                {"id": "m1", "authorType": "user", "authorId": "u1", "body": "Make it red", "createdAt": "t1", "deleted": false},
                {"id": "m2", "authorType": "user", "authorId": "u1", "body": "a secret", "deleted": true},
                {"id": "m3", "authorType": "user", "authorId": "u1", "createdByRunId": "r-0", "body": "Make it blue", "createdAt": "t3"},
            ],
            "resumeDelta": {"baseRunId": "r-0", "messages": [{"id": "m3", "authorType": "user", "body": "Make it blue"}]},
            "interactionOutcomes": [], "completedActions": [{"operationId": "o1"}], "completedWork": null,
            "unresolvedInteractionIds": ["q2"], "coverage": {"kind": "full_task_history"},
        },
    });
    insta::assert_snapshot!("continuation", text(&wake, FRESH));
    let delta = text(&wake, RESUMED);
    assert!(delta.contains("since your last run") && !delta.contains("Make it red"), "{delta}");
}

#[test]
fn an_external_chat_and_a_plan_have_rules_of_their_own() {
    let chat =
        json!({"reason": "issue_commented", "externalChatProvider": "slack", "comments": [{"body": "hi"}]});
    let shown = text(&chat, RESUMED);
    assert!(shown.contains("Post no comment and set no status"), "{shown}");
    assert!(!shown.contains("As in every run"), "{shown}");
    let plan = json!({"issue": {"id": "i", "workMode": "planning"}});
    assert!(text(&plan, FRESH).contains("do none of its work"));
    assert!(!text(&plan, Setting { is_conversation: true, ..FRESH }).contains("do none of its work"));
}

#[test]
fn a_wake_without_content_has_no_text() {
    for wake in [
        json!(null),
        json!({}),
        json!({"reason": "  "}),
        json!({"comments": "no list"}),
        json!([1]),
        json!("x"),
    ] {
        assert_eq!(text(&wake, FRESH), "", "{wake}");
    }
}
