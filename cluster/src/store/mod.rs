//! The objects of the cluster, their versions, and the changes that watches read.
//!
//! One lock guards everything, and every operation under it is short. A write gets the next
//! resourceVersion, is kept on disk if the store is persistent, and is appended to the history of its
//! resource. Watches read the history at their own pace; one that falls behind its window gets the error that
//! its version expired, and so can never hold up a writer.
//!
//! Controllers use the store directly: [`Store::update`] takes a change, not an object, so that they
//! can't overwrite what another wrote meanwhile.

mod delete;
mod disk;
mod history;
mod identity;
mod watch;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;

pub use delete::{DeleteOptions, Deletion, FOREGROUND_FINALIZER, ORPHAN_FINALIZER, Propagation};
pub use history::{Change, ChangeKind};
pub(crate) use identity::complete;
pub use identity::{now_micros, now_seconds};
pub use watch::Watch;

use crate::error::ApiError;
use crate::resource::Resource;
use disk::Disk;
use history::History;

/// A whole object as it crosses the wire: `apiVersion`, `kind`, `metadata`, `spec`, `status`, ...
pub type Object = Value;

/// The name of an object in the cluster.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Key {
    pub resource: Resource,
    /// Empty for a resource without namespaces.
    pub namespace: String,
    pub name: String,
}

impl Key {
    pub fn new(resource: Resource, namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Key { resource, namespace: namespace.into(), name: name.into() }
    }

    /// The key under which `object` is stored.
    pub fn of(resource: Resource, object: &Object) -> Self {
        Key::new(resource, meta(object, "namespace"), meta(object, "name"))
    }
}

/// How a store keeps and forgets.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// How many changes of one resource a watch may lie behind before its version expires.
    pub watch_window_changes: usize,
    /// The folder in which objects outlive the process; `None` keeps them in memory only.
    pub folder: Option<PathBuf>,
}

impl StoreOptions {
    /// About what etcd keeps between two compactions of a small cluster.
    pub const WATCH_WINDOW_CHANGES: usize = 8192;
}

impl Default for StoreOptions {
    fn default() -> Self {
        StoreOptions { watch_window_changes: StoreOptions::WATCH_WINDOW_CHANGES, folder: None }
    }
}

/// A handle to the objects; clones share them.
#[derive(Clone, Debug)]
pub struct Store {
    shared: Arc<Shared>,
    is_dry_run: bool,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// One signal a resource, so that a watch of Jobs does not wake for a renewed Lease.
    changed: Vec<tokio::sync::watch::Sender<()>>,
    disk: Option<Disk>,
}

#[derive(Debug)]
struct State {
    revision: u64,
    objects: BTreeMap<Key, Arc<Object>>,
    /// One a resource, in the order of [`Resource::ALL`].
    histories: Vec<History>,
}

impl Store {
    /// Opens a store; with a folder, the objects found there are loaded.
    ///
    /// # Errors
    /// The folder can't be created or read, or a file in it is no object.
    pub fn new(options: StoreOptions) -> std::io::Result<Store> {
        let disk = options.folder.map(Disk::open).transpose()?;
        let objects: BTreeMap<Key, Arc<Object>> = match &disk {
            Some(disk) => disk.load()?.into_iter().map(|(key, object)| (key, Arc::new(object))).collect(),
            None => BTreeMap::new(),
        };
        let last_write = objects.values().map(|object| resource_version(object)).max().unwrap_or_default();
        let last_deletion = disk.as_ref().map_or(0, Disk::last_deletion);
        // Versions never go back over a restart, so that a client that outlived it gets `Expired` and lists again.
        let revision = (last_write.max(last_deletion) + 1).max(identity::now_millis());
        let histories =
            Resource::ALL.iter().map(|_| History::new(revision, options.watch_window_changes)).collect();
        let changed = Resource::ALL.iter().map(|_| tokio::sync::watch::Sender::new(())).collect();
        let state = Mutex::new(State { revision, objects, histories });
        Ok(Store { shared: Arc::new(Shared { state, changed, disk }), is_dry_run: false })
    }

    /// A handle whose writes are judged like any other and then forgotten.
    pub fn dry_run(&self) -> Store {
        Store { shared: self.shared.clone(), is_dry_run: true }
    }

    /// The version of the latest write.
    pub fn revision(&self) -> u64 {
        self.lock().revision
    }

    /// The object, if there is one.
    pub fn get(&self, key: &Key) -> Option<Arc<Object>> {
        self.lock().objects.get(key).cloned()
    }

    /// Every object of a resource, ordered by namespace and name, and the version at which this was so.
    pub fn list(&self, resource: Resource, namespace: Option<&str>) -> (u64, Vec<Arc<Object>>) {
        let state = self.lock();
        let first = Key::new(resource, namespace.unwrap_or_default(), "");
        let items = state
            .objects
            .range(first..)
            .take_while(|(key, _)| key.resource == resource && namespace.is_none_or(|n| key.namespace == n))
            .map(|(_, object)| object.clone())
            .collect();
        (state.revision, items)
    }

    /// As [`Store::list`], at a version of the past.
    ///
    /// # Errors
    /// `Expired` if changes after `revision` are no longer known; `Timeout` if it lies in the future.
    pub fn list_at(
        &self,
        resource: Resource,
        namespace: Option<&str>,
        revision: u64,
    ) -> Result<Vec<Arc<Object>>, ApiError> {
        let state = self.lock();
        if revision > state.revision {
            return Err(ApiError::future_version(revision, state.revision));
        }
        let history = &state.histories[resource as usize];
        let Some(later) = history.after(revision) else {
            return Err(watch::too_old(revision, history.complete_after()));
        };
        let is_selected =
            |key: &Key| key.resource == resource && namespace.is_none_or(|n| key.namespace == n);
        let first = Key::new(resource, namespace.unwrap_or_default(), "");
        let now = state.objects.range(first..).take_while(|(key, _)| is_selected(key));
        let mut then: BTreeMap<&Key, &Arc<Object>> = now.collect();
        for change in later.rev().filter(|change| is_selected(&change.key)) {
            match &change.previous {
                Some(previous) => then.insert(&change.key, previous),
                None => then.remove(&change.key),
            };
        }
        Ok(then.into_values().cloned().collect())
    }

    /// Stores a new object and gives it its identity: name (from `generateName` if it has none), uid, creationTimestamp,
    /// generation and resourceVersion. A namespace that does not exist yet is created with it.
    ///
    /// # Errors
    /// `AlreadyExists`; `Forbidden` in a namespace that is being deleted; `InternalError` if it can't be kept on disk.
    pub fn create(&self, resource: Resource, mut object: Object) -> Result<Arc<Object>, ApiError> {
        identity::complete(resource, &mut object)?;
        let key = Key::of(resource, &object);
        let mut state = self.lock();
        if state.objects.contains_key(&key) {
            return Err(ApiError::already_exists(&key));
        }
        if resource.is_namespaced() {
            self.enter_namespace(&mut state, &key)?;
        }
        self.add(&mut state, key, object)
    }

    /// Makes a namespace, if there is none of this name.
    ///
    /// # Errors
    /// `InternalError` if it can't be kept on disk.
    pub fn ensure_namespace(&self, name: &str) -> Result<(), ApiError> {
        let key = Key::new(Resource::Namespaces, "", name);
        let mut state = self.lock();
        if state.objects.contains_key(&key) {
            return Ok(());
        }
        self.add(&mut state, key, identity::namespace(name)).map(|_| ())
    }

    /// Reads, changes and writes an object in one step. A change that leaves the object as it was writes nothing.
    /// The name and identity of an object can't be changed; `metadata.generation` rises with a changed `spec`.
    /// An object under deletion without finalizers is deleted afterwards.
    ///
    /// # Errors
    /// `NotFound`, whatever `change` refuses, `InternalError` if it can't be kept on disk.
    pub fn update(
        &self,
        key: &Key,
        change: impl FnOnce(&mut Object) -> Result<(), ApiError>,
    ) -> Result<Arc<Object>, ApiError> {
        let mut state = self.lock();
        let old = state.objects.get(key).cloned().ok_or_else(|| ApiError::not_found(key))?;
        let mut new = Object::clone(&old);
        change(&mut new)?;
        identity::keep(key.resource, &old, &mut new);
        if delete::is_released(&new) {
            return self.commit(&mut state, key.clone(), ChangeKind::Deleted, new);
        }
        if new == *old {
            return Ok(old);
        }
        self.commit(&mut state, key.clone(), ChangeKind::Modified, new)
    }

    /// Deletes an object as a client does: finalizers by propagation, and for a running Pod its grace period.
    /// What nothing holds is removed at once; the rest is marked, and removed when it is released.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` if a precondition fails; `InternalError` if it can't be kept on disk.
    pub fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<Deletion, ApiError> {
        let mut state = self.lock();
        let old = state.objects.get(key).cloned().ok_or_else(|| ApiError::not_found(key))?;
        options.check_preconditions(key, &old)?;
        let mut new = Object::clone(&old);
        delete::mark(key.resource, &mut new, options);
        if delete::is_released(&new) {
            return self.commit(&mut state, key.clone(), ChangeKind::Deleted, new).map(Deletion::Removed);
        }
        if new == *old {
            return Ok(Deletion::Pending(old));
        }
        self.commit(&mut state, key.clone(), ChangeKind::Modified, new).map(Deletion::Pending)
    }

    /// Deletes an object whose processes have ended, on behalf of a controller. It is deleted at once, unless a finalizer
    /// holds it; then it goes with the finalizer.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` if the object of this name is another one; `InternalError` if it can't be kept on disk.
    pub fn remove(&self, key: &Key, uid: &str) -> Result<Deletion, ApiError> {
        let options = DeleteOptions {
            uid: Some(uid.to_owned()),
            grace_period_seconds: Some(0),
            propagation: Some(Propagation::Background),
            ..DeleteOptions::default()
        };
        self.delete(key, &options)
    }

    /// The changes after version `from`, of one namespace or of all.
    ///
    /// # Errors
    /// `Expired` if changes after `from` are no longer known; `Timeout` if `from` lies in the future.
    pub fn watch(&self, resource: Resource, namespace: Option<String>, from: u64) -> Result<Watch, ApiError> {
        Watch::start(self.clone(), resource, namespace, from)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under the lock can only come from a change that works on its own copy.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A namespace comes with its default service account.
    fn add(&self, state: &mut State, key: Key, object: Object) -> Result<Arc<Object>, ApiError> {
        let account = (key.resource == Resource::Namespaces).then(|| identity::service_account(&key.name));
        let made = self.commit(state, key, ChangeKind::Added, object)?;
        if let Some(account) = account {
            let key = Key::of(Resource::ServiceAccounts, &account);
            self.commit(state, key, ChangeKind::Added, account)?;
        }
        Ok(made)
    }

    /// Makes the namespace of a new object, if there is none yet.
    fn enter_namespace(&self, state: &mut State, key: &Key) -> Result<(), ApiError> {
        let namespace = Key::new(Resource::Namespaces, "", key.namespace.clone());
        match state.objects.get(&namespace) {
            None => {
                let object = identity::namespace(&namespace.name);
                self.add(state, namespace, object).map(|_| ())
            }
            Some(found) if is_deleting(found) => {
                let why = format!(
                    "unable to create new content in namespace {} because it is being terminated",
                    namespace.name
                );
                Err(ApiError::forbidden(key, &why))
            }
            Some(_) => Ok(()),
        }
    }

    fn commit(
        &self,
        state: &mut State,
        key: Key,
        kind: ChangeKind,
        mut object: Object,
    ) -> Result<Arc<Object>, ApiError> {
        if self.is_dry_run {
            return Ok(Arc::new(object));
        }
        let revision = state.revision + 1;
        object["metadata"]["resourceVersion"] = Value::String(revision.to_string());
        if let Some(disk) = &self.shared.disk {
            let kept = match kind {
                ChangeKind::Added | ChangeKind::Modified => disk.write(&key, &object),
                ChangeKind::Deleted => disk.remove(&key, revision),
            };
            kept.map_err(ApiError::internal)?;
        }
        let object = Arc::new(object);
        let previous = match kind {
            ChangeKind::Added | ChangeKind::Modified => state.objects.insert(key.clone(), object.clone()),
            ChangeKind::Deleted => state.objects.remove(&key),
        };
        state.revision = revision;
        let resource = key.resource as usize;
        state.histories[resource].push(Change { revision, kind, key, object: object.clone(), previous });
        self.shared.changed[resource].send_replace(());
        Ok(object)
    }
}

/// A text field of `metadata`; empty if there is none.
pub fn meta<'a>(object: &'a Object, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or_default()
}

/// Whether a deletion of the object was asked for.
pub fn is_deleting(object: &Object) -> bool {
    object["metadata"]["deletionTimestamp"].is_string()
}

/// The version of an object as a number; 0 if it was never stored.
pub fn resource_version(object: &Object) -> u64 {
    meta(object, "resourceVersion").parse().unwrap_or_default()
}

#[cfg(test)]
mod tests;
