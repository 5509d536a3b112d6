//! What the Claude Code CLI prints with `--output-format stream-json`, read line by line.
//!
//! [`Stream`] keeps what a judgement needs, in bounded space and one pass; it is part of a run's snapshot. A message arrives as
//! several events with one id, one per content block, so nothing is ever left out because its id is known.

mod cause;
mod limits;
pub(crate) mod line;
pub(crate) mod report;
mod result_event;
pub(crate) mod retry;
mod summary;
mod unknown;
mod untyped;
mod usage;

use paperclip_kit::outcome::{LineTail, StreamEnd, TextBlocks, Usage, head, without_escapes};
use serde::{Deserialize, Serialize};

use self::json::{for_each_element, is_null, is_true, number, pick, pick_from_cut, some_text};
pub(crate) use self::limits::RateLimits;
use self::line::{Event, Part, for_each_part, trimmed};
pub(crate) use self::report::Report;
pub(crate) use self::result_event::ResultEvent;
pub(crate) use self::retry::ApiRetry;
use self::summary::Summary;
pub(crate) use self::unknown::UnknownEvents;
pub(crate) use self::untyped::{LoginUrl, Untyped};
use self::usage::{UsageByMessage, anthropic_usage};
pub(crate) use paperclip_json as json;

/// The model that the CLI names as the author of its own messages.
const SYNTHETIC_MODEL: &str = "<synthetic>";
/// Longer identifiers are not valid.
const ID_BYTES: usize = 256;

/// Everything that is kept of an agent's output.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Stream {
    session_id: Option<String>,
    /// As the last init event named it.
    model: Option<String>,
    cli_version: Option<String>,
    has_init: bool,
    /// The model produced content.
    has_content: bool,
    /// The last assistant message was an empty response of the API.
    ends_empty: bool,
    /// A failure of its own request that the CLI reported in an assistant message, until content follows.
    failure: Option<Report>,
    /// Retries of the last request, until an assistant event or a result follows.
    retry: Option<ApiRetry>,
    /// How many events were read.
    event_count: u64,
    /// How many background tasks are open.
    open_tasks: u64,
    /// The last event, in words.
    last_activity: String,
    /// The main agent's texts.
    texts: TextBlocks,
    usage: UsageByMessage,
    limits: RateLimits,
    untyped: Untyped,
    unknown_events: UnknownEvents,
    /// The last result event.
    result: Option<ResultEvent>,
    summary: Summary,
    format: Format,
    stdout_bytes: u64,
    nonempty_lines: u64,
    /// The last lines, until a result event.
    tail: LineTail,
}

/// What an output without a result event consisted of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Format {
    pub(crate) has_text: bool,
    pub(crate) has_event: bool,
    pub(crate) has_cut_event: bool,
    pub(crate) has_array: bool,
}

impl Stream {
    /// Reads the next line, without its line feed.
    pub fn push_line(&mut self, line: &str) {
        self.count_line(line, line.len() as u64);
        self.read_line(&without_escapes(line));
    }

    /// Reads the next line, of which only the start and the end were handed over because it is too long. `bytes` is its length without
    /// the line feed.
    pub fn push_cut_line(&mut self, start: &str, end: &str, bytes: u64) {
        self.count_line(end, bytes);
        let clean = without_escapes(start);
        let text = trimmed(&clean);
        if !text.starts_with('{') {
            self.format.has_text = true;
            self.untyped.push(text);
            return;
        }
        self.format.has_cut_event = true;
        self.event_count += 1;
        let [kind] = pick_from_cut(text, &["type"]);
        if some_text(kind).as_deref() == Some("assistant") {
            self.retry = None;
            self.note_content();
        }
    }

    /// Reads a line of standard error, which is kept apart from the output: it counts as untyped text.
    pub fn push_stderr_line(&mut self, line: &str) {
        let clean = without_escapes(line);
        if !trimmed(&clean).is_empty() {
            self.untyped.push_stderr(&clean);
        }
    }

    /// Reads a whole output, as it was captured.
    pub fn push_output(&mut self, output: &str) {
        for line in output.split_terminator('\n') {
            self.push_line(line);
        }
        if !output.is_empty() && !output.ends_with('\n') {
            // The last line has no line feed.
            self.stdout_bytes = self.stdout_bytes.saturating_sub(1);
        }
    }

    fn count_line(&mut self, line: &str, bytes: u64) {
        self.stdout_bytes = self.stdout_bytes.saturating_add(bytes + 1);
        if !trimmed(line).is_empty() {
            self.nonempty_lines += 1;
        }
        if self.result.is_none() {
            self.tail.push(line.trim_end_matches('\r'));
        }
    }

    fn read_line(&mut self, line: &str) {
        for_each_part(line, &mut |part| match part {
            Part::Event(event) => {
                self.format.has_event = true;
                self.event_count += 1;
                self.push_event(&event);
            }
            Part::Untyped(text) => {
                self.format.has_array |= text.starts_with('[') && text.ends_with(']');
                self.format.has_text = true;
                self.untyped.push(text);
            }
            Part::CutEvent => self.format.has_cut_event = true,
        });
    }

    fn push_event(&mut self, event: &Event<'_>) {
        match event.kind.as_ref() {
            "assistant" => {
                self.note_session(event);
                self.push_assistant(event);
            }
            "user" => self.note_activity("the result of a tool"),
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
                self.note_activity("its result");
                self.tail.clear();
            }
            kind => self.unknown_events.record(kind),
        }
    }

    fn push_system(&mut self, event: &Event<'_>) {
        let subtype = some_text(event.subtype).unwrap_or_default();
        match subtype.as_ref() {
            "init" => {
                self.has_init = true;
                self.note_session(event);
                let [model, version] =
                    pick(event.json, &["model", "claude_code_version"]).unwrap_or_default();
                let name = |member| some_text(member).map(|text| head(&text, ID_BYTES).into_owned());
                self.model = name(model).or_else(|| self.model.take());
                self.cli_version = name(version).or_else(|| self.cli_version.take());
                self.note_activity("its start");
            }
            "api_retry" => {
                let retry = ApiRetry::read(event.json);
                self.last_activity = retry.describe();
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
                    self.note_activity("a message");
                    if is_main_agent {
                        self.texts.push(&text);
                    }
                    if is_synthetic {
                        synthetic_text.push_str(&text);
                    }
                }
                Some(kind) if kind.ends_with("tool_use") => {
                    has_content = true;
                    self.note_activity("a call of the tool ");
                    self.last_activity.push_str(&head(&some_text(name).unwrap_or_default(), ID_BYTES));
                }
                Some(_) | None => {}
            }
        });
        if is_synthetic {
            if is_main_agent {
                self.failure = Some(Report::of_synthetic(event.json, &synthetic_text, stop_reason));
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
            self.ends_empty = tokens.is_some() && is_null(stop_reason);
        }
    }

    fn note_session(&mut self, event: &Event<'_>) {
        if let Some(id) = some_text(event.session_id).filter(|id| id.len() <= ID_BYTES)
            && self.session_id.as_deref() != Some(&*id)
        {
            self.session_id = Some(id.into_owned());
        }
    }

    fn note_activity(&mut self, activity: &str) {
        self.last_activity.clear();
        self.last_activity.push_str(activity);
    }

    fn note_content(&mut self) {
        self.has_content = true;
        self.ends_empty = false;
        self.failure = None;
        self.limits.clear();
    }
}

/// What a judgement asks.
impl Stream {
    pub fn session_id(&self) -> Option<&str> {
        self.session_id.as_deref()
    }

    pub fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    pub fn has_result(&self) -> bool {
        self.result.is_some()
    }

    pub fn has_content(&self) -> bool {
        self.has_content
    }

    /// Returns whether the agent has reported its end, and how. Its process may run longer.
    pub fn end(&self) -> StreamEnd {
        match &self.result {
            None => StreamEnd::Open,
            Some(result) => StreamEnd::Ended { is_good: !result.is_failure(), open_tasks: self.open_tasks },
        }
    }

    /// Returns how many events were read.
    pub fn event_count(&self) -> u64 {
        self.event_count
    }

    pub(crate) fn cli_version(&self) -> Option<&str> {
        self.cli_version.as_deref()
    }

    pub(crate) fn has_init(&self) -> bool {
        self.has_init
    }

    pub(crate) fn ends_empty(&self) -> bool {
        self.ends_empty
    }

    pub(crate) fn failure(&self) -> Option<&Report> {
        self.failure.as_ref()
    }

    pub(crate) fn retry(&self) -> Option<&ApiRetry> {
        self.retry.as_ref()
    }

    /// The last event, in words; empty if there was none.
    pub(crate) fn last_activity(&self) -> &str {
        &self.last_activity
    }

    /// The texts of the result events, else what the main agent said last.
    pub(crate) fn summary(&self) -> String {
        if self.summary.is_empty() { self.texts.kept().trim().to_owned() } else { self.summary.text() }
    }

    pub(crate) fn message_usage(&self) -> Option<Usage> {
        self.usage.sum()
    }

    pub(crate) fn limits(&self) -> &RateLimits {
        &self.limits
    }

    pub(crate) fn untyped(&self) -> &Untyped {
        &self.untyped
    }

    pub(crate) fn unknown_events(&self) -> &UnknownEvents {
        &self.unknown_events
    }

    pub(crate) fn result(&self) -> Option<&ResultEvent> {
        self.result.as_ref()
    }

    pub(crate) fn format(&self) -> Format {
        self.format
    }

    pub(crate) fn stdout_bytes(&self) -> u64 {
        self.stdout_bytes
    }

    pub(crate) fn nonempty_lines(&self) -> u64 {
        self.nonempty_lines
    }

    pub(crate) fn tail(&self) -> String {
        self.tail.kept()
    }
}

#[cfg(test)]
mod tests;
