//! Describes a run in a few words: what the agent printed and how it ended.

use claude_k8s::outcome::{matching_rows, run_facts};
use claude_k8s::stream::Stream;
use paperclip_kit::outcome::{
    AdapterResult, AgentCodes, ErrorCode, Evidence, InfraCause, JobOutcome, Termination,
};
use paperclip_kit::stream::AgentStream as _;
use serde_json::{Value, json};

use crate::judged::judged;

/// The codes of this agent type.
pub(crate) const CODES: AgentCodes = claude_k8s::stream::WORDS.codes;
/// 2026-05-28T20:26:40Z.
pub(crate) const RESETS_AT: i64 = 1_780_000_000;
pub(crate) const INIT: &str =
    r#"{"type":"system","subtype":"init","session_id":"s1","model":"claude-opus-4-6"}"#;

/// A run and its end.
#[derive(Clone, Default)]
pub(crate) struct Story {
    pub(crate) evidence: Evidence,
    pub(crate) stream: Stream,
    /// What the stream has read, for those who read it again.
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Story {
    pub(crate) fn new() -> Story {
        let run = run_facts(&serde_json::Map::new());
        Story { evidence: Evidence { run, ..Evidence::default() }, ..Story::default() }
    }

    pub(crate) fn prints<L: ToString + ?Sized>(mut self, line: &L) -> Story {
        let line = line.to_string();
        self.stream.push_line(&line);
        self.stdout += &(line + "\n");
        self
    }

    pub(crate) fn prints_on_stderr(mut self, line: &str) -> Story {
        self.stream.push_stderr_line(line);
        self.stderr += &format!("{line}\n");
        self
    }

    pub(crate) fn starts(self) -> Story {
        self.prints(INIT)
    }

    /// An assistant message of one text.
    pub(crate) fn says(self, text: &str) -> Story {
        self.prints(&assistant("m", text, 5))
    }

    /// An assistant message with neither content nor tokens.
    pub(crate) fn gets_nothing(self) -> Story {
        let message = json!({"id": "e", "content": [], "stop_reason": null, "usage": {"output_tokens": 0}});
        self.prints(&json!({"type": "assistant", "message": message}))
    }

    pub(crate) fn succeeds(self) -> Story {
        self.prints(&json!({"type": "result", "subtype": "success", "is_error": false, "session_id": "s1",
            "result": "done", "total_cost_usd": 0.5, "usage": {"input_tokens": 3, "output_tokens": 1}}))
    }

    /// A result event with an error that is not one of a request.
    pub(crate) fn fails(self, text: &str, more: &Value) -> Story {
        self.reports("error_during_execution", text, more)
    }

    /// A result event about a request that failed.
    pub(crate) fn gets_an_error(self, text: &str, more: &Value) -> Story {
        self.reports("success", text, more)
    }

    fn reports(self, subtype: &str, text: &str, more: &Value) -> Story {
        let mut event = json!({"type": "result", "subtype": subtype, "is_error": true, "session_id": "s1",
            "result": text, "total_cost_usd": 0.5, "usage": {"input_tokens": 3}});
        if let (Some(event), Some(more)) = (event.as_object_mut(), more.as_object()) {
            event.extend(more.clone());
        }
        self.prints(&event)
    }

    pub(crate) fn exits(mut self, code: i32) -> Story {
        let reason = if code == 0 { "Completed" } else { "Error" };
        self.evidence.container = Some(Termination {
            exit_code: Some(code),
            reason: Some(reason.to_owned()),
            ..Termination::default()
        });
        self.evidence.pod.was_read = true;
        self.evidence.job = if code == 0 { JobOutcome::Complete } else { JobOutcome::Failed };
        self
    }

    pub(crate) fn runs_out_of_memory(self) -> Story {
        let mut story = self.exits(137);
        if let Some(container) = &mut story.evidence.container {
            container.reason = Some("OOMKilled".to_owned());
        }
        story
    }

    /// A message of the CLI itself, and no result event.
    pub(crate) fn shows_an_error(self, text: &str, more: &Value) -> Story {
        let mut event = json!({"type": "assistant", "is_api_error_message": true, "message": {"id": "e",
            "model": "<synthetic>", "content": [{"type": "text", "text": text}], "stop_reason": "stop_sequence"}});
        if let (Some(event), Some(more)) = (event.as_object_mut(), more.as_object()) {
            event.extend(more.clone());
        }
        self.prints(&event)
    }

    pub(crate) fn retries(self, status: Option<u16>, error: &str) -> Story {
        self.prints(&json!({"type": "system", "subtype": "api_retry", "attempt": 4, "max_retries": 10,
            "error_status": status, "error": error}))
    }

    pub(crate) fn gets_rejected(self) -> Story {
        self.prints(&json!({"type": "rate_limit_event", "rate_limit_info": {"status": "rejected",
            "rateLimitType": "five_hour", "resetsAt": RESETS_AT}}))
    }

    pub(crate) fn loses_its_job(mut self) -> Story {
        self.evidence.job = JobOutcome::Deleted;
        self
    }

    pub(crate) fn loses_its_pod(mut self, cause: InfraCause) -> Story {
        self.evidence.pod.cause = Some(cause);
        self.evidence.pod.is_missing = true;
        self.evidence.pod.was_read = true;
        self
    }

    pub(crate) fn with(mut self, change: impl FnOnce(&mut Evidence)) -> Story {
        change(&mut self.evidence);
        self
    }

    pub(crate) fn result(&self) -> AdapterResult {
        judged(self)
    }

    pub(crate) fn code(&self) -> Option<ErrorCode> {
        self.result().error_code
    }

    pub(crate) fn message(&self) -> String {
        self.result().error_message.unwrap_or_default()
    }

    /// The rows that hold, in the order of precedence.
    pub(crate) fn rows(&self) -> Vec<&'static str> {
        matching_rows(&self.evidence, &self.stream)
    }
}

pub(crate) fn assistant(id: &str, text: &str, output_tokens: u64) -> Value {
    json!({"type": "assistant", "session_id": "s1", "message": {"id": id, "stop_reason": null,
        "content": [{"type": "text", "text": text}], "usage": {"input_tokens": 2, "output_tokens": output_tokens}}})
}
