//! What the CLI itself reports about the end of a run: in a result event, or in an assistant message of its own.

use paperclip_kit::outcome::head;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::json::{for_each_element, number, pick, some_text, text};
use crate::phrases::{Topics, status_in};
use crate::words::{Phrase, Words, mentions};

/// The CLI's own words about a run, with the typed facts beside them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Report {
    /// The member `result`, or the message's text; trimmed.
    pub(crate) text: String,
    /// The texts of the member `errors`, without diagnostics.
    pub(crate) errors: Vec<String>,
    /// The provider's names of errors, such as `overloaded_error`.
    kinds: Vec<String>,
    /// The HTTP status that the provider's API answered with, as a member says it.
    api_status: Option<u16>,
    /// In lower case.
    pub(crate) terminal_reason: String,
    /// In lower case, codes included.
    pub(crate) stop_reasons: Vec<String>,
}

pub(super) const TEXT_BYTES: usize = 32 * 1024;
const ERRORS: usize = 16;
const ERROR_BYTES: usize = 4096;
const NAME_BYTES: usize = 128;

/// How the text of an API failure starts.
const API_FAILURE: &str = "API Error";

impl Report {
    /// Reads a result event.
    pub(super) fn of_result(json: &str) -> Report {
        let names = [
            "result",
            "errors",
            "api_error_status",
            "error_status",
            "api_error_type",
            "terminal_reason",
            "stop_reason",
            "stopReason",
            "error_code",
            "errorCode",
        ];
        let [result, errors, api_status, status, kind, terminal_reason, reasons @ ..] =
            pick(json, &names).unwrap_or_default();
        let mut report = Report {
            text: bounded(text(result).unwrap_or_default().trim(), TEXT_BYTES),
            api_status: http_status(api_status).or(http_status(status)),
            terminal_reason: name(terminal_reason).unwrap_or_default(),
            stop_reasons: reasons.into_iter().filter_map(name).collect(),
            kinds: some_text(kind).map(|kind| bounded(&kind, NAME_BYTES)).into_iter().collect(),
            ..Report::default()
        };
        report.read_errors(errors);
        report
    }

    /// Reads an assistant event that the CLI wrote itself; `text` and `stop_reason` are those of its message.
    pub(super) fn of_synthetic(json: &str, text: &str, stop_reason: Option<&RawValue>) -> Report {
        let [status, kind] = pick(json, &["api_error_status", "api_error_type"]).unwrap_or_default();
        Report {
            text: bounded(text.trim(), TEXT_BYTES),
            api_status: http_status(status),
            kinds: some_text(kind).map(|kind| bounded(&kind, NAME_BYTES)).into_iter().collect(),
            stop_reasons: name(stop_reason).into_iter().collect(),
            ..Report::default()
        }
    }

    fn read_errors(&mut self, errors: Option<&RawValue>) {
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
    pub(crate) fn detail(&self) -> Option<&str> {
        self.texts().find(|text| !text.is_empty())
    }

    pub(crate) fn texts(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.text).chain(&self.errors).map(String::as_str)
    }

    /// The HTTP status that the provider's API answered with: as a member says it, else as the CLI names it in its text.
    pub(crate) fn status(&self) -> Option<u16> {
        self.api_status.or_else(|| self.texts().find_map(status_in))
    }

    /// Whether a typed fact or the text's form says that a request of the CLI failed.
    pub(crate) fn is_of_a_request(&self) -> bool {
        const REASONS: [&str; 4] = ["api_error", "prompt_too_long", "image_error", "model_error"];
        REASONS.contains(&self.terminal_reason.as_str())
            || self.api_status.is_some()
            || self.detail().is_some_and(|text| text.starts_with(API_FAILURE))
    }

    pub(crate) fn says(&self, phrases: &[Phrase]) -> bool {
        self.texts().any(|text| mentions(text, phrases))
    }

    pub(crate) fn has_kind(&self, kind: &str) -> bool {
        self.kinds.iter().any(|known| known == kind)
    }

    pub(crate) fn has_stop_reason(&self, reasons: &[&str]) -> bool {
        self.stop_reasons.iter().any(|reason| reasons.contains(&reason.as_str()))
    }

    /// What it is about. `model` is the model that the run asked for.
    pub(crate) fn topics(&self, model: Option<&str>) -> Topics {
        let status = self.status();
        let mut topics = Topics::default();
        for kind in &self.kinds {
            topics.add(Topics::of_kind(kind, status));
        }
        for line in self.texts().flat_map(str::lines) {
            let names_model = model.is_some_and(|model| !model.is_empty() && line.contains(model));
            topics.add(Topics::of_line(&Words::of(line), status, names_model));
        }
        topics
    }
}

fn bounded(text: &str, max_bytes: usize) -> String {
    head(text, max_bytes).into_owned()
}

fn name(member: Option<&RawValue>) -> Option<String> {
    // By characters: `str::to_lowercase` has 4 KiB of code for the Greek sigma.
    some_text(member).map(|text| head(text.trim(), NAME_BYTES).chars().flat_map(char::to_lowercase).collect())
}

/// A text, or of an object its message, error (a text or an object again), code or JSON.
pub(crate) fn error_text(error: &RawValue) -> String {
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
pub(super) fn http_status(member: Option<&RawValue>) -> Option<u16> {
    let status = number(member).or_else(|| text(member)?.trim().parse().ok())?;
    (100.0..600.0).contains(&status).then_some(status as u16)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(event: &Value) -> Report {
        Report::of_result(&event.to_string())
    }

    #[test]
    fn an_error_is_shown_by_its_text_message_error_code_or_json() {
        let report =
            read(&json!({"errors": ["", " a ", {"message": "b"}, {"error": "c"}, {"code": "d"}, {"x": 1}, 7,
            {"error": {"message": "f"}}, {"message": "e", "type": "overloaded_error"},
            "[ede_diagnostic] result_type=user"]}));
        assert_eq!(report.errors, ["a", "b", "c", "d", r#"{"x":1}"#, "f", "e"]);
        assert_eq!(report.detail(), Some("a"));
        assert!(report.topics(None).transient && report.has_kind("overloaded_error"));
        assert_eq!(read(&json!({"errors": ["[ede_diagnostic] x"]})).detail(), None);
    }

    #[test]
    fn a_status_may_be_text_or_in_the_text() {
        let status = |event: Value| read(&event).status();
        assert_eq!(status(json!({"api_error_status": 529})), Some(529));
        assert_eq!(status(json!({"api_error_status": null, "error_status": "429"})), Some(429));
        assert_eq!(status(json!({"api_error_status": "soon"})), None);
        assert_eq!(status(json!({"result": "API Error: 500 {\"type\":\"error\"}"})), Some(500));
        assert_eq!(status(json!({"api_error_status": 400, "result": "API Error: 500 x"})), Some(400));
    }

    #[test]
    fn a_failure_of_a_request_has_a_reason_a_status_or_a_form() {
        for event in [
            json!({"terminal_reason": "api_error"}),
            json!({"terminal_reason": "prompt_too_long"}),
            json!({"terminal_reason": "image_error"}),
            json!({"terminal_reason": "model_error"}),
            json!({"api_error_status": 404}),
            json!({"result": "API Error: Overloaded"}),
            json!({"errors": ["API Error: Overloaded"]}),
        ] {
            assert!(read(&event).is_of_a_request(), "{event}");
        }
        for event in [json!({}), json!({"terminal_reason": "max_turns", "result": "an API Error"})] {
            assert!(!read(&event).is_of_a_request(), "{event}");
        }
    }

    #[test]
    fn the_derived_error_member_decides_nothing() {
        assert_eq!(read(&json!({"error": "authentication_failed"})).topics(None), Topics::default());
    }
}
