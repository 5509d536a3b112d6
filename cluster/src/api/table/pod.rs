//! A Pod in one row: how many of its containers are ready, and the word for its state.
//!
//! After `printPod` of Kubernetes' `pkg/printers`.

use serde_json::Value;

use super::duration::since;
use crate::store::{Object, is_deleting};

/// The cells of a Pod besides its name and age.
pub(super) struct Summary {
    pub(super) ready: String,
    pub(super) status: String,
    pub(super) restarts: String,
}

pub(super) fn summary(pod: &Object) -> Summary {
    let status = &pod["status"];
    let total = list(&pod["spec"]["containers"]).len()
        + list(&pod["spec"]["initContainers"]).iter().filter(|c| is_sidecar(c)).count();
    let init = init_state(pod);
    let is_initialized = has_condition(status, "Initialized");
    let (containers, mut ready) = match &init.reason {
        Some(_) if !is_initialized => (None, 0),
        Some(_) | None => {
            let (reason, ready) = container_state(status);
            (reason, ready)
        }
    };
    ready += init.ready_sidecars;
    let phase = status["phase"].as_str().unwrap_or_default();
    let plain = status["reason"].as_str().filter(|reason| !reason.is_empty()).unwrap_or(phase);
    let mut shown = containers.or(init.reason).unwrap_or_else(|| plain.to_owned());
    if is_gated(status) {
        "SchedulingGated".clone_into(&mut shown);
    }
    if is_deleting(pod) && !matches!(phase, "Succeeded" | "Failed") {
        let is_lost = status["reason"] == "NodeLost";
        if is_lost { "Unknown" } else { "Terminating" }.clone_into(&mut shown);
    }
    Summary { ready: format!("{ready}/{total}"), status: shown, restarts: restarts(status) }
}

struct InitState {
    /// Why the Pod is not initialized yet.
    reason: Option<String>,
    ready_sidecars: usize,
}

fn init_state(pod: &Object) -> InitState {
    let specs = list(&pod["spec"]["initContainers"]);
    let mut ready_sidecars = 0;
    for (index, container) in list(&pod["status"]["initContainerStatuses"]).iter().enumerate() {
        let state = &container["state"];
        let is_sidecar = specs.iter().any(|spec| spec["name"] == container["name"] && is_sidecar(spec));
        if is_sidecar && container["started"] == true {
            ready_sidecars += usize::from(container["ready"] == true);
            continue;
        }
        if state["terminated"]["exitCode"] == 0 {
            continue;
        }
        let reason = if state["terminated"].is_object() {
            format!("Init:{}", end_reason(&state["terminated"]))
        } else {
            match state["waiting"]["reason"].as_str() {
                Some(reason) if !reason.is_empty() && reason != "PodInitializing" => format!("Init:{reason}"),
                Some(_) | None => format!("Init:{index}/{}", specs.len()),
            }
        };
        return InitState { reason: Some(reason), ready_sidecars };
    }
    InitState { reason: None, ready_sidecars }
}

/// The reason that the first container gives, and how many are ready.
fn container_state(status: &Value) -> (Option<String>, usize) {
    let mut reason = None;
    let mut ready = 0;
    let mut is_any_running = false;
    for container in list(&status["containerStatuses"]).iter().rev() {
        let state = &container["state"];
        let waiting = state["waiting"]["reason"].as_str().filter(|reason| !reason.is_empty());
        if let Some(waiting) = waiting {
            reason = Some(waiting.to_owned());
        } else if state["terminated"].is_object() {
            reason = Some(end_reason(&state["terminated"]));
        } else if container["ready"] == true && state["running"].is_object() {
            is_any_running = true;
            ready += 1;
        }
    }
    if reason.as_deref() == Some("Completed") && is_any_running {
        let word = if has_condition(status, "Ready") { "Running" } else { "NotReady" };
        reason = Some(word.to_owned());
    }
    (reason, ready)
}

fn end_reason(terminated: &Value) -> String {
    let signal = terminated["signal"].as_i64().unwrap_or_default();
    match terminated["reason"].as_str() {
        Some(reason) if !reason.is_empty() => reason.to_owned(),
        Some(_) | None if signal != 0 => format!("Signal:{signal}"),
        Some(_) | None => format!("ExitCode:{}", terminated["exitCode"].as_i64().unwrap_or_default()),
    }
}

fn restarts(status: &Value) -> String {
    let all = || list(&status["containerStatuses"]).iter().chain(list(&status["initContainerStatuses"]));
    let count: i64 = all().filter_map(|container| container["restartCount"].as_i64()).sum();
    let last =
        all().filter_map(|container| container["lastState"]["terminated"]["finishedAt"].as_str()).max();
    match last {
        Some(last) if count > 0 => format!("{count} ({} ago)", since(Some(last))),
        Some(_) | None => count.to_string(),
    }
}

fn is_sidecar(container: &Value) -> bool {
    container["restartPolicy"] == "Always"
}

fn is_gated(status: &Value) -> bool {
    list(&status["conditions"])
        .iter()
        .any(|condition| condition["type"] == "PodScheduled" && condition["reason"] == "SchedulingGated")
}

pub(super) fn has_condition(status: &Value, kind: &str) -> bool {
    list(&status["conditions"])
        .iter()
        .any(|condition| condition["type"] == kind && condition["status"] == "True")
}

pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}
