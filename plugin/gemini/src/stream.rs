//! What the Gemini CLI prints with `--output-format stream-json`: its start, messages in chunks, tools, errors and a result.

use paperclip_kit::json::{count, pick, pick_from_cut, small_members, some_text, text};
use paperclip_kit::judge::Rule;
use paperclip_kit::outcome::{Usage, head};
use paperclip_kit::phrases::{Lexicon, OTHER_PARTIES};
use paperclip_kit::stream::{AgentStream, AgentWords, Event, Kept, NAME_BYTES, Report, TEXT_BYTES, Verdict};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::rules::RULES;

/// How this agent type is spoken of.
pub const WORDS: AgentWords = AgentWords {
    name: "Gemini",
    codes: paperclip_kit::agent_codes!("gemini"),
    lexicon: Lexicon {
        program: "gemini",
        unknown_session: &[&["error resuming session"]],
        model: &[&["is not found for api version"], &["modelnotfounderror"]],
        credentials: &[
            &["api key not valid"],
            &["api keys are not supported"],
            &["permission denied"],
            &["unauthenticated"],
            &["must specify the gemini api key"],
            &["invalid auth method selected"],
            &["set an auth method"],
        ],
        quota: &[&["exhausted your", "quota"]],
        transient: &[&["fetch failed"]],
        other_parties: OTHER_PARTIES,
        ..Lexicon::NONE
    },
};

/// How the text of a failed request starts.
const API_ERROR: &str = "[API Error: ";
/// How the guard against loops says that it has ended the run.
const LOOP_DETECTED: &str = "Loop detected";
/// How much of the models' statistics is read, in bytes.
const MODELS_BYTES: usize = 16 * 1024;
/// How much of a result event `resultJson` holds, in bytes.
const EVENT_BYTES: usize = 16 * 1024;

/// Everything that is kept of an agent's output.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Stream {
    kept: Kept,
    verdict: Verdict,
    /// What went wrong: that of the result, else the last error event.
    failure: Option<Report>,
    /// The chunks of the message since the last tool.
    message: String,
    /// The message before it.
    last_message: String,
    is_looping: bool,
    usage: Option<Usage>,
    /// The model that was used, by the statistics.
    used_model: Option<String>,
    /// The result event, without what is large.
    result: Option<Map<String, Value>>,
}

impl AgentStream for Stream {
    type Event<'a> = Event<'a>;

    const WORDS: &'static AgentWords = &WORDS;
    const RULES: &'static [Rule<Stream>] = RULES;
    const MODEL_IS_CONFIGURED: bool = true;

    fn kept(&self) -> &Kept {
        &self.kept
    }

    fn kept_mut(&mut self) -> &mut Kept {
        &mut self.kept
    }

    fn read_event(&mut self, event: &Event<'_>) {
        match event.kind.as_ref() {
            "init" => {
                let [session, model] = pick(event.json, &["session_id", "model"]).unwrap_or_default();
                self.kept.note_session(&some_text(session).unwrap_or_default());
                self.kept.note_model(&some_text(model).unwrap_or_default());
                self.kept.has_init = true;
                self.kept.note_activity("its start");
            }
            "message" => {
                let [role, content] = pick(event.json, &["role", "content"]).unwrap_or_default();
                if text(role).is_some_and(|role| role == "assistant") {
                    self.push_chunk(&text(content).unwrap_or_default());
                }
            }
            "tool_use" => {
                let [tool] = pick(event.json, &["tool_name"]).unwrap_or_default();
                self.kept.note_tool(&some_text(tool).unwrap_or_default());
                self.end_message();
            }
            "tool_result" => {
                self.kept.note_activity("the result of a tool");
                self.end_message();
            }
            "error" => {
                let [severity, message] = pick(event.json, &["severity", "message"]).unwrap_or_default();
                let message = text(message).unwrap_or_default();
                self.is_looping |= message.starts_with(LOOP_DETECTED);
                if text(severity).is_some_and(|severity| severity == "error") {
                    self.failure = Some(report(&message));
                }
                self.kept.note_activity("an error");
            }
            "result" => self.read_result(event.json),
            kind => self.kept.unknown_events.record(kind),
        }
    }

    fn read_cut_event(&mut self, start: &str) {
        let [kind] = pick_from_cut(start, &["type"]);
        match some_text(kind).as_deref() {
            Some("message") => self.kept.has_content = true,
            Some("tool_use" | "tool_result") => {
                self.end_message();
                self.kept.note_tool("");
            }
            Some(_) | None => {}
        }
    }

    fn verdict(&self) -> Verdict {
        self.verdict
    }

    fn report(&self) -> Option<&Report> {
        self.failure.as_ref()
    }

    fn failed_request(&self) -> Option<&Report> {
        self.failure.as_ref().filter(|_| self.verdict != Verdict::Success)
    }

    fn usage(&self) -> Option<Usage> {
        self.usage
    }

    /// The chunks after the last tool, else those before it.
    fn summary(&self) -> String {
        let message = self.message.trim();
        if message.is_empty() { self.last_message.trim().to_owned() } else { message.to_owned() }
    }

    fn model(&self) -> Option<&str> {
        self.used_model.as_deref().or(self.kept.model.as_deref())
    }

    fn result_object(&self) -> Option<Map<String, Value>> {
        self.result.clone()
    }
}

impl Stream {
    /// Chunks are joined without a separator: a word may be in two.
    fn push_chunk(&mut self, chunk: &str) {
        if chunk.is_empty() {
            return;
        }
        let left = TEXT_BYTES.saturating_sub(self.message.len());
        self.message.push_str(&chunk[..chunk.floor_char_boundary(left)]);
        self.kept.has_content = true;
        self.kept.note_activity("a message");
    }

    fn end_message(&mut self) {
        if !self.message.trim().is_empty() {
            self.last_message = std::mem::take(&mut self.message);
        }
        self.message.clear();
    }

    fn read_result(&mut self, json: &str) {
        let [status, error, stats] = pick(json, &["status", "error", "stats"]).unwrap_or_default();
        let is_success = text(status).is_some_and(|status| status == "success");
        self.verdict = if is_success { Verdict::Success } else { Verdict::Failure };
        if let Some(error) = error {
            let [kind, message] = pick(error.get(), &["type", "message"]).unwrap_or_default();
            let mut failure = report(&text(message).unwrap_or_default());
            failure.kinds.extend(some_text(kind).map(|kind| head(&kind, NAME_BYTES).into_owned()));
            self.failure = Some(failure);
        }
        if let Some([input, cached, output, models]) =
            stats.and_then(|stats| pick(stats.get(), &["input", "cached", "output_tokens", "models"]))
        {
            self.usage = Some(Usage {
                input_tokens: count(input),
                cached_input_tokens: count(cached),
                output_tokens: count(output),
            });
            self.used_model = models.and_then(most_used);
        }
        self.result = Some(small_members(json, EVENT_BYTES));
        self.kept.is_reported = true;
        self.kept.note_activity("its result");
    }

    pub(crate) fn is_looping(&self) -> bool {
        self.is_looping
    }
}

/// The model with the most tokens.
fn most_used(models: &RawValue) -> Option<String> {
    let models = small_members(models.get(), MODELS_BYTES);
    let tokens = |stats: &Value| stats["total_tokens"].as_u64().unwrap_or(0);
    let used = models.iter().filter(|(_, stats)| tokens(stats) > 0);
    used.max_by_key(|(_, stats)| tokens(stats)).map(|(name, _)| head(name, NAME_BYTES).into_owned())
}

/// Reads what the CLI says went wrong. `[API Error: …]` may hold the provider's answer as JSON: its message and status count.
fn report(message: &str) -> Report {
    let Some(inner) = message.strip_prefix(API_ERROR) else { return Report::new(message, None) };
    let inner = match inner.rsplit_once(']') {
        Some((inner, rest)) => format!("{inner}{rest}"),
        None => inner.to_owned(),
    };
    let json = inner.trim_end();
    if let Some([Some(error)]) = pick(json, &["error"]) {
        let [code, said, status] = pick(error.get(), &["code", "message", "status"]).unwrap_or_default();
        let mut report = Report::new(
            &some_text(said).unwrap_or(json.into()),
            u16::try_from(count(code)).ok().filter(|code| (400..600).contains(code)),
        );
        report.kinds.extend(some_text(status).map(|status| head(&status, NAME_BYTES).into_owned()));
        return report;
    }
    Report::new(&inner, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_provider_answer_is_taken_out_of_its_brackets() {
        let nested =
            report(r#"[API Error: {"error":{"code":401,"message":"no key","status":"UNAUTHENTICATED"}}]"#);
        assert_eq!((nested.text.as_str(), nested.api_status), ("no key", Some(401)));
        assert!(nested.has_kind("UNAUTHENTICATED"));
        assert_eq!(
            report("[API Error: wait.\nSuggested retry.]\nMore.").text,
            "wait.\nSuggested retry.\nMore."
        );
        assert_eq!(report("plain").text, "plain");
    }

    #[test]
    fn a_word_in_two_chunks_is_one() {
        let mut stream = Stream::default();
        for content in ["Hel", "lo"] {
            stream.push_line(&format!(
                r#"{{"type":"message","role":"assistant","content":"{content}","delta":true}}"#
            ));
        }
        assert_eq!(stream.summary(), "Hello");
        stream.push_line(r#"{"type":"tool_use","tool_name":"ls"}"#);
        assert_eq!(stream.summary(), "Hello");
    }
}
