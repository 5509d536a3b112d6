//! Renders Paperclip's prompt templates: `{{ a.b }}` is replaced by the value at that path.

use serde_json::Value;

use crate::javascript;

/// How much the placeholders of a template may insert. Many placeholders of a long text would otherwise fill the memory of a run.
pub const INSERTED_MAX_BYTES: usize = 2 << 20;

/// Renders a template. A path that is missing, null, or leads through a list renders as an empty text; objects and lists render as
/// JSON. Inserted texts are not rendered. `None`: all values together
/// would be longer than [`INSERTED_MAX_BYTES`].
///
/// ```
/// use paperclip_kit::prompt::render;
/// use serde_json::json;
///
/// let data = json!({"agent": {"name": "Nova"}});
/// assert_eq!(render("Hello {{agent.name}}", &data).as_deref(), Some("Hello Nova"));
/// ```
pub fn render(template: &str, data: &Value) -> Option<String> {
    let mut out = String::with_capacity(template.len());
    let mut left_bytes = INSERTED_MAX_BYTES;
    let mut rest = template;
    while let Some(open) = rest.find("{{") {
        out.push_str(&rest[..open]);
        let from_open = &rest[open..];
        if let Some((path, after)) = placeholder(from_open) {
            let value = value_text(data, path);
            left_bytes = left_bytes.checked_sub(value.len())?;
            out.push_str(&value);
            rest = after;
        } else {
            // The second brace may open a placeholder: `{{{a}}`.
            out.push('{');
            rest = &from_open[1..];
        }
    }
    out.push_str(rest);
    Some(out)
}

/// Returns the path of a placeholder at the start of the text, and the text after it.
fn placeholder(text: &str) -> Option<(&str, &str)> {
    let inside = text.strip_prefix("{{")?.trim_start_matches(javascript::is_white_space);
    let path_bytes = inside.bytes().take_while(|byte| is_path_byte(*byte)).count();
    let (path, after) = inside.split_at(path_bytes);
    let rest = after.trim_start_matches(javascript::is_white_space).strip_prefix("}}")?;
    (!path.is_empty()).then_some((path, rest))
}

fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-')
}

fn value_text(data: &Value, path: &str) -> String {
    let found = path.split('.').try_fold(data, |value, key| value.as_object()?.get(key));
    match found {
        None | Some(Value::Null) => String::new(),
        Some(Value::Bool(is_true)) => is_true.to_string(),
        Some(Value::Number(number)) => javascript::number_text(number),
        Some(Value::String(text)) => text.clone(),
        Some(value @ (Value::Array(_) | Value::Object(_))) => javascript::json_text(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn renders_templates_as_paperclip_does() {
        let data = json!({
            "agent": {"id": "a1", "name": "No va", "tags": ["x", "y"], "n": 1.0, "ok": true, "none": null, "": {"": "deep"}},
            "evil": "{{agent.id}}",
        });
        for (template, expected) in [
            ("", ""),
            ("{{agent.id}}", "a1"),
            ("{{ \n agent.name\t}}!", "No va!"),
            ("{{agent.tags}}", "[\"x\",\"y\"]"),
            ("{{agent.tags.0}}", ""),
            ("{{agent.n}} {{agent.ok}}", "1 true"),
            ("{{agent.none}}|{{agent.missing.deeper}}|{{agent.id.x}}", "||"),
            ("{{evil}}", "{{agent.id}}"),
            ("{{{agent.id}}}", "{a1}"),
            ("{{ {{agent.id}}", "{{ a1"),
            ("{{agent id}} {{}} {{ }} {{agent.id}", "{{agent id}} {{}} {{ }} {{agent.id}"),
            ("{{agent..}}", "deep"),
            ("{{é}}{{agent.id}}", "{{é}}a1"),
            ("{{", "{{"),
        ] {
            assert_eq!(render(template, &data).as_deref(), Some(expected), "{template:?}");
        }
    }

    #[test]
    fn a_text_is_bounded_however_often_a_value_is_inserted() {
        let data = json!({"a": "x".repeat(6_000)});
        assert_eq!(render(&"{{a}}".repeat(6_000), &data), None);
        assert_eq!(render(&"y".repeat(INSERTED_MAX_BYTES + 1), &data).unwrap().len(), INSERTED_MAX_BYTES + 1);
        assert_eq!(render(&"{{a}}".repeat(100), &data).unwrap().len(), 600_000);
    }

    proptest! {
        #[test]
        fn renders_any_text_and_keeps_text_without_braces(template in "[{} .a-c\n]{0,40}|[^{]*") {
            let rendered = render(&template, &json!({"a": "x", "b": {"c": 1}})).unwrap();
            prop_assert!(template.contains("{{") || rendered == template);
        }
    }
}
