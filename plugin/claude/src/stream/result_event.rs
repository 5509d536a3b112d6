//! The CLI's last report: the `result` event.

use paperclip_kit::outcome::{Usage, bounded_object, head};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use paperclip_kit::json::{count, for_each_member, is_true, number, pick, small_members, some_text};
use paperclip_kit::stream::Report;

use super::report::{is_of_a_request, of_result};
use super::usage::anthropic_usage;

/// A result event, as far as a judgement and the server need it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ResultEvent {
    pub(crate) subtype: String,
    pub(crate) is_error: bool,
    pub(crate) report: Report,
    /// How many turns the run had, if the event says so.
    turns: Option<u64>,
    pub(crate) usage: Usage,
    pub(crate) cost_usd: Option<f64>,
    pub(crate) model: Option<String>,
    /// The event as JSON of at most [`ResultEvent::EVENT_BYTES`]. It becomes a tree only when the run is judged.
    json: String,
}

impl ResultEvent {
    /// How much of the event `resultJson` holds, in bytes of JSON: the rest of the server's bound is for our own
    /// additions.
    const EVENT_BYTES: usize = 48 * 1024;
    const NAME_BYTES: usize = 128;

    /// Reads an event that is known to be a result.
    pub(super) fn read(json: &str) -> ResultEvent {
        let names = ["subtype", "is_error", "num_turns", "usage", "modelUsage", "total_cost_usd", "model"];
        let [subtype, is_error, turns, usage, model_usage, cost, model] =
            pick(json, &names).unwrap_or_default();
        let name = |text: &str| head(text.trim(), Self::NAME_BYTES).into_owned();
        ResultEvent {
            subtype: name(&some_text(subtype).unwrap_or_default()),
            is_error: is_true(is_error),
            report: of_result(json),
            turns: turns.map(|turns| count(Some(turns))),
            usage: sum_of_models(model_usage).or_else(|| anthropic_usage(usage)).unwrap_or_default(),
            cost_usd: number(cost),
            model: some_text(model).map(|model| name(&model)),
            json: if json.len() <= Self::EVENT_BYTES {
                json.to_owned()
            } else {
                Value::Object(Self::object_of(json)).to_string()
            },
        }
    }

    /// Returns the event itself, for `resultJson`.
    pub(crate) fn to_object(&self) -> Map<String, Value> {
        Self::object_of(&self.json)
    }

    fn object_of(json: &str) -> Map<String, Value> {
        bounded_object(small_members(json, Self::EVENT_BYTES), Self::EVENT_BYTES)
    }

    /// Whether the CLI reports a failure. Its text is then the CLI's, else the agent's.
    pub(crate) fn is_failure(&self) -> bool {
        self.is_error || self.subtype.starts_with("error")
    }

    /// Whether it reports a failure of a request of its own to the API. A failure of the subtype `success` is the CLI's form for that.
    pub(crate) fn is_api_failure(&self) -> bool {
        self.is_failure() && (self.subtype == "success" || is_of_a_request(&self.report))
    }

    pub(crate) fn has_no_turn(&self) -> bool {
        self.turns.is_none_or(|turns| turns == 0)
    }
}

/// Sums the ledger per model, sub-agents included; tokens that wrote the cache were sent and paid for like any input.
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
    use paperclip_kit::stream::TEXT_BYTES;

    fn read(event: &Value) -> ResultEvent {
        ResultEvent::read(&event.to_string())
    }

    #[test]
    fn usage_is_the_sum_over_the_models() {
        let event = read(&json!({"type": "result", "usage": {"input_tokens": 1},
            "modelUsage": {"a": {"inputTokens": 100, "outputTokens": 7, "cacheReadInputTokens": 30,
                "cacheCreationInputTokens": 20}, "b": {"inputTokens": 5}}}));
        let sum = Usage { input_tokens: 125, cached_input_tokens: 30, output_tokens: 7 };
        assert_eq!(event.usage, sum);
        let event =
            read(&json!({"type": "result", "usage": {"input_tokens": 1, "cache_creation_input_tokens": 9},
            "modelUsage": {}}));
        assert_eq!(event.usage, Usage { input_tokens: 1, ..Usage::default() });
    }

    #[test]
    fn a_failure_is_an_error_or_has_a_subtype_of_one() {
        for (event, is_failure, is_api) in [
            (json!({"subtype": "success"}), false, false),
            (json!({"subtype": "success", "is_error": false, "api_error_status": 500}), false, false),
            (json!({"subtype": "success", "is_error": true}), true, true),
            (json!({"subtype": "error_during_execution"}), true, false),
            (json!({"subtype": "error_max_turns", "is_error": false}), true, false),
            (json!({"subtype": "error_during_execution", "api_error_status": 500}), true, true),
            (json!({"is_error": true, "result": "API Error: x"}), true, true),
            (json!({"is_error": true}), true, false),
            (json!({}), false, false),
        ] {
            let read = read(&event);
            assert_eq!((read.is_failure(), read.is_api_failure()), (is_failure, is_api), "{event}");
        }
    }

    #[test]
    fn turns_are_counted_if_the_event_has_them() {
        assert!(read(&json!({})).has_no_turn() && read(&json!({"num_turns": 0})).has_no_turn());
        assert!(!read(&json!({"num_turns": 1})).has_no_turn());
    }

    #[test]
    fn a_number_out_of_range_does_not_spoil_the_event() {
        let event = ResultEvent::read(r#"{"type":"result","subtype":"success","n":1e999,"result":"x"}"#);
        assert_eq!(event.to_object()["result"], "x");
        assert_eq!(event.to_object()["subtype"], "success");
    }

    #[test]
    fn a_long_event_is_bounded() {
        let event =
            read(&json!({"result": "x".repeat(1_000_000), "usage": {"output_tokens": 3}, "type": "result"}));
        assert_eq!(event.report.text.len(), TEXT_BYTES);
        assert!(event.json.len() <= ResultEvent::EVENT_BYTES);
        assert_eq!(serde_json::to_string(&event.to_object()).unwrap(), event.json);
        assert_eq!(event.usage.output_tokens, 3);
        let line = json!({"type": "result", "result": "x".repeat(48_000)}).to_string();
        assert_eq!(ResultEvent::read(&line).json, line);
    }
}
