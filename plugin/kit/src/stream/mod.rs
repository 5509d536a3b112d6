//! What agents print, read line by line: what every agent type keeps of it, and what an agent type says about it to the rules.

mod cause;
mod line;
mod report;
mod summary;
mod unknown;
mod untyped;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::judge::Rule;
use crate::machine::Watch;
use crate::outcome::{AgentCodes, ErrorCode, LineTail, TextBlocks, Usage, UsageBasis, head, without_escapes};
use crate::phrases::Lexicon;
pub use cause::CauseLine;
pub use line::{Event, Part, ReadEvent, for_each_part, trimmed};
pub use report::{NAME_BYTES, Report, TEXT_BYTES, error_text, http_status, lower_name};
pub use summary::Summary;
pub use unknown::UnknownEvents;
pub use untyped::{LoginUrl, Untyped};

/// Longer identifiers are not valid.
const ID_BYTES: usize = 256;

/// How an agent type is spoken of, and how it speaks.
#[derive(Debug)]
pub struct AgentWords {
    /// As people call it, at the start of a sentence.
    pub name: &'static str,
    pub codes: AgentCodes,
    pub lexicon: Lexicon,
}

/// What the agent itself has reported about the end of its work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It has not reported its end.
    #[default]
    Open,
    Success,
    Failure,
}

/// What every agent type keeps of its agent's output, in bounded space.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Kept {
    pub session_id: Option<String>,
    /// As the agent last named it.
    pub model: Option<String>,
    pub cli_version: Option<String>,
    /// The agent has reported its start.
    pub has_init: bool,
    /// The model produced content.
    pub has_content: bool,
    /// The model's last answer was empty.
    pub ends_empty: bool,
    /// The agent has reported its end: the output's tail explains nothing more.
    pub is_reported: bool,
    /// How many events were read.
    pub event_count: u64,
    /// The last event, in words.
    pub last_activity: String,
    /// The main agent's texts.
    pub texts: TextBlocks,
    pub untyped: Untyped,
    pub unknown_events: UnknownEvents,
    pub format: Format,
    pub stdout_bytes: u64,
    pub nonempty_lines: u64,
    /// The last lines, until the agent's report.
    pub tail: LineTail,
}

/// What an output without a report consisted of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Format {
    pub has_text: bool,
    pub has_event: bool,
    pub has_cut_event: bool,
    pub has_array: bool,
}

impl Kept {
    /// Keeps the session's id.
    pub fn note_session(&mut self, id: &str) {
        if !id.is_empty() && id.len() <= ID_BYTES && self.session_id.as_deref() != Some(id) {
            self.session_id = Some(id.to_owned());
        }
    }

    /// Keeps the model's name.
    pub fn note_model(&mut self, model: &str) {
        if !model.is_empty() && self.model.as_deref() != Some(model) {
            self.model = Some(head(model, ID_BYTES).into_owned());
        }
    }

    /// Keeps what the agent did last, as the end of `the last event was …`.
    pub fn note_activity(&mut self, activity: &str) {
        self.last_activity.clear();
        self.last_activity.push_str(activity);
    }

    /// Keeps that the agent called a tool.
    pub fn note_tool(&mut self, name: &str) {
        self.note_activity("a call of the tool ");
        self.last_activity.push_str(&head(name, ID_BYTES));
        self.has_content = true;
        self.ends_empty = false;
    }

    /// Keeps a text of the main agent.
    pub fn note_text(&mut self, text: &str) {
        self.note_activity("a message");
        self.texts.push(text);
        self.has_content = true;
        self.ends_empty = false;
    }

    fn count_line(&mut self, line: &str, bytes: u64) {
        self.stdout_bytes = self.stdout_bytes.saturating_add(bytes + 1);
        if !trimmed(line).is_empty() {
            self.nonempty_lines += 1;
        }
        if !self.is_reported {
            self.tail.push(line.trim_end_matches('\r'));
        }
    }
}

/// A limit of the provider, as Paperclip shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct QuotaWindow {
    /// As the provider names it, such as `five_hour`.
    pub label: String,
    /// How much of it is used, in percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used_percent: Option<f64>,
    /// When it is reset, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resets_at: Option<String>,
    /// What the provider says of it, such as `allowed`.
    pub value_label: String,
}

/// What is kept of an agent's output, how its events are read, and what they say to the rules. It is part of a run's snapshot.
pub trait AgentStream: Default + Clone + std::fmt::Debug + Serialize + DeserializeOwned + 'static {
    /// An event, with the members that are read of each.
    type Event<'a>: ReadEvent<'a>;

    /// How this agent type is spoken of, and how it speaks.
    const WORDS: &'static AgentWords;
    /// The table by which a run is judged: the first rule that holds decides, and the last one always holds.
    const RULES: &'static [Rule<Self>];
    /// How its usage counts; `None`: cumulative over a session.
    const USAGE_BASIS: Option<UsageBasis> = Some(UsageBasis::PerRun);
    /// Whether a run that resumes a session reports that session: another one replaced it silently.
    const SESSION_IS_STABLE: bool = false;
    /// Whether the model is that of the config where the agent names none.
    const MODEL_IS_CONFIGURED: bool = false;

    /// Returns what every agent type keeps.
    fn kept(&self) -> &Kept;

    /// Returns what every agent type keeps, to change it.
    fn kept_mut(&mut self) -> &mut Kept;

    /// Reads an event.
    fn read_event(&mut self, event: &Self::Event<'_>);

    /// Reads the start of an event that is too long to be passed whole.
    fn read_cut_event(&mut self, _start: &str) {}

    /// Reads a line of standard error, beside what is kept of it anyway.
    fn read_stderr(&mut self, _line: &str) {}

    /// Returns what the agent has reported about its end so far.
    fn verdict(&self) -> Verdict;

    /// Returns the agent's words about its end.
    fn report(&self) -> Option<&Report>;

    /// Returns the report of a failed request to the provider, unless something else followed.
    fn failed_request(&self) -> Option<&Report> {
        self.report().filter(|_| self.verdict() == Verdict::Failure)
    }

    /// Returns what the run used, as far as it was reported.
    fn usage(&self) -> Option<Usage>;

    /// Returns what the run cost, if the agent says so.
    fn cost_usd(&self) -> Option<f64> {
        None
    }

    /// Returns the agent's report to people.
    fn summary(&self) -> String {
        self.kept().texts.kept().trim().to_owned()
    }

    /// Returns the model, as the agent names it.
    fn model(&self) -> Option<&str> {
        self.kept().model.as_deref()
    }

    /// Returns the event with which the agent reported its end, for `resultJson`.
    fn result_object(&self) -> Option<Map<String, Value>> {
        None
    }

    /// Returns the provider's limits as the agent has reported them, the last report of each.
    fn quota_windows(&self) -> Vec<QuotaWindow> {
        Vec::new()
    }

    /// Returns the kind of its report, where it is not ordinary.
    fn subtype(&self) -> &str {
        ""
    }

    /// Returns the open retry of a request, in words.
    fn retry(&self) -> Option<String> {
        None
    }

    /// Returns when the provider serves again after a failure with this code, in milliseconds since 1970, where an event says so.
    fn resets_at_ms(&self, _code: ErrorCode) -> Option<i64> {
        None
    }

    /// Returns how many tasks that the agent started in the background are open.
    fn open_tasks(&self) -> u64 {
        0
    }

    /// Returns what a message about a run without a report adds at its end.
    fn suffix(&self) -> String {
        String::new()
    }

    /// Watches an agent that runs. It is asked after each batch of lines.
    fn watch(&self) -> Watch {
        self.retry().map_or(Watch::Fine, Watch::Status)
    }

    /// Reads the next line, without its line feed.
    fn push_line(&mut self, line: &str) {
        self.kept_mut().count_line(line, line.len() as u64);
        let clean = without_escapes(line);
        for_each_part(&clean, &mut |part: Part<'_, Self::Event<'_>>| match part {
            Part::Event(event) => {
                let kept = self.kept_mut();
                kept.format.has_event = true;
                kept.event_count += 1;
                self.read_event(&event);
            }
            Part::Untyped(text) => {
                let kept = self.kept_mut();
                kept.format.has_array |= text.starts_with('[') && text.ends_with(']');
                kept.format.has_text = true;
                kept.untyped.push(text, &Self::WORDS.lexicon);
            }
            Part::CutEvent => self.kept_mut().format.has_cut_event = true,
        });
    }

    /// Reads the next line, of which only the start and the end were handed over because it is too long. `bytes` is its length without
    /// the line feed.
    fn push_cut_line(&mut self, start: &str, end: &str, bytes: u64) {
        self.kept_mut().count_line(end, bytes);
        let clean = without_escapes(start);
        let text = trimmed(&clean);
        let kept = self.kept_mut();
        if text.starts_with('{') {
            kept.format.has_cut_event = true;
            kept.event_count += 1;
            self.read_cut_event(text);
        } else {
            kept.format.has_text = true;
            kept.untyped.push(text, &Self::WORDS.lexicon);
        }
    }

    /// Reads a line of standard error, which is kept apart from the output: it counts as untyped text.
    fn push_stderr_line(&mut self, line: &str) {
        let clean = without_escapes(line);
        if !trimmed(&clean).is_empty() {
            self.kept_mut().untyped.push_stderr(&clean, &Self::WORDS.lexicon);
            self.read_stderr(&clean);
        }
    }

    /// Reads a whole output, as it was captured.
    fn push_output(&mut self, output: &str) {
        for line in output.split_terminator('\n') {
            self.push_line(line);
        }
        if !output.is_empty() && !output.ends_with('\n') {
            // The last line has no line feed.
            let kept = self.kept_mut();
            kept.stdout_bytes = kept.stdout_bytes.saturating_sub(1);
        }
    }
}
