//! What a result says beside its code.

use super::*;

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
