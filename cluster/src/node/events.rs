//! Events, as a person reads them with `kubectl describe` and `kubectl get events`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::NODE_NAME;
use crate::random;
use crate::resource::Resource;
use crate::store::{Key, Object, Store, meta, now_seconds};

/// How long an event is kept after it was last seen; the API server's `--event-ttl`.
const EVENT_TTL: Duration = Duration::from_secs(60 * 60);

/// The type of an Event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Severity {
    Normal,
    Warning,
}

/// Who reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Component {
    JobController,
    Kubelet,
    Scheduler,
}

impl Component {
    const fn name(self) -> &'static str {
        match self {
            Component::JobController => "job-controller",
            Component::Kubelet => "kubelet",
            Component::Scheduler => "default-scheduler",
        }
    }

    const fn host(self) -> Option<&'static str> {
        match self {
            Component::Kubelet => Some(NODE_NAME),
            Component::JobController | Component::Scheduler => None,
        }
    }
}

/// An occurrence that is reported as an Event of an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Event {
    pub(super) component: Component,
    pub(super) severity: Severity,
    pub(super) reason: &'static str,
    pub(super) message: String,
    /// `spec.containers{main}`, if it is about a part of the object.
    pub(super) field_path: Option<String>,
}

/// Writes events; the same event of the same object again raises its count. Clones share what was seen.
#[derive(Clone, Debug)]
pub(super) struct Recorder {
    store: Store,
    seen: Arc<Mutex<HashMap<(String, Event), Seen>>>,
}

#[derive(Debug)]
struct Seen {
    key: Key,
    last: Instant,
}

impl Recorder {
    /// Events that an earlier process has left are forgotten: who repeats them is not known any more.
    pub(super) fn new(store: Store) -> Recorder {
        for event in store.list(Resource::Events, None).1 {
            let _already_deleted = store.remove(&Key::of(Resource::Events, &event), meta(&event, "uid"));
        }
        Recorder { store, seen: Arc::default() }
    }

    /// Reports `event` about `object`. An event that can't be written is only logged: it is news, not state.
    pub(super) fn record(&self, object: &Object, event: Event) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        seen.retain(|_, seen| {
            let is_fresh = now.duration_since(seen.last) < EVENT_TTL;
            if !is_fresh && let Some(old) = self.store.get(&seen.key) {
                let _already_deleted = self.store.remove(&seen.key, meta(&old, "uid"));
            }
            is_fresh
        });
        let identity = (meta(object, "uid").to_owned(), event);
        if let Some(known) = seen.get_mut(&identity)
            && self.count(&known.key)
        {
            known.last = now;
            return;
        }
        match self.store.create(Resource::Events, new_event(object, &identity.1)) {
            Ok(made) => {
                seen.insert(identity, Seen { key: Key::of(Resource::Events, &made), last: now });
            }
            Err(error) => tracing::debug!(%error, reason = identity.1.reason, "an event was not written"),
        }
    }

    /// `false` if the event no longer exists.
    fn count(&self, key: &Key) -> bool {
        let counted = self.store.update(key, |event| {
            event["count"] = json!(event["count"].as_i64().unwrap_or_default() + 1);
            event["lastTimestamp"] = json!(now_seconds());
            Ok(())
        });
        counted.is_ok()
    }
}

fn new_event(object: &Object, event: &Event) -> Object {
    let now = now_seconds();
    let mut involved = json!({
        "apiVersion": object["apiVersion"],
        "kind": object["kind"],
        "name": object["metadata"]["name"],
        "namespace": object["metadata"]["namespace"],
        "uid": object["metadata"]["uid"],
        "resourceVersion": object["metadata"]["resourceVersion"],
    });
    if let Some(path) = &event.field_path {
        involved["fieldPath"] = json!(path);
    }
    let component = event.component.name();
    let mut source = json!({"component": component});
    if let Some(host) = event.component.host() {
        source["host"] = json!(host);
    }
    json!({
        "metadata": {
            "name": format!("{}.{:016x}", meta(object, "name"), u64::from_ne_bytes(random::bytes())),
            "namespace": object["metadata"]["namespace"],
        },
        "involvedObject": involved,
        "type": match event.severity {
            Severity::Normal => "Normal",
            Severity::Warning => "Warning",
        },
        "reason": event.reason,
        "message": event.message,
        "source": source,
        "reportingComponent": component,
        "reportingInstance": event.component.host().unwrap_or_default(),
        "firstTimestamp": now,
        "lastTimestamp": now,
        "eventTime": null,
        "count": 1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StoreOptions;

    #[test]
    fn a_repeated_event_is_counted() {
        let store = Store::new(StoreOptions::default()).unwrap();
        let recorder = Recorder::new(store.clone());
        let pod = store.create(Resource::Pods, json!({"metadata": {"name": "p", "namespace": "n"}})).unwrap();
        let event = |message: &str| Event {
            component: Component::Kubelet,
            severity: Severity::Warning,
            reason: "FailedMount",
            message: message.to_owned(),
            field_path: None,
        };
        for message in ["one", "one", "two"] {
            recorder.record(&pod, event(message));
        }
        let mut counts: Vec<(String, i64)> = store
            .list(Resource::Events, Some("n"))
            .1
            .iter()
            .map(|event| (event["message"].as_str().unwrap().to_owned(), event["count"].as_i64().unwrap()))
            .collect();
        counts.sort();
        assert_eq!(counts, [("one".to_owned(), 2), ("two".to_owned(), 1)]);
        Recorder::new(store.clone());
        assert!(store.list(Resource::Events, None).1.is_empty());
    }
}
