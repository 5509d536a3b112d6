//! Paperclip's prompt templates: `{{ a.b }}` stands for what is found there, everything else stands for itself.

use serde_json::Value;

use crate::javascript;

/// Fills a template. What is not found, is null, or would lead through a list becomes nothing; objects and lists become
/// JSON. What is put in is not looked at again.
pub fn render(template: &str, data: &Value) -> String {
    let mut out = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(open) = rest.find("{{") {
        out.push_str(&rest[..open]);
        let from_open = &rest[open..];
        if let Some((path, after)) = placeholder(from_open) {
            out.push_str(&value_text(data, path));
            rest = after;
        } else {
            // The second brace may still open one: `{{{a}}`.
            out.push('{');
            rest = &from_open[1..];
        }
    }
    out.push_str(rest);
    out
}

/// The path of a placeholder that begins here, and what follows it.
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
    fn templates_render_as_paperclip_renders_them() {
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
            assert_eq!(render(template, &data), expected, "{template:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_renders_and_text_without_braces_stays(template in "[{} .a-c\n]{0,40}|[^{]*") {
            let rendered = render(&template, &json!({"a": "x", "b": {"c": 1}}));
            prop_assert!(template.contains("{{") || rendered == template);
        }
    }
}
