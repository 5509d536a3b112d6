//! Defaults and validation of objects before they are stored.
//!
//! Only rules whose violation a run can cause are here; their order and words are those of Kubernetes'
//! `pkg/apis/*/validation`.

mod container;
mod data;
mod defaults;
mod env;
mod field;
mod job;
mod metadata;
mod pod;
mod resources;
mod volume;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Namespace, Node, PersistentVolumeClaim, Pod, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::error::ApiError;
use crate::resource::Resource;
use crate::store::{Key, Object, meta};
pub(crate) use defaults::{apply as apply_defaults, start as start_life};
use field::{Errors, Path};

/// Checks an object that does not exist yet.
///
/// # Errors
/// `Invalid` with a cause for each broken rule.
pub(crate) fn check_new(resource: Resource, object: &Object) -> Result<(), ApiError> {
    check(resource, None, object)
}

/// Checks a changed object, including that immutable fields are unchanged.
///
/// # Errors
/// As [`check_new`].
pub(crate) fn check_change(resource: Resource, old: &Object, new: &Object) -> Result<(), ApiError> {
    check(resource, Some(old), new)
}

/// `Invalid` for an update that has to name the version it was made from, and does not.
pub(crate) fn missing_version(key: &Key) -> ApiError {
    let mut errors = Errors::default();
    errors.unset(&Path::new("metadata").field("resourceVersion"), "must be specified for an update");
    ApiError::invalid(key.resource, &key.name, errors.into_causes())
}

fn check(resource: Resource, old: Option<&Object>, new: &Object) -> Result<(), ApiError> {
    let mut errors = Errors::default();
    let e = &mut errors;
    let metadata: ObjectMeta = typed(&new["metadata"])?;
    metadata::check(resource, &metadata, e);
    if let Some(old) = old {
        metadata::check_change(&typed(&old["metadata"])?, &metadata, e);
    }
    match resource {
        Resource::Jobs => rules::<Job>(old, new, e, job::check, job::check_change)?,
        Resource::Pods => rules::<Pod>(old, new, e, pod::check, pod::check_change)?,
        Resource::Secrets => rules::<Secret>(old, new, e, data::check_secret, data::check_secret_change)?,
        Resource::ConfigMaps => {
            rules::<ConfigMap>(old, new, e, data::check_config_map, data::check_config_map_change)?;
        }
        Resource::PersistentVolumeClaims => {
            rules::<PersistentVolumeClaim>(old, new, e, data::check_claim, data::check_claim_change)?;
        }
        Resource::Leases => rules::<Lease>(old, new, e, data::check_lease, any_change)?,
        Resource::Events => rules::<Event>(old, new, e, data::check_event, any_change)?,
        Resource::Namespaces => rules::<Namespace>(old, new, e, anything, any_change)?,
        Resource::ServiceAccounts => rules::<ServiceAccount>(old, new, e, anything, any_change)?,
        Resource::Nodes => rules::<Node>(old, new, e, anything, any_change)?,
    }
    match errors.into_causes() {
        causes if causes.is_empty() => Ok(()),
        causes => Err(ApiError::invalid(resource, meta(new, "name"), causes)),
    }
}

fn rules<T: DeserializeOwned>(
    old: Option<&Object>,
    new: &Object,
    errors: &mut Errors,
    check: impl Fn(&T, &mut Errors),
    check_change: impl Fn(&T, &T, &mut Errors),
) -> Result<(), ApiError> {
    let new: T = typed(new)?;
    check(&new, errors);
    if let Some(old) = old {
        check_change(&typed(old)?, &new, errors);
    }
    Ok(())
}

fn anything<T>(_object: &T, _errors: &mut Errors) {}

fn any_change<T>(_old: &T, _new: &T, _errors: &mut Errors) {}

/// The object as its type. Decoding has checked the types of all fields, so this fails only for constraints beyond them.
fn typed<'a, T: Deserialize<'a>>(object: &'a Object) -> Result<T, ApiError> {
    T::deserialize(object).map_err(|e| ApiError::bad_request(format!("the object can't be decoded: {e}")))
}

#[cfg(test)]
mod tests;
