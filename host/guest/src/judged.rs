//! How a plugin judges evidence, at a time of its own: the same each time.

use crate::tools::Tools;
use serde_json::{Map, Value};

/// The time of every judgement. No recorded one depends on it.
const AT_MS: u64 = 1_700_000_000_000;

/// Returns the result that a plugin gives for evidence, the input of `paperclip-host classify`.
///
/// # Errors
/// The plugin fails or rejects the evidence.
pub fn judged(tools: &Tools, evidence: &Value) -> Result<Map<String, Value>, String> {
    let result = tools
        .classify(AT_MS, &evidence.to_string())
        .map_err(|fault| fault.to_string())?
        .map_err(|wrong| format!("it rejects the evidence: {wrong}"))?;
    serde_json::from_str(&result).map_err(|error| format!("the result is not a JSON object: {error}"))
}
