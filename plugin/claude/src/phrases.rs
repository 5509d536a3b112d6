//! The words in which the Claude Code CLI reports what went wrong, beside those that all programs use.

use paperclip_kit::phrases::{Lexicon, OTHER_PARTIES, status_after};
use paperclip_kit::words::Phrase;

/// The words of this CLI.
pub(crate) const LEXICON: Lexicon = Lexicon {
    program: "claude",
    unknown_session: UNKNOWN_SESSION_OF_CLI,
    credentials: &[&["please run claude login"]],
    other_parties: OTHER_PARTIES,
    login_words: &["claude", "anthropic", "auth"],
    status_in,
    ..Lexicon::NONE
};

/// Row 5: the session to resume does not exist. The CLI's own words.
pub(crate) const UNKNOWN_SESSION_OF_CLI: &[Phrase] = &[
    &["no conversation found with session id"],
    &["resume requires a valid session"],
    &["is not a uuid"],
    &["not a valid uuid"],
    &["does not match any session title"],
];

/// Row 8: the conversation cannot be continued for another reason than its size.
pub(crate) const SESSION_UNUSABLE: &[Phrase] = &[
    &["tool use concurrency"],
    &["thinking", "blocks", "cannot be modified"],
    &["invalid signature", "thinking"],
    &["thinking", "invalid signature"],
    &["expected thinking", "but found"],
    &["tool use", "without", "tool result"],
    &["tool result", "without", "tool use"],
    &["unexpected", "tool use id"],
    &["tool use ids must be unique"],
    &["request body is not valid json"],
    &["surrogate*"],
    &["previous message id", "starts with msg"],
    &["start a new session"],
    &["ended this conversation"],
];

/// Returns the HTTP status that the CLI names in a text: `API Error: 529 …`, `Request rejected (429) …`.
fn status_in(text: &str) -> Option<u16> {
    status_after(text, &["API Error: ", "API Error (", "Request rejected ("])
}

#[cfg(test)]
mod tests {
    use paperclip_kit::phrases::{CONTEXT_EXCEEDED, Topics};
    use paperclip_kit::words::{Words, mentions};

    use super::*;

    fn topics(text: &str, status: Option<u16>) -> Topics {
        Topics::of_line(&Words::of(text), status, false, &LEXICON)
    }

    const MODEL: Topics = Topics { model: true, credentials: false, quota: false, transient: false };
    const LOGIN: Topics = Topics { model: false, credentials: true, quota: false, transient: false };
    const MONEY: Topics = Topics { model: false, credentials: false, quota: true, transient: false };
    const WAIT: Topics = Topics { model: false, credentials: false, quota: false, transient: true };

    #[test]
    fn recognises_what_the_cli_speaks_of() {
        for (expected, line) in [
            (MODEL, "API Error: 404 model not found: claude-haiku-4-6"),
            (MODEL, "model_not_found"),
            (MODEL, "The model `claude-x` does not exist or you do not have access to it."),
            (
                MODEL,
                "There's an issue with the selected model (claude-x). It may not exist or you may not have access to it.",
            ),
            (MODEL, "The provided model identifier is invalid."),
            (MODEL, "Unknown model claude-haiku-4-6"),
            (MODEL, r#"{"error":{"type":"not_found_error","message":"model: claude-x"}}"#),
            (LOGIN, "Not logged in · Please run /login"),
            (LOGIN, "Invalid API key · Fix external API key"),
            (
                LOGIN,
                "Your account does not have access to Claude. Please login again or contact your administrator.",
            ),
            (LOGIN, "OAuth token has expired"),
            (LOGIN, "Your ANTHROPIC_API_KEY belongs to a disabled organization"),
            (LOGIN, "Could not load the default credentials. Browse to https://cloud.google.com/docs"),
            (LOGIN, "Could not load credentials from any providers"),
            (
                LOGIN,
                "ENOENT: no such file or directory, open '/var/run/secrets/eks.amazonaws.com/serviceaccount/token'",
            ),
            (
                LOGIN,
                "ENOENT: no such file or directory, open '/var/run/secrets/azure/tokens/azure-identity-token'",
            ),
            (LOGIN, "invalid bearer token"),
            (MONEY, "5-hour limit reached ∙ resets 3pm"),
            (MONEY, "You've hit your weekly limit · resets Aug 3, 7am (Europe/Zurich)"),
            (MONEY, "You’ve hit your limit"),
            (MONEY, "Claude AI usage limit reached|1749924000"),
            (MONEY, "You have reached your specified API usage limits."),
            (MONEY, "An error occurred (ServiceQuotaExceededException) when calling"),
            (MONEY, "You're out of extra usage · resets 4pm (America/Chicago)"),
            (MONEY, "Credit balance is too low"),
            (MONEY, "spend limit reached · resets Dec 8"),
            (WAIT, "{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}"),
            (WAIT, "rate_limit_error"),
            (WAIT, "ThrottlingException: slow down"),
            (WAIT, "HTTP 429: Too Many Requests"),
            (WAIT, "Connection refused — a firewall or proxy may be blocking it (ECONNREFUSED)"),
            (WAIT, "Can't reach the API server — check your internet or DNS (ENOTFOUND)"),
            (WAIT, "Stream idle timeout - partial response received"),
            (Topics::default(), "[mcp:jira] HTTP 401 Unauthorized"),
            (Topics::default(), "max_tokens is invalid, unexpected token < in JSON"),
            (
                Topics::default(),
                "Invalid value for max_completion_tokens: the token limit must be at most 8192",
            ),
            (Topics::default(), "remodel not found"),
        ] {
            assert_eq!(topics(line, None), expected, "{line}");
            assert_eq!(topics(line, Some(400)), expected, "{line}");
        }
    }

    #[test]
    fn a_status_decides_before_words() {
        let all = "invalid api key, model not found, usage limit reached, overloaded";
        for (status, expected) in [
            (401, LOGIN),
            (402, MONEY),
            (404, MODEL),
            (408, WAIT),
            (409, WAIT),
            (425, WAIT),
            (429, Topics { quota: true, ..WAIT }),
            (500, WAIT),
            (520, WAIT),
            (529, WAIT),
            (405, Topics::default()),
            (422, Topics::default()),
        ] {
            assert_eq!(topics(all, Some(status)), expected, "{status}");
        }
        assert_eq!(topics("no such path", Some(404)), Topics::default());
        assert_eq!(Topics::of_line(&Words::of("claude-x"), Some(404), true, &LEXICON), MODEL);
        assert_eq!(topics("Your organization does not have access to Claude.", Some(403)), LOGIN);
        assert_eq!(
            topics("You don't have access to the model with the specified model ID.", Some(403)),
            MODEL
        );
        assert_eq!(topics("This request would exceed your account's rate limit.", Some(429)), WAIT);
    }

    #[test]
    fn the_providers_name_of_an_error_counts_where_its_status_leaves_it_open() {
        assert_eq!(Topics::of_kind("authentication_error", None), LOGIN);
        assert_eq!(Topics::of_kind("authentication_error", Some(500)), Topics::default());
        assert_eq!(Topics::of_kind("exceeded_current_quota_error", Some(429)), MONEY);
        assert_eq!(Topics::of_kind("billing_error", Some(400)), MONEY);
        assert_eq!(Topics::of_kind("overloaded_error", None), WAIT);
        assert_eq!(Topics::of_kind("invalid_request_error", Some(400)), Topics::default());
    }

    #[test]
    fn reads_the_status_that_the_cli_names() {
        for (text, status) in [
            ("API Error: 529 {\"type\":\"error\"}", Some(529)),
            ("API Error: 500", Some(500)),
            ("API Error: 500 x", Some(500)),
            ("Failed to authenticate. API Error: 403 Request not allowed", Some(403)),
            ("API Error (429 {})", Some(429)),
            ("API Error: Request rejected (429) · slow down", Some(429)),
            ("API Error: 5000 x", None),
            ("API Error: 200 ok", None),
            ("API Error: Connection error.", None),
            ("error 529", None),
        ] {
            assert_eq!(status_in(text), status, "{text}");
        }
    }

    #[test]
    fn recognises_a_conversation_that_cannot_be_continued() {
        for line in [
            "Prompt is too long",
            "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000",
            "The model has reached its context window limit.",
            "Requested token count exceeds the model's maximum context length of 131072 tokens.",
            "messages.3.content.1.image.source.base64: image exceeds 5 MB maximum",
            "At least one of the image dimensions exceed max allowed size",
            "Request too large (max 32MB).",
        ] {
            assert!(mentions(line, CONTEXT_EXCEEDED), "{line}");
        }
        for line in [
            "400 due to tool use concurrency issues.",
            "messages.5.content.7: `thinking` or `redacted_thinking` blocks in the latest assistant message cannot be modified.",
            "messages.1.content.0: Invalid `signature` in `thinking` block",
            "messages.2: `tool_use` ids were found without `tool_result` blocks immediately after: toolu_1",
            "The request body is not valid JSON: no low surrogate in string: line 1 column 158977",
            "diagnostics.previous_message_id: must be the `id` from a prior /v1/messages response (starts with `msg_`)",
            "Claude ended this conversation. Start a new session to continue.",
        ] {
            assert!(mentions(line, SESSION_UNUSABLE), "{line}");
        }
        for line in [
            "Claude's response exceeded the 32000 output token maximum.",
            "Number of request tokens has exceeded your per-minute rate limit",
            "Invalid value for max_completion_tokens: the token limit must be at most 8192",
            "an image in the conversation could not be processed and was removed",
        ] {
            assert!(!mentions(line, CONTEXT_EXCEEDED) && !mentions(line, SESSION_UNUSABLE), "{line}");
        }
    }
}
