//! The bearer tokens of the API: a client on TCP has to send one of them.

use std::path::Path;

use axum::http::{HeaderMap, HeaderValue, header};
use paperclip_diagnostic::Diagnostic;
use paperclip_prepare::token;
use subtle::{Choice, ConstantTimeEq as _};

use crate::refusal::{Kind, Refusal};
use crate::reloaded::Reloaded;

/// The tokens of a file, which is read again when it changes. While a token is replaced there are two.
#[derive(Debug)]
pub(crate) struct Tokens {
    /// What to do without one of them.
    hint: String,
    tokens: Reloaded<Vec<String>>,
}

impl Tokens {
    /// # Errors
    /// The file cannot be read, or does not hold a token.
    pub(crate) fn open(file: &Path) -> Result<Tokens, Diagnostic> {
        Tokens::with_hint(
            file,
            format!(
                "send the token in {} as Authorization: Bearer, or use this host's Unix socket; the adapter in Paperclip's server reads it \
                 from the file that PAPERCLIP_HOST_TOKEN_FILE names there",
                file.display()
            ),
        )
    }

    /// The tokens of whoever puts plugins into this host.
    ///
    /// # Errors
    /// As of [`Tokens::open`].
    pub(crate) fn of_admin(file: &Path) -> Result<Tokens, Diagnostic> {
        let hint =
            format!("send the token in {} (admin_token_file) as Authorization: Bearer", file.display());
        Tokens::with_hint(file, hint)
    }

    fn with_hint(file: &Path, hint: String) -> Result<Tokens, Diagnostic> {
        let path = file.to_owned();
        let tokens = Reloaded::open(vec![file.to_owned()], move || token::read(&path))?;
        Ok(Tokens { hint, tokens })
    }

    /// Accepts a request with one of the tokens.
    pub(super) fn check(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let given = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
        let given = given.and_then(|value| value.strip_prefix(b"Bearer "));
        let tokens = self.tokens.get();
        let is_right = given.is_some_and(|given| {
            let any = tokens.iter().fold(Choice::from(0), |any, token| any | given.ct_eq(token.as_bytes()));
            any.into()
        });
        if is_right {
            return Ok(());
        }
        let what = if given.is_none() { "there is no bearer token" } else { "the bearer token is wrong" };
        Err(Refusal::new(Kind::Unauthorized, what, self.hint.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(tokens: &Tokens, given: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, given.parse().expect("a header"));
        tokens.check(&headers).is_ok()
    }

    #[test]
    fn only_a_whole_token_is_accepted() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("token");
        std::fs::write(&path, "0123456789abcdef\n").expect("written");
        let tokens = Tokens::open(&path).expect("a token");
        assert!(accepts(&tokens, "Bearer 0123456789abcdef"));
        for given in
            ["Bearer 0123456789abcde", "Bearer 0123456789abcdef0", "Basic 0123456789abcdef", "Bearer ", ""]
        {
            assert!(!accepts(&tokens, given), "{given}");
        }
        assert!(tokens.check(&HeaderMap::new()).is_err());
        assert!(!format!("{tokens:?}").contains("0123"));
    }

    #[test]
    fn a_token_is_replaced_without_a_moment_in_which_none_is_valid() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("token");
        std::fs::write(&path, "0123456789abcdef").expect("written");
        let tokens = Tokens::open(&path).expect("a token");
        std::fs::write(&path, "fedcba9876543210\n0123456789abcdef\n").expect("written");
        assert!(accepts(&tokens, "Bearer 0123456789abcdef") && accepts(&tokens, "Bearer fedcba9876543210"));
        std::fs::write(&path, "fedcba9876543210\n").expect("written");
        assert!(!accepts(&tokens, "Bearer 0123456789abcdef") && accepts(&tokens, "Bearer fedcba9876543210"));
    }
}
