//! The objects of one namespace, read as the types they have.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use serde::de::DeserializeOwned;

use crate::error::ApiError;
use crate::resource::Resource;
use crate::rules;
use crate::store::{Key, Object, Store, complete, meta};

/// A type and the resource whose objects have it.
pub(super) trait Typed: DeserializeOwned {
    const RESOURCE: Resource;
}

impl Typed for Secret {
    const RESOURCE: Resource = Resource::Secrets;
}

impl Typed for ConfigMap {
    const RESOURCE: Resource = Resource::ConfigMaps;
}

/// Looks objects up by name.
#[derive(Clone, Debug)]
pub(super) struct Objects {
    store: Store,
    namespace: String,
}

impl Objects {
    pub(super) fn new(store: Store, namespace: &str) -> Objects {
        Objects { store, namespace: namespace.to_owned() }
    }

    pub(super) fn get<T: Typed>(&self, name: &str) -> Option<T> {
        decode(&*self.store.get(&Key::new(T::RESOURCE, self.namespace.clone(), name))?)
    }

    pub(super) fn namespace(&self) -> &str {
        &self.namespace
    }
}

/// Creates an object as the API server does for a controller: with defaults, and only if it keeps the rules.
///
/// # Errors
/// Those of the rules and of the store.
pub(super) fn create(store: &Store, resource: Resource, mut object: Object) -> Result<Arc<Object>, ApiError> {
    complete(resource, &mut object)?;
    rules::apply_defaults(resource, &mut object);
    rules::start_life(resource, &mut object);
    rules::check_new(resource, &object)?;
    store.create(resource, object)
}

/// An object as its type; `None`, and a warning, if it has another shape, which the API does not let in.
pub(super) fn decode<T: DeserializeOwned>(object: &Object) -> Option<T> {
    T::deserialize(object)
        .inspect_err(|error| tracing::warn!(%error, name = meta(object, "name"), "an object can't be read"))
        .ok()
}
