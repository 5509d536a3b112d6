//! What the Claude CLI prints with `--output-format stream-json`, read line by line.
//!
//! A line is an event (a JSON object with a `type`), a cut event (it begins like one but does not parse), or untyped
//! text. [`Stream`] keeps of them what a judgement needs, in bounded space and one pass; it is part of a run's
//! snapshot. A message arrives as several events with one id, one per content block, so nothing is ever left out
//! because its id is known.

pub(crate) mod json;
mod limits;
mod result_event;
mod untyped;
mod usage;

use paperclip_kit::outcome::{LineTail, TextBlocks, Usage, head};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use self::json::{for_each_element, is_null, number, pick, pick_beginning, some_text};
pub(crate) use self::limits::RateLimits;
pub(crate) use self::result_event::ResultEvent;
pub(crate) use self::untyped::{LoginUrl, Untyped};
use self::usage::{UsageByMessage, anthropic_usage};

/// The model that the CLI names as the author of its own error messages.
const SYNTHETIC_MODEL: &str = "<synthetic>";
/// Longer identifiers are none.
const ID_BYTES: usize = 256;

/// Everything that is kept of an agent's output.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Stream {
    session_id: Option<String>,
    /// As the last init event named it.
    model: Option<String>,
    has_init: bool,
    has_assistant_event: bool,
    /// The model produced content.
    has_content: bool,
    /// The last assistant message was an empty response of the API.
    ends_empty: bool,
    /// The main agent's texts.
    texts: TextBlocks,
    usage: UsageByMessage,
    limits: RateLimits,
    untyped: Untyped,
    /// The last result event.
    result: Option<ResultEvent>,
    stdout_bytes: u64,
    nonempty_lines: u64,
    /// The last lines, while there is no result event.
    tail: LineTail,
}

impl Stream {
    /// Takes the next line, without its line feed.
    pub fn push_line(&mut self, line: &str) {
        self.count_line(line, line.len() as u64);
        match Line::read(line) {
            Line::Blank | Line::CutEvent => {}
            Line::Untyped(text) => self.untyped.push(text),
            Line::Event(event) => self.push_event(&event),
        }
    }

    /// Takes the next line of which only beginning and end are there, because it is longer than a line may be.
    /// `bytes` is its length without the line feed.
    pub fn push_cut_line(&mut self, beginning: &str, end: &str, bytes: u64) {
        self.count_line(end, bytes);
        let text = bare(beginning);
        if !text.starts_with('{') {
            self.untyped.push(text);
            return;
        }
        let [kind] = pick_beginning(text, &["type"]);
        match some_text(kind).as_deref() {
            Some("assistant") => {
                self.has_assistant_event = true;
                self.note_content();
            }
            Some("user") => self.note_tool_result(),
            Some(_) | None => {}
        }
    }

    /// Takes a line of standard error that was kept apart from the output: it counts as untyped text.
    pub fn push_stderr_line(&mut self, line: &str) {
        if let Line::Untyped(text) = Line::read(line) {
            self.untyped.push(text);
        }
    }

    /// Takes a whole output, as it was captured.
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
        if !bare(line).is_empty() {
            self.nonempty_lines += 1;
        }
        if self.result.is_none() {
            self.tail.push(line.trim_end_matches('\r'));
        }
    }

    fn push_event(&mut self, event: &Event<'_>) {
        match event.kind.as_ref() {
            "system" if some_text(event.subtype).as_deref() == Some("init") => {
                self.has_init = true;
                self.note_session(event);
                if let Some(model) = some_text(event.model) {
                    self.model = Some(head(&model, ID_BYTES).into_owned());
                }
            }
            "assistant" => {
                self.note_session(event);
                self.push_assistant(event);
            }
            "user" => self.note_tool_result(),
            "rate_limit_event" => self.limits.record(event.rate_limit_info),
            "result" => {
                self.note_session(event);
                self.result = Some(ResultEvent::read(event.json));
                self.tail.clear();
            }
            _ => {}
        }
    }

    fn push_assistant(&mut self, event: &Event<'_>) {
        self.has_assistant_event = true;
        let names = ["id", "model", "content", "stop_reason", "usage", "output_tokens"];
        let message = event.message.and_then(|message| pick(message.get(), &names));
        let Some([id, model, content, stop_reason, usage, output_tokens]) = message else { return };
        let is_main_agent = event.parent_tool_use_id.is_none_or(|id| id.get() == "null");
        let mut has_block = false;
        // Of more blocks than an event has, the first ones stand for all.
        let _ = for_each_element(content, |block| {
            let [kind, text] = pick(block.get(), &["type", "text"]).unwrap_or_default();
            let is_text = some_text(kind).is_some_and(|kind| kind == "text");
            let text = some_text(text).filter(|_| is_text);
            has_block |= text.is_some() || !is_text;
            if let Some(text) = text.filter(|_| is_main_agent) {
                self.texts.push(&text);
            }
        });
        if some_text(model).is_some_and(|model| model == SYNTHETIC_MODEL) {
            return;
        }
        if let Some(usage) = anthropic_usage(usage) {
            self.usage.record(&some_text(id).unwrap_or_default(), usage);
        }
        let in_usage = usage.and_then(|usage| pick(usage.get(), &["output_tokens"])).unwrap_or_default();
        match number(output_tokens).or_else(|| number(in_usage[0])) {
            Some(tokens) if tokens > 0.0 => self.note_content(),
            Some(_) if is_null(stop_reason) => self.ends_empty = true,
            Some(_) | None if has_block => self.note_content(),
            Some(_) | None => {}
        }
    }

    fn note_session(&mut self, event: &Event<'_>) {
        if let Some(id) = some_text(event.session_id).filter(|id| id.len() <= ID_BYTES) {
            self.session_id = Some(id.into_owned());
        }
    }

    fn note_content(&mut self) {
        self.has_content = true;
        self.ends_empty = false;
    }

    /// A tool ran, so the message before it was not as empty as its count of tokens says.
    fn note_tool_result(&mut self) {
        if self.ends_empty {
            self.note_content();
        }
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

    pub(crate) fn has_init(&self) -> bool {
        self.has_init
    }

    pub(crate) fn has_assistant_event(&self) -> bool {
        self.has_assistant_event
    }

    pub(crate) fn ends_empty(&self) -> bool {
        self.ends_empty
    }

    pub(crate) fn texts(&self) -> String {
        self.texts.kept()
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

    pub(crate) fn result(&self) -> Option<&ResultEvent> {
        self.result.as_ref()
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

/// A line, told apart.
#[derive(Debug)]
pub(crate) enum Line<'a> {
    Blank,
    /// It begins like an event, but is not one whole JSON object: no text to quote.
    CutEvent,
    /// Not a JSON object with a `type`.
    Untyped(&'a str),
    Event(Event<'a>),
}

/// An event, with the members that every reader asks for.
#[derive(Debug)]
pub(crate) struct Event<'a> {
    pub(crate) json: &'a str,
    pub(crate) kind: std::borrow::Cow<'a, str>,
    pub(crate) subtype: Option<&'a RawValue>,
    pub(crate) message: Option<&'a RawValue>,
    pub(crate) session_id: Option<&'a RawValue>,
    pub(crate) model: Option<&'a RawValue>,
    pub(crate) parent_tool_use_id: Option<&'a RawValue>,
    pub(crate) rate_limit_info: Option<&'a RawValue>,
}

impl<'a> Line<'a> {
    pub(crate) fn read(line: &'a str) -> Line<'a> {
        let json = bare(line);
        if json.is_empty() {
            return Line::Blank;
        }
        if !json.starts_with('{') {
            return Line::Untyped(line);
        }
        let names =
            ["type", "subtype", "message", "session_id", "model", "parent_tool_use_id", "rate_limit_info"];
        let Some([kind, subtype, message, session_id, model, parent_tool_use_id, rate_limit_info]) =
            pick(json, &names)
        else {
            return Line::CutEvent;
        };
        match some_text(kind) {
            Some(kind) => Line::Event(Event {
                json,
                kind,
                subtype,
                message,
                session_id,
                model,
                parent_tool_use_id,
                rate_limit_info,
            }),
            None => Line::Untyped(line),
        }
    }
}

/// `line` without the spaces and control characters around it.
fn bare(line: &str) -> &str {
    line.trim_matches(|c: char| c.is_whitespace() || c.is_control() || c == '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> Stream {
        let mut stream = Stream::default();
        lines.iter().for_each(|line| stream.push_line(line));
        stream
    }

    fn assistant(id: &str, rest: &str) -> String {
        format!(r#"{{"type":"assistant","session_id":"s","message":{{"id":"{id}",{rest}}}}}"#)
    }

    #[test]
    fn blocks_of_one_message_are_all_kept() {
        let first = assistant("m", r#""content":[{"type":"text","text":"one"}],"usage":{"output_tokens":1}"#);
        let second =
            assistant("m", r#""content":[{"type":"text","text":"two"}],"usage":{"output_tokens":4}"#);
        let stream = read(&[&first, &second]);
        assert_eq!(stream.texts(), "one\n\ntwo");
        assert_eq!(stream.message_usage().unwrap().output_tokens, 4);
    }

    #[test]
    fn a_line_may_end_with_a_carriage_return_and_begin_with_a_mark() {
        let stream =
            read(&["\u{feff}{\"type\":\"system\",\"subtype\":\"init\",\"model\":\"m\"}\r", "\r", "", "\0"]);
        assert_eq!(stream.model(), Some("m"));
        assert_eq!(stream.nonempty_lines(), 1);
        assert!(stream.untyped().first.is_none());
    }

    #[test]
    fn what_is_no_object_with_a_type_is_untyped() {
        for line in ["text", "[1]", "7", "null", "\"x\"", r#"{"a":1}"#, r#"{"type":""}"#, r#"{"type":5}"#] {
            assert!(read(&[line]).untyped().first.is_some(), "{line}");
        }
        for line in [r#"{"type":"x"#, "{", r#"{"type":"a"}{"type":"b"}"#, r#"{"type":"future_event"}"#] {
            assert!(read(&[line]).untyped().first.is_none(), "{line}");
        }
    }

    #[test]
    fn an_empty_response_counts_unless_something_follows() {
        let empty = assistant("m", r#""content":[],"stop_reason":null,"usage":{"output_tokens":0}"#);
        let full = assistant("n", r#""content":[],"stop_reason":null,"usage":{"output_tokens":5}"#);
        assert!(read(&[&empty]).ends_empty());
        assert!(!read(&[&empty, &full]).ends_empty());
        assert!(read(&[&full, &empty]).ends_empty());
        let stopped = assistant("m", r#""content":[],"stop_reason":"end_turn","usage":{"output_tokens":0}"#);
        assert!(!read(&[&stopped]).ends_empty());
        let tool_result = r#"{"type":"user","message":{"content":[{"type":"tool_result"}]}}"#;
        assert!(read(&[&empty, tool_result]).has_content());
        assert!(!read(&[tool_result]).has_content());
        let message_level = assistant(
            "m",
            r#""content":[],"stop_reason":null,"output_tokens":0,"usage":{"output_tokens":5}"#,
        );
        assert!(read(&[&message_level]).ends_empty());
    }

    #[test]
    fn the_clis_own_messages_are_no_content() {
        let synthetic = assistant(
            "m",
            r#""model":"<synthetic>","content":[{"type":"text","text":"API Error"}],"stop_reason":"stop_sequence","usage":{"output_tokens":0}"#,
        );
        let stream = read(&[&synthetic]);
        assert!(!stream.has_content() && !stream.ends_empty() && stream.has_assistant_event());
        assert_eq!(stream.message_usage(), None);
        assert_eq!(stream.texts(), "API Error");
    }

    #[test]
    fn content_without_a_count_of_tokens_is_content() {
        assert!(read(&[&assistant("m", r#""content":[{"type":"text","text":"x"}]"#)]).has_content());
        assert!(read(&[&assistant("m", r#""content":[{"type":"tool_use","id":"t"}]"#)]).has_content());
        assert!(!read(&[&assistant("m", r#""content":[{"type":"text","text":""}]"#)]).has_content());
        assert!(!read(&[&assistant("m", r#""content":"x""#)]).has_content());
    }

    #[test]
    fn a_sub_agents_texts_are_not_the_runs() {
        let line = r#"{"type":"assistant","parent_tool_use_id":"t","message":{"content":[{"type":"text","text":"x"}]}}"#;
        let stream = read(&[line]);
        assert_eq!(stream.texts(), "");
        assert!(stream.has_content());
    }

    #[test]
    fn the_last_of_several_results_counts() {
        let stream = read(&[
            r#"{"type":"result","subtype":"error_during_execution","session_id":"a"}"#,
            r#"{"session_id":"b","subtype":"success","type":"result"}"#,
            &assistant("m", r#""content":[{"type":"text","text":"late"}]"#),
        ]);
        assert!(stream.has_result());
        assert_eq!(stream.result().unwrap().subtype, "success");
        assert_eq!(stream.session_id(), Some("s"));
        assert_eq!(stream.tail(), "");
    }

    #[test]
    fn an_output_is_counted_to_its_last_byte() {
        for (output, bytes, lines) in
            [("", 0, 0), ("\n", 1, 0), ("é", 2, 1), ("a\r\n\nb", 5, 2), ("a\nb\n", 4, 2)]
        {
            let mut stream = Stream::default();
            stream.push_output(output);
            assert_eq!((stream.stdout_bytes(), stream.nonempty_lines()), (bytes, lines), "{output:?}");
        }
    }

    #[test]
    fn of_a_line_that_is_too_long_its_kind_counts() {
        let mut stream = Stream::default();
        stream.push_cut_line(
            r#"{"type":"assistant","message":{"content":[{"type":"text","text":"aaa"#,
            "aaa\"}]}}",
            5 << 20,
        );
        assert!(stream.has_content() && stream.has_assistant_event());
        assert_eq!(stream.stdout_bytes(), (5 << 20) + 1);
        let mut stream = Stream::default();
        stream.push_cut_line("Error: aaa", "aaa", 5 << 20);
        assert_eq!(stream.untyped().first.as_deref(), Some("Error: aaa"));
        let mut stream = Stream::default();
        stream.push_cut_line(r#"{"result":"aaa"#, r#"aaa","type":"result","is_error":false}"#, 5 << 20);
        assert!(!stream.has_result());
    }
}
