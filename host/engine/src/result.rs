//! Results that the host itself produces, and the masking of all results.

use paperclip_contract::types::Refusal;
use serde_json::{Map, Value, json};

use crate::guest::{FaultCause, GuestFault};
use crate::redact::Redactor;

/// The errorCode of a run whose plugin failed.
pub const PLUGIN_FAILED: &str = "plugin_failed";
/// The errorCode of a run whose plugin requested something that it is not granted.
pub const PLUGIN_REFUSED: &str = "plugin_refused";

/// The errorCode of a run that was cancelled before its agent started.
const CANCELLED: &str = "cancelled";

/// Returns the result of a run whose plugin failed or requested something that it is not granted. `is_undone`: no Job of the run was
/// created or adopted.
pub(crate) fn of_fault(fault: &GuestFault, is_undone: bool) -> Map<String, Value> {
    let code = match &fault.cause {
        FaultCause::Refused(_) => PLUGIN_REFUSED,
        FaultCause::Trap(_)
        | FaultCause::OutOfFuel { .. }
        | FaultCause::OutOfMemory { .. }
        | FaultCause::OverLimit { .. }
        | FaultCause::Contract(_)
        | FaultCause::NoCapacity(_) => PLUGIN_FAILED,
    };
    let result = if is_undone { undone } else { failed };
    result(code, &fault.to_string())
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

/// Returns the result of a run whose agent never started: the server may start the run again by itself, and does so if that can help.
pub fn undone(code: &str, message: &str) -> Map<String, Value> {
    let mut result = failed(code, message);
    if code != PLUGIN_REFUSED {
        // Another grant or configuration is needed where the plugin was refused.
        result.insert("errorFamily".to_owned(), TRANSIENT.into());
        add_to_json(&mut result, "errorFamily", TRANSIENT.into());
    }
    declare_bootstrap(&mut result);
    result
}

/// Returns the result of a run that was cancelled before its agent started. `at` is now, in RFC 3339.
pub fn cancelled(at: &str) -> Map<String, Value> {
    let mut result = failed(CANCELLED, "Run cancelled");
    let acknowledged = json!({"state": "acknowledged", "acknowledgedAt": at});
    add_to_json(&mut result, "executionCancellation", acknowledged);
    result
}

/// The family of failures that may pass by themselves.
const TRANSIENT: &str = "transient_upstream";

/// Proves to the server that the agent did nothing.
fn declare_bootstrap(result: &mut Map<String, Value>) {
    let recovery = json!({"kind": "bootstrap", "providerWorkStarted": false});
    result.insert("executionRecovery".to_owned(), recovery.clone());
    add_to_json(result, "executionRecovery", recovery);
}

/// Adds a member to `resultJson`, which the server stores verbatim.
fn add_to_json(result: &mut Map<String, Value>, name: &str, value: Value) {
    let json = result.entry("resultJson").or_insert_with(|| Value::Object(Map::new()));
    if let Value::Object(json) = json {
        json.insert(name.to_owned(), value);
    }
}

/// Returns the result of a request that the plugin refused.
pub(crate) fn of_refusal(refusal: &Refusal) -> Map<String, Value> {
    let message = match &refusal.field {
        Some(field) => format!("{field}: {}", refusal.message),
        None => refusal.message.clone(),
    };
    let mut result = failed(&refusal.code, &message);
    declare_bootstrap(&mut result);
    result
}

/// Returns a failure that is known by its code and message only. The server may continue the task, except after a cancel.
pub fn failed(code: &str, message: &str) -> Map<String, Value> {
    let result = json!({
        "exitCode": null, "signal": null, "timedOut": false, "errorCode": code, "errorMessage": message,
    });
    let mut result = match result {
        Value::Object(result) => result,
        _ => Map::new(),
    };
    if code != CANCELLED {
        add_to_json(&mut result, "conversationContinuation", "continue_conversation_v1".into());
    }
    result
}

/// Masks the run's own secrets in all texts of a record.
pub(crate) fn mask(mut record: Map<String, Value>, redactor: &Redactor) -> Map<String, Value> {
    for value in record.values_mut() {
        mask_value(value, redactor);
    }
    record
}

/// Masks the run's own secrets in all texts of a value.
pub(crate) fn mask_value(value: &mut Value, redactor: &Redactor) {
    match value {
        Value::String(text) => *text = redactor.mask(std::mem::take(text)),
        Value::Array(items) => items.iter_mut().for_each(|item| mask_value(item, redactor)),
        Value::Object(map) => map.values_mut().for_each(|item| mask_value(item, redactor)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bootstrap() -> Value {
        json!({"kind": "bootstrap", "providerWorkStarted": false})
    }

    #[test]
    fn a_failure_of_the_host_lets_the_server_continue_the_task() {
        let result = Value::Object(job_lost());
        assert_eq!(result["resultJson"], json!({"conversationContinuation": "continue_conversation_v1"}));
        assert_eq!((result.get("executionRecovery"), result.get("errorFamily")), (None, None));
    }

    #[test]
    fn a_run_that_never_started_may_be_started_again() {
        let result = Value::Object(undone("host_stopping", "stopped"));
        assert_eq!(result["executionRecovery"], bootstrap());
        assert_eq!(result["errorFamily"], "transient_upstream");
        let json = json!({
            "conversationContinuation": "continue_conversation_v1", "executionRecovery": bootstrap(),
            "errorFamily": "transient_upstream",
        });
        assert_eq!(result["resultJson"], json);
    }

    #[test]
    fn starting_a_run_again_does_not_help_where_its_configuration_is_wrong() {
        let refusal =
            Refusal { code: "k8s_config_invalid".to_owned(), field: None, message: "no".to_owned() };
        for result in [of_refusal(&refusal), undone(PLUGIN_REFUSED, "no")] {
            assert_eq!(result.get("errorFamily"), None);
            assert_eq!(result["executionRecovery"], bootstrap());
            assert_eq!(result["resultJson"]["executionRecovery"], bootstrap());
        }
    }

    #[test]
    fn a_fault_before_any_job_may_be_repeated() {
        let fault = |cause| GuestFault {
            plugin: "claude_k8s".to_owned(),
            version: "1".to_owned(),
            digest: "d".to_owned(),
            call: "step",
            step: 1,
            cause,
        };
        let trap = fault(FaultCause::Trap("x".to_owned()));
        assert_eq!(of_fault(&trap, true)["executionRecovery"], bootstrap());
        assert_eq!(of_fault(&trap, false).get("executionRecovery"), None);
        assert_eq!(of_fault(&trap, false)["errorCode"], PLUGIN_FAILED);
    }

    #[test]
    fn a_cancel_before_the_start_is_acknowledged_and_not_continued() {
        let result = Value::Object(cancelled("2026-11-30T00:00:00Z"));
        let acknowledged = json!({"state": "acknowledged", "acknowledgedAt": "2026-11-30T00:00:00Z"});
        assert_eq!(result["resultJson"], json!({"executionCancellation": acknowledged}));
        assert_eq!(result.get("executionRecovery"), None);
    }
}
