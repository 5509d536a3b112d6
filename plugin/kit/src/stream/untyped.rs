//! Lines that are not events: what the shell, Node.js and the agent itself print when something is wrong.

use serde::{Deserialize, Serialize};

use super::cause::CauseLine;
use crate::outcome::{LineTail, printable};
use crate::phrases::{Lexicon, Topics};
use crate::words::Words;

/// What is kept of a line that says when a limit is reset, in bytes.
const RESET_BYTES: usize = 512;
const URL_BYTES: usize = 1024;

/// What all untyped lines and all lines of standard error said. Its size does not grow with their number.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Untyped {
    pub topics: Topics,
    pub names_unknown_session: bool,
    pub misses_command: bool,
    /// The first line about a quota, else about an overload: it may say until when.
    pub limit_line: Option<String>,
    pub login_url: Option<LoginUrl>,
    /// Of the output.
    lines: CauseLine,
    stderr_lines: CauseLine,
    stderr_tail: LineTail,
}

impl Untyped {
    /// Reads text of the output that is not an event.
    pub fn push(&mut self, line: &str, own: &Lexicon) {
        self.lines.push(line);
        self.read(line, own);
    }

    /// Reads a line of standard error.
    pub fn push_stderr(&mut self, line: &str, own: &Lexicon) {
        self.stderr_lines.push(line);
        self.stderr_tail.push(line.trim_end_matches('\r'));
        self.read(line, own);
    }

    fn read(&mut self, line: &str, own: &Lexicon) {
        let words = Words::of(line);
        self.misses_command |= own.misses_program(&words);
        if words.mention(own.other_parties) {
            return;
        }
        self.names_unknown_session |= words.mention(own.unknown_session);
        let topics = Topics::of_line(&words, (own.status_in)(line), false, own);
        if topics.quota && !self.topics.quota || topics.transient && self.limit_line.is_none() {
            self.limit_line = Some(printable(line, RESET_BYTES));
        }
        self.topics.add(topics);
        self.login_url = LoginUrl::better(self.login_url.take(), line, own);
    }

    /// The line that explains best why the agent failed: of standard error, else of the output.
    pub fn cause(&self) -> Option<String> {
        self.stderr_lines.get().or_else(|| self.lines.get())
    }

    pub fn stderr_tail(&self) -> String {
        self.stderr_tail.kept()
    }
}

/// A place to log in: the first address that looks like one, else the first address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LoginUrl {
    pub url: String,
    names_login: bool,
}

impl LoginUrl {
    /// Returns `known`, or a better one in `text`.
    pub fn better(known: Option<LoginUrl>, text: &str, own: &Lexicon) -> Option<LoginUrl> {
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
            let names_login = own.login_words.iter().any(|word| url.contains(word));
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

/// The address that `text` starts with, without the punctuation of the sentence around it.
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
    use crate::phrases::{OTHER_PARTIES, status_after};

    const LEXICON: Lexicon = Lexicon {
        other_parties: OTHER_PARTIES,
        login_words: &["agent.test", "auth"],
        status_in: |text| status_after(text, &["API Error: "]),
        ..Lexicon::NONE
    };

    fn pushed(lines: &[&str]) -> Untyped {
        let mut untyped = Untyped::default();
        lines.iter().for_each(|line| untyped.push(line, &LEXICON));
        untyped
    }

    #[test]
    fn a_line_about_a_quota_is_kept_before_one_about_an_overload() {
        let untyped =
            pushed(&["too many requests", "5-hour limit reached ∙ resets 3pm (UTC)", "usage limit reached"]);
        assert!(untyped.topics.quota && untyped.topics.transient);
        assert_eq!(untyped.limit_line.unwrap(), "5-hour limit reached ∙ resets 3pm (UTC)");
    }

    #[test]
    fn lines_of_other_parties_do_not_count() {
        for line in
            ["[mcp:jira] Invalid API key", "MCP server x: model not found", "Stop hook: usage limit reached"]
        {
            assert_eq!(pushed(&[line]).topics, Topics::default(), "{line}");
        }
        let untyped = pushed(&["API Error: 500 Invalid API key"]);
        assert_eq!(untyped.topics, Topics { transient: true, ..Topics::default() });
    }

    #[test]
    fn standard_error_explains_before_the_output() {
        let mut untyped = pushed(&["Error: output"]);
        assert_eq!(untyped.cause().unwrap(), "Error: output");
        untyped.push_stderr("starting", &LEXICON);
        assert_eq!(untyped.cause().unwrap(), "starting");
        assert_eq!(untyped.stderr_tail(), "starting\n");
    }

    #[test]
    fn an_address_to_log_in_is_preferred() {
        let url = |lines: &[&str]| pushed(lines).login_url.map(|url| url.url);
        assert_eq!(
            url(&["see http://docs.test/a, https://agent.test/login?x=1."]).unwrap(),
            "https://agent.test/login?x=1"
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
        for line in ["go to https://agent.test/login now", "https://agent.test/login\u{1b}[0m"] {
            assert_eq!(url(&[line]).unwrap(), "https://agent.test/login");
        }
    }
}
