//! The words by which the Claude CLI and its provider tell what went wrong.
//!
//! A [`Phrase`] is a list of parts that follow each other on one line, each at most [`GAP_BYTES`] after the one
//! before. A part is one or more whole words; `*` at its end lets the last word go on. Case, punctuation and the
//! kind of space do not count: `5-hour`, `rate_limit_error` and ``starts with `msg_` `` are `5 hour`,
//! `rate limit error` and `starts with msg`.

pub(crate) type Phrase = &'static [&'static str];

/// How far apart two parts of a phrase may stand, in bytes.
const GAP_BYTES: usize = 80;
/// How much of a line is read, in bytes: an error stands at its beginning.
const READ_BYTES: usize = 4096;

/// The session to resume does not exist.
pub(crate) const UNKNOWN_SESSION: &[Phrase] = &[
    &["no conversation found with session id"],
    &["unknown session"],
    &["session", "not found"],
    &["not a valid uuid"],
    &["resume requires a valid session"],
    &["is not a uuid"],
    &["does not match any session title"],
];

/// Somebody has to log in.
pub(crate) const LOGIN: &[Phrase] = &[
    &["not logged in"],
    &["please log in"],
    &["please run claude login"],
    &["please run login"],
    &["login required"],
    &["requires login"],
    &["unauthorized*"],
    &["authentication required"],
    &["invalid api key"],
    &["invalid x api key"],
];

/// A credential is refused. Read in a result event only: tools and servers speak of tokens too.
pub(crate) const TOKEN_FAILURE: &[Phrase] = &[
    &["authentication error"],
    &["authentication failed"],
    &["failed to authenticate"],
    &["invalid authentication credentials"],
    &["invalid", "token"],
    &["expired", "token"],
    &["revoked", "token"],
    &["token", "invalid"],
    &["token", "expired"],
    &["token", "revoked"],
];

/// A parser's complaint, and no credential.
pub(crate) const UNEXPECTED_TOKEN: &[Phrase] = &[&["unexpected token"]];

/// The model is not there, or not for this account.
pub(crate) const MODEL_NOT_FOUND: &[Phrase] = &[
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

/// Together with the status 404.
pub(crate) const NAMES_A_MODEL: &[Phrase] = &[&["model*"]];

/// The session's last message came from another API.
pub(crate) const POISONED_MESSAGE_ID: &[Phrase] = &[&["diagnostics previous message id", "starts with msg"]];

/// The session holds an image that the API refuses each time.
pub(crate) const UNPROCESSABLE_IMAGE: &[Phrase] = &[&["could not process image"]];

/// The account's quota is used up.
pub(crate) const QUOTA: &[Phrase] = &[
    &["hit your", "limit"],
    &["session limit"],
    &["extra usage"],
    &["usage limit*", "reached"],
    &["reached", "usage limit*"],
    &["usage cap reached"],
    &["5 hour limit reached"],
    &["weekly limit reached"],
    &["servicequotaexceeded*"],
];

/// The provider cannot serve for the moment.
pub(crate) const OVERLOAD: &[Phrase] = &[
    &["rate limit*"],
    &["ratelimit*"],
    &["too many requests"],
    &["overloaded*"],
    &["service unavailable"],
    &["high demand"],
    &["try again later"],
    &["temporarily unavailable"],
    &["throttl*"],
];

/// The API answered, but not with a message.
pub(crate) const EMPTY_RESPONSE: &[Phrase] =
    &[&["empty or malformed"], &["returned an empty"], &["empty response"], &["malformed response"]];

/// A line as its words in lower case, parted and surrounded by single spaces.
#[derive(Debug)]
pub(crate) struct Words(String);

impl Words {
    pub(crate) fn of(line: &str) -> Words {
        let line = &line[..line.floor_char_boundary(READ_BYTES)];
        let mut words = String::with_capacity(line.len() + 2);
        words.push(' ');
        for c in line.chars() {
            if c.is_ascii_alphanumeric() || !c.is_ascii() && c.is_alphanumeric() {
                words.push(c.to_ascii_lowercase());
            } else if !words.ends_with(' ') {
                words.push(' ');
            }
        }
        if !words.ends_with(' ') {
            words.push(' ');
        }
        Words(words)
    }

    pub(crate) fn mention(&self, phrases: &[Phrase]) -> bool {
        // Most words begin like no phrase at all, and one byte tells.
        let begins_like = |at: usize, phrase: Phrase| {
            phrase.first().is_some_and(|part| part.as_bytes().first() == self.0.as_bytes().get(at))
        };
        let mut starts = self.starts(0);
        starts
            .any(|at| phrases.iter().any(|phrase| begins_like(at, phrase) && self.has_phrase_at(at, phrase)))
    }

    fn has_phrase_at(&self, at: usize, phrase: Phrase) -> bool {
        let Some((first, others)) = phrase.split_first() else { return false };
        let Some(end) = self.end_of_part_at(at, first) else { return false };
        let found = others.iter().try_fold(end, |end, part| {
            self.starts(end)
                .take_while(|at| *at <= end + GAP_BYTES)
                .find_map(|at| self.end_of_part_at(at, part))
        });
        found.is_some()
    }

    /// Where the part that begins at `at` ends, if it does begin there.
    fn end_of_part_at(&self, at: usize, part: &str) -> Option<usize> {
        let (stem, may_go_on) = part.strip_suffix('*').map_or((part, false), |stem| (stem, true));
        let rest = self.0[at..].strip_prefix(stem)?;
        (may_go_on || rest.starts_with(' ')).then_some(at + stem.len())
    }

    /// Where words begin, from `from` on.
    fn starts(&self, from: usize) -> impl Iterator<Item = usize> {
        self.0[from..].match_indices(' ').map(move |(at, _)| from + at + 1)
    }
}

/// Whether any line of `text` mentions one of `phrases`.
pub(crate) fn mentions(text: &str, phrases: &[Phrase]) -> bool {
    text.lines().any(|line| Words::of(line).mention(phrases))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_and_punctuation_do_not_count() {
        for line in [
            "5-hour limit reached ∙ resets 3pm",
            "You've hit your weekly limit · resets Aug 3, 7am (Europe/Zurich)",
            "You’ve hit your limit",
            "Claude AI usage limit reached|1749924000",
            "You have reached your specified API usage limits.",
            "An error occurred (ServiceQuotaExceededException) when calling",
            "You're out of extra usage · resets 4pm (America/Chicago)",
        ] {
            assert!(mentions(line, QUOTA), "{line}");
        }
        for line in [
            "API Error: 529 {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}",
            "rate_limit_error",
            "Rate-limited",
            "ThrottlingException: slow down",
            "HTTP 429: Too Many Requests",
        ] {
            assert!(mentions(line, OVERLOAD), "{line}");
        }
    }

    #[test]
    fn words_are_whole() {
        assert!(!mentions("the separate limits of prorate limit", &[&["rate limit"]]));
        assert!(mentions("prorate limit rate limit", &[&["rate limit"]]));
        assert!(!mentions("max_tokens is invalid", TOKEN_FAILURE));
        assert!(!mentions("remodel not found", MODEL_NOT_FOUND));
    }

    #[test]
    fn parts_stand_near_each_other_on_one_line() {
        assert!(mentions("Session 3a530d09-46ed-45f0-8d0c-e8e319c29229 not found", UNKNOWN_SESSION));
        assert!(!mentions("session\nnot found", UNKNOWN_SESSION));
        let far = format!("session {} not found", "x ".repeat(100));
        assert!(!mentions(&far, UNKNOWN_SESSION));
        let again = format!("session {} session 1 not found", "x ".repeat(100));
        assert!(mentions(&again, UNKNOWN_SESSION));
    }

    #[test]
    fn models_are_missed_in_many_words() {
        for line in [
            "API Error: 404 model not found: claude-haiku-4-6",
            "model_not_found",
            "The model `claude-x` does not exist or you do not have access to it.",
            "There's an issue with the selected model (claude-x). It may not exist or you may not have access to it.",
            "The provided model identifier is invalid.",
            "Unknown model claude-haiku-4-6",
            r#"API Error: 404 {"error":{"type":"not_found_error","message":"model: claude-x"}}"#,
        ] {
            assert!(mentions(line, MODEL_NOT_FOUND), "{line}");
        }
        assert!(!mentions("API Error: 503 service unavailable", MODEL_NOT_FOUND));
    }

    #[test]
    fn the_poisoned_id_is_recognised() {
        let line = "API Error: 400 diagnostics.previous_message_id: must be the `id` from a prior /v1/messages \
                    response (starts with `msg_`)";
        assert!(mentions(line, POISONED_MESSAGE_ID));
        assert!(mentions("400 Could not process image", UNPROCESSABLE_IMAGE));
    }

    #[test]
    fn every_phrase_is_written_as_words() {
        let tables = [
            UNKNOWN_SESSION,
            LOGIN,
            TOKEN_FAILURE,
            UNEXPECTED_TOKEN,
            MODEL_NOT_FOUND,
            NAMES_A_MODEL,
            POISONED_MESSAGE_ID,
            UNPROCESSABLE_IMAGE,
            QUOTA,
            OVERLOAD,
            EMPTY_RESPONSE,
        ];
        for part in tables.into_iter().flatten().copied().flatten() {
            let stem = part.trim_end_matches('*');
            assert_eq!(Words::of(stem).0, format!(" {stem} "), "{part}");
        }
    }

    #[test]
    fn only_the_beginning_of_a_line_is_read() {
        let line = format!("{} overloaded", "é".repeat(READ_BYTES));
        assert!(!mentions(&line, OVERLOAD));
    }
}
