//! Telling a run in a few words: what the agent printed and how it ended.

use claude_k8s::outcome::{judge, matching_rows};
use claude_k8s::stream::Stream;
use paperclip_kit::outcome::{AdapterResult, ErrorCode, Evidence, InfraCause, JobOutcome, Termination};
use serde_json::{Value, json};

pub(crate) const INIT: &str =
    r#"{"type":"system","subtype":"init","session_id":"s1","model":"claude-opus-4-6"}"#;

/// A run and its end.
#[derive(Clone, Default)]
pub(crate) struct Story {
    pub(crate) evidence: Evidence,
    pub(crate) stream: Stream,
}

impl Story {
    pub(crate) fn new() -> Story {
        Story::default()
    }

    pub(crate) fn prints<L: ToString + ?Sized>(mut self, line: &L) -> Story {
        self.stream.push_line(&line.to_string());
        self
    }

    pub(crate) fn prints_on_stderr(mut self, line: &str) -> Story {
        self.stream.push_stderr_line(line);
        self
    }

    pub(crate) fn begins(self) -> Story {
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

    /// A result event that is an error.
    pub(crate) fn fails(self, text: &str, more: &Value) -> Story {
        let mut event = json!({"type": "result", "subtype": "error_during_execution", "is_error": true,
            "session_id": "s1", "result": text, "total_cost_usd": 0.5, "usage": {"input_tokens": 3}});
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
        self.evidence.pod.was_looked_up = true;
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

    pub(crate) fn loses_its_job(mut self) -> Story {
        self.evidence.job = JobOutcome::Gone;
        self
    }

    pub(crate) fn loses_its_pod(mut self, cause: InfraCause) -> Story {
        self.evidence.pod.cause = Some(cause);
        self.evidence.pod.is_missing = true;
        self.evidence.pod.was_looked_up = true;
        self
    }

    pub(crate) fn with(mut self, change: impl FnOnce(&mut Evidence)) -> Story {
        change(&mut self.evidence);
        self
    }

    pub(crate) fn result(&self) -> AdapterResult {
        judge(&self.evidence, &self.stream)
    }

    pub(crate) fn code(&self) -> Option<ErrorCode> {
        self.result().error_code
    }

    pub(crate) fn message(&self) -> String {
        self.result().error_message.unwrap_or_default()
    }

    /// The rows that hold, the deciding one first.
    pub(crate) fn rows(&self) -> Vec<u8> {
        matching_rows(&self.evidence, &self.stream)
    }
}

pub(crate) fn assistant(id: &str, text: &str, output_tokens: u64) -> Value {
    json!({"type": "assistant", "session_id": "s1", "message": {"id": id, "stop_reason": null,
        "content": [{"type": "text", "text": text}], "usage": {"input_tokens": 2, "output_tokens": output_tokens}}})
}
