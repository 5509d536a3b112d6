//! Agents: a Pod that starts at once, a line from time to time, a successful end.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::State;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use super::logs::Log;
use super::store::{Key, Store};
use super::{App, Script};

/// Delimiter of a line's time, in µs since 1970, and number: `@17000000000000000#12@`.
pub(crate) const MARK: char = '@';
/// Approximate length of a line, like those of real agents.
const LINE_BYTES: usize = 600;

#[derive(Debug)]
pub(super) struct Agents {
    script: Script,
    /// By the name of the Pod.
    logs: Mutex<BTreeMap<String, Arc<Log>>>,
    is_over: watch::Sender<bool>,
}

/// Endless agents end with their next line.
pub(super) async fn end(State(app): State<App>) {
    app.agents.is_over.send_replace(true);
}

impl Agents {
    pub(super) fn new(script: Script) -> Agents {
        Agents { script, logs: Mutex::default(), is_over: watch::Sender::new(false) }
    }

    pub(super) fn log(&self, pod: &str) -> Option<Arc<Log>> {
        self.logs.lock().unwrap_or_else(PoisonError::into_inner).get(pod).cloned()
    }

    /// The life of a Job's Pod.
    pub(super) async fn live(self: Arc<Self>, store: Arc<Store>, job: Key, object: Value) {
        let pod = Key {
            resource: "pods".to_owned(),
            namespace: job.namespace.clone(),
            name: format!("{}-x", job.name),
        };
        let log = Arc::new(Log::default());
        self.logs.lock().unwrap_or_else(PoisonError::into_inner).insert(pod.name.clone(), Arc::clone(&log));
        let started_at = now_s();
        // A Job that was deleted meanwhile has no Pod, and the rest does not matter.
        let _ = store.change(&job, |job| {
            job["status"] = json!({ "active": 1, "startTime": started_at });
            Ok(())
        });
        let container = object["spec"]["template"]["spec"]["containers"][0]["name"].clone();
        let running = json!({ "running": { "startedAt": started_at } });
        let _ = store.create(pod.clone(), pod_of(&object, &pod.name, "Running", &container, &running));
        self.write(&log).await;
        let ended = json!({ "terminated": {
            "exitCode": 0, "reason": "Completed", "startedAt": started_at, "finishedAt": now_s(),
        } });
        let _ = store.change(&pod, |pod| {
            pod["status"] = status("Succeeded", &container, &ended);
            Ok(())
        });
        let _ = store.change(&job, |job| {
            job["status"] = json!({ "succeeded": 1, "startTime": started_at, "completionTime": now_s(), "conditions": [
                { "type": "Complete", "status": "True", "lastTransitionTime": now_s() },
            ] });
            Ok(())
        });
    }

    async fn write(&self, log: &Log) {
        let (start, pause) = (Instant::now(), self.script.pause());
        let is_over = self.is_over.subscribe();
        let mut number = 0;
        loop {
            let is_last = if self.script.endless {
                number > 0 && *is_over.borrow()
            } else {
                number + 1 == self.script.lines
            };
            log.write(&line(number, is_last));
            if is_last {
                return log.close();
            }
            number += 1;
            tokio::time::sleep_until(start + pause * u32::try_from(number).unwrap_or(u32::MAX)).await;
        }
    }
}

/// Makes a line of the agent's stream, with its time and number in its text.
fn line(number: u64, is_last: bool) -> String {
    let mark = format!("{MARK}{}#{number}{MARK}", now_us());
    if number == 0 {
        return json!({ "type": "system", "subtype": "init", "session_id": "s", "model": "claude-sonnet-4-6", "cwd": mark })
            .to_string();
    }
    if is_last {
        return json!({
            "type": "result", "subtype": "success", "is_error": false, "result": mark, "session_id": "s", "num_turns": 1,
            "duration_ms": 1, "total_cost_usd": 0.0, "usage": { "input_tokens": 1, "output_tokens": 1 },
        })
        .to_string();
    }
    let text = format!("{mark} {}", "words of an agent ".repeat(LINE_BYTES / 24));
    json!({ "type": "assistant", "session_id": "s", "message": {
        "id": format!("msg_{number}"), "type": "message", "role": "assistant", "model": "claude-sonnet-4-6",
        "content": [{ "type": "text", "text": text }], "usage": { "input_tokens": 1, "output_tokens": 1 },
    } })
    .to_string()
}

fn pod_of(job: &Value, name: &str, phase: &str, container: &Value, state: &Value) -> Value {
    let template = &job["spec"]["template"];
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "labels": template["metadata"]["labels"], "ownerReferences": [{
            "apiVersion": "batch/v1", "kind": "Job", "name": job["metadata"]["name"], "uid": job["metadata"]["uid"],
            "controller": true, "blockOwnerDeletion": true,
        }] },
        "spec": template["spec"],
        "status": status(phase, container, state),
    })
}

fn status(phase: &str, container: &Value, state: &Value) -> Value {
    json!({
        "phase": phase, "startTime": now_s(),
        "conditions": [{ "type": "PodScheduled", "status": "True" }],
        "containerStatuses": [{
            "name": container, "state": state, "restartCount": 0, "ready": true, "image": "load/agent:1", "imageID": "",
        }],
    })
}

fn now_s() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Returns the time of the machine's clock in µs since 1970.
pub(crate) fn now_us() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}
