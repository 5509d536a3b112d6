//! The garbage collector: deletes objects whose owners are deleted.
//!
//! - An object whose owners are all deleted is deleted. If only some are, its references to them are removed.
//! - An owner that is deleted in the *foreground* waits until the dependents that block it are deleted; they are
//!   deleted for it.
//! - An owner that is deleted with *orphan* leaves its dependents behind, which no longer name it.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use serde_json::Value;

use super::informer::{Informer, Observation};
use crate::resource::Resource;
use crate::store::{
    ChangeKind, DeleteOptions, FOREGROUND_FINALIZER, Key, ORPHAN_FINALIZER, Object, Propagation, Store,
    is_deleting, meta,
};

/// Runs until it is dropped.
pub(super) async fn run(store: Store) {
    let (sender, mut sights) = tokio::sync::mpsc::channel(64);
    let mut informers = tokio::task::JoinSet::new();
    for resource in Resource::ALL {
        // An event is about an object but never owned by one, and there are many of them.
        if resource == Resource::Events {
            continue;
        }
        let (store, sender) = (store.clone(), sender.clone());
        informers.spawn(async move {
            let mut informer = Informer::new(&store, resource);
            while sender.send((resource, informer.next().await)).await.is_ok() {}
        });
    }
    let mut collector = Collector { store, graph: Graph::default() };
    while let Some((resource, sight)) = sights.recv().await {
        collector.see(resource, sight);
    }
}

/// Who owns whom, by uid.
#[derive(Debug, Default)]
struct Graph {
    dependents: HashMap<String, BTreeSet<Key>>,
    known: HashMap<Key, Known>,
}

#[derive(Debug)]
struct Known {
    uid: String,
    owners: Vec<String>,
}

impl Graph {
    fn put(&mut self, key: &Key, object: &Object) {
        self.take(key);
        let owners: Vec<String> = owners(object).filter_map(|owner| text(owner, "uid")).collect();
        for owner in &owners {
            self.dependents.entry(owner.clone()).or_default().insert(key.clone());
        }
        self.known.insert(key.clone(), Known { uid: meta(object, "uid").to_owned(), owners });
    }

    fn take(&mut self, key: &Key) -> Option<Known> {
        let known = self.known.remove(key)?;
        for owner in &known.owners {
            if let Some(dependents) = self.dependents.get_mut(owner) {
                dependents.remove(key);
                if dependents.is_empty() {
                    self.dependents.remove(owner);
                }
            }
        }
        Some(known)
    }

    fn dependents(&self, uid: &str) -> Vec<Key> {
        self.dependents.get(uid).into_iter().flatten().cloned().collect()
    }
}

#[derive(Debug)]
struct Collector {
    store: Store,
    graph: Graph,
}

impl Collector {
    fn see(&mut self, resource: Resource, sight: Observation) {
        match sight {
            Observation::Changed(change) => match change.kind {
                ChangeKind::Added | ChangeKind::Modified => self.evaluate(&change.key),
                ChangeKind::Deleted => self.object_deleted(&change.key),
            },
            Observation::Listed(objects) => {
                let listed: BTreeSet<Key> = objects.iter().map(|o| Key::of(resource, o)).collect();
                let is_absent = |key: &&Key| key.resource == resource && !listed.contains(key);
                let absent: Vec<Key> = self.graph.known.keys().filter(is_absent).cloned().collect();
                for key in &absent {
                    self.object_deleted(key);
                }
                for key in &listed {
                    self.evaluate(key);
                }
            }
        }
    }

    /// Evaluates the object as it is now: a change only triggers it, and can be older than what it caused.
    fn evaluate(&mut self, key: &Key) {
        let Some(object) = self.store.get(key) else { return };
        self.graph.put(key, &object);
        self.judge_dependent(key, &object);
        self.judge_owner(key, &object);
    }

    fn object_deleted(&mut self, key: &Key) {
        let Some(known) = self.graph.take(key) else { return };
        for dependent in self.graph.dependents(&known.uid) {
            if let Some(object) = self.store.get(&dependent) {
                self.judge_dependent(&dependent, &object);
            }
        }
        // A foreground owner may have waited for this one.
        for owner in known.owners {
            let owner =
                self.graph.known.iter().find(|(_, known)| known.uid == owner).map(|(key, _)| key.clone());
            if let Some((key, object)) = owner.and_then(|key| Some((key.clone(), self.store.get(&key)?))) {
                self.judge_owner(&key, &object);
            }
        }
    }

    /// Whether the owners of an object are deleted, or one of them waits for its deletion.
    fn judge_dependent(&self, key: &Key, object: &Object) {
        if is_deleting(object) {
            return;
        }
        let mut deleted = Vec::new();
        let mut stays = false;
        let mut is_awaited = false;
        for owner in owners(object) {
            match self.find_owner(key, owner) {
                Owner::Deleted => deleted.extend(text(owner, "uid")),
                Owner::Present(found)
                    if has_finalizer(&found, FOREGROUND_FINALIZER) && is_deleting(&found) =>
                {
                    is_awaited = true;
                }
                Owner::Present(_) | Owner::Unknown => stays = true,
            }
        }
        if stays && !deleted.is_empty() {
            self.disown(key, &deleted);
        } else if !stays && is_awaited {
            // The dependent's own dependents are deleted before it, as it is before its owner.
            let has_dependents = self.graph.dependents.contains_key(meta(object, "uid"));
            let how = if has_dependents { Propagation::Foreground } else { Propagation::Background };
            self.delete(key, object, Some(how));
        } else if !stays && !deleted.is_empty() {
            let is_marked = [FOREGROUND_FINALIZER, ORPHAN_FINALIZER].iter().any(|f| has_finalizer(object, f));
            self.delete(key, object, (!is_marked).then_some(Propagation::Background));
        }
    }

    /// Lets an owner under deletion proceed once no dependent blocks it.
    fn judge_owner(&self, key: &Key, object: &Object) {
        if !is_deleting(object) {
            return;
        }
        let uid = meta(object, "uid");
        if has_finalizer(object, ORPHAN_FINALIZER) {
            for dependent in self.listed_dependents(key, uid) {
                self.disown(&dependent, &[uid.to_owned()]);
            }
            self.remove_finalizer(key, ORPHAN_FINALIZER);
        }
        if has_finalizer(object, FOREGROUND_FINALIZER) {
            let dependents: Vec<(Key, Arc<Object>)> = self
                .listed_dependents(key, uid)
                .into_iter()
                .filter_map(|key| Some((key.clone(), self.store.get(&key)?)))
                .collect();
            for (dependent, object) in &dependents {
                self.judge_dependent(dependent, object);
            }
            // Some are deleted by now.
            let is_blocked = dependents.iter().any(|(key, object)| {
                self.store.get(key).is_some_and(|now| meta(&now, "uid") == meta(object, "uid"))
                    && owners(object).any(|owner| {
                        owner["uid"] == uid && owner["blockOwnerDeletion"].as_bool().unwrap_or_default()
                    })
            });
            if !is_blocked {
                self.remove_finalizer(key, FOREGROUND_FINALIZER);
            }
        }
    }

    /// The dependents as the store has them, not as the graph does: a dependent that was created a moment ago must
    /// not be missed when its owner is deleted.
    fn listed_dependents(&self, owner: &Key, uid: &str) -> Vec<Key> {
        let namespace = (!owner.namespace.is_empty()).then_some(owner.namespace.as_str());
        let mut found = Vec::new();
        for resource in Resource::ALL {
            for object in self.store.list(resource, namespace).1 {
                if owners(&object).any(|owner| owner["uid"] == uid) {
                    found.push(Key::of(resource, &object));
                }
            }
        }
        found
    }

    fn find_owner(&self, dependent: &Key, owner: &Value) -> Owner {
        let field = |name| owner[name].as_str().unwrap_or_default();
        let Some(resource) = Resource::of_kind(field("apiVersion"), field("kind")) else {
            return Owner::Unknown;
        };
        let namespace = if resource.is_namespaced() { dependent.namespace.as_str() } else { "" };
        match self.store.get(&Key::new(resource, namespace, field("name"))) {
            Some(found) if meta(&found, "uid") == field("uid") => Owner::Present(found),
            Some(_) | None => Owner::Deleted,
        }
    }

    fn delete(&self, key: &Key, object: &Object, propagation: Option<Propagation>) {
        let options = DeleteOptions {
            uid: Some(meta(object, "uid").to_owned()),
            propagation,
            ..DeleteOptions::default()
        };
        if let Err(error) = self.store.delete(key, &options) {
            tracing::debug!(%error, "a dependent was deleted before it could be collected");
        }
    }

    fn disown(&self, key: &Key, uids: &[String]) {
        let _already_deleted = self.store.update(key, |object| {
            if let Some(owners) = object["metadata"]["ownerReferences"].as_array_mut() {
                owners.retain(|owner| !uids.iter().any(|uid| owner["uid"] == **uid));
            }
            Ok(())
        });
    }

    fn remove_finalizer(&self, key: &Key, name: &str) {
        let _already_deleted = self.store.update(key, |object| {
            if let Some(finalizers) = object["metadata"]["finalizers"].as_array_mut() {
                finalizers.retain(|finalizer| finalizer != name);
            }
            Ok(())
        });
    }
}

enum Owner {
    Present(Arc<Object>),
    Deleted,
    /// Of a kind that is not served here, so that its state is unknown.
    Unknown,
}

fn owners(object: &Object) -> impl Iterator<Item = &Value> {
    object["metadata"]["ownerReferences"].as_array().into_iter().flatten()
}

fn has_finalizer(object: &Object, name: &str) -> bool {
    object["metadata"]["finalizers"].as_array().is_some_and(|list| list.iter().any(|f| f == name))
}

fn text(value: &Value, field: &str) -> Option<String> {
    value[field].as_str().map(str::to_owned)
}
