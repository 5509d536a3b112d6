//! Sessions as Paperclip stores them, also with the names that earlier adapters used.

use crate::outcome::{SessionParams, Workspace};
use serde_json::{Map, Value};

const SESSION_ID: &[&str] = &["sessionId", "session_id", "sessionID"];
const CWD: &[&str] = &["cwd", "workdir", "folder"];
const WORKSPACE_ID: &[&str] = &["workspaceId", "workspace_id"];
const REPO_URL: &[&str] = &["repoUrl", "repo_url"];
const REPO_REF: &[&str] = &["repoRef", "repo_ref"];
const PROMPT_BUNDLE_KEY: &[&str] = &["promptBundleKey", "prompt_bundle_key"];

/// Reads a stored session; `None` if it names no session.
pub fn decode(stored: &Value) -> Option<SessionParams> {
    let stored = stored.as_object()?;
    let text = |names: &[&str]| first_text(stored, names);
    let workspace = Workspace {
        cwd: text(CWD),
        workspace_id: text(WORKSPACE_ID),
        repo_url: text(REPO_URL),
        repo_ref: text(REPO_REF),
        prompt_bundle_key: text(PROMPT_BUNDLE_KEY),
    };
    Some(SessionParams::new(text(SESSION_ID)?, &workspace))
}

/// Returns what is to be stored: the same under the present names; `None` if it names no session.
pub fn encode(session: &Value) -> Option<Value> {
    serde_json::to_value(decode(session)?).ok()
}

/// Returns what people see of a session.
pub fn display_id(session: &SessionParams) -> &str {
    &session.session_id
}

/// The first of `names` under which there is a text that is not blank, trimmed.
fn first_text(object: &Map<String, Value>, names: &[&str]) -> Option<String> {
    let texts = names.iter().filter_map(|name| object.get(*name).and_then(Value::as_str));
    texts.map(str::trim).find(|text| !text.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn old_names_are_read_and_new_ones_written() {
        let stored = json!({"session_id": " s1 ", "folder": "/w", "workspace_id": "w", "repo_url": "u",
            "repo_ref": "r", "prompt_bundle_key": "k", "more": 1});
        let expected = json!({"sessionId": "s1", "cwd": "/w", "workspaceId": "w", "repoUrl": "u", "repoRef": "r",
            "promptBundleKey": "k"});
        assert_eq!(encode(&stored).unwrap(), expected);
        assert_eq!(encode(&expected).unwrap(), expected);
        assert_eq!(display_id(&decode(&stored).unwrap()), "s1");
    }

    #[test]
    fn the_first_name_with_a_text_counts() {
        let stored =
            json!({"sessionId": "  ", "session_id": "s2", "cwd": 7, "workdir": "/b", "folder": "/c"});
        assert_eq!(encode(&stored).unwrap(), json!({"sessionId": "s2", "cwd": "/b"}));
    }

    #[test]
    fn is_none_without_a_session() {
        for stored in
            [json!(null), json!("s1"), json!([]), json!({}), json!({"cwd": "/w"}), json!({"sessionId": 5})]
        {
            assert_eq!(decode(&stored), None, "{stored}");
        }
    }
}
