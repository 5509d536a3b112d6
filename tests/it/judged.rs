//! The judgement of a run, by the component.

use std::sync::LazyLock;

use claude_k8s::outcome::{judge, run_facts};
use paperclip_guest::Tools;
use paperclip_kit::manifest::termination;
use paperclip_kit::outcome::{AdapterResult, EvidenceDocument, InfraCause, Termination};
use serde_json::{Value, json};

use crate::component::load;
use crate::judgement::story::Story;

static TOOLS: LazyLock<Tools> = LazyLock::new(|| Tools::new(load()));

/// Reasons of pods and containers, one for each cause that has one.
const REASONS: [&str; 6] =
    ["OOMKilled", "Evicted", "Preempted", "NodeLost", "NodeShutdown", "DeadlineExceeded"];

/// Returns the judgement of the native code, after the component has judged the same document of the run as it does.
pub(crate) fn judged(story: &Story) -> AdapterResult {
    let json = document(story).to_string();
    let result = TOOLS.classify(0, &json).unwrap().unwrap();
    let document = EvidenceDocument::parse(&json).unwrap();
    let evidence = document.evidence(0, run_facts(&document.config));
    let native = judge(&evidence, &story.stream);
    assert_eq!(
        result,
        serde_json::to_string(&native).unwrap(),
        "the component judges {json} as the native code"
    );
    judge(&story.evidence, &story.stream)
}

/// The run as a document, which has no place for its deletion's traces, its workspace and its session.
fn document(story: &Story) -> Value {
    let evidence = &story.evidence;
    let reason = |cause| REASONS.into_iter().find(|reason| InfraCause::from_reason(reason) == Some(cause));
    json!({
        "config": {
            "timeoutSec": evidence.run.timeout_sec,
            "model": evidence.run.model,
            "env": {"CLAUDE_CODE_USE_BEDROCK": evidence.run.billing.biller.as_deref() == Some("aws_bedrock")},
            "retryFreshSession": evidence.run.may_retry_fresh_session,
        },
        "stdout": story.stdout,
        "job": {"outcome": evidence.job},
        "container": container(story),
        "pod": evidence.pod.was_read.then(|| json!({
            "phase": evidence.pod.phase,
            "missing": evidence.pod.is_missing,
            "reason": evidence.pod.cause.and_then(reason),
            "message": evidence.pod.cause_message,
        })),
        "atMs": evidence.at_ms,
        "cancelled": evidence.is_cancelled,
        "timedOut": evidence.is_timed_out,
        "stoppedAfterReport": evidence.is_stopped_after_report,
        "stoppedFor": evidence.stopped_for,
        "quietSec": evidence.quiet_sec,
        "previousSessionId": evidence.run.previous_session_id,
    })
}

/// The container's end, with what the agent printed on standard error.
fn container(story: &Story) -> Option<Termination> {
    let mut container = story.evidence.container.clone();
    if !story.stderr.is_empty() {
        let ended = container.get_or_insert_default();
        let message = ended.message.take().unwrap_or_default();
        ended.message = Some(format!("{message}\n{}\n{}", termination::MARKER, story.stderr));
    }
    container
}
