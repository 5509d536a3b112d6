//! The ConfigMap with the init program: created before the first Job that mounts it in a namespace.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::ObjectMeta;
use kube::core::params::GetParams;
use paperclip_contract::types::ApiError;
use paperclip_init_program as program;

use super::{named, owned, resource, send, unless_missing};
use crate::connect::Cluster;

const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "paperclip");
/// Reason of the error of a Job that would run another program than this host's.
const OTHER_CONTENT: &str = "OtherContent";

/// The namespaces in which this process has seen the ConfigMap. It is immutable, so it is read once.
#[derive(Debug, Clone, Default)]
pub(crate) struct InitConfigMaps(Arc<Mutex<BTreeSet<String>>>);

impl InitConfigMaps {
    fn has_seen(&self, namespace: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(namespace)
    }

    fn add(&self, namespace: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(namespace.to_owned());
    }
}

/// Creates the ConfigMap that a Job mounts, unless it exists. A Job works without it, so a refused request does not fail the Job.
///
/// # Errors
/// The ConfigMap has other content: the Job would run a program of somebody else.
pub(super) async fn ensure(cluster: &Cluster, namespace: &str, manifest_json: &str) -> Result<(), ApiError> {
    let Some(name) = program::config_map().filter(|name| manifest_json.contains(name)) else { return Ok(()) };
    if cluster.init_config_maps().has_seen(namespace) {
        return Ok(());
    }
    match find_or_create(cluster, namespace, name).await {
        Ok(true) => {
            cluster.init_config_maps().add(namespace);
            Ok(())
        }
        Ok(false) => Err(ApiError {
            status: Some(409),
            reason: Some(OTHER_CONTENT.to_owned()),
            message: format!(
                "ConfigMap {name} in namespace {namespace} does not contain the init program of this host: find out who changed it, and delete it"
            ),
            retry_after_ms: None,
        }),
        Err(error) => {
            tracing::warn!(
                namespace,
                config_map = name,
                error = error.message,
                "agents run without the init program: their output is not counted"
            );
            Ok(())
        }
    }
}

/// Returns whether the ConfigMap exists with the content of this host's.
async fn find_or_create(cluster: &Cluster, namespace: &str, name: &str) -> Result<bool, ApiError> {
    let read = || async {
        let request = resource::<ConfigMap>(namespace)?.get(named(name)?, &GetParams::default());
        let Some(answer) = unless_missing(send(cluster, request).await)? else { return Ok(None) };
        answer.json::<ConfigMap>().map(Some)
    };
    if let Some(found) = read().await? {
        return Ok(has_programs(&found));
    }
    match owned::create(cluster, namespace, &config_map(namespace, name)).await {
        Ok(_) => Ok(true),
        // Another host was faster.
        Err(error) if error.status == Some(409) => {
            Ok(read().await?.is_some_and(|found| has_programs(&found)))
        }
        Err(error) => Err(error),
    }
}

fn config_map(namespace: &str, name: &str) -> ConfigMap {
    let (key, value) = MANAGED_BY;
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(namespace.to_owned()),
            labels: Some(BTreeMap::from([(key.to_owned(), value.to_owned())])),
            ..ObjectMeta::default()
        },
        binary_data: Some(
            program::PROGRAMS
                .iter()
                .map(|(machine, bytes)| ((*machine).to_owned(), ByteString(bytes.to_vec())))
                .collect(),
        ),
        immutable: Some(true),
        ..ConfigMap::default()
    }
}

fn has_programs(found: &ConfigMap) -> bool {
    let entries = found.binary_data.iter().flatten();
    found.immutable == Some(true)
        && found.data.as_ref().is_none_or(BTreeMap::is_empty)
        && entries
            .map(|(machine, bytes)| (machine.as_str(), bytes.0.as_slice()))
            .eq(program::PROGRAMS.iter().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_immutable_config_map_with_the_same_programs_is_used() {
        let own = config_map("agents", "n");
        assert!(has_programs(&own));
        assert!(!has_programs(&ConfigMap { immutable: None, ..own.clone() }));
        let other = BTreeMap::from([("x86_64".to_owned(), ByteString(b"other".to_vec()))]);
        assert!(!has_programs(&ConfigMap { binary_data: Some(other), ..own }));
    }
}
