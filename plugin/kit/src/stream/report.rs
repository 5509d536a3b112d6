//! What an agent itself reports about the end of a run: in an event, or in a message of its own.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::json::{for_each_element, number, pick, some_text, text};
use crate::outcome::head;
use crate::phrases::{Lexicon, Topics};
use crate::words::{Words, mentions};

/// The agent's own words about a run, with the typed facts beside them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Report {
    /// What it says; trimmed.
    pub text: String,
    /// Further errors, without diagnostics.
    pub errors: Vec<String>,
    /// The provider's names of errors, such as `overloaded_error`.
    pub kinds: Vec<String>,
    /// The HTTP status that the provider's API answered with, as a member says it.
    pub api_status: Option<u16>,
    /// In lower case.
    pub terminal_reason: String,
    /// In lower case, codes included.
    pub stop_reasons: Vec<String>,
}

pub const TEXT_BYTES: usize = 32 * 1024;
const ERRORS: usize = 16;
const ERROR_BYTES: usize = 4096;
/// The longest name that is kept.
pub const NAME_BYTES: usize = 128;

impl Report {
    /// Creates a report of a text and an HTTP status.
    pub fn new(text: &str, api_status: Option<u16>) -> Report {
        Report { text: bounded(text.trim(), TEXT_BYTES), api_status, ..Report::default() }
    }

    /// Reads a list of errors: texts, or objects with a message.
    pub fn read_errors(&mut self, errors: Option<&RawValue>) {
        let _ = for_each_element(errors, |error| {
            if self.errors.len() == ERRORS {
                return;
            }
            let shown = error_text(error);
            let shown = shown.trim();
            if !shown.is_empty() && !is_diagnostic(shown) {
                self.errors.push(bounded(shown, ERROR_BYTES));
            }
            let [kind] = pick(error.get(), &["type"]).unwrap_or_default();
            self.kinds.extend(some_text(kind).map(|kind| bounded(&kind, NAME_BYTES)));
        });
    }

    /// What went wrong or was the outcome: its text, else its first error.
    pub fn detail(&self) -> Option<&str> {
        self.texts().find(|text| !text.is_empty())
    }

    /// Returns its texts, the most important first.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.text).chain(&self.errors).map(String::as_str)
    }

    /// The HTTP status that the provider's API answered with: as a member says it, else as the agent names it in its text.
    pub fn status(&self, own: &Lexicon) -> Option<u16> {
        self.api_status.or_else(|| self.texts().find_map(own.status_in))
    }

    /// Whether one of its texts mentions one of `phrases`.
    pub fn says(&self, phrases: &[&[&str]]) -> bool {
        self.texts().any(|text| mentions(text, phrases))
    }

    /// Whether the provider gave an error this name.
    pub fn has_kind(&self, kind: &str) -> bool {
        self.kinds.iter().any(|known| known == kind)
    }

    /// Whether one of its stop reasons is one of `reasons`.
    pub fn has_stop_reason(&self, reasons: &[&str]) -> bool {
        self.stop_reasons.iter().any(|reason| reasons.contains(&reason.as_str()))
    }

    /// What it is about. `model` is the model that the run asked for.
    pub fn topics(&self, model: Option<&str>, own: &Lexicon) -> Topics {
        let status = self.status(own);
        let mut topics = Topics::default();
        for kind in &self.kinds {
            topics.add(Topics::of_kind(kind, status));
        }
        if self.detail().is_none() {
            // The status alone says what it is about.
            topics.add(Topics::of_line(&Words::of(""), status, false, own));
        }
        for line in self.texts().flat_map(str::lines) {
            let names_model = model.is_some_and(|model| !model.is_empty() && line.contains(model));
            topics.add(Topics::of_line(&Words::of(line), status, names_model, own));
        }
        topics
    }
}

/// Returns the start of a text as its owner.
pub(crate) fn bounded(text: &str, max_bytes: usize) -> String {
    head(text, max_bytes).into_owned()
}

/// Returns a name in lower case.
pub fn lower_name(member: Option<&RawValue>) -> Option<String> {
    // By characters: `str::to_lowercase` has 4 KiB of code for the Greek sigma.
    some_text(member).map(|text| head(text.trim(), NAME_BYTES).chars().flat_map(char::to_lowercase).collect())
}

/// A text, or of an object its message, error (a text or an object again), code or JSON.
pub fn error_text(error: &RawValue) -> String {
    if let Some(text) = text(Some(error)) {
        return text.into_owned();
    }
    let Some([message, inner, code]) = pick(error.get(), &["message", "error", "code"]) else {
        return String::new();
    };
    let of_inner = || {
        let [message, code] = pick(inner?.get(), &["message", "code"])?;
        some_text(message).or(some_text(code))
    };
    let shown = some_text(message).or_else(|| some_text(inner)).or_else(of_inner).or_else(|| some_text(code));
    shown.map_or_else(|| error.get().to_owned(), Into::into)
}

/// Whether a text is a diagnostic in brackets, such as `[ede_diagnostic] result_type=user`.
fn is_diagnostic(text: &str) -> bool {
    text.strip_prefix('[')
        .and_then(|text| text.split_once(']'))
        .is_some_and(|(name, _)| name.ends_with("diagnostic"))
}

/// A status given as a number or as text.
pub fn http_status(member: Option<&RawValue>) -> Option<u16> {
    let status = number(member).or_else(|| text(member)?.trim().parse().ok())?;
    (100.0..600.0).contains(&status).then_some(status as u16)
}
