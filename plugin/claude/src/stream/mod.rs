//! What the Claude Code CLI prints with `--output-format stream-json`, read line by line.
//!
//! [`Stream`] keeps what a judgement needs, in bounded space and one pass; it is part of a run's snapshot. A message arrives as
//! several events with one id, one per content block, so nothing is ever left out because its id is known.

pub(crate) mod event;
mod limits;
mod report;
mod result_event;
pub(crate) mod retry;
mod usage;

use paperclip_kit::json::{for_each_element, is_null, is_true, number, pick, pick_from_cut, some_text};
use paperclip_kit::judge::Rule;
use paperclip_kit::outcome::{ErrorCode, Usage, head, iso_time};
use paperclip_kit::stream::{AgentStream, AgentWords, Kept, QuotaWindow, Report, Summary, Verdict};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use self::event::Event;
pub(crate) use self::limits::RateLimits;
pub(crate) use self::result_event::ResultEvent;
pub(crate) use self::retry::ApiRetry;
use self::usage::{UsageByMessage, anthropic_usage};
use crate::outcome::rules::RULES;
use crate::phrases::LEXICON;

/// How this CLI is spoken of.
pub const WORDS: AgentWords =
    AgentWords { name: "Claude", codes: paperclip_kit::agent_codes!("claude"), lexicon: LEXICON };

/// The model that the CLI names as the author of its own messages.
const SYNTHETIC_MODEL: &str = "<synthetic>";
/// Longer names are not valid.
const NAME_BYTES: usize = 256;
/// Types that the CLI is known to print and that a judgement does not need.
const UNUSED: [&str; 10] = [
    "stream_event",
    "tool_progress",
    "tool_use_summary",
    "auth_status",
    "prompt_suggestion",
    "control_request",
    "control_response",
    "control_cancel_request",
    "keep_alive",
    "streamlined_text",
];

/// Everything that is kept of an agent's output.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Stream {
    kept: Kept,
    /// A failure of its own request that the CLI reported in an assistant message, until content follows.
    failure: Option<Report>,
    /// Retries of the last request, until an assistant event or a result follows.
    retry: Option<ApiRetry>,
    /// How many background tasks are open.
    open_tasks: u64,
    usage: UsageByMessage,
    limits: RateLimits,
    /// The last result event.
    result: Option<ResultEvent>,
    summary: Summary,
}

impl AgentStream for Stream {
    type Event<'a> = Event<'a>;

    const WORDS: &'static AgentWords = &WORDS;
    const RULES: &'static [Rule<Stream>] = RULES;

    fn kept(&self) -> &Kept {
        &self.kept
    }

    fn kept_mut(&mut self) -> &mut Kept {
        &mut self.kept
    }

    fn read_event(&mut self, event: &Event<'_>) {
        self.push_event(event);
    }

    fn read_cut_event(&mut self, start: &str) {
        let [kind] = pick_from_cut(start, &["type"]);
        if some_text(kind).as_deref() == Some("assistant") {
            self.retry = None;
            self.note_content();
        }
    }

    fn verdict(&self) -> Verdict {
        match &self.result {
            None => Verdict::Open,
            Some(event) if event.is_failure() => Verdict::Failure,
            Some(_) => Verdict::Success,
        }
    }

    fn report(&self) -> Option<&Report> {
        self.result.as_ref().map(|event| &event.report)
    }

    fn failed_request(&self) -> Option<&Report> {
        match &self.result {
            Some(event) => Some(&event.report).filter(|_| event.is_api_failure()),
            None => self.failure.as_ref(),
        }
    }

    fn usage(&self) -> Option<Usage> {
        self.result.as_ref().map(|event| event.usage).or_else(|| self.usage.sum())
    }

    fn cost_usd(&self) -> Option<f64> {
        self.result.as_ref().map(|event| event.cost_usd.unwrap_or(0.0))
    }

    /// The texts of the result events, else what the main agent said last.
    fn summary(&self) -> String {
        if self.summary.is_empty() { self.kept.texts.kept().trim().to_owned() } else { self.summary.text() }
    }

    fn model(&self) -> Option<&str> {
        self.kept.model.as_deref().or_else(|| self.result.as_ref()?.model.as_deref())
    }

    fn result_object(&self) -> Option<Map<String, Value>> {
        self.result.as_ref().map(ResultEvent::to_object)
    }

    fn subtype(&self) -> &str {
        self.result.as_ref().map_or("", |event| &event.subtype)
    }

    fn retry(&self) -> Option<String> {
        self.retry.as_ref().map(ApiRetry::describe)
    }

    fn resets_at_ms(&self, code: ErrorCode) -> Option<i64> {
        self.limits.resets_at_ms().filter(|_| code == ErrorCode::PROVIDER_QUOTA)
    }

    fn quota_windows(&self) -> Vec<QuotaWindow> {
        self.limits.windows()
    }

    fn open_tasks(&self) -> u64 {
        self.open_tasks
    }

    /// A limit that only an event reported, which the message would otherwise not mention.
    fn suffix(&self) -> String {
        if !self.limits.is_rejected() {
            return String::new();
        }
        let reset = self.limits.resets_at_ms().and_then(iso_time);
        let reset = reset.map_or_else(String::new, |time| format!(", resets {time}"));
        format!(" [rate limit: {} rejected{reset}]", self.limits.rejected_kinds())
    }
}

impl Stream {
    fn push_event(&mut self, event: &Event<'_>) {
        match event.kind.as_ref() {
            "assistant" => {
                self.note_session(event);
                self.push_assistant(event);
            }
            "user" => self.kept.note_activity("the result of a tool"),
            "system" => self.push_system(event),
            "rate_limit_event" => {
                let [info] = pick(event.json, &["rate_limit_info"]).unwrap_or_default();
                self.limits.record(info);
            }
            "result" => {
                self.note_session(event);
                let result = ResultEvent::read(event.json);
                self.summary.push(&result.report.text);
                self.result = Some(result);
                self.retry = None;
                self.kept.note_activity("its result");
                self.kept.is_reported = true;
                self.kept.tail.clear();
            }
            kind if UNUSED.contains(&kind) => {}
            kind => self.kept.unknown_events.record(kind),
        }
    }

    fn push_system(&mut self, event: &Event<'_>) {
        let subtype = some_text(event.subtype).unwrap_or_default();
        match subtype.as_ref() {
            "init" => {
                self.kept.has_init = true;
                self.note_session(event);
                let [model, version] =
                    pick(event.json, &["model", "claude_code_version"]).unwrap_or_default();
                self.kept.note_model(&some_text(model).unwrap_or_default());
                if let Some(version) = some_text(version) {
                    self.kept.cli_version = Some(head(&version, NAME_BYTES).into_owned());
                }
                self.kept.note_activity("its start");
            }
            "api_retry" => {
                let retry = ApiRetry::read(event.json);
                self.kept.last_activity = retry.describe();
                self.retry = Some(retry);
            }
            "background_tasks_changed" => {
                let [tasks] = pick(event.json, &["tasks"]).unwrap_or_default();
                self.open_tasks = 0;
                let _ = for_each_element(tasks, |_| self.open_tasks += 1);
            }
            _ => {}
        }
    }

    fn push_assistant(&mut self, event: &Event<'_>) {
        self.retry = None;
        let names = ["id", "model", "content", "stop_reason", "usage", "output_tokens"];
        let message = event.message.and_then(|message| pick(message.get(), &names));
        let Some([id, model, content, stop_reason, usage, output_tokens]) = message else { return };
        let is_main_agent = event.is_of_main_agent();
        let is_synthetic =
            is_true(event.is_api_error) || some_text(model).is_some_and(|model| model == SYNTHETIC_MODEL);
        let mut has_content = false;
        let mut synthetic_text = String::new();
        // Of more blocks than an event has, the first ones count for all.
        let _ = for_each_element(content, |block| {
            let [kind, text, name] = pick(block.get(), &["type", "text", "name"]).unwrap_or_default();
            match some_text(kind).as_deref() {
                Some("text") => {
                    let Some(text) = some_text(text) else { return };
                    has_content = true;
                    self.kept.note_activity("a message");
                    if is_main_agent {
                        self.kept.texts.push(&text);
                    }
                    if is_synthetic {
                        synthetic_text.push_str(&text);
                    }
                }
                Some(kind) if kind.ends_with("tool_use") => {
                    has_content = true;
                    self.kept.note_activity("a call of the tool ");
                    self.kept.last_activity.push_str(&head(&some_text(name).unwrap_or_default(), NAME_BYTES));
                }
                Some(_) | None => {}
            }
        });
        if is_synthetic {
            if is_main_agent {
                self.failure = Some(report::of_synthetic(event.json, &synthetic_text, stop_reason));
            }
            return;
        }
        if let Some(usage) = anthropic_usage(usage) {
            self.usage.record(&some_text(id).unwrap_or_default(), usage);
        }
        let in_usage = usage.and_then(|usage| pick(usage.get(), &["output_tokens"])).unwrap_or_default();
        let tokens = number(output_tokens).or_else(|| number(in_usage[0]));
        if has_content || tokens.is_some_and(|tokens| tokens > 0.0) {
            self.note_content();
        } else {
            self.kept.ends_empty = tokens.is_some() && is_null(stop_reason);
        }
    }

    fn note_session(&mut self, event: &Event<'_>) {
        if let Some(id) = some_text(event.session_id) {
            self.kept.note_session(&id);
        }
    }

    fn note_content(&mut self) {
        self.kept.has_content = true;
        self.kept.ends_empty = false;
        self.failure = None;
        self.limits.clear();
    }
}

/// What the rules ask.
impl Stream {
    pub(crate) fn open_retry(&self) -> Option<&ApiRetry> {
        self.retry.as_ref()
    }

    pub(crate) fn limits(&self) -> &RateLimits {
        &self.limits
    }

    pub(crate) fn result(&self) -> Option<&ResultEvent> {
        self.result.as_ref()
    }
}

#[cfg(test)]
mod tests;
