//! The words in which programs and their providers report what went wrong, and the rows that they speak of.

use serde::{Deserialize, Serialize};

use crate::words::{Phrase, Words};

/// What is particular about the words of one agent type, beside the words that all have in common.
#[derive(Debug)]
pub struct Lexicon {
    /// The agent's program, as a shell names it that does not find it.
    pub program: &'static str,
    /// Row 5: the session to resume does not exist. The agent's own words, wherever it prints them.
    pub unknown_session: &'static [Phrase],
    /// Row 8: the conversation does not fit any more.
    pub context: &'static [Phrase],
    /// Row 9: the model does not exist, or not for this account.
    pub model: &'static [Phrase],
    /// Row 10: credentials are missing or refused.
    pub credentials: &'static [Phrase],
    /// Row 11: money or quota is used up.
    pub quota: &'static [Phrase],
    /// Row 13: the provider cannot serve at the moment.
    pub transient: &'static [Phrase],
    /// Lines that speak for somebody else, or for no request.
    pub other_parties: &'static [Phrase],
    /// Words of an address to log in at.
    pub login_words: &'static [&'static str],
    /// Returns the HTTP status that a text names.
    pub status_in: fn(&str) -> Option<u16>,
}

impl Lexicon {
    /// No words of its own.
    pub const NONE: Lexicon = Lexicon {
        program: "",
        unknown_session: &[],
        context: &[],
        model: &[],
        credentials: &[],
        quota: &[],
        transient: &[],
        other_parties: &[],
        login_words: &["auth", "login"],
        status_in: |_| None,
    };

    /// Whether a line says that a shell or the container runtime did not find the agent's program.
    pub fn misses_program(&self, words: &Words) -> bool {
        const MISSING: &[Phrase] = &[&["not found"], &["no such file or directory"]];
        if self.program.is_empty() || !words.mention(MISSING) {
            return false;
        }
        let program = self.program;
        let [missing, no_file, run] = ["{} not found", "{} no such file or directory", "exec {}"]
            .map(|form| form.replace("{}", program));
        let [of_bash, of_zsh] =
            ["{} command not found", "command not found {}"].map(|form| form.replace("{}", program));
        words.mention(&[
            &[&missing],
            &[&of_bash],
            &[&no_file],
            &[&run, "not found"],
            &[&run, "no such file or directory"],
            &[&of_zsh],
        ])
    }
}

/// Returns the three digits of an HTTP error that follow one of `prefixes` in a text's first kilobyte.
///
/// ```
/// use paperclip_kit::phrases::status_after;
///
/// assert_eq!(status_after("unexpected status 401 Unauthorized", &["unexpected status "]), Some(401));
/// assert_eq!(status_after("unexpected status 4011", &["unexpected status "]), None);
/// ```
pub fn status_after(text: &str, prefixes: &[&str]) -> Option<u16> {
    let text = text.get(..text.floor_char_boundary(1024))?;
    prefixes.iter().find_map(|before| {
        let (digits, after) = text.split_once(before)?.1.split_at_checked(3)?;
        let is_whole = !after.starts_with(|c: char| c.is_ascii_alphanumeric());
        digits.parse().ok().filter(|status| is_whole && (400..600).contains(status))
    })
}

/// Row 5: the session to resume does not exist. In a result event only.
pub const UNKNOWN_SESSION: &[Phrase] = &[&["unknown session"], &["session", "not found"]];

/// Row 8: the conversation does not fit any more.
pub const CONTEXT_EXCEEDED: &[Phrase] = &[
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
pub const EMPTY_RESPONSE: &[Phrase] =
    &[&["empty or malformed"], &["returned an empty"], &["empty response"], &["malformed response"]];

/// Lines that speak for somebody else than the CLI.
pub const OTHER_PARTIES: &[Phrase] = &[&["mcp*"], &["hook*"]];

/// What the CLI's words about its own request are about: rows 9, 10, 11 and 13.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Topics {
    pub model: bool,
    pub credentials: bool,
    pub quota: bool,
    pub transient: bool,
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
    /// Reads a line that the program printed about a request with this outcome. `names_model`: it quotes the run's model.
    pub fn of_line(words: &Words, status: Option<u16>, names_model: bool, own: &Lexicon) -> Topics {
        let names_model = |phrases: &[Phrase]| names_model || words.mention(phrases);
        let either = |general: &[Phrase], own: &[Phrase]| words.mention(general) || words.mention(own);
        let none = Topics::default();
        match Weight::of(status) {
            Weight::Words => Topics {
                model: either(MODEL_NOT_FOUND, own.model),
                credentials: either(CREDENTIALS, own.credentials),
                quota: either(QUOTA, own.quota),
                transient: either(TRANSIENT, own.transient),
            },
            Weight::Credentials => Topics { credentials: true, ..none },
            Weight::Payment => Topics { quota: true, ..none },
            Weight::Forbidden => {
                let model = words.mention(MODEL_ACCESS) || either(MODEL_NOT_FOUND, own.model);
                Topics { model, credentials: !model, ..none }
            }
            Weight::NotFound => Topics { model: names_model(NAMES_A_MODEL), ..none },
            Weight::RateLimited => Topics { quota: either(QUOTA, own.quota), transient: true, ..none },
            Weight::Transient => Topics { transient: true, ..none },
            Weight::Silent => none,
        }
    }

    /// Reads the provider's name of an error, such as `overloaded_error`.
    pub fn of_kind(kind: &str, status: Option<u16>) -> Topics {
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

    pub fn add(&mut self, other: Topics) {
        self.model |= other.model;
        self.credentials |= other.credentials;
        self.quota |= other.quota;
        self.transient |= other.transient;
    }
}

/// Whether words about the conversation count beside this status: rows 10 and 11 decide by the status alone.
pub fn may_speak_of_the_conversation(status: Option<u16>) -> bool {
    !matches!(
        Weight::of(status),
        Weight::Credentials | Weight::Payment | Weight::Forbidden | Weight::RateLimited
    )
}

/// Whether words about the answer count beside this status.
pub fn may_speak_of_the_answer(status: Option<u16>) -> bool {
    Weight::of(status) == Weight::Words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_phrase_is_written_as_words() {
        let tables = [
            UNKNOWN_SESSION,
            CONTEXT_EXCEEDED,
            MODEL_NOT_FOUND,
            NAMES_A_MODEL,
            MODEL_ACCESS,
            CREDENTIALS,
            QUOTA,
            TRANSIENT,
            EMPTY_RESPONSE,
            OTHER_PARTIES,
        ];
        for part in tables.into_iter().flatten().copied().flatten() {
            let stem = part.trim_end_matches('*');
            assert!(Words::of(stem).is(stem), "{part}");
        }
    }

    #[test]
    fn a_missing_program_is_recognised() {
        let own = Lexicon { program: "agent", ..Lexicon::NONE };
        for line in [
            "/bin/sh: agent: not found",
            "sh: 1: agent: not found",
            "bash: line 1: agent: command not found",
            "zsh: command not found: agent",
            "exec: \"agent\": executable file not found in $PATH",
            "/usr/bin/env: 'agent': No such file or directory",
        ] {
            assert!(own.misses_program(&Words::of(line)), "{line}");
        }
        for line in ["sh: jq: not found", "+ exec agent --print", "agent model not found"] {
            assert!(!own.misses_program(&Words::of(line)), "{line}");
        }
    }
}
