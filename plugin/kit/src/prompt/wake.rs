//! Describes why the agent was woken, at the start of its prompt.

use serde_json::Value;

use crate::javascript::trim;

/// Returns `Wake reason: R` and `Comment: B` for each comment that has text, separated by blank lines; empty if there is none.
pub(super) fn text(wake: &Value) -> String {
    let reason = wake.get("reason").and_then(non_blank).map(|reason| format!("Wake reason: {reason}"));
    let comments = wake
        .get("comments")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|comment| comment.get("body").and_then(non_blank))
        .map(|body| format!("Comment: {body}"));
    reason.into_iter().chain(comments).collect::<Vec<_>>().join("\n\n")
}

fn non_blank(value: &Value) -> Option<&str> {
    value.as_str().map(trim).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn leaves_out_blank_and_malformed_parts() {
        for (wake, expected) in [
            (json!(null), ""),
            (json!({}), ""),
            (json!({"reason": "  "}), ""),
            (json!({"reason": "assigned", "comments": "no list"}), "Wake reason: assigned"),
            (json!({"comments": [{"body": "a\nb"}, {"body": ""}, {"body": 1}, "x", null]}), "Comment: a\nb"),
        ] {
            assert_eq!(text(&wake), expected, "{wake}");
        }
    }
}
