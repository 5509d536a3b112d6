//! The words in which the Claude Code CLI and its provider report what went wrong, and the rows that they speak of.

use serde::{Deserialize, Serialize};

use crate::words::{Phrase, Words};

/// Row 5: the session to resume does not exist. The CLI's own words.
pub(crate) const UNKNOWN_SESSION_OF_CLI: &[Phrase] = &[
    &["no conversation found with session id"],
    &["resume requires a valid session"],
    &["is not a uuid"],
    &["not a valid uuid"],
    &["does not match any session title"],
];

/// Row 5: the session to resume does not exist. In a result event only.
pub(crate) const UNKNOWN_SESSION: &[Phrase] = &[&["unknown session"], &["session", "not found"]];

/// Row 8: the conversation does not fit any more.
pub(crate) const CONTEXT_EXCEEDED: &[Phrase] = &[
    &["prompt is too long"],
    &["prompt too long"],
    &["conversation", "too long"],
    &["context window limit"],
    &["exceed*", "context window"],
    &["exceed*", "context limit"],
    &["exceed*", "context length"],
    &["context length", "exceed*"],
    &["maximum context length"],
    &["input token count", "exceed*"],
    &["requested token count", "exceed*"],
    &["request too large"],
    &["image*", "exceed*"],
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

/// Row 9: the model does not exist, or not for this account.
const MODEL_NOT_FOUND: &[Phrase] = &[
    &["issue with the selected model"],
    &["model", "not found"],
    &["model", "does not exist"],
    &["model", "may not exist"],
    &["model", "is unknown"],
    &["model", "is invalid"],
    &["model unknown"],
    &["model invalid"],
    &["unknown model"],
    &["invalid model"],
    &["not found error", "model"],
];

/// Row 9, together with status 404.
const NAMES_A_MODEL: &[Phrase] = &[&["model*"]];

/// Row 9, together with status 403: access to the model.
const MODEL_ACCESS: &[Phrase] = &[
    &["access", "model*"],
    &["model*", "access"],
    &["model*", "not available"],
    &["model*", "not allowed"],
    &["model*", "not enabled"],
    &["model*", "not permitted"],
];

/// Row 10: credentials are missing or refused.
const CREDENTIALS: &[Phrase] = &[
    &["not logged in"],
    &["please log in"],
    &["please login"],
    &["please run login"],
    &["please run claude login"],
    &["log in again"],
    &["login again"],
    &["login required"],
    &["invalid api key"],
    &["invalid x api key"],
    &["oauth token", "expired"],
    &["oauth token", "revoked"],
    &["invalid bearer token"],
    &["invalid oauth token"],
    &["invalid access token"],
    &["invalid api token"],
    &["invalid auth token"],
    &["invalid authentication credentials"],
    &["authentication error"],
    &["failed to authenticate"],
    &["disabled organization"],
    &["organization has been disabled"],
    &["organization has disabled"],
    &["could not load", "credentials"],
    &["unable to load", "credentials"],
    &["credentials", "could not be loaded"],
    &["failed to retrieve a token"],
    &["credentialsprovidererror"],
    &["credentialunavailable*"],
    &["expiredtoken*"],
    &["no such file or directory", "token"],
    &["no such file or directory", "credentials*"],
];

/// Row 11: money or quota is used up.
const QUOTA: &[Phrase] = &[
    &["credit balance"],
    &["insufficient balance"],
    &["insufficient quota"],
    &["insufficient credit*"],
    &["out of credits"],
    &["usage credits required"],
    &["payment required"],
    &["spend limit*", "reached"],
    &["spending limit*", "reached"],
    &["usage limit*", "reached"],
    &["reached", "usage limit*"],
    &["usage cap reached"],
    &["hit your", "limit"],
    &["session limit"],
    &["5 hour limit"],
    &["weekly limit"],
    &["extra usage"],
    &["exceeded your current quota"],
    &["quota exceeded"],
    &["servicequotaexceeded*"],
];

/// Row 13: the provider cannot serve at the moment, or the network does not reach it.
const TRANSIENT: &[Phrase] = &[
    &["rate limit*"],
    &["ratelimit*"],
    &["too many requests"],
    &["overloaded*"],
    &["service unavailable"],
    &["internal server error"],
    &["bad gateway"],
    &["high demand"],
    &["try again later"],
    &["temporarily unavailable"],
    &["throttl*"],
    &["econnreset"],
    &["econnrefused"],
    &["enotfound"],
    &["eai again"],
    &["etimedout"],
    &["epipe"],
    &["connection", "dropped"],
    &["connection", "refused"],
    &["connection", "reset"],
    &["connection", "closed"],
    &["connection error"],
    &["network error"],
    &["can t reach the api"],
    &["unable to connect"],
    &["timed out"],
    &["stream idle timeout"],
    &["socket hang up"],
];

/// Row 14: the API answered, but not with a message.
pub(crate) const EMPTY_RESPONSE: &[Phrase] =
    &[&["empty or malformed"], &["returned an empty"], &["empty response"], &["malformed response"]];

/// The shell or the container runtime did not find the agent's command.
pub(crate) const COMMAND_NOT_FOUND: &[Phrase] = &[
    &["claude not found"],
    &["claude command not found"],
    &["claude no such file or directory"],
    &["exec claude", "not found"],
    &["exec claude", "no such file or directory"],
    &["command not found claude"],
];

/// Lines that speak for somebody else than the CLI.
pub(crate) const OTHER_PARTIES: &[Phrase] = &[&["mcp*"], &["hook*"]];

/// What the CLI's words about its own request are about: rows 9, 10, 11 and 13.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Topics {
    pub(crate) model: bool,
    pub(crate) credentials: bool,
    pub(crate) quota: bool,
    pub(crate) transient: bool,
}

/// Which words count beside an HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Weight {
    /// No status, or one that does not name the cause.
    Words,
    Credentials,
    Payment,
    /// It speaks of the model, or else of credentials.
    Forbidden,
    NotFound,
    /// Only words about a quota say more.
    RateLimited,
    Transient,
    /// Another error: no words count.
    Silent,
}

impl Weight {
    fn of(status: Option<u16>) -> Weight {
        match status {
            None | Some(..=400) => Weight::Words,
            Some(401) => Weight::Credentials,
            Some(402) => Weight::Payment,
            Some(403) => Weight::Forbidden,
            Some(404) => Weight::NotFound,
            Some(429) => Weight::RateLimited,
            Some(408 | 409 | 425 | 500..) => Weight::Transient,
            Some(_) => Weight::Silent,
        }
    }
}

impl Topics {
    /// Reads a line that the CLI printed about a request with this outcome. `names_model`: it quotes the run's model.
    pub(crate) fn of_line(words: &Words, status: Option<u16>, names_model: bool) -> Topics {
        let names_model = |phrases: &[Phrase]| names_model || words.mention(phrases);
        let none = Topics::default();
        match Weight::of(status) {
            Weight::Words => Topics {
                model: words.mention(MODEL_NOT_FOUND),
                credentials: words.mention(CREDENTIALS),
                quota: words.mention(QUOTA),
                transient: words.mention(TRANSIENT),
            },
            Weight::Credentials => Topics { credentials: true, ..none },
            Weight::Payment => Topics { quota: true, ..none },
            Weight::Forbidden => {
                let model = words.mention(MODEL_ACCESS) || words.mention(MODEL_NOT_FOUND);
                Topics { model, credentials: !model, ..none }
            }
            Weight::NotFound => Topics { model: names_model(NAMES_A_MODEL), ..none },
            Weight::RateLimited => Topics { quota: words.mention(QUOTA), transient: true, ..none },
            Weight::Transient => Topics { transient: true, ..none },
            Weight::Silent => none,
        }
    }

    /// Reads the provider's name of an error, such as `overloaded_error`.
    pub(crate) fn of_kind(kind: &str, status: Option<u16>) -> Topics {
        let weight = Weight::of(status);
        let decides = weight == Weight::Words;
        Topics {
            model: false,
            credentials: decides && matches!(kind, "authentication_error" | "permission_error"),
            quota: matches!(weight, Weight::Words | Weight::RateLimited)
                && matches!(kind, "billing_error" | "exceeded_current_quota_error"),
            transient: decides
                && matches!(kind, "overloaded_error" | "rate_limit_error" | "timeout_error" | "api_error"),
        }
    }

    pub(crate) fn add(&mut self, other: Topics) {
        self.model |= other.model;
        self.credentials |= other.credentials;
        self.quota |= other.quota;
        self.transient |= other.transient;
    }
}

/// Whether words about the conversation count beside this status: rows 10 and 11 decide by the status alone.
pub(crate) fn may_speak_of_the_conversation(status: Option<u16>) -> bool {
    !matches!(
        Weight::of(status),
        Weight::Credentials | Weight::Payment | Weight::Forbidden | Weight::RateLimited
    )
}

/// Whether words about the answer count beside this status.
pub(crate) fn may_speak_of_the_answer(status: Option<u16>) -> bool {
    Weight::of(status) == Weight::Words
}

/// Returns the HTTP status that the CLI names in a text: `API Error: 529 …`, `Request rejected (429) …`.
pub(crate) fn status_in(text: &str) -> Option<u16> {
    let text = text.get(..text.floor_char_boundary(1024))?;
    ["API Error: ", "API Error (", "Request rejected ("].iter().find_map(|before| {
        let (digits, after) = text.split_once(before)?.1.split_at_checked(3)?;
        let is_whole = !after.starts_with(|c: char| c.is_ascii_alphanumeric());
        digits.parse().ok().filter(|status| is_whole && (400..600).contains(status))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::mentions;

    fn topics(text: &str, status: Option<u16>) -> Topics {
        Topics::of_line(&Words::of(text), status, false)
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
        assert_eq!(Topics::of_line(&Words::of("claude-x"), Some(404), true), MODEL);
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

    #[test]
    fn every_phrase_is_written_as_words() {
        let tables = [
            UNKNOWN_SESSION_OF_CLI,
            UNKNOWN_SESSION,
            CONTEXT_EXCEEDED,
            SESSION_UNUSABLE,
            MODEL_NOT_FOUND,
            NAMES_A_MODEL,
            MODEL_ACCESS,
            CREDENTIALS,
            QUOTA,
            TRANSIENT,
            EMPTY_RESPONSE,
            COMMAND_NOT_FOUND,
            OTHER_PARTIES,
        ];
        for part in tables.into_iter().flatten().copied().flatten() {
            let stem = part.trim_end_matches('*');
            assert!(Words::of(stem).is(stem), "{part}");
        }
    }
}
