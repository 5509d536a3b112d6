//! Namespaces under deletion: everything in them is deleted, then they are.

use serde_json::json;

use super::informer::{Informer, Observation};
use crate::resource::Resource;
use crate::store::{Change, ChangeKind, DeleteOptions, Key, Propagation, Store, is_deleting, meta};

/// Runs until it is dropped.
pub(super) async fn run(store: Store) {
    let (sender, mut touched) = tokio::sync::mpsc::channel(64);
    let mut informers = tokio::task::JoinSet::new();
    for resource in Resource::ALL {
        let (store, sender) = (store.clone(), sender.clone());
        informers.spawn(async move {
            let mut informer = Informer::new(&store, resource);
            loop {
                for namespace in affected(resource, &informer.next().await) {
                    if sender.send(namespace).await.is_err() {
                        return;
                    }
                }
            }
        });
    }
    while let Some(namespace) = touched.recv().await {
        let key = Key::new(Resource::Namespaces, "", namespace);
        if store.get(&key).is_some_and(|namespace| is_deleting(&namespace)) {
            empty(&store, &key);
        }
    }
}

/// The namespaces to evaluate: those that change, and those in which an object is deleted.
fn affected(resource: Resource, sight: &Observation) -> Vec<String> {
    match (resource, sight) {
        (Resource::Namespaces, Observation::Listed(all)) => {
            all.iter().map(|n| meta(n, "name").to_owned()).collect()
        }
        (Resource::Namespaces, Observation::Changed(change)) => vec![change.key.name.clone()],
        (_, Observation::Changed(change)) => match change.as_ref() {
            Change { kind: ChangeKind::Deleted, key, .. } => vec![key.namespace.clone()],
            Change { .. } => Vec::new(),
        },
        (_, Observation::Listed(_)) => Vec::new(),
    }
}

fn empty(store: &Store, namespace: &Key) {
    let options = || DeleteOptions { propagation: Some(Propagation::Background), ..DeleteOptions::default() };
    let contents = || {
        let namespaced = Resource::ALL.into_iter().filter(|resource| resource.is_namespaced());
        namespaced.flat_map(|resource| {
            let objects = store.list(resource, Some(&namespace.name)).1;
            objects.into_iter().map(move |object| (Key::of(resource, &object), object))
        })
    };
    for (key, object) in contents() {
        if !is_deleting(&object) {
            let _already_deleted = store.delete(&key, &options());
        }
    }
    if contents().next().is_none() {
        let _already_deleted = store.update(namespace, |namespace| {
            namespace["spec"]["finalizers"] = json!([]);
            Ok(())
        });
    }
}
