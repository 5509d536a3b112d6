//! The objects of one resource for a controller: a list once, then every change.

use std::sync::Arc;

use crate::resource::Resource;
use crate::store::{Change, Object, Store, Watch};

/// A list followed by a watch; it lists again when the watch has expired.
#[derive(Debug)]
pub(super) struct Informer {
    store: Store,
    resource: Resource,
    watch: Option<Watch>,
}

/// What the informer reports.
#[derive(Debug)]
pub(super) enum Observation {
    /// All objects; one that was listed before and is absent is deleted.
    Listed(Vec<Arc<Object>>),
    Changed(Arc<Change>),
}

impl Informer {
    pub(super) fn new(store: &Store, resource: Resource) -> Informer {
        Informer { store: store.clone(), resource, watch: None }
    }

    /// Returns the list on the first call, then each change. Cancel-safe: dropping the future loses no change.
    pub(super) async fn next(&mut self) -> Observation {
        if let Some(watch) = self.watch.as_mut()
            && let Ok(change) = watch.next().await
        {
            return Observation::Changed(change);
        }
        loop {
            let (revision, objects) = self.store.list(self.resource, None);
            // Fails only if the whole window has passed since the list.
            if let Ok(watch) = self.store.watch(self.resource, None, revision) {
                self.watch = Some(watch);
                return Observation::Listed(objects);
            }
        }
    }
}
