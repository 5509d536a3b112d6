//! A reader of changes, at its own pace.

use std::sync::Arc;

use super::{Change, Store};
use crate::error::ApiError;
use crate::resource::Resource;

/// The changes of one resource after a version. Ends with the first error.
#[derive(Debug)]
pub struct Watch {
    store: Store,
    resource: Resource,
    namespace: Option<String>,
    position: u64,
    changed: tokio::sync::watch::Receiver<()>,
}

impl Watch {
    pub(super) fn start(
        store: Store,
        resource: Resource,
        namespace: Option<String>,
        from: u64,
    ) -> Result<Self, ApiError> {
        let changed = store.shared.changed[resource as usize].subscribe();
        {
            let state = store.lock();
            if from > state.revision {
                return Err(ApiError::future_version(from, state.revision));
            }
            let oldest = state.histories[resource as usize].complete_after();
            if from < oldest {
                return Err(too_old(from, oldest));
            }
        }
        Ok(Watch { store, resource, namespace, position: from, changed })
    }

    /// The version up to which every change was handed out.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The next change, as soon as there is one. May be dropped and called again without losing any.
    ///
    /// # Errors
    /// `Expired` if the reader fell behind the window: changes are lost to it, and it has to list again.
    pub async fn next(&mut self) -> Result<Arc<Change>, ApiError> {
        loop {
            self.changed.mark_unchanged();
            if let Some(change) = self.try_next()? {
                return Ok(change);
            }
            // The sender lives in the store that this watch holds, so it is not dropped.
            let _alive = self.changed.changed().await;
        }
    }

    /// The next change, if there already is one.
    ///
    /// # Errors
    /// As [`Watch::next`].
    pub fn try_next(&mut self) -> Result<Option<Arc<Change>>, ApiError> {
        let state = self.store.lock();
        let history = &state.histories[self.resource as usize];
        let Some(mut changes) = history.after(self.position) else {
            return Err(too_old(self.position, history.complete_after()));
        };
        let selects = |change: &&Arc<Change>| {
            self.namespace.as_deref().is_none_or(|namespace| change.key.namespace == namespace)
        };
        let found = changes.find(selects).cloned();
        self.position = found.as_ref().map_or(state.revision, |change| change.revision);
        Ok(found)
    }
}

pub(super) fn too_old(from: u64, oldest: u64) -> ApiError {
    ApiError::expired(format!("too old resource version: {from} ({oldest})"))
}
