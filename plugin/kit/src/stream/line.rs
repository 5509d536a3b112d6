//! A line of the output, divided into its parts.
//!
//! Mostly a line is one event. But wrappers print banners without a line feed, terminals print escape sequences, two processes
//! print at once, and `--output-format json` prints one array of all events.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::json::{for_each_of, pick, some_text};

/// A part of a line.
#[derive(Debug)]
pub enum Part<'a, E> {
    Event(E),
    /// Text beside events.
    Untyped(&'a str),
    /// It starts like an event but does not parse: no text to quote.
    CutEvent,
}

/// An event of a stream: a JSON object with a type. An agent type that reads more members of each event at once has a type of its own.
pub trait ReadEvent<'a>: Sized {
    /// Reads one whole JSON object; `None` if it has no type. The outer `None`: it is not one object.
    fn read(json: &'a str) -> Option<Option<Self>>;
    /// Returns the event's type.
    fn kind(&self) -> &str;
    /// Returns the event as it was printed.
    fn json(&self) -> &'a str;
}

/// An event by its member `type`.
#[derive(Debug)]
pub struct Event<'a> {
    pub json: &'a str,
    pub kind: Cow<'a, str>,
}

impl<'a> ReadEvent<'a> for Event<'a> {
    fn read(json: &'a str) -> Option<Option<Event<'a>>> {
        let [kind] = pick(json, &["type"])?;
        Some(some_text(kind).map(|kind| Event { json, kind }))
    }

    fn kind(&self) -> &str {
        &self.kind
    }

    fn json(&self) -> &'a str {
        self.json
    }
}

/// More events than a run prints in one array.
const ARRAY_EVENTS: usize = 200_000;
/// The `type` of an error that the provider's API answers with: it may be quoted in a text, and is not an event of the agent.
const API_ERROR: &str = "error";

/// Calls `each` for the parts of a line that has no escape sequences. A blank line has none.
pub fn for_each_part<'a, E: ReadEvent<'a>>(line: &'a str, each: &mut dyn FnMut(Part<'a, E>)) {
    let text = trimmed(line);
    match text.as_bytes().first() {
        None => {}
        Some(b'{') => match E::read(text) {
            Some(Some(event)) => each(Part::Event(event)),
            Some(None) => each(Part::Untyped(text)),
            None => for_each_glued(text, each),
        },
        Some(b'[') if is_array_of_objects(text) => for_each_of_array(text, each),
        Some(_) => for_each_glued(text, each),
    }
}

/// Returns `line` without the spaces and control characters around it.
pub fn trimmed(line: &str) -> &str {
    line.trim_matches(|c: char| c.is_whitespace() || c.is_control() || c == '\u{feff}')
}

/// Text and events on one line. After an object that does not parse nothing more is read: a result quoted in a tool output that
/// was cut is not a result.
fn for_each_glued<'a, E: ReadEvent<'a>>(text: &'a str, each: &mut dyn FnMut(Part<'a, E>)) {
    let (mut text_start, mut at) = (0, 0);
    while let Some(start) = text[at..].find("{\"").map(|found| at + found) {
        let Some(json) = first_object(&text[start..]) else {
            untyped(&text[text_start..start], each);
            if text_start == start {
                each(Part::CutEvent);
            }
            return;
        };
        at = start + json.len();
        if let Some(Some(event)) = E::read(json)
            && (event.kind() != API_ERROR || text_start == start)
        {
            untyped(&text[text_start..start], each);
            each(Part::Event(event));
            text_start = at;
        }
    }
    if text_start == 0 && text.starts_with('{') {
        return each(Part::CutEvent);
    }
    untyped(&text[text_start..], each);
}

fn untyped<'a, E>(text: &'a str, each: &mut dyn FnMut(Part<'a, E>)) {
    let text = trimmed(text);
    if !text.is_empty() {
        each(Part::Untyped(text));
    }
}

/// The JSON object that `text` starts with.
fn first_object(text: &str) -> Option<&str> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<&RawValue>();
    values.next()?.ok().map(RawValue::get)
}

fn is_array_of_objects(text: &str) -> bool {
    text[1..].trim_start().starts_with('{')
}

/// One array of events. An array of something else is text; one that does not parse was cut.
fn for_each_of_array<'a, E: ReadEvent<'a>>(text: &'a str, each: &mut dyn FnMut(Part<'a, E>)) {
    let Ok(array) = serde_json::from_str::<&RawValue>(text) else { return each(Part::CutEvent) };
    let mut has_event = false;
    for_each_of(array, ARRAY_EVENTS, &mut |element| {
        if let Some(Some(event)) = E::read(element.get()) {
            has_event = true;
            each(Part::Event(event));
        }
    });
    if !has_event {
        each(Part::Untyped(text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(line: &str) -> Vec<String> {
        let mut parts = Vec::new();
        for_each_part(line, &mut |part: Part<'_, Event<'_>>| {
            parts.push(match part {
                Part::Event(event) => format!("event {}", event.kind),
                Part::Untyped(text) => format!("text {text}"),
                Part::CutEvent => "cut".to_owned(),
            });
        });
        parts
    }

    #[test]
    fn divides_a_line_into_events_and_text() {
        for (line, expected) in [
            ("", &[] as &[&str]),
            (" \r", &[]),
            ("\u{feff}{\"type\":\"a\"}\r", &["event a"]),
            (r#"{"type":"a"}{"type":"b"}"#, &["event a", "event b"]),
            (r#"{"type":"a"} {"type":"b"} tail"#, &["event a", "event b", "text tail"]),
            (r#"Now using node v20{"type":"a"}"#, &["text Now using node v20", "event a"]),
            (r#"x {"type":"a"} y {"type":"b"}"#, &["text x", "event a", "text y", "event b"]),
            (r#"x {"a":1} y"#, &[r#"text x {"a":1} y"#]),
            (
                r#"API Error: 400 {"type":"error","error":{}}"#,
                &[r#"text API Error: 400 {"type":"error","error":{}}"#],
            ),
            (r#"{"type":"error"}"#, &["event error"]),
            (r#"{"a":1}"#, &[r#"text {"a":1}"#]),
            (r#"{"type":""}"#, &[r#"text {"type":""}"#]),
            (r#"{"type":5}"#, &[r#"text {"type":5}"#]),
            (r#"{"type":"a"#, &["cut"]),
            ("{", &["cut"]),
            (r#"{"type":"user","content":"quoted {\"type\":\"result\"}"#, &["cut"]),
            (r#"{"type":"user","content":"x {"type":"result"}"#, &["cut"]),
            (r#"x {"type":"a", {"type":"result"}"#, &["text x"]),
            (r#"{"type":"a"}{"type":"b"#, &["event a", "cut"]),
            (r#"[{"type":"a"},{"type":"b"}]"#, &["event a", "event b"]),
            (r#"[ {"type":"a"}, 1]"#, &["event a"]),
            (r#"[{"type":"a"},{"ty"#, &["cut"]),
            (r#"[{"a":1}]"#, &[r#"text [{"a":1}]"#]),
            ("[mcp:jira] HTTP 401", &["text [mcp:jira] HTTP 401"]),
            (r#"[x] {"type":"a"}"#, &["text [x]", "event a"]),
            ("[1]", &["text [1]"]),
            ("7", &["text 7"]),
            ("null", &["text null"]),
        ] {
            assert_eq!(parts(line), expected, "{line}");
        }
    }
}
