//! Which parts of a line may be masked.
//!
//! A run is judged by what its agent prints as events, JSON objects. A secret whose value happens to be a piece of such an event, such as
//! `is_error`, must not change it: in an event only the values of strings are masked, and not those of its protocol's members. Everything
//! else of a line is text, and is masked wherever a secret is found.

use std::collections::BTreeSet;
use std::ops::Range;

/// The members of an agent's events that say what an event is, by their paths from the event's root, such as `type` or `message.model`.
/// Arrays have no place in a path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Members {
    paths: BTreeSet<String>,
    /// The last names of the paths, for events whose start is unknown.
    names: BTreeSet<String>,
}

/// Deeper objects are read as text.
const MAX_DEPTH: usize = 256;
/// A line has no more objects that turn out to be none.
const MAX_ATTEMPTS: usize = 64;

impl Members {
    pub(super) fn new(paths: &[String]) -> Members {
        let last = |path: &String| path.rsplit('.').next().unwrap_or_default().to_owned();
        Members { paths: paths.iter().cloned().collect(), names: paths.iter().map(last).collect() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }
}

/// The parts of a line that may be masked: in order, without overlaps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) ranges: Vec<Range<usize>>,
    /// Whether the text ends within an event.
    pub(super) is_open: bool,
}

/// Divides a text. `is_cut`: its end is missing, so that its last object may be an event although no member says so. `is_secret` returns
/// whether a secret covers the place where an object starts: then the object is no event, but a secret.
pub(super) fn parts(text: &str, members: &Members, is_cut: bool, is_secret: impl Fn(usize) -> bool) -> Parts {
    let mut parts = Parts::default();
    let (mut text_start, mut at, mut attempts) = (0, 0, 0);
    while attempts < MAX_ATTEMPTS
        && let Some(start) = text[at..].find('{').map(|found| at + found)
    {
        let Some(event) = Event::read(&text[start..], members) else {
            attempts += 1;
            at = start + 1;
            continue;
        };
        let is_event = event.is_known || is_cut && event.is_open;
        if !is_event || is_secret(start) {
            at = start + event.bytes;
            continue;
        }
        parts.push(text_start..start);
        event.values.into_iter().for_each(|value| parts.push(start + value.start..start + value.end));
        (text_start, at) = (start + event.bytes, start + event.bytes);
        parts.is_open = event.is_open;
    }
    if !parts.is_open {
        parts.push(text_start..text.len());
    }
    parts
}

/// Divides the end of a line whose start is within an event. If it does not read as one, all of it is text.
pub(super) fn parts_of_tail(text: &str, members: &Members) -> Vec<Range<usize>> {
    let all = || std::iter::once(0..text.len()).collect();
    values_of_tail(text, members, true).or_else(|| values_of_tail(text, members, false)).unwrap_or_else(all)
}

impl Parts {
    fn push(&mut self, range: Range<usize>) {
        if !range.is_empty() {
            self.ranges.push(range);
        }
    }
}

/// An object at the start of a text.
#[derive(Debug)]
struct Event {
    /// Whether it has a member of the agent's protocol.
    is_known: bool,
    /// The strings that may be masked, without their quotation marks.
    values: Vec<Range<usize>>,
    bytes: usize,
    /// The text ends before the object does.
    is_open: bool,
}

/// What may follow in an object or array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Value,
    /// A value, or the end of the array.
    ValueOrEnd,
    /// A member's name, or the end of the object.
    NameOrEnd,
    CommaOrEnd,
}

/// An object or array that is being read.
#[derive(Debug, Clone, Copy)]
struct Level {
    is_object: bool,
    /// The length of the path of what contains it.
    path_bytes: usize,
}

impl Event {
    /// Reads the object that the text starts with; `None` if it is not JSON.
    fn read(text: &str, members: &Members) -> Option<Event> {
        let bytes = text.as_bytes();
        let mut event = Event { is_known: false, values: Vec::new(), bytes: 0, is_open: true };
        let (mut levels, mut path): (Vec<Level>, String) = (Vec::new(), String::new());
        let (mut at, mut expected) = (0, Expected::Value);
        while let Some(next) = skip_spaces(bytes, at) {
            at = next + 1;
            match (bytes[next], expected) {
                (b'{' | b'[', Expected::Value | Expected::ValueOrEnd) => {
                    let is_object = bytes[next] == b'{';
                    levels.push(Level { is_object, path_bytes: path.len() });
                    expected = if is_object { Expected::NameOrEnd } else { Expected::ValueOrEnd };
                    if levels.len() > MAX_DEPTH {
                        return None;
                    }
                }
                (b'}', Expected::NameOrEnd | Expected::CommaOrEnd)
                | (b']', Expected::ValueOrEnd | Expected::CommaOrEnd) => {
                    let level = levels.pop().filter(|level| level.is_object == (bytes[next] == b'}'))?;
                    path.truncate(level.path_bytes);
                    expected = Expected::CommaOrEnd;
                    if levels.is_empty() {
                        event.is_open = false;
                        break;
                    }
                }
                (b',', Expected::CommaOrEnd) => {
                    let is_object = levels.last()?.is_object;
                    expected = if is_object { Expected::NameOrEnd } else { Expected::Value };
                }
                (b'"', Expected::NameOrEnd) => {
                    let Some(end) = end_of_string(bytes, at) else { break };
                    path.truncate(levels.last()?.path_bytes);
                    if !path.is_empty() {
                        path.push('.');
                    }
                    path.push_str(&text[at..end]);
                    let Some(colon) = skip_spaces(bytes, end + 1) else { break };
                    (at, expected) = (colon + 1, Expected::Value);
                    if bytes[colon] != b':' {
                        return None;
                    }
                }
                (b'"', Expected::Value | Expected::ValueOrEnd) => {
                    let end = end_of_string(bytes, at);
                    let value = at..end.unwrap_or(bytes.len());
                    if members.paths.contains(&path) {
                        event.is_known |= levels.len() == 1;
                    } else {
                        event.values.push(value);
                    }
                    let Some(end) = end else { break };
                    (at, expected) = (end + 1, Expected::CommaOrEnd);
                }
                (byte, Expected::Value | Expected::ValueOrEnd) if is_literal(byte) => {
                    at = next + bytes[next..].iter().take_while(|byte| is_literal(**byte)).count();
                    expected = Expected::CommaOrEnd;
                }
                _ => return None,
            }
        }
        event.bytes = if event.is_open { bytes.len() } else { at };
        Some(event)
    }
}

/// Returns the strings of the end of an event, which starts within a string or between two; `None` if it does not read so.
fn values_of_tail(text: &str, members: &Members, is_in_string: bool) -> Option<Vec<Range<usize>>> {
    let bytes = text.as_bytes();
    let (mut values, mut name, mut at) = (Vec::new(), "", 0);
    if is_in_string {
        let end = end_of_string(bytes, 0).unwrap_or(bytes.len());
        values.push(0..end);
        at = end + 1;
    }
    while let Some(next) = skip_spaces(bytes, at) {
        at = next + 1;
        match bytes[next] {
            b'"' => {
                let end = end_of_string(bytes, at)?;
                let value = at..end;
                at = end + 1;
                if skip_spaces(bytes, at).is_some_and(|after| bytes[after] == b':') {
                    name = &text[value];
                } else if !members.names.contains(name) {
                    values.push(value);
                }
            }
            b'{' | b'}' | b'[' | b']' | b',' | b':' => {}
            byte if is_literal(byte) => {}
            _ => return None,
        }
    }
    Some(values.into_iter().filter(|value| !value.is_empty()).collect())
}

fn skip_spaces(bytes: &[u8], from: usize) -> Option<usize> {
    let rest = bytes.get(from..)?;
    rest.iter().position(|byte| !byte.is_ascii_whitespace()).map(|spaces| from + spaces)
}

/// Returns the place of the quotation mark that ends a string.
fn end_of_string(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while let Some(found) = bytes.get(at..)?.iter().position(|byte| matches!(byte, b'"' | b'\\')) {
        at += found;
        if bytes[at] == b'"' {
            return Some(at);
        }
        at += 2;
    }
    None
}

/// Whether a byte is of a number, `true`, `false` or `null`.
fn is_literal(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members() -> Members {
        Members::new(&["type", "message.model", "message.content.type"].map(str::to_owned))
    }

    /// The text with `<>` around the parts that may be masked.
    fn shown(text: &str, ranges: &[Range<usize>]) -> String {
        let mut shown = text.to_owned();
        for range in ranges.iter().rev() {
            shown.insert(range.end, '>');
            shown.insert(range.start, '<');
        }
        shown
    }

    #[test]
    fn text_is_masked_and_of_events_the_strings() {
        for (text, expected) in [
            ("plain", "<plain>"),
            ("", ""),
            (r#"{"type":"a","b":"c"}"#, r#"{"type":"a","b":"<c>"}"#),
            (
                r#" { "b" : [ "c" , 1 , {} ] , "type" : "a" } "#,
                r#"< >{ "b" : [ "<c>" , 1 , {} ] , "type" : "a" }< >"#,
            ),
            // Only an object of the protocol is an event.
            (r#"{"kind":"a","b":"c"}"#, r#"<{"kind":"a","b":"c"}>"#),
            (r#"{"type":1,"b":"c"}"#, r#"<{"type":1,"b":"c"}>"#),
            (r#"{"x":{"type":"a"}}"#, r#"<{"x":{"type":"a"}}>"#),
            // Names below the root are of the protocol only at their place.
            (
                r#"{"type":"a","message":{"model":"m","type":"t","content":[{"type":"x","text":"y"}]},"model":"n"}"#,
                r#"{"type":"a","message":{"model":"m","type":"<t>","content":[{"type":"x","text":"<y>"}]},"model":"<n>"}"#,
            ),
            // Glued events and text beside them.
            (
                r#"banner{"type":"a","b":"c"}{"type":"a"} end"#,
                r#"<banner>{"type":"a","b":"<c>"}{"type":"a"}< end>"#,
            ),
            (r#"[{"type":"a","b":"c"},{"type":"a"}]"#, r#"<[>{"type":"a","b":"<c>"}<,>{"type":"a"}<]>"#),
            // Quotation marks in strings.
            (r#"{"type":"a","b":"c\"d\\"}"#, r#"{"type":"a","b":"<c\"d\\>"}"#),
            // Not JSON.
            (r#"{"type":"a" "b":"c"}"#, r#"<{"type":"a" "b":"c"}>"#),
            (r#"{"type":"a","b":"c"]"#, r#"<{"type":"a","b":"c"]>"#),
            (r#"{oops {"type":"a","b":"c"}"#, r#"<{oops >{"type":"a","b":"<c>"}"#),
        ] {
            let parts = parts(text, &members(), false, |_| false);
            assert_eq!(shown(text, &parts.ranges), expected);
            assert!(!parts.is_open, "{text}");
        }
    }

    #[test]
    fn an_event_that_is_cut_is_one_up_to_its_end() {
        for (text, expected) in [
            (r#"{"type":"a","b":"c"#, r#"{"type":"a","b":"<c>"#),
            (r#"{"type":"a","b":"c","nam"#, r#"{"type":"a","b":"<c>","nam"#),
            (r#"{"type":"a","b""#, r#"{"type":"a","b""#),
            (r#"{"type":"a","b":{"#, r#"{"type":"a","b":{"#),
            (r#"{"b":"c"#, r#"{"b":"<c>"#),
        ] {
            let parts = parts(text, &members(), true, |_| false);
            assert_eq!(shown(text, &parts.ranges), expected);
            assert!(parts.is_open, "{text}");
        }
    }

    #[test]
    fn the_end_of_an_event_is_read_without_its_start() {
        for (text, expected) in [
            (r#"rest","b":"c","type":"a"}"#, r#"<rest>","b":"<c>","type":"a"}"#),
            (r#"","b":"c"}"#, r#"","b":"<c>"}"#),
            (r#"only text"#, "<only text>"),
            (r#""b":"c","model":"m"}"#, r#""b":"<c>","model":"m"}"#),
            (r#"1.5,"b":["c"]}"#, r#"1.5,"b":["<c>"]}"#),
            (r#"rest","b" ! "c"}"#, r#"<rest","b" ! "c"}>"#),
        ] {
            assert_eq!(shown(text, &parts_of_tail(text, &members())), expected);
        }
    }

    #[test]
    fn an_object_that_is_a_secret_is_no_event() {
        let text = r#"{"type":"service_account","private_key":"k"}"#;
        let parts = parts(text, &members(), false, |at| at == 0);
        assert_eq!(shown(text, &parts.ranges), format!("<{text}>"));
    }
}
