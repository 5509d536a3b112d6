//! The CLI's last word: the `result` event.

use paperclip_kit::outcome::{Usage, bounded_object, head};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::json::{
    count, for_each_element, for_each_member, is_true, number, pick, small_members, some_text, text,
};
use super::usage::anthropic_usage;
use crate::phrases::{Phrase, mentions};

/// A result event, as far as a judgement and the server need it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ResultEvent {
    pub(crate) subtype: String,
    pub(crate) is_error: bool,
    /// The event calls itself a success: its text is the agent's, not the CLI's.
    pub(crate) claims_success: bool,
    /// The member `result`, trimmed.
    pub(crate) text: String,
    /// The texts of the member `errors`.
    pub(crate) errors: Vec<String>,
    /// The provider's names of errors, such as `overloaded_error`.
    pub(crate) error_kinds: Vec<String>,
    /// The HTTP status that the provider's API answered with.
    pub(crate) status: Option<u16>,
    /// In lower case.
    pub(crate) stop_reasons: Vec<String>,
    pub(crate) usage: Usage,
    pub(crate) cost_usd: Option<f64>,
    pub(crate) model: Option<String>,
    /// The event as JSON of at most [`ResultEvent::EVENT_BYTES`]: of many, only the last one is ever wanted as a tree.
    json: String,
}

impl ResultEvent {
    /// How much of the event `resultJson` holds, in bytes of JSON: the rest of the server's bound is for our own
    /// additions.
    const EVENT_BYTES: usize = 48 * 1024;
    const TEXT_BYTES: usize = 32 * 1024;
    const ERRORS: usize = 16;
    const ERROR_BYTES: usize = 4096;
    const NAME_BYTES: usize = 128;

    /// Reads an event that is known to be a result.
    pub(super) fn read(line: &str) -> ResultEvent {
        let names = [
            "subtype",
            "is_error",
            "result",
            "errors",
            "usage",
            "modelUsage",
            "total_cost_usd",
            "model",
            "stop_reason",
            "stopReason",
            "error_code",
            "errorCode",
            "api_error_status",
            "error_status",
            "api_error_type",
            "error",
        ];
        let [subtype, is_error, result, errors, usage, model_usage, cost, model, rest @ ..] =
            pick(line, &names).unwrap_or_default();
        let [stop_reason, stop_reason_too, code, code_too, api_status, status, api_kind, kind] = rest;
        let mut read = ResultEvent {
            subtype: bounded(some_text(subtype).unwrap_or_default().trim(), Self::NAME_BYTES),
            is_error: is_true(is_error),
            text: bounded(text(result).unwrap_or_default().trim(), Self::TEXT_BYTES),
            usage: sum_of_models(model_usage).or_else(|| anthropic_usage(usage)).unwrap_or_default(),
            cost_usd: number(cost),
            model: some_text(model).map(|model| bounded(&model, Self::NAME_BYTES)),
            ..ResultEvent::default()
        };
        let denies_error = is_error.is_some_and(|flag| flag.get() == "false");
        let says_success = read.subtype == "success";
        read.claims_success = !read.is_error && !read.has_error_subtype() && (denies_error || says_success);
        read.read_errors(errors);
        let reasons = [stop_reason, stop_reason_too, code, code_too].into_iter().filter_map(some_text);
        read.stop_reasons =
            reasons.map(|text| bounded(text.trim(), Self::NAME_BYTES).to_lowercase()).collect();
        read.status = http_status(api_status).or(http_status(status));
        let kinds = [api_kind, kind].into_iter().filter_map(some_text);
        read.error_kinds.extend(kinds.map(|kind| bounded(&kind, Self::NAME_BYTES)));
        read.json = if line.len() <= Self::EVENT_BYTES {
            line.to_owned()
        } else {
            Value::Object(Self::object_of(line)).to_string()
        };
        read
    }

    /// The event itself, for `resultJson`.
    pub(crate) fn to_object(&self) -> Map<String, Value> {
        Self::object_of(&self.json)
    }

    fn object_of(json: &str) -> Map<String, Value> {
        bounded_object(small_members(json, Self::EVENT_BYTES), Self::EVENT_BYTES)
    }

    /// What the event says went wrong or came out: its text, else its first error.
    pub(crate) fn detail(&self) -> Option<&str> {
        let texts = std::iter::once(&self.text).chain(&self.errors);
        texts.map(String::as_str).find(|text| !text.is_empty())
    }

    pub(crate) fn has_error_subtype(&self) -> bool {
        self.subtype.starts_with("error")
    }

    /// Whether the event's text or errors mention one of `phrases`.
    pub(crate) fn says(&self, phrases: &[Phrase]) -> bool {
        mentions(&self.text, phrases) || self.cli_says_beside_text(phrases)
    }

    /// The same, but without a text that the agent wrote: an agent may well write about rate limits.
    pub(crate) fn cli_says(&self, phrases: &[Phrase]) -> bool {
        (!self.claims_success && mentions(&self.text, phrases)) || self.cli_says_beside_text(phrases)
    }

    fn cli_says_beside_text(&self, phrases: &[Phrase]) -> bool {
        self.errors.iter().chain(&self.error_kinds).any(|text| mentions(text, phrases))
    }

    fn read_errors(&mut self, errors: Option<&RawValue>) {
        let _ = for_each_element(errors, |error| {
            if self.errors.len() == Self::ERRORS {
                return;
            }
            if let Some(text) = text(Some(error)) {
                self.errors
                    .extend(Some(bounded(text.trim(), Self::ERROR_BYTES)).filter(|text| !text.is_empty()));
            } else if let Some([message, inner, code, kind]) =
                pick(error.get(), &["message", "error", "code", "type"])
            {
                let told = some_text(message).or(some_text(inner)).or(some_text(code));
                self.errors.push(bounded(told.as_deref().unwrap_or(error.get()).trim(), Self::ERROR_BYTES));
                self.error_kinds.extend(some_text(kind).map(|kind| bounded(&kind, Self::NAME_BYTES)));
            }
        });
    }
}

fn bounded(text: &str, max_bytes: usize) -> String {
    head(text, max_bytes).into_owned()
}

/// A status told as a number or as text.
fn http_status(member: Option<&RawValue>) -> Option<u16> {
    let status = number(member).or_else(|| text(member)?.trim().parse().ok())?;
    (100.0..600.0).contains(&status).then_some(status as u16)
}

/// The per-model ledger, sub-agents included; tokens that wrote the cache were sent and paid for like any input.
/// `None` without entries.
fn sum_of_models(ledger: Option<&RawValue>) -> Option<Usage> {
    let names = ["inputTokens", "cacheCreationInputTokens", "cacheReadInputTokens", "outputTokens"];
    let mut sum = None;
    for_each_member(ledger, |entry| {
        if let Some([input, written, read, output]) = pick(entry.get(), &names) {
            sum.get_or_insert_with(Usage::default).add(Usage {
                input_tokens: count(input).saturating_add(count(written)),
                cached_input_tokens: count(read),
                output_tokens: count(output),
            });
        }
    });
    sum
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn usage_is_the_sum_over_the_models() {
        let line = json!({"type": "result", "usage": {"input_tokens": 1},
            "modelUsage": {"a": {"inputTokens": 100, "outputTokens": 7, "cacheReadInputTokens": 30,
                "cacheCreationInputTokens": 20}, "b": {"inputTokens": 5}}});
        let event = ResultEvent::read(&line.to_string());
        let sum = Usage { input_tokens: 125, cached_input_tokens: 30, output_tokens: 7 };
        assert_eq!(event.usage, sum);
        let line = json!({"type": "result", "usage": {"input_tokens": 1, "cache_creation_input_tokens": 9},
            "modelUsage": {}});
        assert_eq!(ResultEvent::read(&line.to_string()).usage, Usage { input_tokens: 1, ..Usage::default() });
    }

    #[test]
    fn an_error_is_told_by_its_text_message_error_code_or_json() {
        let line = json!({"type": "result", "errors": ["", " a ", {"message": "b"}, {"error": "c"}, {"code": "d"},
            {"x": 1}, 7, {"message": "e", "type": "overloaded_error"}]});
        let event = ResultEvent::read(&line.to_string());
        assert_eq!(event.errors, ["a", "b", "c", "d", r#"{"x":1}"#, "e"]);
        assert_eq!(event.detail(), Some("a"));
        assert!(event.cli_says(crate::phrases::OVERLOAD));
    }

    #[test]
    fn the_text_of_a_success_is_the_agents() {
        let said = |event: Value| {
            let event = ResultEvent::read(&event.to_string());
            (event.says(crate::phrases::OVERLOAD), event.cli_says(crate::phrases::OVERLOAD))
        };
        assert_eq!(said(json!({"subtype": "success", "result": "overloaded"})), (true, false));
        assert_eq!(said(json!({"is_error": false, "result": "overloaded"})), (true, false));
        assert_eq!(
            said(json!({"subtype": "success", "is_error": true, "result": "overloaded"})),
            (true, true)
        );
        assert_eq!(said(json!({"subtype": "error_during_execution", "result": "overloaded"})), (true, true));
        assert_eq!(
            said(json!({"subtype": "error_max_turns", "is_error": false, "result": "overloaded"})),
            (true, true)
        );
        assert_eq!(said(json!({"result": "overloaded"})), (true, true));
    }

    #[test]
    fn a_status_may_be_text() {
        let status = |event: Value| ResultEvent::read(&event.to_string()).status;
        assert_eq!(status(json!({"api_error_status": 529})), Some(529));
        assert_eq!(status(json!({"api_error_status": null, "error_status": "429"})), Some(429));
        assert_eq!(status(json!({"api_error_status": "soon"})), None);
    }

    #[test]
    fn a_number_out_of_range_does_not_spoil_the_event() {
        let event = ResultEvent::read(r#"{"type":"result","subtype":"success","n":1e999,"result":"x"}"#);
        assert_eq!(event.to_object()["result"], "x");
        assert_eq!(event.to_object()["subtype"], "success");
    }

    #[test]
    fn a_long_event_is_bounded() {
        let line = json!({"type": "result", "result": "x".repeat(1_000_000), "usage": {"output_tokens": 3}});
        let event = ResultEvent::read(&line.to_string());
        assert_eq!(event.text.len(), ResultEvent::TEXT_BYTES);
        assert!(event.json.len() <= ResultEvent::EVENT_BYTES);
        assert_eq!(serde_json::to_string(&event.to_object()).unwrap(), event.json);
        assert_eq!(event.usage.output_tokens, 3);
        let line = json!({"type": "result", "result": "x".repeat(48_000)}).to_string();
        assert_eq!(ResultEvent::read(&line).json, line);
    }
}
