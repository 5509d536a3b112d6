//! Comparison of a result with what the reference adapter made of the same evidence, and with what is wanted.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::result::RESULT_JSON_BYTES;

/// A line of `tests/fixtures/cases/classify.ndjson`.
#[derive(Debug, Clone, Deserialize)]
pub struct Case {
    pub name: String,
    /// An [`EvidenceDocument`](super::EvidenceDocument).
    pub evidence: Value,
    /// What the reference adapter made of it.
    pub reference: Map<String, Value>,
    /// What is wanted: `errorCode` (null, one, or a list: any of), `errorMessage` (`{exact | prefix | nonempty}`), and
    /// further fields that must be equal.
    pub expected: Map<String, Value>,
}

/// Fields that are as in the reference, unless something else is expected.
const AS_IN_REFERENCE: [&str; 5] = ["exitCode", "model", "summary", "sessionId", "costUsd"];

/// Reads cases, one a line.
pub fn cases(ndjson: &str) -> Vec<Case> {
    ndjson.lines().map(|line| serde_json::from_str(line).expect("a fixture is a case a line")).collect()
}

/// Compares a result with what is wanted of it.
///
/// # Errors
/// Every difference, one a line.
pub fn check_case(
    expected: &Map<String, Value>,
    reference: &Map<String, Value>,
    actual: &Map<String, Value>,
) -> Result<(), String> {
    let mut differences = promised_of_every_result(actual);
    for (field, wanted) in expected {
        let told = told(actual, field);
        let is_right = match field.as_str() {
            "errorCode" => is_one_of(told, wanted),
            "errorMessage" => is_message(told, wanted),
            _ => is_equal(told, wanted),
        };
        if !is_right {
            differences.push(format!("{field} is {told}, wanted {wanted}"));
        }
    }
    if told(expected, "errorCode").is_null() && !told(actual, "errorMessage").is_null() {
        differences.push(format!("a success says {}", told(actual, "errorMessage")));
    }
    let compared = AS_IN_REFERENCE.iter().filter(|field| !expected.contains_key(**field));
    for (field, wanted) in compared.filter_map(|field| Some((*field, reference.get(*field)?))) {
        if !is_equal(told(actual, field), wanted) {
            differences.push(format!("{field} is {}, the reference has {wanted}", told(actual, field)));
        }
    }
    if differences.is_empty() { Ok(()) } else { Err(differences.join("\n")) }
}

fn promised_of_every_result(actual: &Map<String, Value>) -> Vec<String> {
    let mut broken = Vec::new();
    let has = |field: &str| !told(actual, field).is_null();
    if has("errorCode") != has("errorMessage") {
        broken.push("a failure has both a code and a message".to_owned());
    }
    if told(actual, "errorMessage") == "" {
        broken.push("a message is not empty".to_owned());
    }
    if has("signal") {
        broken.push("signal stays null".to_owned());
    }
    if told(actual, "resultJson").to_string().len() > RESULT_JSON_BYTES {
        broken.push(format!("resultJson is over {RESULT_JSON_BYTES} bytes"));
    }
    broken
}

/// An absent field is the same as null.
fn told<'a>(object: &'a Map<String, Value>, field: &str) -> &'a Value {
    object.get(field).unwrap_or(&Value::Null)
}

fn is_one_of(told: &Value, wanted: &Value) -> bool {
    match wanted {
        Value::Array(any) => any.contains(told),
        one => told == one,
    }
}

fn is_message(told: &Value, wanted: &Value) -> bool {
    let Value::Object(wanted) = wanted else { return told == wanted };
    let text = told.as_str();
    wanted.iter().all(|(how, value)| match (how.as_str(), value) {
        ("exact", Value::String(exact)) => text == Some(exact),
        ("prefix", Value::String(prefix)) => text.is_some_and(|text| text.starts_with(prefix.as_str())),
        ("nonempty", Value::Bool(true)) => text.is_some_and(|text| !text.is_empty()),
        _ => false,
    })
}

/// Numbers are equal if their values are: 1 and 1.0 are.
fn is_equal(told: &Value, wanted: &Value) -> bool {
    match (told.as_f64(), wanted.as_f64()) {
        (Some(told), Some(wanted)) => told == wanted,
        (None, Some(_)) | (Some(_), None) => false,
        (None, None) => told == wanted,
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
    fn what_is_as_wanted_passes() {
        let actual = json!({"exitCode": 1, "errorCode": "timeout", "errorMessage": "Timed out after 5s", "timedOut": true});
        let wanted = json!({"errorCode": ["cancelled", "timeout"], "errorMessage": {"prefix": "Timed out"}, "timedOut": true});
        assert_eq!(check(wanted, json!({"exitCode": 1.0, "errorMessage": "other"}), actual), Ok(()));
    }

    #[test]
    fn every_difference_is_told() {
        let differences = check(
            json!({"errorCode": null, "usageBasis": "per_run"}),
            json!({"summary": "done"}),
            json!({"errorCode": "timeout", "errorMessage": "", "signal": "SIGTERM"}),
        )
        .unwrap_err();
        assert_eq!(differences.lines().count(), 6, "{differences}");
    }

    #[test]
    fn a_message_is_compared_as_asked() {
        let message = |wanted: Value| {
            let actual = json!({"errorCode": "x", "errorMessage": "Timed out"});
            check(json!({"errorCode": "x", "errorMessage": wanted}), json!({}), actual).is_ok()
        };
        assert!(message(json!({"exact": "Timed out"})) && !message(json!({"exact": "Timed"})));
        assert!(message(json!({"prefix": "Timed"})) && !message(json!({"prefix": "out"})));
        assert!(message(json!({"nonempty": true})) && !message(json!({"regex": "."})));
    }
}
