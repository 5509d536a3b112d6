//! Lines that are no events: what the shell, Node.js and the CLI itself print when something is wrong.

use paperclip_kit::outcome::printable;
use serde::{Deserialize, Serialize};

use crate::phrases::{LOGIN, MODEL_NOT_FOUND, OVERLOAD, QUOTA, Words};

/// What a message quotes of a line, in bytes.
const QUOTED_BYTES: usize = 2048;
/// What is kept of a line that tells when a limit is reset, in bytes.
const RESET_BYTES: usize = 512;
const URL_BYTES: usize = 1024;

/// What all the untyped lines said. Nothing here grows with their number.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Untyped {
    /// The first one that has something to read, fit for a message.
    pub(crate) first: Option<String>,
    pub(crate) asks_for_login: bool,
    pub(crate) misses_model: bool,
    pub(crate) tells_quota: bool,
    pub(crate) tells_overload: bool,
    /// The first line about a quota, else about an overload: it may say until when.
    pub(crate) limit_line: Option<String>,
    pub(crate) login_url: Option<LoginUrl>,
}

impl Untyped {
    pub(super) fn push(&mut self, line: &str) {
        if self.first.is_none() {
            self.first = Some(printable(line, QUOTED_BYTES)).filter(|text| !text.is_empty());
        }
        let words = Words::of(line);
        self.asks_for_login |= words.mention(LOGIN);
        self.misses_model |= words.mention(MODEL_NOT_FOUND);
        if words.mention(QUOTA) {
            if !self.tells_quota {
                self.limit_line = Some(printable(line, RESET_BYTES));
            }
            self.tells_quota = true;
        } else if words.mention(OVERLOAD) {
            self.tells_overload = true;
            if self.limit_line.is_none() {
                self.limit_line = Some(printable(line, RESET_BYTES));
            }
        }
        self.login_url = LoginUrl::better(self.login_url.take(), line);
    }
}

/// A place to log in: the first address that looks like one, else the first address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LoginUrl {
    pub(crate) url: String,
    names_login: bool,
}

impl LoginUrl {
    /// `known`, or what `text` offers beyond it.
    pub(crate) fn better(known: Option<LoginUrl>, text: &str) -> Option<LoginUrl> {
        if known.as_ref().is_some_and(|known| known.names_login) {
            return known;
        }
        let mut best = known;
        let mut rest = text;
        while let Some(at) = rest.find("http") {
            rest = &rest[at..];
            let Some(url) = leading_url(rest) else {
                rest = &rest["http".len()..];
                continue;
            };
            let names_login = ["claude", "anthropic", "auth"].iter().any(|word| url.contains(word));
            if names_login || best.is_none() {
                best = Some(LoginUrl { url: url.to_owned(), names_login });
            }
            if names_login {
                break;
            }
            rest = &rest[url.len()..];
        }
        best
    }
}

/// The address with which `text` begins, without the punctuation of the sentence around it.
fn leading_url(text: &str) -> Option<&str> {
    let scheme = ["https://", "http://"].into_iter().find(|scheme| text.starts_with(scheme))?;
    let end = text
        .find(|c: char| c.is_whitespace() || c.is_control() || "'\"`<>()[]{};,!".contains(c))
        .unwrap_or(text.len())
        .min(text.floor_char_boundary(URL_BYTES));
    let url = text[..end].trim_end_matches(['.', ':', '?']);
    (url.len() > scheme.len()).then_some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pushed(lines: &[&str]) -> Untyped {
        let mut untyped = Untyped::default();
        lines.iter().for_each(|line| untyped.push(line));
        untyped
    }

    #[test]
    fn the_first_line_with_something_to_read_is_quoted() {
        assert_eq!(pushed(&["\u{1b}[0m", "Error: x", "more"]).first.unwrap(), "Error: x");
    }

    #[test]
    fn a_quota_is_told_before_an_overload() {
        let untyped =
            pushed(&["too many requests", "5-hour limit reached ∙ resets 3pm (UTC)", "usage limit reached"]);
        assert!(untyped.tells_quota && untyped.tells_overload);
        assert_eq!(untyped.limit_line.unwrap(), "5-hour limit reached ∙ resets 3pm (UTC)");
    }

    #[test]
    fn an_address_to_log_in_is_preferred() {
        let url = |lines: &[&str]| pushed(lines).login_url.map(|url| url.url);
        assert_eq!(
            url(&["see http://docs.test/a, https://claude.ai/login?x=1."]).unwrap(),
            "https://claude.ai/login?x=1"
        );
        assert_eq!(
            url(&["see http://docs.test/a.", "http: nothing https://"]).unwrap(),
            "http://docs.test/a"
        );
        assert_eq!(
            url(&["http://first.test", "http://second.test", "http://auth.test"]).unwrap(),
            "http://auth.test"
        );
        assert_eq!(url(&["https://"]), None);
        for line in ["go to https://claude.ai/login now", "https://claude.ai/login\u{1b}[0m"] {
            assert_eq!(url(&[line]).unwrap(), "https://claude.ai/login");
        }
    }
}
