//! Results that the host itself produces, and the masking of all results.

use paperclip_contract::types::Refusal;
use serde_json::{Map, Value, json};

use crate::guest::{FaultCause, GuestFault};
use crate::redact::Redactor;

/// The errorCode of a run whose plugin failed.
pub const PLUGIN_FAILED: &str = "plugin_failed";
/// The errorCode of a run whose plugin requested something that it is not granted.
pub const PLUGIN_REFUSED: &str = "plugin_refused";

/// Returns the result of a run whose plugin failed or requested something that it is not granted.
pub(crate) fn of_fault(fault: &GuestFault) -> Map<String, Value> {
    let code = match &fault.cause {
        FaultCause::Refused(_) => PLUGIN_REFUSED,
        FaultCause::Trap(_)
        | FaultCause::OutOfFuel { .. }
        | FaultCause::OutOfMemory { .. }
        | FaultCause::OverLimit { .. }
        | FaultCause::Contract(_)
        | FaultCause::NoCapacity(_) => PLUGIN_FAILED,
    };
    failed(code, &fault.to_string())
}

/// The errorCode of a run that the restart of its host ended.
const HOST_RESTARTED: &str = "host_restarted";

/// Returns the result of a run that was resumed from its Job alone, when that was deleted.
pub(crate) fn job_lost() -> Map<String, Value> {
    failed(
        HOST_RESTARTED,
        "The host that started this run stopped, its journal is not available, and the Job from which the run was resumed was deleted: start it again",
    )
}

/// Returns the result of a run whose host stopped before the agent could start.
pub(crate) fn host_restarted(why: &str) -> Map<String, Value> {
    let message = format!(
        "The host restarted before the agent started, and the run was not started again in time: {why}"
    );
    undone(HOST_RESTARTED, &message)
}

/// Returns the result of a run whose agent never started: the server may start the run again by itself.
pub fn undone(code: &str, message: &str) -> Map<String, Value> {
    let mut result = failed(code, message);
    result.insert("executionRecovery".to_owned(), json!({"kind": "bootstrap", "providerWorkStarted": false}));
    result
}

/// Returns the result of a request that the plugin refused.
pub(crate) fn of_refusal(refusal: &Refusal) -> Map<String, Value> {
    let message = match &refusal.field {
        Some(field) => format!("{field}: {}", refusal.message),
        None => refusal.message.clone(),
    };
    failed(&refusal.code, &message)
}

/// Returns a failure with only its code and message.
pub fn failed(code: &str, message: &str) -> Map<String, Value> {
    let result = json!({
        "exitCode": null, "signal": null, "timedOut": false, "errorCode": code, "errorMessage": message,
    });
    match result {
        Value::Object(result) => result,
        _ => Map::new(),
    }
}

/// Masks the run's own secrets in all texts of a record.
pub(crate) fn mask(mut record: Map<String, Value>, redactor: &Redactor) -> Map<String, Value> {
    for value in record.values_mut() {
        mask_value(value, redactor);
    }
    record
}

fn mask_value(value: &mut Value, redactor: &Redactor) {
    match value {
        Value::String(text) => *text = redactor.mask(std::mem::take(text)),
        Value::Array(items) => items.iter_mut().for_each(|item| mask_value(item, redactor)),
        Value::Object(map) => map.values_mut().for_each(|item| mask_value(item, redactor)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
