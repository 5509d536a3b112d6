//! Judging evidence that comes as a document: `paperclip-host classify`.

use paperclip_kit::outcome::{EvidenceDocument, RunFacts};
use serde_json::{Map, Value};

use super::judge;
use crate::models::is_bedrock;
use crate::stream::Stream;

/// Judges a document ([`EvidenceDocument`]) and returns the result as JSON. `at_ms` is the time of the judgement, in
/// milliseconds since 1970, unless the document has its own.
///
/// # Errors
/// What is wrong with the document.
pub fn classify_document(at_ms: i64, json: &str) -> Result<String, String> {
    let document = EvidenceDocument::parse(json)?;
    let mut stream = Stream::default();
    stream.push_output(&document.stdout);
    for line in document.stderr().lines() {
        stream.push_stderr_line(line);
    }
    let result = judge(&document.evidence(at_ms, run_facts(&document.config)), &stream);
    serde_json::to_string(&result).map_err(|error| format!("result: {error}"))
}

/// Returns what an agent's `config` says about its result.
pub fn run_facts(config: &Map<String, Value>) -> RunFacts {
    let text = |name: &str| config.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    RunFacts {
        timeout_sec: config.get("timeoutSec").and_then(Value::as_f64).unwrap_or(0.0),
        model: text("model").map(str::to_owned),
        is_bedrock: is_bedrock(|name| env_value(config, name)),
        may_retry_fresh_session: config.get("retryFreshSession").and_then(Value::as_bool).unwrap_or(true),
        ..RunFacts::default()
    }
}

/// A variable of `config.env`, which is plain or an object with a `value`.
fn env_value(config: &Map<String, Value>, name: &str) -> Option<String> {
    let variable = config.get("env")?.get(name)?;
    match variable.get("value").unwrap_or(variable) {
        Value::String(text) => Some(text.clone()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn facts(config: Value) -> RunFacts {
        let Value::Object(config) = config else { unreachable!("a config is an object") };
        run_facts(&config)
    }

    #[test]
    fn a_config_is_read_as_the_platform_reads_it() {
        let run = facts(json!({"timeoutSec": 600, "model": "m", "retryFreshSession": false}));
        assert_eq!(
            (run.timeout_sec, run.model.as_deref(), run.may_retry_fresh_session),
            (600.0, Some("m"), false)
        );
        let run = facts(json!({"timeoutSec": "600", "model": "", "retryFreshSession": "no"}));
        assert_eq!((run.timeout_sec, run.model.as_deref(), run.may_retry_fresh_session), (0.0, None, true));
    }

    #[test]
    fn the_environment_selects_bedrock() {
        assert!(facts(json!({"env": {"CLAUDE_CODE_USE_BEDROCK": 1}})).is_bedrock);
        assert!(
            facts(json!({"env": {"CLAUDE_CODE_USE_BEDROCK": {"type": "plain", "value": "true"}}})).is_bedrock
        );
        assert!(!facts(json!({"env": {"CLAUDE_CODE_USE_BEDROCK": "0"}})).is_bedrock);
        assert!(!facts(json!({"env": "CLAUDE_CODE_USE_BEDROCK=1"})).is_bedrock);
    }

    #[test]
    fn refuses_what_is_not_a_document() {
        assert!(classify_document(0, "{").unwrap_err().starts_with("evidence: "));
    }
}
