//! What a controller sees of one resource: everything once, then every change.

use std::sync::Arc;

use crate::resource::Resource;
use crate::store::{Change, Object, Store, Watch};

/// A list followed by a watch, which begins anew when the watch has expired.
#[derive(Debug)]
pub(super) struct Informer {
    store: Store,
    resource: Resource,
    watch: Option<Watch>,
}

/// What there is to look at.
#[derive(Debug)]
pub(super) enum Sight {
    /// Everything there is; what was seen before and is not here is gone.
    Listed(Vec<Arc<Object>>),
    Changed(Arc<Change>),
}

impl Informer {
    pub(super) fn new(store: &Store, resource: Resource) -> Informer {
        Informer { store: store.clone(), resource, watch: None }
    }

    /// The first call gives the list. May be dropped and called again without losing a change.
    pub(super) async fn next(&mut self) -> Sight {
        if let Some(watch) = self.watch.as_mut()
            && let Ok(change) = watch.next().await
        {
            return Sight::Changed(change);
        }
        loop {
            let (revision, objects) = self.store.list(self.resource, None);
            // Fails only if the whole window went by since the list.
            if let Ok(watch) = self.store.watch(self.resource, None, revision) {
                self.watch = Some(watch);
                return Sight::Listed(objects);
            }
        }
    }
}
