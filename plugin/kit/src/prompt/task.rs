//! Selects Paperclip's text about the task: its title, description, history and directives.

use super::wake;
use crate::javascript::trim;
use crate::request::{self, Request};

/// Returns the text about the task; empty if the run has no task. A resumed session has received the description, so it gets the
/// shorter text, unless it may see the task for the first time.
pub(super) fn text(request: &Request, is_resuming: bool) -> &str {
    let of = |key: &str| trim(request::text(&request.context, key).unwrap_or(""));
    let (full, compact) = (of("paperclipTaskMarkdown"), of("paperclipTaskMarkdownCompact"));
    let wake = request
        .context
        .get("paperclipWake")
        .filter(|wake| wake.as_object().is_some_and(|all| !all.is_empty()));
    let knows_task = is_resuming && wake.is_some_and(|wake| !wake::is_new_task(wake));
    if knows_task && !full.is_empty() && !compact.is_empty() { compact } else { full }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_resumed_session_gets_the_compact_text_of_a_task_that_it_knows() {
        let selected = |wake: serde_json::Value, is_resuming| {
            let context = json!({"paperclipTaskMarkdown": " full ", "paperclipTaskMarkdownCompact": " compact ", "paperclipWake": wake});
            let request = Request { context: context.as_object().cloned().unwrap(), ..Request::default() };
            text(&request, is_resuming).to_owned()
        };
        for (wake, resumed) in [
            (json!({"reason": "issue_commented"}), "compact"),
            (json!({"reason": "issue_assigned"}), "full"),
            (json!({"recovery": {"cause": "process_lost"}}), "full"),
            (json!(null), "full"),
        ] {
            assert_eq!(selected(wake.clone(), true), resumed, "{wake}");
            assert_eq!(selected(wake.clone(), false), "full", "{wake}");
        }
    }
}
