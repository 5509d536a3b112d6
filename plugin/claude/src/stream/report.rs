//! What the CLI itself reports about the end of a run: in a result event, or in an assistant message of its own.

use paperclip_kit::json::{pick, some_text, text};
use paperclip_kit::outcome::head;
use paperclip_kit::stream::{NAME_BYTES, Report, TEXT_BYTES, http_status, lower_name};
use serde_json::value::RawValue;

/// How the text of an API failure starts.
const API_FAILURE: &str = "API Error";

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
        text: head(text(result).unwrap_or_default().trim(), TEXT_BYTES).into_owned(),
        api_status: http_status(api_status).or(http_status(status)),
        terminal_reason: lower_name(terminal_reason).unwrap_or_default(),
        stop_reasons: reasons.into_iter().filter_map(lower_name).collect(),
        kinds: some_text(kind).map(|kind| head(&kind, NAME_BYTES).into_owned()).into_iter().collect(),
        ..Report::default()
    };
    report.read_errors(errors);
    report
}

/// Reads an assistant event that the CLI wrote itself; `text` and `stop_reason` are those of its message.
pub(super) fn of_synthetic(json: &str, text: &str, stop_reason: Option<&RawValue>) -> Report {
    let [status, kind] = pick(json, &["api_error_status", "api_error_type"]).unwrap_or_default();
    Report {
        text: head(text.trim(), TEXT_BYTES).into_owned(),
        api_status: http_status(status),
        kinds: some_text(kind).map(|kind| head(&kind, NAME_BYTES).into_owned()).into_iter().collect(),
        stop_reasons: lower_name(stop_reason).into_iter().collect(),
        ..Report::default()
    }
}

/// Whether a typed fact or the text's form says that a request of the CLI failed.
pub(super) fn is_of_a_request(report: &Report) -> bool {
    const REASONS: [&str; 4] = ["api_error", "prompt_too_long", "image_error", "model_error"];
    REASONS.contains(&report.terminal_reason.as_str())
        || report.api_status.is_some()
        || report.detail().is_some_and(|text| text.starts_with(API_FAILURE))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use paperclip_kit::phrases::Topics;

    use super::*;
    use crate::phrases::LEXICON;

    fn read(event: &Value) -> Report {
        of_result(&event.to_string())
    }

    #[test]
    fn an_error_is_shown_by_its_text_message_error_code_or_json() {
        let report =
            read(&json!({"errors": ["", " a ", {"message": "b"}, {"error": "c"}, {"code": "d"}, {"x": 1}, 7,
            {"error": {"message": "f"}}, {"message": "e", "type": "overloaded_error"},
            "[ede_diagnostic] result_type=user"]}));
        assert_eq!(report.errors, ["a", "b", "c", "d", r#"{"x":1}"#, "f", "e"]);
        assert_eq!(report.detail(), Some("a"));
        assert!(report.topics(None, &LEXICON).transient && report.has_kind("overloaded_error"));
        assert_eq!(read(&json!({"errors": ["[ede_diagnostic] x"]})).detail(), None);
    }

    #[test]
    fn a_status_may_be_text_or_in_the_text() {
        let status = |event: Value| read(&event).status(&LEXICON);
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
            assert!(is_of_a_request(&read(&event)), "{event}");
        }
        for event in [json!({}), json!({"terminal_reason": "max_turns", "result": "an API Error"})] {
            assert!(!is_of_a_request(&read(&event)), "{event}");
        }
    }

    #[test]
    fn a_status_without_a_text_says_what_the_failure_is_about() {
        let topics = |event| read(&event).topics(None, &LEXICON);
        assert!(topics(json!({"api_error_status": 401})).credentials);
        assert!(topics(json!({"api_error_status": 529, "result": ""})).transient);
        let model =
            topics(json!({"api_error_status": 403, "errors": ["you do not have access to the model"]}));
        assert!(model.model && !model.credentials);
    }

    #[test]
    fn the_derived_error_member_decides_nothing() {
        assert_eq!(
            read(&json!({"error": "authentication_failed"})).topics(None, &LEXICON),
            Topics::default()
        );
    }
}
