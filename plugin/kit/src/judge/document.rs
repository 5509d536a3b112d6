//! Judging evidence that comes as a document: `paperclip-host classify`.

use serde_json::{Map, Value};

use super::judge;
use crate::cli::{Cli, Variables};
use crate::outcome::{EvidenceDocument, RunFacts};
use crate::stream::AgentStream as _;

/// Judges a document ([`EvidenceDocument`]) and returns the result as JSON. `at_ms` is the time of the judgement, in
/// milliseconds since 1970, unless the document has its own.
///
/// # Errors
/// What is wrong with the document.
pub fn classify_document<A: Cli>(at_ms: i64, json: &str) -> Result<String, String> {
    let document = EvidenceDocument::parse(json)?;
    let mut stream = A::Stream::default();
    stream.push_output(&document.stdout);
    for line in document.stderr().lines() {
        stream.push_stderr_line(line);
    }
    let result = judge(&document.evidence(at_ms, run_facts::<A>(&document.config)), &stream);
    serde_json::to_string(&result).map_err(|error| format!("result: {error}"))
}

/// Returns what an agent's `config` says about its result.
pub fn run_facts<A: Cli>(config: &Map<String, Value>) -> RunFacts {
    let text = |name: &str| config.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let value = |name: &str| env_value(config, name);
    let is_set = |name: &str| value(name).is_some();
    let default_sec = A::DEFAULT_TIMEOUT_SEC.map_or(0.0, f64::from);
    RunFacts {
        timeout_sec: config.get("timeoutSec").and_then(Value::as_f64).unwrap_or(default_sec),
        model: text("model").map(str::to_owned),
        billing: A::billing(config, &Variables::new(&value, &is_set)),
        may_retry_fresh_session: config.get("retryFreshSession").and_then(Value::as_bool).unwrap_or(true),
        ..RunFacts::default()
    }
}

/// Returns a variable of `config.env`, which is plain or an object with a `value`.
pub fn env_value(config: &Map<String, Value>, name: &str) -> Option<String> {
    let variable = config.get("env")?.get(name)?;
    match variable.get("value").unwrap_or(variable) {
        Value::String(text) => Some(text.clone()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}
