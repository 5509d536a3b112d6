//! Persistent volume claims: each is bound at once to a folder of its own, whose contents outlive Pods, Jobs and
//! (in a persistent state folder) the cluster. The folder stays when the claim is deleted, as with the reclaim policy
//! `Retain`: a claim of the same name finds it again.

use serde_json::{Value, json};

use super::informer::{Informer, Observation};
use super::objects;
use crate::error::ApiError;
use crate::resource::Resource;
use crate::store::{ChangeKind, Key, Object, Store, meta};

/// The size of a claim that is created because a Pod names it. The disk is not divided, so it has no effect.
const DEFAULT_REQUEST: &str = "1Gi";

/// Binds every claim; runs until it is dropped.
pub(super) async fn run(store: Store) {
    let mut informer = Informer::new(&store, Resource::PersistentVolumeClaims);
    loop {
        match informer.next().await {
            Observation::Listed(claims) => claims.iter().for_each(|claim| bind(&store, claim)),
            Observation::Changed(change) => match change.kind {
                ChangeKind::Added | ChangeKind::Modified => bind(&store, &change.object),
                ChangeKind::Deleted => {}
            },
        }
    }
}

/// Creates a claim that a Pod names, if it does not exist.
///
/// # Errors
/// Whatever the store refuses, such as a namespace that is being deleted.
pub(super) fn ensure(store: &Store, namespace: &str, name: &str) -> Result<(), ApiError> {
    if store.get(&Key::new(Resource::PersistentVolumeClaims, namespace, name)).is_some() {
        return Ok(());
    }
    let claim = json!({
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "resources": {"requests": {"storage": DEFAULT_REQUEST}},
        },
    });
    match objects::create(store, Resource::PersistentVolumeClaims, claim) {
        Err(error) if error.reason != "AlreadyExists" => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}

fn bind(store: &Store, claim: &Object) {
    if claim["status"]["phase"] == "Bound" {
        return;
    }
    let key = Key::of(Resource::PersistentVolumeClaims, claim);
    let _already_deleted = store.update(&key, |claim| {
        let volume = format!("pvc-{}", meta(claim, "uid"));
        if claim["spec"]["volumeName"].as_str().is_none_or(str::is_empty) {
            claim["spec"]["volumeName"] = json!(volume);
        }
        claim["status"] = json!({
            "phase": "Bound",
            "accessModes": or(&claim["spec"]["accessModes"], json!(["ReadWriteOnce"])),
            "capacity": or(&claim["spec"]["resources"]["requests"], json!({"storage": DEFAULT_REQUEST})),
        });
        Ok(())
    });
}

fn or(value: &Value, default: Value) -> Value {
    if value.is_null() { default } else { value.clone() }
}
