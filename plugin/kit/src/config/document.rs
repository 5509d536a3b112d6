//! Parses a value that a person wrote as JSON or YAML, with the lines of its parts.

use granit_parser::{Event, Parser, ScalarStyle};
use serde_json::{Number, Value};

/// The longest text; no person writes a longer one.
const TEXT_MAX_BYTES: usize = 64 * 1024;
const NESTING_MAX: usize = 8;

/// A value, and the line on which it starts, counted from 1, if it was parsed from text.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub line: Option<usize>,
    pub value: NodeValue,
}

#[derive(Debug, Clone, PartialEq)]
pub enum NodeValue {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    /// Unique keys, in the order of the text.
    Map(Vec<(String, Node)>),
}

/// Why a text could not be parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    pub line: Option<usize>,
    pub message: String,
}

impl NodeValue {
    /// Returns the type in words.
    pub fn kind(&self) -> &'static str {
        match self {
            NodeValue::Null => "nothing",
            NodeValue::Bool(_) => "true or false",
            NodeValue::Number(_) => "a number",
            NodeValue::Text(_) => "text",
            NodeValue::List(_) => "a list",
            NodeValue::Map(_) => "a map",
        }
    }
}

/// Converts a JSON value, which has no lines.
pub fn from_json(value: &Value) -> Node {
    let value = match value {
        Value::Null => NodeValue::Null,
        Value::Bool(flag) => NodeValue::Bool(*flag),
        Value::Number(number) => NodeValue::Number(number.clone()),
        Value::String(text) => NodeValue::Text(text.clone()),
        Value::Array(items) => NodeValue::List(items.iter().map(from_json).collect()),
        Value::Object(entries) => {
            NodeValue::Map(entries.iter().map(|(key, value)| (key.clone(), from_json(value))).collect())
        }
    };
    Node { line: None, value }
}

/// Parses a text as JSON if it starts like that, else as one YAML document.
///
/// # Errors
/// The text is too long or malformed, has two documents, or has an alias: a short text could expand to a huge one.
///
/// ```
/// use paperclip_kit::config::document::{NodeValue, parse};
///
/// let NodeValue::Map(entries) = parse("# disks\ndisk: ssd").unwrap().value else { panic!() };
/// assert_eq!((entries[0].0.as_str(), entries[0].1.line), ("disk", Some(2)));
/// ```
pub fn parse(text: &str) -> Result<Node, Unreadable> {
    if text.len() > TEXT_MAX_BYTES {
        let message = format!("the text is {} bytes; at most {TEXT_MAX_BYTES} are parsed", text.len());
        return Err(Unreadable { line: None, message });
    }
    if text.trim_start().starts_with(['{', '['])
        && let Ok(value) = serde_json::from_str::<Value>(text)
    {
        return Ok(from_json(&value));
    }
    let options = granit_parser::options! {
        flow_nesting_limit: NESTING_MAX,
        block_nesting_limit: NESTING_MAX,
        emit_comments: false,
    };
    let mut events = Events { parser: Parser::new_from_str_with_options(text, options) };
    let document = loop {
        match events.next()? {
            (Event::StreamStart | Event::DocumentStart(..), _) => {}
            (Event::StreamEnd | Event::DocumentEnd, line) => {
                break Node { line: Some(line), value: NodeValue::Null };
            }
            (event, line) => break events.node(event, line)?,
        }
    };
    loop {
        match events.next()? {
            (Event::StreamEnd, _) => return Ok(document),
            (Event::DocumentEnd, _) => {}
            (_, line) => return Err(unreadable(line, "a second document starts here; write only one")),
        }
    }
}

struct Events<'a> {
    parser: Parser<'a, granit_parser::StrInput<'a>>,
}

impl<'a> Events<'a> {
    fn next(&mut self) -> Result<(Event<'a>, usize), Unreadable> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, span.start.line())),
            Some(Err(error)) => Err(unreadable(error.marker().line(), &error.info())),
            None => Ok((Event::StreamEnd, 0)),
        }
    }

    fn node(&mut self, event: Event<'a>, line: usize) -> Result<Node, Unreadable> {
        let value = match event {
            Event::Scalar(text, ScalarStyle::Plain, _, None) => plain(&text),
            Event::Scalar(text, ..) => NodeValue::Text(text.into_owned()),
            Event::SequenceStart(..) => NodeValue::List(self.list()?),
            Event::MappingStart(..) => NodeValue::Map(self.map()?),
            Event::Alias(_) => {
                return Err(unreadable(line, "aliases (`*name`) are not supported; write the value out"));
            }
            _ => return Err(unreadable(line, "a value is missing")),
        };
        Ok(Node { line: Some(line), value })
    }

    fn list(&mut self) -> Result<Vec<Node>, Unreadable> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(items),
                (event, line) => items.push(self.node(event, line)?),
            }
        }
    }

    fn map(&mut self) -> Result<Vec<(String, Node)>, Unreadable> {
        let mut entries: Vec<(String, Node)> = Vec::new();
        loop {
            let (key, line) = match self.next()? {
                (Event::MappingEnd, _) => return Ok(entries),
                (Event::Scalar(key, ..), line) => (key.into_owned(), line),
                (_, line) => return Err(unreadable(line, "a key must be plain text")),
            };
            if entries.iter().any(|(known, _)| *known == key) {
                return Err(unreadable(line, &format!("the key `{key}` occurs twice")));
            }
            let (event, value_line) = self.next()?;
            let mut node = self.node(event, value_line)?;
            // The line of the key is the one that a person searches for.
            node.line = Some(line);
            entries.push((key, node));
        }
    }
}

/// Resolves a scalar without quotes by YAML 1.2's core schema, restricted to JSON's types.
fn plain(text: &str) -> NodeValue {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => NodeValue::Null,
        "true" | "True" | "TRUE" => NodeValue::Bool(true),
        "false" | "False" | "FALSE" => NodeValue::Bool(false),
        _ => match serde_json::from_str::<Number>(text) {
            Ok(number) => NodeValue::Number(number),
            Err(_) => NodeValue::Text(text.to_owned()),
        },
    }
}

fn unreadable(line: usize, message: &str) -> Unreadable {
    Unreadable { line: Some(line), message: message.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn value(node: &Node) -> Value {
        match &node.value {
            NodeValue::Null => Value::Null,
            NodeValue::Bool(flag) => json!(flag),
            NodeValue::Number(number) => Value::Number(number.clone()),
            NodeValue::Text(text) => json!(text),
            NodeValue::List(items) => items.iter().map(value).collect(),
            NodeValue::Map(entries) => {
                Value::Object(entries.iter().map(|(key, node)| (key.clone(), value(node))).collect())
            }
        }
    }

    #[test]
    fn parses_json_and_yaml_alike() {
        let expected =
            json!([{"key": "gpu", "operator": "Exists", "n": 60, "t": "60", "b": true, "x": null}]);
        for text in [
            "[{\"key\": \"gpu\", \"operator\": \"Exists\", \"n\": 60, \"t\": \"60\", \"b\": true, \"x\": null}]",
            "- key: gpu # the card\n  operator: \"Exists\"\n  n: 60\n  t: '60'\n  b: true\n  x:\n",
            "---\r\n- {key: gpu, operator: Exists, n: 60, t: \"60\", b: true, x: ~}\r\n",
            "[{key: gpu, operator: Exists, n: 60, t: !!str 60, b: true, x: null}]",
        ] {
            assert_eq!(value(&parse(text).unwrap()), expected, "{text}");
        }
    }

    #[test]
    fn entries_have_the_lines_of_their_keys() {
        let node = parse("# c\na: 1\nb:\n  - x\n").unwrap();
        let NodeValue::Map(entries) = node.value else { panic!("no map") };
        assert_eq!(entries.iter().map(|(_, node)| node.line).collect::<Vec<_>>(), [Some(2), Some(3)]);
    }

    #[test]
    fn errors_have_a_line() {
        for (text, line) in [
            ("a: 1\nb: [x\n", 2),
            ("a: 1\na: 2", 2),
            ("a: &x 1\nb: *x", 2),
            ("a: 1\n---\nb: 1", 2),
            ("? {a: 1}\n: 2", 1),
        ] {
            assert_eq!(parse(text).unwrap_err().line, Some(line), "{text}");
        }
        assert!(parse(&"[".repeat(20)).is_err());
        assert_eq!(parse(&" ".repeat(TEXT_MAX_BYTES + 1)).unwrap_err().line, None);
    }

    #[test]
    fn an_empty_text_is_null() {
        for text in ["", "  \n", "# only a comment\n", "---\n"] {
            assert_eq!(parse(text).unwrap().value, NodeValue::Null, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn parses_or_refuses_any_text(text in "[-a:{}\\[\\],#&*!|>'\"%@`?~ \t\n]{0,60}|.{0,40}") {
            let _ = parse(&text);
        }
    }
}
