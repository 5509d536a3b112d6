//! Waiting for a Secret or ConfigMap to appear or change.

use crate::error::ApiError;
use crate::resource::Resource;
use crate::store::{Store, Watch};

/// The Secrets and ConfigMaps of a namespace from one moment on.
#[derive(Debug)]
pub(super) struct Dependencies {
    watches: Option<(Watch, Watch)>,
}

impl Dependencies {
    /// Has to be taken before the objects are read, so that no change falls between reading and waiting.
    pub(super) fn from_now(store: &Store, namespace: &str) -> Dependencies {
        let revision = store.revision();
        let watch = |resource| store.watch(resource, Some(namespace.to_owned()), revision);
        let both = || -> Result<(Watch, Watch), ApiError> {
            Ok((watch(Resource::Secrets)?, watch(Resource::ConfigMaps)?))
        };
        Dependencies { watches: both().ok() }
    }

    /// An object has changed, or the watch has expired.
    pub(super) async fn changed(&mut self) {
        if let Some((secrets, maps)) = &mut self.watches {
            tokio::select! {
                _ = secrets.next() => {}
                _ = maps.next() => {}
            }
        }
    }
}
