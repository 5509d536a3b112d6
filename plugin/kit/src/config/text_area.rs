//! Reads a map of texts from a text area such as `nodeSelector`: `k=v` lines, YAML, JSON, or an object from the API.

use serde_json::Value;

use super::document::{self, Node, NodeValue};
use crate::refusal::Refusal;

/// One entry, with its line in the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub key: String,
    pub value: String,
    pub line: Option<usize>,
}

/// Returns the entries of a text area, in order. Of two entries with the same key the later one wins, at the position of the first.
///
/// A text that has a line with `=` consists of `k=v` lines, with `#` before comments; a line without `=` is then skipped with a
/// warning.
///
/// # Errors
/// The value is not a map, or an entry is not text.
///
/// ```
/// use paperclip_kit::config::text_area::entries;
/// use serde_json::json;
///
/// let entries = entries("nodeSelector", &json!("disk=ssd\nzone=eu"), &mut Vec::new()).unwrap();
/// assert_eq!((entries[1].key.as_str(), entries[1].value.as_str(), entries[1].line), ("zone", "eu", Some(2)));
/// ```
pub fn entries(field: &str, value: &Value, warnings: &mut Vec<String>) -> Result<Vec<Entry>, Refusal> {
    let node = match value {
        Value::String(text) if is_assignments(text) => return Ok(assignments(field, text, warnings)),
        Value::String(text) => document::parse(text)
            .map_err(|error| Refusal::on_line(field, error.line, format!("{}; {EXPECTED}", error.message)))?,
        other => document::from_json(other),
    };
    match node.value {
        NodeValue::Null => Ok(Vec::new()),
        NodeValue::List(items) if items.is_empty() => Ok(Vec::new()),
        NodeValue::Map(entries) => entries.into_iter().map(|(key, node)| entry(field, key, node)).collect(),
        // Plain words: lines without a value, skipped like those between `k=v` lines.
        NodeValue::Text(_) if value.is_string() => {
            Ok(assignments(field, value.as_str().unwrap_or_default(), warnings))
        }
        other => Err(Refusal::new(field, format!("{} was given; {EXPECTED}", other.kind()))),
    }
}

const EXPECTED: &str = "write one `key=value` a line, or a map in YAML or JSON";

fn entry(field: &str, key: String, node: Node) -> Result<Entry, Refusal> {
    let value = match node.value {
        NodeValue::Text(text) => text,
        NodeValue::Null => String::new(),
        NodeValue::Bool(flag) => return Err(not_text(field, &key, node.line, &flag.to_string())),
        NodeValue::Number(number) => return Err(not_text(field, &key, node.line, &number.to_string())),
        other @ (NodeValue::List(_) | NodeValue::Map(_)) => {
            let message = format!("`{key}` must be text, not {}", other.kind());
            return Err(Refusal::on_line(field, node.line, message));
        }
    };
    Ok(Entry { key, value, line: node.line })
}

fn not_text(field: &str, key: &str, line: Option<usize>, value: &str) -> Refusal {
    Refusal::on_line(field, line, format!("`{key}` must be text: put its value in quotes, \"{value}\""))
}

fn is_assignments(text: &str) -> bool {
    !text.trim_start().starts_with(['{', '['])
        && text.lines().any(|line| !line.trim_start().starts_with('#') && line.contains('='))
}

fn assignments(field: &str, text: &str, warnings: &mut Vec<String>) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let number = index + 1;
        match line.split_once('=').map(|(key, value)| (key.trim(), value.trim())) {
            Some((key, value)) if !key.is_empty() => {
                let entry = Entry { key: key.to_owned(), value: value.to_owned(), line: Some(number) };
                match entries.iter_mut().find(|known| known.key == key) {
                    Some(known) => *known = entry,
                    None => entries.push(entry),
                }
            }
            _ => warnings.push(format!(
                "config field {field}, line {number}: `{line}` is not `key=value`; it is skipped"
            )),
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(value: &Value) -> (Vec<(String, String)>, usize) {
        let mut warnings = Vec::new();
        let entries = entries("f", value, &mut warnings).unwrap();
        (entries.into_iter().map(|entry| (entry.key, entry.value)).collect(), warnings.len())
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
    }

    #[test]
    fn reads_every_notation_of_a_map() {
        let expected = pairs(&[("disktype", "ssd"), ("zone", "eu")]);
        for (value, warnings) in [
            (json!("disktype=ssd\n#c\n zone = eu \nbad"), 1),
            (json!("disktype=ssd\r\nzone=eu\r\n=x\n"), 1),
            (json!("disktype=hdd\nzone=eu\ndisktype=ssd"), 0),
            (json!("disktype: ssd\nzone: \"eu\" # there"), 0),
            (json!("{\"disktype\": \"ssd\", \"zone\": \"eu\"}"), 0),
            (json!("{disktype: ssd, zone: eu}"), 0),
            (json!({"disktype": "ssd", "zone": "eu"}), 0),
        ] {
            assert_eq!(read(&value), (expected.clone(), warnings), "{value}");
        }
    }

    #[test]
    fn an_empty_value_is_an_empty_map() {
        for value in [json!(""), json!(" \n"), json!("# c"), json!({}), json!([]), json!("{}")] {
            assert_eq!(read(&value), (Vec::new(), 0), "{value}");
        }
    }

    #[test]
    fn skips_lines_without_a_value() {
        assert_eq!(read(&json!("bad\nworse")), (Vec::new(), 2));
        assert_eq!(read(&json!("a=\nb==c")), (pairs(&[("a", ""), ("b", "=c")]), 0));
    }

    #[test]
    fn refuses_values_that_are_not_a_map_of_texts_with_their_line() {
        for (value, message) in [
            (json!("a: x\nb: true"), "line 2: `b` must be text: put its value in quotes, \"true\""),
            (json!("a: [x]"), "line 1: `a` must be text, not a list"),
            (json!({"a": 1.5}), "`a` must be text: put its value in quotes, \"1.5\""),
            (json!(3), "a number was given; write one `key=value` a line, or a map in YAML or JSON"),
            (json!(["a"]), "a list was given; write one `key=value` a line, or a map in YAML or JSON"),
            (json!("- a\n- b"), "a list was given; write one `key=value` a line, or a map in YAML or JSON"),
        ] {
            assert_eq!(entries("f", &value, &mut Vec::new()).unwrap_err().message, message, "{value}");
        }
        let broken = entries("f", &json!("a: x\nb: {"), &mut Vec::new()).unwrap_err();
        assert!(broken.message.starts_with("line 2: unclosed bracket"), "{broken}");
    }
}
