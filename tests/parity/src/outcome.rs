//! Compares results: with what a case expects, and in the other fields with what the reference adapter returned.

use paperclip_kit::outcome::RESULT_JSON_BYTES;
use regex::Regex;
use serde::Deserialize;
use serde_json::{Map, Value};

/// A line of `tests/fixtures/cases/classify.ndjson` or `reports.ndjson`.
#[derive(Debug, Clone, Deserialize)]
pub struct Case {
    pub name: String,
    /// An [`EvidenceDocument`](paperclip_kit::outcome::EvidenceDocument).
    pub evidence: Value,
    /// The reference adapter's result, if the case has one.
    #[serde(default)]
    pub reference: Map<String, Value>,
    /// `errorCode` (null, one, or a list: any of), `contains` and `lacks` (regular expressions on `errorMessage`), `cause` (of
    /// `resultJson.termination`), `retryNotBefore` (a prefix), and further fields that must be equal.
    pub expected: Map<String, Value>,
}

/// Fields that must be equal to the reference, unless something else is expected.
const AS_IN_REFERENCE: [&str; 5] = ["exitCode", "model", "summary", "sessionId", "costUsd"];

/// Reads cases, one a line.
///
/// # Panics
/// A line is not a case.
pub fn cases(ndjson: &str) -> Vec<Case> {
    ndjson.lines().map(|line| serde_json::from_str(line).expect("a fixture has one case a line")).collect()
}

/// Compares a result with what is expected of it.
///
/// # Errors
/// Every difference, one a line.
pub fn check_case(
    expected: &Map<String, Value>,
    reference: &Map<String, Value>,
    actual: &Map<String, Value>,
) -> Result<(), String> {
    let mut differences = invariants_of_every_result(actual);
    for (field, expected) in expected {
        let message = value_of(actual, "errorMessage");
        let (found, is_right) = match field.as_str() {
            "errorCode" => with(value_of(actual, field), |found| is_one_of(found, expected)),
            "contains" => with(message, |found| matches_all(found, expected, true)),
            "lacks" => with(message, |found| matches_all(found, expected, false)),
            "cause" => with(cause_of(actual), |found| is_equal(found, expected)),
            "retryNotBefore" => with(value_of(actual, field), |found| starts_with(found, expected)),
            _ => with(value_of(actual, field), |found| is_equal(found, expected)),
        };
        if !is_right {
            differences.push(format!("{field} is {found}, expected {expected}"));
        }
    }
    if value_of(expected, "errorCode").is_null() && !value_of(actual, "errorMessage").is_null() {
        differences.push(format!("a success says {}", value_of(actual, "errorMessage")));
    }
    let compared = AS_IN_REFERENCE.iter().filter(|field| !expected.contains_key(**field));
    for (field, expected) in compared.filter_map(|field| Some((*field, reference.get(*field)?))) {
        if !is_equal(value_of(actual, field), expected) {
            differences.push(format!("{field} is {}, the reference has {expected}", value_of(actual, field)));
        }
    }
    if differences.is_empty() { Ok(()) } else { Err(differences.join("\n")) }
}

fn invariants_of_every_result(actual: &Map<String, Value>) -> Vec<String> {
    let mut broken = Vec::new();
    let has = |field: &str| !value_of(actual, field).is_null();
    if has("errorCode") != has("errorMessage") {
        broken.push("a failure has both a code and a message".to_owned());
    }
    if value_of(actual, "errorMessage") == "" {
        broken.push("a message is not empty".to_owned());
    }
    if has("signal") {
        broken.push("signal stays null".to_owned());
    }
    if value_of(actual, "resultJson").to_string().len() > RESULT_JSON_BYTES {
        broken.push(format!("resultJson is over {RESULT_JSON_BYTES} bytes"));
    }
    broken
}

fn with(found: &Value, is_right: impl FnOnce(&Value) -> bool) -> (&Value, bool) {
    (found, is_right(found))
}

fn cause_of(actual: &Map<String, Value>) -> &Value {
    value_of(actual, "resultJson").pointer("/termination/cause").unwrap_or(&Value::Null)
}

/// An absent field is the same as null.
fn value_of<'a>(object: &'a Map<String, Value>, field: &str) -> &'a Value {
    object.get(field).unwrap_or(&Value::Null)
}

fn is_one_of(found: &Value, expected: &Value) -> bool {
    match expected {
        Value::Array(any) => any.contains(found),
        one => found == one,
    }
}

/// Whether a text matches all of a list of regular expressions, or none of them.
fn matches_all(found: &Value, patterns: &Value, should_match: bool) -> bool {
    let text = found.as_str().unwrap_or_default();
    let patterns = patterns.as_array().map(Vec::as_slice).unwrap_or_default();
    patterns.iter().all(|pattern| {
        let regex = pattern.as_str().and_then(|pattern| Regex::new(pattern).ok());
        regex.is_some_and(|regex| regex.is_match(text) == should_match)
    })
}

fn starts_with(found: &Value, prefix: &Value) -> bool {
    match (found.as_str(), prefix.as_str()) {
        (Some(found), Some(prefix)) => found.starts_with(prefix),
        (None, None) => found == prefix,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

/// Numbers are equal if their values are: 1 and 1.0 are.
fn is_equal(found: &Value, expected: &Value) -> bool {
    match (found.as_f64(), expected.as_f64()) {
        (Some(found), Some(expected)) => found == expected,
        (None, Some(_)) | (Some(_), None) => false,
        (None, None) => found == expected,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(expected: Value, reference: Value, actual: Value) -> Result<(), String> {
        let [expected, reference, actual] =
            [expected, reference, actual].map(|value| value.as_object().cloned().unwrap());
        check_case(&expected, &reference, &actual)
    }

    #[test]
    fn accepts_what_is_expected() {
        let actual = json!({"exitCode": 1, "errorCode": "timeout", "errorMessage": "Timed out after 5s", "timedOut": true});
        let expected =
            json!({"errorCode": ["cancelled", "timeout"], "contains": ["^Timed out"], "timedOut": true});
        assert_eq!(check(expected, json!({"exitCode": 1.0, "errorMessage": "other"}), actual), Ok(()));
    }

    #[test]
    fn names_every_difference() {
        let differences = check(
            json!({"errorCode": null, "usageBasis": "per_run"}),
            json!({"summary": "done"}),
            json!({"errorCode": "timeout", "errorMessage": "", "signal": "SIGTERM"}),
        )
        .unwrap_err();
        assert_eq!(differences.lines().count(), 6, "{differences}");
    }

    #[test]
    fn compares_messages_as_the_case_says() {
        let message = |field: &str, patterns: Value| {
            let actual = json!({"errorCode": "x", "errorMessage": "Timed out after 5s"});
            check(json!({"errorCode": "x", field: patterns}), json!({}), actual).is_ok()
        };
        assert!(message("contains", json!(["out", "\\ds$"])) && !message("contains", json!(["out", "in"])));
        assert!(message("lacks", json!(["in"])) && !message("lacks", json!(["in", "out"])));
        assert!(!message("contains", json!(["("])) && !message("lacks", json!([5])));
    }

    #[test]
    fn compares_causes_and_the_start_of_times() {
        let actual = json!({"errorCode": "x", "errorMessage": "x", "retryNotBefore": "2026-12-08T00:00:00.000Z",
            "resultJson": {"termination": {"cause": "node_lost"}}});
        let is_right = |field: &str, value: Value| {
            check(json!({"errorCode": "x", field: value}), json!({}), actual.clone()).is_ok()
        };
        assert!(is_right("cause", json!("node_lost")) && !is_right("cause", json!(null)));
        assert!(
            is_right("retryNotBefore", json!("2026-12-08"))
                && !is_right("retryNotBefore", json!("2026-12-09"))
        );
        assert!(!is_right("retryNotBefore", json!(null)));
    }
}
