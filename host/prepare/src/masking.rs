//! Which values of a run are masked in its output and journal.

use std::borrow::Cow;
use std::collections::BTreeSet;

use paperclip_contract::types::Request;
use paperclip_diagnostic::Diagnose;
use paperclip_engine::intake::Secrets;
use paperclip_engine::policy;
use paperclip_engine::redact::{MIN_SECRET_BYTES, Redactor};
use paperclip_shell::journal::Header;
use serde_json::Value;

use crate::config::Config;
use crate::supplied;

/// The name under which the run's token is masked, whatever variables are called.
const AUTH_TOKEN: &str = "authToken";
/// Words of a name that say that its value is a secret.
const SECRET_WORDS: [&str; 10] =
    ["KEY", "APIKEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "PASSPHRASE", "CREDENTIAL", "AUTH", "PRIVATE"];

/// Longer values are no phrases.
const MAX_WORDS_BYTES: usize = 64;
/// Longer runs of letters are no words.
const LONGEST_WORD: usize = 16;

/// The secrets of a run are too large to be masked.
#[derive(Debug, thiserror::Error)]
#[error("the secrets of the run cannot be masked: {0}")]
pub struct MaskingError(String);

impl Diagnose for MaskingError {
    fn code(&self) -> &'static str {
        "bad_context"
    }

    fn hint(&self) -> Option<Cow<'_, str>> {
        Some("make the values of config.env smaller".into())
    }
}

/// Which variables' values are masked. A run keeps what it was started with: what was shown once is not masked later, nor the other
/// way round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MaskedEnv {
    /// Those with these names.
    Names(Vec<String>),
    /// All but those that match a pattern: a run of an older host.
    AllBut(Vec<String>),
}

impl MaskedEnv {
    /// Returns what a new run masks: references to secrets, names that say that they are secrets, URLs with a password, and the
    /// operator's `masked_env`, without the operator's `unmasked_env` and what the plugin sees. Tokens that came with the run are always
    /// masked.
    pub(crate) fn of_run(
        context: &Value,
        request: &Request,
        secrets: &Secrets,
        config: &Config,
    ) -> MaskedEnv {
        let fits =
            |patterns: &[String], name: &str| patterns.iter().any(|pattern| policy::fits(pattern, name));
        let configured = &context["agent"]["adapterConfig"]["env"];
        let is_secret = |name: &str, value: &str| {
            configured[name]["type"] == "secret_ref" || names_secret(name) || has_password(value)
        };
        let is_masked = |name: &str, value: &str| {
            supplied::is_token(name)
                || fits(&config.masked_env, name)
                || !is_revealed(request, name) && !fits(&config.unmasked_env, name) && is_secret(name, value)
        };
        let masked = secrets.named().filter(|(name, value)| *name != AUTH_TOKEN && is_masked(name, value));
        let names: BTreeSet<String> = masked.map(|(name, _)| name.to_owned()).collect();
        MaskedEnv::Names(names.into_iter().collect())
    }

    /// Returns what the run of a journal masks.
    pub fn of_header(header: &Header) -> MaskedEnv {
        match &header.masked_env {
            Some(names) => MaskedEnv::Names(names.clone()),
            None => MaskedEnv::AllBut(header.unmasked_env.clone()),
        }
    }

    fn contains(&self, request: &Request, name: &str) -> bool {
        match self {
            MaskedEnv::Names(names) => names.iter().any(|masked| masked == name),
            MaskedEnv::AllBut(patterns) => {
                !is_revealed(request, name) && !patterns.iter().any(|pattern| policy::fits(pattern, name))
            }
        }
    }
}

fn is_revealed(request: &Request, name: &str) -> bool {
    request.config_env.iter().any(|entry| entry.name == name && entry.value.is_some())
}

/// Whether a word of the name says that its value is a secret.
fn names_secret(name: &str) -> bool {
    let is_secret = |word: &str| {
        let word = word.to_ascii_uppercase();
        SECRET_WORDS.contains(&word.as_str())
            || word.strip_suffix('S').is_some_and(|one| SECRET_WORDS.contains(&one))
    };
    words(name).into_iter().any(is_secret)
}

/// Splits `MY_API_KEY`, `my-api-key` and `myApiKey` into words.
fn words(name: &str) -> Vec<&str> {
    let mut words = Vec::new();
    for part in name.split(|c: char| !c.is_ascii_alphanumeric()) {
        let bytes = part.as_bytes();
        let mut from = 0;
        for at in 1..bytes.len() {
            if bytes[at].is_ascii_uppercase() && bytes[at - 1].is_ascii_lowercase() {
                words.push(&part[from..at]);
                from = at;
            }
        }
        words.push(&part[from..]);
    }
    words
}

/// Whether the value is a URL with a password, such as that of a database.
fn has_password(value: &str) -> bool {
    let Some((scheme, rest)) = value.split_once("://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let user = authority.rsplit_once('@').map(|(user, _)| user);
    !scheme.is_empty()
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
        && user.and_then(|user| user.split_once(':')).is_some_and(|(_, password)| !password.is_empty())
}

/// Returns the redactor of a run. The token is always masked. `protocol` are the members of the agent's events that never are, as its
/// plugin names them.
///
/// # Errors
/// The secrets are too large to search for.
pub fn redactor(
    request: &Request,
    secrets: &Secrets,
    masked: &MaskedEnv,
    protocol: &[String],
) -> Result<Redactor, MaskingError> {
    let redactor = Redactor::new(masked_values(request, secrets, masked));
    Ok(redactor.map_err(|error| MaskingError(error.to_string()))?.with_protocol(protocol))
}

fn masked_values<'a>(
    request: &'a Request,
    secrets: &'a Secrets,
    masked: &'a MaskedEnv,
) -> impl Iterator<Item = (&'a str, &'a str)> {
    let token = secrets.auth_token().map(|token| (AUTH_TOKEN, token));
    let env = secrets.named().filter(|(name, _)| *name != AUTH_TOKEN && masked.contains(request, name));
    token.into_iter().chain(env)
}

/// Returns a warning for each masked value that reads like words rather than a secret: an agent may print them for other reasons, and a run
/// is judged by such phrases.
pub(crate) fn warn_of_words(request: &Request, secrets: &Secrets, masked: &MaskedEnv) -> Vec<String> {
    let words = masked_values(request, secrets, masked).filter(|(_, value)| reads_like_words(value));
    words
        .map(|(name, _)| {
            format!(
                "{name} is masked in the output, but its value reads like words that the agent may print for other reasons: use a random \
                 value, or name it in unmasked_env if it is not a secret"
            )
        })
        .collect()
}

/// Whether a value consists of letters and of what is between words, such as `is_error`, `"type":"` or `Invalid API key`.
fn reads_like_words(value: &str) -> bool {
    value.len() >= MIN_SECRET_BYTES
        && value.chars().all(|c| c.is_ascii_alphabetic() || " _-'\"{}[]():,.".contains(c))
        && value.len() <= MAX_WORDS_BYTES
        // Random letters have both cases within a word.
        && !words(value).iter().any(|word| word.len() > LONGEST_WORD)
}

#[cfg(test)]
mod tests {
    use paperclip_engine::intake::{self, IntakeFacts};
    use serde_json::json;

    use super::*;

    fn masked(context: &Value, config: &Config) -> (Vec<String>, Redactor) {
        let revealed = ["SEEN_KEY".to_owned()];
        let facts = IntakeFacts { revealed_env: &revealed, ..IntakeFacts::bare(None) };
        let (request, secrets) = intake::split(context, "t", facts).expect("a good context");
        let masked = MaskedEnv::of_run(context, &request, &secrets, config);
        let redactor = redactor(&request, &secrets, &masked, &[]).expect("small");
        let MaskedEnv::Names(names) = masked else { panic!("a new run has names") };
        (names, redactor)
    }

    #[test]
    fn what_is_masked_is_known_and_not_guessed() {
        let context = json!({
            "runId": "r", "authToken": "the-token",
            "agent": {"id": "a", "adapterConfig": {"env": {
                "DATABASE": {"type": "secret_ref", "secretId": "s"}, "HOME_DIR": {"type": "plain", "value": "/paperclip"},
            }}},
            "config": {"env": {
                "DATABASE": "from-a-reference", "HOME_DIR": "/paperclip", "API_KEY": "the-api-key", "SEEN_KEY": "seen-by-plugin",
                "MONKEY": "a-monkey-name", "DB_URL": "postgres://u:the-pass@db/x", "SITE_URL": "https://site.example/a:b@c",
            }},
        });
        let (names, redactor) = masked(&context, &Config::default());
        assert_eq!(names, ["API_KEY", "DATABASE", "DB_URL"]);
        assert_eq!(
            redactor.mask("the-token the-api-key from-a-reference /paperclip a-monkey-name".to_owned()),
            "[redacted:authToken] [redacted:API_KEY] [redacted:DATABASE] /paperclip a-monkey-name"
        );
    }

    #[test]
    fn operators_add_and_remove_names_but_not_the_token() {
        let context = json!({
            "runId": "r", "agent": {"id": "a"}, "authToken": "the-token",
            "config": {"env": {
                "BUILD_KEY": "the-build-key", "BUILD_PRIVATE": "the-private-one", "REGION": "eu-west-12",
                "PAPERCLIP_MCP_TOKEN_1": "the-mcp-token",
            }},
        });
        let config = Config {
            masked_env: vec!["REGION".to_owned(), "BUILD_PRIVATE".to_owned()],
            unmasked_env: vec!["BUILD_*".to_owned(), "a*".to_owned(), "PAPERCLIP_*".to_owned()],
            ..Config::default()
        };
        let (names, redactor) = masked(&context, &config);
        assert_eq!(names, ["BUILD_PRIVATE", "PAPERCLIP_MCP_TOKEN_1", "REGION"], "masked_env wins");
        assert_eq!(redactor.mask("the-token the-build-key".to_owned()), "[redacted:authToken] the-build-key");
    }

    #[test]
    fn a_run_of_an_older_host_masks_all_but_its_patterns() {
        let context = json!({"runId": "r", "agent": {"id": "a"}, "config": {"env": {"BUILD": "the-build-name", "REGION": "eu-west-12"}}});
        let (request, secrets) =
            intake::split(&context, "t", IntakeFacts::bare(None)).expect("a good context");
        let redactor =
            redactor(&request, &secrets, &MaskedEnv::AllBut(vec!["BUILD".to_owned()]), &[]).expect("small");
        assert_eq!(redactor.mask("the-build-name eu-west-12".to_owned()), "the-build-name [redacted:REGION]");
    }

    #[test]
    fn a_word_of_the_name_says_that_the_value_is_a_secret() {
        for name in [
            "API_KEY",
            "api-keys",
            "apiKey",
            "GITHUB_TOKEN",
            "MY_AUTH",
            "AWS_SECRET_ACCESS",
            "CREDENTIALS",
            "X.PRIVATE",
        ] {
            assert!(names_secret(name), "{name}");
        }
        for name in ["MONKEY", "GIT_AUTHOR_NAME", "KEYBOARD", "TOKENIZER", "HOME", "AUTHORITY", ""] {
            assert!(!names_secret(name), "{name}");
        }
    }

    #[test]
    fn a_secret_that_reads_like_words_is_warned_about_by_name() {
        for value in
            ["is_error", "session_id", "\"type\":\"", "Invalid API key", "overloaded", "usage limit reached"]
        {
            assert!(reads_like_words(value), "{value}");
        }
        for value in [
            "sk-0123456789",
            "short",
            "qjwkxzvbnmasdfghjklqwertyuiop",
            "hunter2-hunter2",
            &"word ".repeat(20),
        ] {
            assert!(!reads_like_words(value), "{value}");
        }
        let context = json!({
            "runId": "r", "agent": {"id": "a"}, "authToken": "the-token-1",
            "config": {"env": {"API_KEY": "is_error", "OTHER_KEY": "sk-0123456789"}},
        });
        let (request, secrets) =
            intake::split(&context, "t", IntakeFacts::bare(None)).expect("a good context");
        let masked = MaskedEnv::Names(vec!["API_KEY".to_owned(), "OTHER_KEY".to_owned()]);
        let warnings = warn_of_words(&request, &secrets, &masked);
        assert!(matches!(warnings.as_slice(), [one] if one.starts_with("API_KEY is masked")), "{warnings:?}");
        assert!(!warnings[0].contains("is_error"));
    }
}
