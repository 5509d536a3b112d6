//! Objects and their history. The resource version is the number of changes so far, so that a watch is a cursor into the history.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::watch;

/// The key of an object: resource, namespace, name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) resource: String,
    pub(super) namespace: String,
    pub(super) name: String,
}

#[derive(Debug)]
pub(super) struct Store {
    inner: Mutex<Inner>,
    changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Inner {
    objects: BTreeMap<Key, Value>,
    history: Vec<Change>,
}

/// One line of a watch.
#[derive(Debug, Clone)]
struct Change {
    resource: String,
    line: Bytes,
}

/// Why a change is not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    Missing,
    Exists,
    Conflict,
}

impl Default for Store {
    fn default() -> Store {
        Store { inner: Mutex::default(), changed: watch::Sender::new(()) }
    }
}

impl Store {
    pub(super) fn create(&self, key: Key, mut object: Value) -> Result<Value, Refused> {
        let mut inner = self.inner();
        if inner.objects.contains_key(&key) {
            return Err(Refused::Exists);
        }
        let uid = format!("00000000-0000-4000-8000-{:012x}", inner.history.len() + 1);
        object["metadata"]["uid"] = json!(uid);
        object["metadata"]["namespace"] = json!(key.namespace);
        object["metadata"]["creationTimestamp"] =
            json!(jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
        Ok(self.put(&mut inner, key, "ADDED", object))
    }

    /// Changes an object, if it exists.
    pub(super) fn change(
        &self,
        key: &Key,
        change: impl FnOnce(&mut Value) -> Result<(), Refused>,
    ) -> Result<Value, Refused> {
        let mut inner = self.inner();
        let mut object = inner.objects.get(key).cloned().ok_or(Refused::Missing)?;
        change(&mut object)?;
        Ok(self.put(&mut inner, key.clone(), "MODIFIED", object))
    }

    pub(super) fn get(&self, key: &Key) -> Result<Value, Refused> {
        self.inner().objects.get(key).cloned().ok_or(Refused::Missing)
    }

    /// Removes an object that passes a check, and what it owns.
    pub(super) fn delete(
        &self,
        key: &Key,
        check: impl FnOnce(&Value) -> Result<(), Refused>,
    ) -> Result<Value, Refused> {
        let mut inner = self.inner();
        check(inner.objects.get(key).ok_or(Refused::Missing)?)?;
        let object = inner.objects.remove(key).ok_or(Refused::Missing)?;
        self.record(&mut inner, key, "DELETED", object.clone());
        let uid = &object["metadata"]["uid"];
        let owned: Vec<Key> = inner
            .objects
            .iter()
            .filter(|(_, owned)| &owned["metadata"]["ownerReferences"][0]["uid"] == uid)
            .map(|(key, _)| key.clone())
            .collect();
        for key in owned {
            if let Some(object) = inner.objects.remove(&key) {
                self.record(&mut inner, &key, "DELETED", object);
            }
        }
        Ok(object)
    }

    /// Returns all objects of a resource in a namespace, and their version.
    pub(super) fn list(&self, resource: &str, namespace: &str) -> (Vec<Value>, usize) {
        let inner = self.inner();
        let found =
            inner.objects.iter().filter(|(key, _)| key.resource == resource && key.namespace == namespace);
        (found.map(|(_, object)| object.clone()).collect(), inner.history.len())
    }

    /// Returns the changes of a resource after a version as lines, and the version after them.
    pub(super) fn since(&self, resource: &str, version: usize) -> (Vec<Bytes>, usize) {
        let inner = self.inner();
        let new = inner.history.get(version..).unwrap_or_default();
        let lines = new.iter().filter(|change| change.resource == resource).map(|change| change.line.clone());
        (lines.collect(), inner.history.len())
    }

    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    fn put(&self, inner: &mut Inner, key: Key, kind: &str, object: Value) -> Value {
        let object = self.record(inner, &key, kind, object);
        inner.objects.insert(key, object.clone());
        object
    }

    fn record(&self, inner: &mut Inner, key: &Key, kind: &str, mut object: Value) -> Value {
        object["metadata"]["resourceVersion"] = json!((inner.history.len() + 1).to_string());
        let line = format!("{}\n", json!({ "type": kind, "object": object }));
        inner.history.push(Change { resource: key.resource.clone(), line: line.into() });
        self.changed.send_replace(());
        object
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
