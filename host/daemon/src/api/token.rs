//! The bearer token of the API. Without one everybody who reaches the address may send requests.

use std::fmt;
use std::path::Path;

use axum::http::{HeaderMap, header};
use paperclip_diagnostic::Diagnostic;
use subtle::ConstantTimeEq as _;

use crate::refusal::{Kind, Refusal};

/// Length of the shortest token that is accepted, in bytes.
const MIN_TOKEN_BYTES: usize = 16;

/// The bearer token, if one is required.
pub struct Token(Option<String>);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Token").field(&self.0.as_ref().map(|_| "a token")).finish()
    }
}

impl Token {
    /// Reads the token's file, if there is one.
    ///
    /// # Errors
    /// The file cannot be read, or does not hold a token.
    pub fn read(file: Option<&Path>) -> Result<Token, Diagnostic> {
        let Some(path) = file else { return Ok(Token(None)) };
        let bad = |cause: String, hint: String| {
            Diagnostic::new("bad_token_file", format!("token file {}: {cause}", path.display()))
                .with_hint(hint)
        };
        let token = std::fs::read_to_string(path).map_err(|error| {
            bad(error.to_string(), "name a readable file with the bearer token".to_owned())
        })?;
        let token = token.trim();
        if token.len() < MIN_TOKEN_BYTES || token.contains(char::is_whitespace) {
            return Err(bad(
                "it holds no token".to_owned(),
                format!(
                    "give one line of {MIN_TOKEN_BYTES} characters or more without spaces, such as `openssl rand -hex 32` prints"
                ),
            ));
        }
        Ok(Token(Some(token.to_owned())))
    }

    pub(super) fn check(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let Some(token) = &self.0 else { return Ok(()) };
        let given = headers.get(header::AUTHORIZATION).map(axum::http::HeaderValue::as_bytes);
        let given = given.and_then(|value| value.strip_prefix(b"Bearer "));
        let is_right = given.is_some_and(|given| given.ct_eq(token.as_bytes()).into());
        if is_right {
            return Ok(());
        }
        let what = if given.is_none() { "there is no bearer token" } else { "the bearer token is wrong" };
        Err(Refusal::new(
            Kind::Unauthorized,
            what,
            "send the token of this host's token file as Authorization: Bearer; the adapter in Paperclip's server reads it from the file that PAPERCLIP_HOST_TOKEN_FILE names there",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_token_is_accepted() {
        let token = Token(Some("0123456789abcdef".to_owned()));
        for (given, is_accepted) in [
            (Some("Bearer 0123456789abcdef"), true),
            (Some("Bearer 0123456789abcde"), false),
            (Some("Bearer 0123456789abcdef0"), false),
            (Some("Basic 0123456789abcdef"), false),
            (Some(""), false),
            (None, false),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(given) = given {
                headers.insert(header::AUTHORIZATION, given.parse().expect("a header"));
            }
            assert_eq!(token.check(&headers).is_ok(), is_accepted, "{given:?}");
        }
        assert!(Token(None).check(&HeaderMap::new()).is_ok());
        assert!(!format!("{token:?}").contains("0123"));
    }

    #[test]
    fn a_file_without_a_token_is_an_error() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("token");
        for text in ["", "short", "two words of some length"] {
            std::fs::write(&path, text).expect("written");
            let error = Token::read(Some(&path)).expect_err("refused").to_string();
            assert!(error.contains("it holds no token") && !error.contains("words"), "{error}");
        }
        std::fs::write(&path, "0123456789abcdef\n").expect("written");
        Token::read(Some(&path)).expect("a token");
        assert!(Token::read(Some(&dir.path().join("none"))).is_err());
    }
}
