//! The scheduler, which has one node to choose from.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::error::ApiError;
use crate::node::NODE_NAME;
use crate::store::{Key, Object, Store, is_deleting, meta, now_seconds};

/// Whether a Pod is bound to the node.
#[derive(Debug)]
pub(super) enum Binding {
    /// It is on the node, as of now or since long.
    Bound { pod: Arc<Object>, is_new: bool },
    /// Its `schedulingGates` hold it back, or it is to be deleted before it ever ran.
    Held,
    /// It is bound to another node and is never run here.
    Elsewhere,
}

/// Puts a Pod on the node, unless its gates forbid it.
///
/// # Errors
/// The Pod is deleted, or cannot be written.
pub(super) fn bind(store: &Store, key: &Key, uid: &str) -> Result<Binding, ApiError> {
    let mut is_new = false;
    let pod = store.update(key, |pod| {
        if meta(pod, "uid") != uid {
            return Err(ApiError::not_found(key));
        }
        if !node_name(pod).is_empty() || is_deleting(pod) {
            return Ok(());
        }
        if is_gated(pod) {
            let message = "Scheduling is blocked due to non-empty scheduling gates";
            set_scheduled(pod, false, Some(("SchedulingGated", message)));
        } else {
            pod["spec"]["nodeName"] = json!(NODE_NAME);
            set_scheduled(pod, true, None);
            is_new = true;
        }
        Ok(())
    })?;
    Ok(match node_name(&pod) {
        NODE_NAME => Binding::Bound { pod, is_new },
        "" => Binding::Held,
        _ => Binding::Elsewhere,
    })
}

fn node_name(pod: &Object) -> &str {
    pod["spec"]["nodeName"].as_str().unwrap_or_default()
}

fn is_gated(pod: &Object) -> bool {
    pod["spec"]["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty())
}

fn set_scheduled(pod: &mut Object, value: bool, why: Option<(&str, &str)>) {
    let status = if value { "True" } else { "False" };
    if !pod["status"].is_object() {
        pod["status"] = json!({"phase": "Pending"});
    }
    let mut conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
    if conditions.iter().any(|old| old["type"] == "PodScheduled" && old["status"] == status) {
        return;
    }
    conditions.retain(|old| old["type"] != "PodScheduled");
    let mut condition = json!({"type": "PodScheduled", "status": status, "lastProbeTime": null, "lastTransitionTime": now_seconds()});
    if let Some((reason, message)) = why {
        condition["reason"] = json!(reason);
        condition["message"] = json!(message);
    }
    conditions.push(condition);
    pod["status"]["conditions"] = Value::Array(conditions);
}
